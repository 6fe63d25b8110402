//! How a response becomes data.

use std::mem;

use reqwest::{
    Response, StatusCode, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderName},
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::failure::Exchange;
use crate::{event::Payload, task::TaskError};

/// What the names of headers hold that may carry a secret.
const SECRETS: [&str; 11] = [
    "apikey",
    "api-key",
    "auth",
    "cookie",
    "credential",
    "password",
    "secret",
    "session",
    "signature",
    "token",
    "csrf",
];

/// How a body becomes data. An empty one is `null`, but for `bytes`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum ResponseType {
    /// JSON if `content-type` says so or it is valid JSON, else text.
    #[default]
    Auto,
    /// JSON, whatever `content-type` says.
    Json,
    /// One string.
    Text,
    /// Raw bytes.
    Bytes,
}

/// What of a response becomes data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Shape {
    /// The body.
    #[default]
    Body,
    /// `{status, headers, body}`. The names of headers are lowercase; of several with one name the values are joined
    /// with a comma. Headers whose names speak of a secret are left out, such as `set-cookie`.
    Whole,
}

/// Reads responses.
pub(super) struct Reading {
    pub(super) response_type: ResponseType,
    pub(super) shape: Shape,
    /// The most bytes that the bodies of one attempt may have together.
    pub(super) limit: usize,
}

/// A response that was read.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// Where it came from.
    pub(super) url: Url,
    pub(super) body: Payload,
    pub(super) is_whole: bool,
}

impl Answer {
    /// Returns the data that it becomes.
    pub(super) fn into_data(self) -> Payload {
        if !self.is_whole {
            return self.body;
        }
        let body = self.body.into_json().unwrap_or_default();
        json!({"status": self.status.as_u16(), "headers": shown(&self.headers), "body": body}).into()
    }
}

/// Returns the headers that data may hold.
fn shown(headers: &HeaderMap) -> Map<String, Value> {
    let is_secret = |name: &HeaderName| SECRETS.iter().any(|part| name.as_str().contains(part));
    let names = headers.keys().filter(|name| !is_secret(name));
    let joined = names.map(|name| {
        let values: Vec<_> =
            headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        (name.as_str().to_owned(), values.join(", ").into())
    });
    joined.collect()
}

impl Reading {
    /// Reads a body to its end, but no further than there is `room`, of which it takes its length.
    pub(super) async fn read(
        &self,
        mut response: Response,
        exchange: &Exchange,
        room: &mut usize,
    ) -> Result<Answer, TaskError> {
        let says_json = says_json(&response);
        // What a server says of the length saves a transfer; it is not relied on.
        if response.content_length().is_some_and(|length| length > *room as u64) {
            return Err(exchange.too_large(self.limit));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| exchange.broken(error))? {
            *room = room.checked_sub(chunk.len()).ok_or_else(|| exchange.too_large(self.limit))?;
            body.extend_from_slice(&chunk);
        }
        Ok(Answer {
            status: response.status(),
            headers: mem::take(response.headers_mut()),
            url: response.url().clone(),
            body: self.decode(body, says_json, exchange)?,
            is_whole: self.shape == Shape::Whole,
        })
    }

    fn decode(&self, body: Vec<u8>, says_json: bool, exchange: &Exchange) -> Result<Payload, TaskError> {
        if self.response_type == ResponseType::Bytes {
            return Ok(Payload::Bytes(body.into()));
        }
        if body.is_empty() {
            return Ok(Value::Null.into());
        }
        let text = String::from_utf8(body)
            .map_err(|error| exchange.undecodable("the body is not UTF-8").with_source(error.utf8_error()))?;
        if self.response_type == ResponseType::Text {
            return Ok(Value::String(text).into());
        }
        match json(&text) {
            Err(_) if self.response_type == ResponseType::Auto && !says_json => {
                Ok(Value::String(text).into())
            }
            read => read.map_err(|error| exchange.undecodable("the body is no JSON").with_source(error)),
        }
    }
}

/// Reads JSON; its text is kept if it is the one line that a payload keeps.
fn json(text: &str) -> Result<Payload, serde_json::Error> {
    let text = text.trim();
    if text.contains(['\n', '\r']) {
        serde_json::from_str::<Value>(text).map(Payload::from)
    } else {
        Payload::from_json_line(text)
    }
}

/// Returns whether the `content-type` of a response is `application/json`, `application/problem+json` or the like.
fn says_json(response: &Response) -> bool {
    let media_type =
        response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media_type == "application/json" || media_type.ends_with("+json")
}
