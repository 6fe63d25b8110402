//! What a client sends, taken in without a server, for the targets in `fuzz/`. Each function calls what the endpoint calls
//! for a request, and nothing else.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode, request::Parts};
use jiff::Timestamp;
use serde_json::Value;

use super::{
    auth::{self, Auth},
    media::RequestType,
    record,
};
use crate::{
    problem::Problems,
    services::http::{
        body::{self, Held, Limits},
        encoding,
    },
    task::{
        BuildContext,
        http::{Budget, Route},
    },
};

/// Makes the data of an event of each request.
#[derive(Debug)]
pub struct Intake {
    route: Route,
    request_type: RequestType,
    headers: Vec<HeaderName>,
    limits: Limits,
}

impl Intake {
    /// Makes one for a route. `request_type` is written as in YAML, and `max_bytes` limits the body and all memory for it.
    ///
    /// # Errors
    /// There is no such type.
    pub fn new(
        route: Route,
        request_type: &str,
        headers: Vec<HeaderName>,
        max_bytes: usize,
        memory: usize,
    ) -> Result<Self, serde_json::Error> {
        let limits = Limits { bytes: max_bytes, time: Duration::from_secs(1), budget: Budget::new(memory) };
        Ok(Self { route, request_type: serde_json::from_value(request_type.into())?, headers, limits })
    }

    /// Returns the data of the event that a request becomes, and how much memory was taken for its payload.
    ///
    /// # Errors
    /// The status that it is refused with.
    pub async fn event(
        &self,
        head: &Parts,
        params: &[String],
        body: Bytes,
    ) -> Result<(Value, usize), StatusCode> {
        let refused = |problem: crate::services::http::problem::Problem| problem.status();
        encoding::of_request(&head.headers).map_err(refused)?;
        let held = Held { bytes: body, memory: self.limits.budget.share() };
        let held = body::decoded(held, &head.headers, &self.limits).await.map_err(refused)?;
        let kind = self.request_type.kind(&head.headers);
        let (payload, memory) = kind.decode(held).await.map_err(refused)?;
        let data = record::data(head, &self.route, params, &self.headers, payload).map_err(refused)?;
        Ok((data.into_json().unwrap_or_default(), memory.bytes()))
    }

    /// Returns whether all memory was given back.
    pub fn is_idle(&self) -> bool {
        self.limits.budget.share().resize(self.limits.budget.limit()).is_ok()
    }
}

/// Tells who calls.
pub struct Gate(Auth);

impl Gate {
    /// Makes one of what stands below `auth` in YAML. With a `set` of keys for tokens these are used, whatever keys are
    /// configured.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn new(config: Value, set: Option<&[u8]>) -> Result<Self, String> {
        let config: auth::Config = serde_json::from_value(config).map_err(|error| error.to_string())?;
        let mut problems = Problems::default();
        config.check(&mut problems);
        if let Some(problem) = problems.into_vec().first() {
            return Err(format!("{}: {}", problem.path, problem.message));
        }
        let context = BuildContext::new("fuzz", "in", ".".into());
        let auth = match set {
            Some(set) => Auth::build_with_keys(&config, &context, set).await,
            None => Auth::build(&config, &context).await,
        };
        auth.map(Self).map_err(|error| error.to_string())
    }

    /// Returns what an event says of the caller.
    ///
    /// # Errors
    /// The status that the request is refused with.
    pub async fn admit(&self, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<Value, StatusCode> {
        let principal = self.0.admit(headers, now).await.map_err(|refusal| refusal.status)?;
        self.0.verify_body(headers, body, now).map_err(|refusal| refusal.status)?;
        Ok(principal.into_meta())
    }
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gate")
    }
}
