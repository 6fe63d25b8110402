//! Responses that say what is wrong, as RFC 9457 has them.

use std::fmt;

use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER},
};
use serde_json::{Map, Value, json};

use crate::{event::EventId, task::http::Body, trace::TraceContext};

/// The media type of a problem.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// What is wrong with a request, or with its handling.
#[derive(Clone, Debug)]
pub struct Problem {
    status: StatusCode,
    members: Map<String, Value>,
    retry_after: Option<u64>,
}

impl Problem {
    /// Makes one of this status, whose `detail` says what is wrong to whoever sent the request.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Unknown");
        let members = json!({"type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail.into()});
        let members = if let Value::Object(members) = members { members } else { Map::new() };
        Self { status, members, retry_after: None }
    }

    /// Adds after how many seconds the same request may succeed.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Adds by what the event and its trace can be found.
    #[must_use]
    pub fn about(mut self, event: &EventId, trace: TraceContext) -> Self {
        self.members.insert("event_id".to_owned(), event.to_string().into());
        if trace.is_valid() {
            self.members.insert("trace_id".to_owned(), format!("{:032x}", { trace.trace_id }).into());
        }
        self
    }

    /// Returns the status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Makes the response.
    pub fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(Value::Object(self.members).to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Value::Object(self.members.clone()))
    }
}
