//! What may go wrong between a request and its response, and whether trying again can help.

use std::{error::Error, fmt, io, time::Duration};

use jiff::{Timestamp, fmt::rfc2822};
use reqwest::{Method, Request, Response, StatusCode, Url, header::RETRY_AFTER};

use super::guard::Refused;
use crate::{
    format::{ENCODE, IO},
    task::TaskError,
    template::TEMPLATE,
};

/// `error.type` of an event that makes no URL.
pub(super) const ENDPOINT: &str = "endpoint";
/// `error.type` of an event that makes no value for a header.
pub(super) const HEADER: &str = "header";
/// `error.type` of a response whose body is not what it should be.
pub(super) const DECODE: &str = "decode";
/// `error.type` of a response that is longer than allowed.
pub(super) const TOO_LARGE: &str = "too_large";
/// `error.type` of a request without a token, since none is to be had.
pub(super) const OAUTH2: &str = "oauth2";
/// `error.type` of a request to a server that is left alone for a while.
pub(super) const CIRCUIT_OPEN: &str = "circuit_open";
/// `error.type` of a request to where none may go.
pub(super) const REFUSED: &str = "refused";
/// `error.type` of pages that do not end, or do not hold what they should.
pub(super) const PAGINATION: &str = "pagination";
const CONNECT: &str = "connect";
const TLS: &str = "tls";
const TIMEOUT: &str = "timeout";
const OTHER: &str = "_OTHER";

/// Every `error.type`. That of a status is the status itself, as the semantic conventions have it, if it
/// is one in use.
#[rustfmt::skip]
pub(super) const ERROR_TYPES: &[&str] = &[
    TEMPLATE, ENDPOINT, HEADER, ENCODE, REFUSED, CIRCUIT_OPEN, OAUTH2, CONNECT, TLS, TIMEOUT, IO, TOO_LARGE, DECODE, PAGINATION,
    "300", "301", "302", "303", "304", "305", "307", "308",
    "400", "401", "402", "403", "404", "405", "406", "407", "408", "409", "410", "411", "412", "413", "414", "415",
    "416", "417", "418", "421", "422", "423", "424", "425", "426", "428", "429", "431", "451",
    "500", "501", "502", "503", "504", "505", "506", "507", "508", "510", "511", OTHER,
];

/// A request on its way, as errors name it: never more than its method and where it goes.
pub(super) struct Exchange {
    method: Method,
    host: String,
}

impl Exchange {
    pub(super) fn of(request: &Request) -> Self {
        Self { method: request.method().clone(), host: authority(request.url()) }
    }

    /// Makes the error of a request or a response that broke off.
    pub(super) fn broken(&self, error: reqwest::Error) -> TaskError {
        if error.is_builder() {
            return no_request(error);
        }
        if let Some(refused) = chain(&error).find_map(|cause| cause.downcast_ref::<Refused>()) {
            return self.refused(*refused);
        }
        let (error_type, what) = if chain(&error).any(is_tls) {
            (TLS, "no trusted connection")
        } else if error.is_connect() {
            (CONNECT, "cannot connect")
        } else if error.is_timeout() {
            (TIMEOUT, "took longer than `timeout`")
        } else if error.is_decode() && is_malformed(&error) {
            return self
                .undecodable("the body is not compressed as its headers say")
                .with_source(error.without_url());
        } else {
            (IO, "the connection broke")
        };
        TaskError::transient(error_type, format!("{self}: {what}")).with_source(error.without_url())
    }

    /// Makes the error of a request that must not go where it should.
    pub(super) fn refused(&self, refused: Refused) -> TaskError {
        TaskError::permanent(REFUSED, format!("{self}: {refused}"))
    }

    /// Makes the error of a body that is not what it should be.
    pub(super) fn undecodable(&self, what: &str) -> TaskError {
        TaskError::permanent(DECODE, format!("{self}: {what}"))
    }

    /// Makes the error of a body that is longer than `limit`.
    pub(super) fn too_large(&self, limit: usize) -> TaskError {
        let message = format!("{self}: the body is longer than `max_response_bytes`, {limit}");
        TaskError::permanent(TOO_LARGE, message)
    }

    /// Makes the error of a response that is no success.
    pub(super) fn unsuccessful(&self, response: &Response) -> TaskError {
        let status = response.status();
        let error_type = error_type(status);
        if !is_transient(status) {
            let note = if status.is_redirection() { ", and where it points is not followed" } else { "" };
            return TaskError::permanent(error_type, format!("{self}: the answer is {status}{note}"));
        }
        let error = TaskError::transient(error_type, format!("{self}: the answer is {status}"));
        let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        match asked.and_then(|text| retry_after(text, Timestamp::now())) {
            Some(delay) => error.with_retry_after(delay),
            None => error,
        }
    }
}

impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.host)
    }
}

/// Returns the host of a URL, with the port if it names one.
pub(super) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Makes the error of an event whose URL no request can be made of.
pub(super) fn no_request(error: reqwest::Error) -> TaskError {
    TaskError::permanent(ENDPOINT, "the event makes no URL that can be requested")
        .with_source(error.without_url())
}

fn error_type(status: StatusCode) -> &'static str {
    ERROR_TYPES.iter().find(|known| **known == status.as_str()).unwrap_or(&OTHER)
}

fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

/// Reads `Retry-After`: seconds, or a date.
fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| (*error).source())
}

/// Returns whether an error is one of TLS. An I/O error does not show what it wraps as its source.
fn is_tls(error: &(dyn Error + 'static)) -> bool {
    let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    error.is::<rustls::Error>() || wrapped.is_some_and(|wrapped| is_tls(wrapped))
}

/// Returns whether it was the bytes that were wrong, and not that they stopped coming: of that hyper tells.
fn is_malformed(error: &(dyn Error + 'static)) -> bool {
    !chain(error).any(|cause| cause.is::<hyper::Error>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date_and_never_negative() {
        let now: Timestamp = "1994-11-06T08:49:07Z".parse().unwrap();
        assert_eq!(retry_after("120", now), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(Duration::from_secs(30)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:48:37 GMT", now), Some(Duration::ZERO));
        for wrong in ["", "-1", "soon", "1.5"] {
            assert_eq!(retry_after(wrong, now), None, "{wrong}");
        }
    }

    #[test]
    fn the_type_of_a_status_is_one_of_a_closed_list() {
        for code in 100..1000 {
            let status = StatusCode::from_u16(code).unwrap();
            assert!(ERROR_TYPES.contains(&error_type(status)), "{code}");
            assert!(!is_transient(status) || error_type(status) == status.as_str(), "{code}");
        }
        assert_eq!(error_type(StatusCode::NOT_FOUND), "404");
        assert_eq!(error_type(StatusCode::from_u16(599).unwrap()), OTHER);
    }
}
