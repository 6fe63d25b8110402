//! What the span of a request says, by the semantic conventions for HTTP servers.
//!
//! Must never say more: no path, no query, no body, no address of a client, and of the headers none but the id of a request.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, Response, StatusCode, Version, request::Parts};

use crate::{
    task::http::Body,
    telemetry::{AnswerSpan, Attributes, SpanOutcome, TIMEOUT, Text},
};

/// The header by which the other side's log names a request.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What is remembered of a request until it is answered.
pub(super) struct Seen {
    method: &'static str,
    scheme: &'static str,
    version: Version,
    route: Arc<str>,
    body_size: usize,
    ids: Vec<Text>,
}

/// How a request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// With a response.
    Answered,
    /// Not in time, but with a response that says so.
    TimedOut,
}

impl Seen {
    pub(super) fn of(
        head: &Parts,
        scheme: &'static str,
        route: &Arc<str>,
        method: &'static str,
        body_size: usize,
    ) -> Self {
        let (version, ids) = (head.version, ids(&head.headers));
        Self { method, scheme, version, route: Arc::clone(route), body_size, ids }
    }

    fn describe(self, span: &mut Attributes) {
        span.set("http.request.method", self.method);
        span.set("url.scheme", self.scheme);
        span.set("http.route", self.route);
        match self.version {
            Version::HTTP_10 => span.set("network.protocol.version", "1.0"),
            Version::HTTP_11 => span.set("network.protocol.version", "1.1"),
            Version::HTTP_2 => span.set("network.protocol.version", "2"),
            _ => {}
        }
        if self.body_size > 0 {
            span.set("http.request.body.size", self.body_size);
        }
        if !self.ids.is_empty() {
            span.set("http.request.header.x-request-id", self.ids);
        }
    }

    /// Ends the span of a request with its response.
    pub(super) fn answered(
        self,
        span: AnswerSpan,
        ending: Ending,
        response: &Response<Body>,
        is_settled: bool,
    ) {
        let status = response.status();
        let error_type = match ending {
            Ending::TimedOut => Some(TIMEOUT),
            Ending::Answered if status.is_server_error() => Some(error_type(status)),
            Ending::Answered => None,
        };
        let outcome = if error_type.is_some() { SpanOutcome::Failed } else { SpanOutcome::Completed };
        let size = match response.body() {
            Body::Empty => Some(0),
            Body::Full(bytes) => Some(bytes.len()),
            Body::Stream(_) => None,
        };
        let ids = ids(response.headers());
        span.end(outcome, error_type, is_settled, |span| {
            self.describe(span);
            span.set("http.response.status_code", status.as_u16());
            if let Some(size) = size {
                span.set("http.response.body.size", size);
            }
            if !ids.is_empty() {
                span.set("http.response.header.x-request-id", ids);
            }
        });
    }

    /// Ends the span of a request whose client is gone.
    pub(super) fn gone(self, span: AnswerSpan) {
        span.end(SpanOutcome::Cancelled, None, false, |span| self.describe(span));
    }
}

/// Returns the type of an error that is told by this status.
fn error_type(status: StatusCode) -> &'static str {
    match status {
        StatusCode::INTERNAL_SERVER_ERROR => "500",
        StatusCode::BAD_GATEWAY => "502",
        StatusCode::SERVICE_UNAVAILABLE => "503",
        StatusCode::GATEWAY_TIMEOUT => "504",
        _ => crate::telemetry::OTHER_ERROR,
    }
}

/// The convention makes a list of every header, since each may come more than once.
fn ids(headers: &HeaderMap) -> Vec<Text> {
    let ids = headers.get_all(REQUEST_ID).iter().filter_map(|id| id.to_str().ok());
    ids.map(|id| Text::from(id.to_owned())).collect()
}
