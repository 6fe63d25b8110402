//! `http_endpoint`: makes an event of every HTTP request, and answers it with what the flow makes of that.
//!
//! ```yaml
//! http_server: {address: "127.0.0.1:0"}
//! flow:
//!   name: greet
//!   tasks:
//!     - http_endpoint:
//!         name: in
//!         endpoint: /greetings/{name}
//!     - script:
//!         name: greet
//!         code: |
//!           #{greeting: `Hello, ${event.data.params.name}!`}
//! ```
//!
//! An event's data is `{method, path, params, query, headers, payload}`: the parameters of the path by name, decoded; the
//! query, an item that comes several times as a list; those headers that `headers` allows, in lower case. What identified
//! the client is in the metadata as `auth`.
//!
//! With `response: result` the answer is what the event has become where nothing comes after it: one output is the body,
//! several are a list in the order of their ids, and none is 204. `ctx.meta.http_response = #{status: 201, headers: #{...}}`
//! in a script sets the status and headers: with what no response can have the answer is 500, and so it is if the outputs take
//! more memory than `max_response_bytes`. `response: ack` answers 200 when the whole flow has succeeded, and
//! `response: accepted` answers 202 as soon as a durable flow has the event on its disk.
//!
//! An event that fails is answered 500, or 503 if the same request may succeed later; one that has become too old 504; one
//! that `on_error: drop` disposed of 204; one that was stored as a dead letter 202. After `ack_timeout` the answer is 504; the event goes on
//! and has an outcome of its own, as it does when the client goes away. Problems are `application/problem+json` (RFC
//! 9457) with the ids of the event and of its trace.
//!
//! Requests that are refused become no event: 400, 401, 403, 408, 413, 415 and 429 say what is wrong with them, and 503 that
//! `max_in_flight` requests are being handled already, or that these leave no memory for it. A request counts from when its
//! body was read until its answer was sent.
//!
//! With `stream: true` the outputs are sent as server-sent events as they come. A client that reads too slowly is cut off.
//!
//! Telemetry: the span is of kind SERVER and ends when the answer is sent; it has `http.request.method`, `http.route`,
//! `url.scheme`, `network.protocol.version`, `http.request.body.size`, `http.response.status_code` and
//! `http.response.body.size`, and an `x-request-id` of either side: `http.request.header.x-request-id`,
//! `http.response.header.x-request-id`. The path is not shown, its template is. `error.type` is the status of an answer
//! that is the server's fault, or `timeout`. `http.server.request.duration` and `http.server.active_requests` also
//! count the requests that were refused.

mod auth;
mod cors;
mod described;
mod endpoint;
mod exchange;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod kept;
mod media;
mod rate_limit;
mod record;
mod refused;
mod response;
mod source;
mod span;
mod stream;
mod waiting;

use std::{sync::Arc, time::Duration};

use http::{HeaderName, Method};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::{Semaphore, mpsc};

use self::{
    auth::Auth, cors::Cors, endpoint::Endpoint, media::RequestType, rate_limit::RateLimit, source::Listener,
};
use crate::{
    format::ByteSize,
    problem::Problems,
    services::http::body::Limits,
    task::{
        BuildContext, BuildError, Durability, Kind, Needs, Role, Task, TraceContextMode,
        http::{Claimant, Operation, Route},
    },
    telemetry::{SpanKind, TIMEOUT},
};

/// The most events of one endpoint that can be asked for at a time.
const MOST_IN_FLIGHT: usize = 1_000_000;

/// The `http_endpoint` kind.
pub(super) struct HttpEndpoint;

/// What comes in where, and how it is answered.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// The path, beginning with `/`; `{name}` is a parameter, and `{*name}` at its end takes all that is left.
    endpoint: String,
    /// The method.
    #[serde(default)]
    #[schemars(extend("default" = "POST"))]
    method: MethodName,
    /// What a request is answered with.
    #[serde(default)]
    #[schemars(extend("default" = "result"))]
    response: ResponseMode,
    /// How long a request waits for its answer; then it gets 504, and its event goes on.
    #[serde(default = "ack_timeout", with = "humantime_serde")]
    #[schemars(with = "String", extend("default" = "30s"))]
    ack_timeout: Duration,
    /// Sends outputs as server-sent events, as they come.
    #[serde(default)]
    stream: bool,
    /// How the body becomes `payload`.
    #[serde(default)]
    #[schemars(extend("default" = "auto"))]
    request_type: RequestType,
    /// How long a body may be, also decompressed.
    #[serde(default = "max_body_bytes")]
    #[schemars(extend("default" = "10MiB"))]
    max_body_bytes: ByteSize,
    /// How much memory may be taken by what an event becomes, until all of it is there to be answered with.
    #[serde(default = "max_response_bytes")]
    #[schemars(extend("default" = "64MiB"))]
    max_response_bytes: ByteSize,
    /// Who may send requests. By default everybody.
    auth: Option<auth::Config>,
    /// How many requests of whom are let in; one more is answered 429. By default any number.
    rate_limit: Option<rate_limit::Config>,
    /// Which pages of other origins may use the endpoint from a browser. By default none.
    cors: Option<cors::Config>,
    /// The headers that events have; by default none.
    #[serde(default)]
    headers: Vec<String>,
    /// How many requests are handled at a time; one more is answered 503 at once.
    #[serde(default = "max_in_flight")]
    #[schemars(extend("default" = 1024), range(min = 1, max = MOST_IN_FLIGHT))]
    max_in_flight: usize,
    /// What becomes of the trace that a request belongs to by its `traceparent`. By default `trust`.
    #[serde(default = "trust")]
    #[schemars(extend("default" = "trust"))]
    trace_context: TraceContextMode,
}

fn ack_timeout() -> Duration {
    Duration::from_secs(30)
}

fn max_body_bytes() -> ByteSize {
    ByteSize(10 << 20)
}

fn max_response_bytes() -> ByteSize {
    ByteSize(64 << 20)
}

fn max_in_flight() -> usize {
    1_024
}

fn trust() -> TraceContextMode {
    TraceContextMode::Trust
}

/// The methods.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
enum MethodName {
    Get,
    #[default]
    Post,
    Put,
    Delete,
    Patch,
}

impl From<MethodName> for Method {
    fn from(name: MethodName) -> Self {
        match name {
            MethodName::Get => Self::GET,
            MethodName::Post => Self::POST,
            MethodName::Put => Self::PUT,
            MethodName::Delete => Self::DELETE,
            MethodName::Patch => Self::PATCH,
        }
    }
}

/// What a request is answered with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum ResponseMode {
    /// What the event has become, when the flow is done with it.
    #[default]
    Result,
    /// 200, when the flow is done with it.
    Ack,
    /// 202, when a durable flow has it on its disk.
    Accepted,
}

/// Checks what stands at `key`, with paths that are relative to it.
fn below(key: &str, problems: &mut Problems, check: impl FnOnce(&mut Problems)) {
    let mut inner = Problems::below(problems.base().key(key));
    check(&mut inner);
    problems.extend(inner);
}

impl Config {
    fn route(&self) -> Result<Route, crate::task::http::RouteError> {
        Route::new(self.method.into(), &self.endpoint)
    }
}

impl Kind for HttpEndpoint {
    const NAME: &'static str = "http_endpoint";
    const ROLE: Role = Role::Source;
    const SUMMARY: &'static str = "makes an event of every HTTP request, and answers it";
    const ERROR_TYPES: &'static [&'static str] = &["500", "502", "503", "504", TIMEOUT];
    const SPAN_KIND: SpanKind = SpanKind::Server;
    type Config = Config;

    fn check(config: &Config, problems: &mut Problems) {
        if let Err(error) = config.route() {
            problems.report("endpoint", error.to_string()).hint("for example `/orders/{id}`");
        }
        if config.ack_timeout.is_zero() {
            problems.report("ack_timeout", "must be longer than zero");
        }
        config.max_body_bytes.check_limit("max_body_bytes", problems);
        config.max_response_bytes.check_limit("max_response_bytes", problems);
        for (n, name) in config.headers.iter().enumerate() {
            if HeaderName::try_from(name).is_err() {
                problems.report(&format!("headers.{n}"), "no header can have this name");
            }
        }
        if let Some(auth) = &config.auth {
            below("auth", problems, |problems| auth.check(problems));
        }
        if let Some(limit) = &config.rate_limit {
            below("rate_limit", problems, |problems| {
                limit.check(config.auth.as_ref().is_some_and(auth::Config::names_callers), problems)
            });
        }
        if let Some(cors) = &config.cors {
            below("cors", problems, |problems| cors.check(problems));
        }
        if !(1..=MOST_IN_FLIGHT).contains(&config.max_in_flight) {
            problems.report("max_in_flight", format!("must be between 1 and {MOST_IN_FLIGHT}"));
        }
        if config.stream && config.response != ResponseMode::Result {
            problems.report("stream", "only results are streamed").hint("leave `response` out");
        }
    }

    fn needs(config: &Config) -> Needs {
        Needs {
            files: config.auth.as_ref().map(auth::Config::files).unwrap_or_default(),
            route: config.route().ok(),
            durable: match config.response {
                ResponseMode::Accepted => Durability::Required("response"),
                ResponseMode::Result | ResponseMode::Ack => Durability::Refused("response"),
            },
            ..Needs::default()
        }
    }

    fn operation(config: &Config) -> Option<Operation> {
        described::operation(config)
    }

    async fn build(config: &Config, context: &BuildContext) -> Result<Task, BuildError> {
        let server = context.http.as_ref().ok_or_else(|| BuildError::new("the worker has no HTTP server"))?;
        let route = config.route().map_err(|error| BuildError::new("no such route").with_source(error))?;
        let headers = config.headers.iter().map(HeaderName::try_from).collect::<Result<_, _>>();
        let headers = headers.map_err(|error| BuildError::new("no such header").with_source(error))?;
        if config.max_body_bytes.0 > server.budget().limit() {
            let message = "`max_body_bytes` is more than all requests may take at a time: raise `http_server.max_buffered_bytes`";
            return Err(BuildError::new(message));
        }
        let claimant = Claimant { flow: Arc::clone(&context.flow), task: Arc::clone(&context.task) };
        let claim = server.claim(&route, claimant).await?;
        let auth = match &config.auth {
            Some(auth) => Some(Auth::build(auth, context).await?),
            None => None,
        };
        let (sender, requests) = mpsc::channel(config.max_in_flight);
        let endpoint = Endpoint {
            auth,
            rate_limit: config.rate_limit.as_ref().map(RateLimit::new).transpose()?,
            cors: config.cors.as_ref().map(|cors| Cors::new(cors, &route.method)),
            route,
            response: config.response,
            ack_timeout: config.ack_timeout,
            is_streaming: config.stream,
            request_type: config.request_type,
            limits: Limits {
                bytes: config.max_body_bytes.0,
                time: server.body_timeout(),
                budget: server.budget().clone(),
            },
            max_response_bytes: config.max_response_bytes.0,
            headers,
            trace_context: config.trace_context,
            room: Arc::new(Semaphore::new(config.max_in_flight)),
            requests: sender.downgrade(),
            stop: server.stop().clone(),
        };
        Ok(Task::Source(Box::new(Listener { claim, endpoint: Arc::new(endpoint), sender, requests })))
    }
}
