//! How the body of a request becomes the event's `payload`.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header::CONTENT_TYPE};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};
use url::form_urlencoded;

use crate::services::http::problem::Problem;

/// How a body becomes data. An empty one is `null`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum RequestType {
    /// As `content-type` says: JSON, a form, text, or bytes; without one JSON if it is valid JSON, else text or bytes.
    #[default]
    Auto,
    /// JSON, whatever `content-type` says.
    Json,
    /// A form: an object of texts, an item that comes several times as a list.
    Form,
    /// One text.
    Text,
    /// Bytes, as text in base64.
    Bytes,
}

impl RequestType {
    /// Returns the data of a body.
    ///
    /// # Errors
    /// It is not what it is said to be.
    pub(super) fn decode(self, headers: &HeaderMap, body: &Bytes) -> Result<Value, Problem> {
        if body.is_empty() {
            return Ok(Value::Null);
        }
        match self {
            Self::Json => json(body),
            Self::Form => Ok(pairs(text(body)?.as_bytes())),
            Self::Text => text(body).map(Value::from),
            Self::Bytes => Ok(bytes(body)),
            Self::Auto => match Kind::of(headers) {
                Kind::Json => json(body),
                Kind::Form => Ok(pairs(text(body)?.as_bytes())),
                Kind::Text => text(body).map(Value::from),
                Kind::Bytes => Ok(bytes(body)),
                Kind::Unsaid => Ok(json(body).unwrap_or_else(|_| match str::from_utf8(body) {
                    Ok(text) => text.into(),
                    Err(_) => bytes(body),
                })),
            },
        }
    }
}

/// What `content-type` says of a body.
enum Kind {
    Json,
    Form,
    Text,
    Bytes,
    Unsaid,
}

impl Kind {
    fn of(headers: &HeaderMap) -> Self {
        let Some(media_type) = headers.get(CONTENT_TYPE) else { return Self::Unsaid };
        let media_type = media_type.to_str().unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default().trim();
        let is = |name: &str| media_type.eq_ignore_ascii_case(name);
        let has = |at: usize, part: &str| {
            media_type.get(at..at + part.len()).is_some_and(|found| found.eq_ignore_ascii_case(part))
        };
        if is("application/json") || media_type.len().checked_sub(5).is_some_and(|at| has(at, "+json")) {
            Self::Json
        } else if is("application/x-www-form-urlencoded") {
            Self::Form
        } else if has(0, "text/") || is("application/xml") || media_type.len().checked_sub(4).is_some_and(|at| has(at, "+xml")) {
            Self::Text
        } else {
            Self::Bytes
        }
    }
}

fn json(body: &[u8]) -> Result<Value, Problem> {
    serde_json::from_slice(body)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, format!("the body is no JSON: {error}")))
}

fn text(body: &[u8]) -> Result<&str, Problem> {
    str::from_utf8(body).map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "the body is not UTF-8"))
}

fn bytes(body: &[u8]) -> Value {
    BASE64.encode(body).into()
}

/// Makes an object of the items of a form or a query. One that comes several times is a list.
pub(super) fn pairs(text: &[u8]) -> Value {
    let mut object = Map::new();
    for (key, value) in form_urlencoded::parse(text) {
        let value = Value::from(value.into_owned());
        match object.get_mut(&*key) {
            None => {
                object.insert(key.into_owned(), value);
            }
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    object.into()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn decode(kind: RequestType, content_type: Option<&str>, body: &[u8]) -> Result<Value, u16> {
        let headers = content_type.map(|value| (CONTENT_TYPE, HeaderValue::from_str(value).unwrap()));
        let decoded = kind.decode(&headers.into_iter().collect(), &Bytes::copy_from_slice(body));
        decoded.map_err(|problem| problem.status().as_u16())
    }

    #[test]
    fn the_media_type_says_what_a_body_is() {
        let auto = |content_type, body: &str| decode(RequestType::Auto, content_type, body.as_bytes());
        for media_type in ["application/json", "Application/JSON; charset=utf-8", "application/cloudevents+json"] {
            assert_eq!(auto(Some(media_type), r#"{"a":1}"#), Ok(json!({"a": 1})));
            assert_eq!(auto(Some(media_type), "{"), Err(400));
        }
        let form = Some("application/x-www-form-urlencoded");
        assert_eq!(auto(form, "a=1&b=x+y%21&a=2&a=3&c"), Ok(json!({"a": ["1", "2", "3"], "b": "x y!", "c": ""})));
        assert_eq!(auto(Some("text/plain"), "{}"), Ok(json!("{}")));
        assert_eq!(auto(Some("application/atom+xml"), "<a/>"), Ok(json!("<a/>")));
        assert_eq!(auto(Some("application/octet-stream"), "{}"), Ok(json!("e30=")));
        assert_eq!((auto(None, "[1]"), auto(None, "x")), (Ok(json!([1])), Ok(json!("x"))));
        assert_eq!(auto(Some("application/json"), ""), Ok(Value::Null));
        assert_eq!(decode(RequestType::Auto, Some("text/plain"), b"\xff"), Err(400));
        assert_eq!(decode(RequestType::Auto, None, b"\xff"), Ok(json!("/w==")));
    }

    #[test]
    fn what_is_configured_wins_over_what_is_said() {
        let plain = Some("text/plain");
        assert_eq!(decode(RequestType::Json, plain, b"[1]"), Ok(json!([1])));
        assert_eq!(decode(RequestType::Form, plain, b"a=1"), Ok(json!({"a": "1"})));
        assert_eq!(decode(RequestType::Text, Some("application/json"), b"[1]"), Ok(json!("[1]")));
        assert_eq!(decode(RequestType::Bytes, plain, b"[1]"), Ok(json!("WzFd")));
    }

    proptest! {
        #[test]
        fn any_body_is_decoded_or_refused(
            content_type in proptest::option::of("[a-z+/; =é]{0,24}|application/json|application/x-www-form-urlencoded"),
            body in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let headers = content_type.and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok());
            let headers: HeaderMap = headers.map(|value| (CONTENT_TYPE, value)).into_iter().collect();
            for kind in [RequestType::Auto, RequestType::Json, RequestType::Form, RequestType::Text, RequestType::Bytes] {
                let _ = kind.decode(&headers, &Bytes::from(body.clone()));
            }
        }
    }
}
