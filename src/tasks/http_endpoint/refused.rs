//! A request that is not let in, and what its sender is told.

use std::time::Duration;

use http::{HeaderValue, Response, StatusCode, header::WWW_AUTHENTICATE};

use super::auth::Refusal;
use crate::{services::http::problem::Problem, task::http::Body};

/// After how many seconds a request that finds no room may be sent again.
const RETRY_AFTER: u64 = 1;

/// Why a request is not let in.
#[derive(Debug)]
pub(super) struct Refused {
    problem: Problem,
    /// How to say who one is.
    challenge: Option<HeaderValue>,
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self { problem, challenge: None }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let Refusal { status, challenge, retry_after, reason } = refusal;
        let problem = Problem::new(status, reason);
        let problem = match retry_after {
            Some(time) => problem.retry_after(seconds(time)),
            None => problem,
        };
        Self { problem, challenge }
    }
}

impl Refused {
    /// Refuses a request of somebody who may send another one after this time.
    pub(super) fn too_often(wait: Duration) -> Self {
        let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "more requests than are let in");
        problem.retry_after(seconds(wait)).into()
    }

    /// Makes the response.
    pub(super) fn into_response(self) -> Response<Body> {
        let mut response = self.problem.into_response();
        if let Some(challenge) = self.challenge {
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// Refuses a request for which there is no place.
pub(super) fn saturated() -> Problem {
    unavailable("as many requests as there is room for are being handled")
}

/// Refuses a request that comes while nobody brings it in.
pub(super) fn unserved() -> Problem {
    unavailable("the endpoint is not served for now")
}

fn unavailable(detail: &'static str) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(RETRY_AFTER)
}

/// Returns whole seconds, no less than the time.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}
