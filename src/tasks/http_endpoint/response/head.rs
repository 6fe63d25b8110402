//! The status and the headers that a flow sets for its response: checked as a whole, so that it sends none that is no
//! response, nor one that whoever stands in between takes for two. What is wrong is said with its key, and never with a
//! value, which may be a secret.

use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{
        AGE, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_RANGE, CONTENT_TYPE,
        DATE, ETAG, EXPIRES, LAST_MODIFIED, LOCATION, RETRY_AFTER, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
    },
};
use serde_json::{Map, Value};

use crate::{
    event::{Meta, Payload},
    tasks::http_endpoint::kept::Data,
};

/// The key of the metadata that sets them.
const HTTP_RESPONSE: &str = "http_response";

/// The keys below it.
const KEYS: [&str; 2] = ["status", "headers"];

/// The headers that are the server's own business: of the connection, and of how the body is sent.
const OWN: [HeaderName; 9] = [
    CONNECTION,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// The headers of which a response has one.
const SINGLE: [HeaderName; 10] = [
    AGE,
    CONTENT_LOCATION,
    CONTENT_RANGE,
    CONTENT_TYPE,
    DATE,
    ETAG,
    EXPIRES,
    LAST_MODIFIED,
    LOCATION,
    RETRY_AFTER,
];

/// Returns what a flow has set, if it has set anything.
pub(super) fn set(meta: &Meta) -> Option<&Value> {
    meta.get(HTTP_RESPONSE)
}

/// Reads the status and the headers that a flow has set.
///
/// # Errors
/// What of it no response can have.
pub(super) fn read(set: Option<&Value>) -> Result<(StatusCode, HeaderMap), String> {
    let Some(set) = set else { return Ok((StatusCode::OK, HeaderMap::new())) };
    let Value::Object(set) = set else {
        return Err(format!("`{HTTP_RESPONSE}` is no mapping: it has no status and no headers"));
    };
    if let Some(unknown) = set.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(format!("`{HTTP_RESPONSE}.{unknown}` is no key: there are `status` and `headers`"));
    }
    let status = match set.get("status") {
        None | Some(Value::Null) => StatusCode::OK,
        Some(status) => self::status(status)
            .ok_or_else(|| format!("`{HTTP_RESPONSE}.status` is no number between 200 and 599"))?,
    };
    let headers = match set.get("headers") {
        None | Some(Value::Null) => HeaderMap::new(),
        Some(Value::Object(headers)) => self::headers(headers)?,
        Some(_) => return Err(format!("`{HTTP_RESPONSE}.headers` is no mapping: its headers have no names")),
    };
    Ok((status, headers))
}

/// Returns whether a response of this status has a body.
///
/// # Errors
/// It has none, and one of these is something to be sent.
pub(super) fn has_body<'a>(
    status: StatusCode,
    mut outputs: impl Iterator<Item = &'a Data>,
) -> Result<bool, String> {
    if !matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED) {
        return Ok(true);
    }
    if outputs.all(is_empty) {
        return Ok(false);
    }
    let status = status.as_u16();
    Err(format!(
        "`{HTTP_RESPONSE}.status` is {status}, a response without a body, and there is one: put out \"\""
    ))
}

fn is_empty(data: &Data) -> bool {
    match data {
        Data::Json(json) => matches!(&**json, b"null" | b"\"\""),
        Data::Other(Payload::Bytes(bytes)) => bytes.is_empty(),
        Data::Other(data) => data.json().is_none_or(|json| json.is_null() || json.as_str() == Some("")),
    }
}

fn status(status: &Value) -> Option<StatusCode> {
    let status = status.as_u64().filter(|status| (200..600).contains(status))?;
    StatusCode::from_u16(u16::try_from(status).ok()?).ok()
}

fn headers(given: &Map<String, Value>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (key, value) in given {
        let wrong = |what: &str| format!("`{HTTP_RESPONSE}.headers.{key}` {what}");
        let name = HeaderName::try_from(key).map_err(|_| wrong("is no name of a header"))?;
        if OWN.contains(&name) {
            return Err(wrong("is a header that is the server's own"));
        }
        for value in value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice) {
            let value = text(value).and_then(|text| HeaderValue::try_from(text).ok());
            headers.append(&name, value.ok_or_else(|| wrong("has a value that no header can have"))?);
        }
        if SINGLE.contains(&name) && headers.get_all(&name).iter().nth(1).is_some() {
            return Err(wrong("is a header of which a response has one"));
        }
    }
    Ok(headers)
}

/// Returns what stands for a value in a header.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
