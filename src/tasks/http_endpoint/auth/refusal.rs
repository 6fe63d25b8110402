//! Why a request is refused, and what the caller is told: RFC 9110, section 11, and RFC 6750, section 3.

use std::time::Duration;

use http::{HeaderValue, StatusCode};

/// What all endpoints are a part of, for whoever keeps passwords.
const REALM: &str = "flowgen";

/// A request that is refused. `reason` is a fixed text: it may be shown to the caller and logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::tasks::http_endpoint) struct Refusal {
    /// 401 for a caller that is not known, 403 for one that may not, 400 for a request that contradicts itself, and 503
    /// while it cannot be told.
    pub(in crate::tasks::http_endpoint) status: StatusCode,
    /// The value of `WWW-Authenticate`, which goes with every 401 and may go with a 400 or 403.
    pub(in crate::tasks::http_endpoint) challenge: Option<HeaderValue>,
    /// What to say in `Retry-After`.
    pub(in crate::tasks::http_endpoint) retry_after: Option<Duration>,
    /// Why: lowercase, no full stop.
    pub(in crate::tasks::http_endpoint) reason: &'static str,
}

impl Refusal {
    /// Refuses a caller that did not say who it is, or not in a way that counts.
    pub(super) fn unknown(challenge: &Challenge, reason: &'static str) -> Self {
        let challenge = Some(challenge.value(None));
        Self { status: StatusCode::UNAUTHORIZED, challenge, retry_after: None, reason }
    }

    /// Refuses a token.
    pub(super) fn invalid_token(challenge: &Challenge, reason: &'static str) -> Self {
        let challenge = Some(challenge.value(Some(("invalid_token", reason))));
        Self { status: StatusCode::UNAUTHORIZED, challenge, retry_after: None, reason }
    }

    /// Refuses a request that says two things.
    pub(super) fn ambiguous(challenge: &Challenge, reason: &'static str) -> Self {
        let challenge = Some(challenge.value(Some(("invalid_request", reason))));
        Self { status: StatusCode::BAD_REQUEST, challenge, retry_after: None, reason }
    }

    /// Refuses a caller that is known and may not.
    pub(super) fn forbidden(challenge: &Challenge, reason: &'static str) -> Self {
        let challenge = Some(challenge.value(Some(("insufficient_scope", reason))));
        Self { status: StatusCode::FORBIDDEN, challenge, retry_after: None, reason }
    }

    /// Refuses everybody: what tells callers apart is not to be had for a while.
    pub(super) fn unavailable(retry_after: Duration, reason: &'static str) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            challenge: None,
            retry_after: Some(retry_after),
            reason,
        }
    }
}

/// How a caller is asked to say who it is.
#[derive(Clone, Debug)]
pub(super) struct Challenge {
    scheme: &'static str,
    /// Further parameters, each with a comma before it.
    parameters: String,
}

impl Challenge {
    pub(super) fn new(scheme: &'static str) -> Self {
        Self { scheme, parameters: String::new() }
    }

    /// Adds a parameter, whose value holds neither quotes nor backslashes.
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.parameters += &format!(", {name}=\"{value}\"");
        self
    }

    /// Makes the header's value, with what is wrong if something is.
    fn value(&self, error: Option<(&str, &str)>) -> HeaderValue {
        let Self { scheme, parameters } = self;
        let error = error.map(|(error, why)| format!(", error=\"{error}\", error_description=\"{why}\""));
        let text = format!("{scheme} realm=\"{REALM}\"{parameters}{}", error.unwrap_or_default());
        HeaderValue::try_from(text).expect("it is printable ASCII")
    }
}
