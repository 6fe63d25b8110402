//! How the body of a response becomes data.

use reqwest::{Response, header::CONTENT_TYPE};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::failure::Exchange;
use crate::{event::Payload, task::TaskError};

/// How a body becomes data. An empty one is `null`.
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
}

/// Reads responses.
pub(super) struct Reading {
    pub(super) response_type: ResponseType,
    /// The most bytes that a body may have.
    pub(super) limit: usize,
}

impl Reading {
    /// Reads a body to its end, but no further than its limit.
    pub(super) async fn read(&self, mut response: Response, exchange: &Exchange) -> Result<Payload, TaskError> {
        let says_json = says_json(&response);
        // What a server says of the length saves a transfer; it is not relied on.
        if response.content_length().is_some_and(|length| length > self.limit as u64) {
            return Err(exchange.too_large(self.limit));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| exchange.broken(error))? {
            if chunk.len() > self.limit - body.len() {
                return Err(exchange.too_large(self.limit));
            }
            body.extend_from_slice(&chunk);
        }
        self.decode(body, says_json, exchange)
    }

    fn decode(&self, body: Vec<u8>, says_json: bool, exchange: &Exchange) -> Result<Payload, TaskError> {
        if body.is_empty() {
            return Ok(Value::Null.into());
        }
        let text = String::from_utf8(body).map_err(|error| {
            exchange.undecodable("the body is not UTF-8").with_source(error.utf8_error())
        })?;
        match self.response_type {
            ResponseType::Text => Ok(Value::String(text).into()),
            ResponseType::Auto if !says_json => Ok(json(&text).unwrap_or_else(|_| Value::String(text).into())),
            ResponseType::Auto | ResponseType::Json => {
                json(&text).map_err(|error| exchange.undecodable("the body is no JSON").with_source(error))
            }
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
    let media_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media_type == "application/json" || media_type.ends_with("+json")
}
