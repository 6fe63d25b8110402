//! `http_request`: calls an HTTP API for every event; the response's body is the new data.
//!
//! ```yaml
//! flow:
//!   name: prices
//!   tasks:
//!     - generate:
//!         name: orders
//!         count: 3
//!         payload: {item: a-1, quantity: 2}
//!     - http_request:
//!         name: price
//!         endpoint: ${HTTP_ENDPOINT:-http://127.0.0.1:8080}/prices/{{ event.data.item | urlencode }}
//!         method: POST
//!         payload:
//!           object: {quantity: "{{ event.data.quantity }}"}
//!     - stdout:
//!         name: out
//! ```
//!
//! Id, metadata and subject stay those of the event. What event data brings into a URL is not escaped
//! unless `urlencode` says so, since an event may name a whole URL; slashes stay even then.
//!
//! What may pass is transient, so that the retries of the task apply: no connection, a timeout, a
//! connection that breaks, 408, 425, 429, 500, 502, 503 and 504. The next attempt waits at least as long as
//! `Retry-After` asks. Any other status but 2xx is permanent. A method that is not idempotent is retried
//! too: nothing is lost rather than nothing sent twice.
//!
//! GET and HEAD follow up to ten redirects within the host, where the headers may be seen; anything else
//! is a permanent failure with the 3xx as its type. Requests go through the proxy that the environment's
//! `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` name. A server is trusted by the public roots, those of the
//! machine, and those in `SSL_CERT_FILE`.
//!
//! Telemetry: the span is of kind CLIENT and has `http.request.method`, `server.address`, `server.port`, `url.scheme`,
//! `http.request.body.size`, `http.response.status_code`, `http.response.body.size` if the response says its length
//! and is not compressed, and `network.protocol.version`. A path is not shown: it may hold data or a secret. The one
//! header that is shown is an `x-request-id`, sent or received: `http.request.header.x-request-id` and
//! `http.response.header.x-request-id`, each a list. Of several attempts the last one is described. A request carries
//! its event's place in the trace as `traceparent`, unless `headers` sets another one.
//!
//! Neither log lines nor errors hold a path, a query, userinfo, a header's value or a body: variables are
//! put in when the flow is loaded, so that any of them may be a secret.

mod client;
mod durations;
mod endpoint;
mod failure;
mod headers;
mod payload;
mod response;
mod span;

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use reqwest::{Client, Method, Request, header::CONTENT_TYPE};
use schemars::JsonSchema;
use serde::Deserialize;

use self::{
    durations::{Durations, Timing},
    endpoint::Endpoint,
    failure::{ERROR_TYPES, Exchange},
    headers::Headers,
    payload::{Encoded, Payload},
    response::{Reading, ResponseType},
};
use crate::{
    event::{self, Event},
    format::ByteSize,
    problem::Problems,
    task::{BuildContext, BuildError, Kind, Output, Processor, Role, Task, TaskError},
    telemetry::{SpanKind, spawn_blocking},
    template::TemplateError,
};

/// The `http_request` kind.
pub(super) struct HttpRequest;

/// What to ask whom.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// The URL, a template: `http://` or `https://`.
    endpoint: String,
    /// The method.
    #[serde(default)]
    #[schemars(extend("default" = "GET"))]
    method: MethodName,
    /// The headers; their values are templates.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// What to send; nothing without it.
    payload: Option<payload::Config>,
    /// How long one attempt may take, from the start to the end of the response; `null` for no limit.
    #[serde(default = "timeout", with = "humantime_serde::option")]
    #[schemars(with = "Option<String>", extend("default" = "30s"))]
    timeout: Option<Duration>,
    /// How long it may take to connect, TLS included.
    #[serde(default = "connect_timeout", with = "humantime_serde")]
    #[schemars(with = "String", extend("default" = "10s"))]
    connect_timeout: Duration,
    /// How the response's body becomes the event's data.
    #[serde(default)]
    #[schemars(extend("default" = "auto"))]
    response_type: ResponseType,
    /// How long the response's body may be, decompressed.
    #[serde(default = "max_response_bytes")]
    #[schemars(extend("default" = "10MiB"))]
    max_response_bytes: ByteSize,
}

fn timeout() -> Option<Duration> {
    Some(Duration::from_secs(30))
}

fn connect_timeout() -> Duration {
    Duration::from_secs(10)
}

fn max_response_bytes() -> ByteSize {
    ByteSize(10 << 20)
}

/// The methods.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
enum MethodName {
    #[default]
    Get,
    Post,
    Put,
    Delete,
    Patch,
    Head,
}

impl From<MethodName> for Method {
    fn from(name: MethodName) -> Self {
        match name {
            MethodName::Get => Self::GET,
            MethodName::Post => Self::POST,
            MethodName::Put => Self::PUT,
            MethodName::Delete => Self::DELETE,
            MethodName::Patch => Self::PATCH,
            MethodName::Head => Self::HEAD,
        }
    }
}

impl Kind for HttpRequest {
    const NAME: &'static str = "http_request";
    const ROLE: Role = Role::Processor;
    const SUMMARY: &'static str = "calls an HTTP API; the response's body is the new data";
    const ERROR_TYPES: &'static [&'static str] = ERROR_TYPES;
    const SPAN_KIND: SpanKind = SpanKind::Client;
    type Config = Config;

    fn check(config: &Config, problems: &mut Problems) {
        Endpoint::check(&config.endpoint, problems);
        headers::check(&config.headers, problems);
        if let Some(payload) = &config.payload {
            payload.check(problems);
        }
        for (key, limit) in [("timeout", config.timeout), ("connect_timeout", Some(config.connect_timeout))] {
            if limit.is_some_and(|limit| limit.is_zero()) {
                problems.report(key, "must be longer than zero");
            }
        }
        config.max_response_bytes.check_limit("max_response_bytes", problems);
    }

    async fn build(config: &Config, context: &BuildContext) -> Result<Task, BuildError> {
        let uncompiled =
            |key: &str, error: TemplateError| BuildError::new(format!("cannot compile `{key}`")).with_source(error);
        let method = Method::from(config.method);
        let (is_safe, timeout, connect_timeout) = (method.is_safe(), config.timeout, config.connect_timeout);
        // It reads the machine's certificates.
        let client = spawn_blocking(move || client::build(is_safe, timeout, connect_timeout)).await;
        Ok(Task::Processor(Box::new(Requester {
            client: client.map_err(|error| BuildError::new("setting up the HTTP client was cut short").with_source(error))??,
            endpoint: Endpoint::compile(&config.endpoint).map_err(|error| uncompiled("endpoint", error))?,
            headers: Headers::compile(&config.headers, context.propagators)
                .map_err(|error| uncompiled("headers", error))?,
            payload: config
                .payload
                .as_ref()
                .map(payload::Config::compile)
                .transpose()
                .map_err(|error| uncompiled("payload", error))?,
            reading: Reading { response_type: config.response_type, limit: config.max_response_bytes.0 },
            durations: Durations::new(context),
            method,
        })))
    }
}

/// Makes requests of events, and data of responses.
struct Requester {
    /// Pools the connections of this task.
    client: Client,
    method: Method,
    endpoint: Endpoint,
    headers: Headers,
    payload: Option<Payload>,
    reading: Reading,
    durations: Durations,
}

impl Requester {
    fn request(&self, event: &Event) -> Result<Request, TaskError> {
        let url = self.endpoint.render(event)?;
        // The builder makes a header of the userinfo in a URL.
        let mut request = self.client.request(self.method.clone(), url).build().map_err(failure::no_request)?;
        request.headers_mut().extend(self.headers.outgoing(event)?);
        match self.payload.as_ref().map(|payload| payload.encode(event)).transpose()? {
            Some(Encoded::Body { bytes, content_type }) => {
                request.headers_mut().entry(CONTENT_TYPE).or_insert(content_type);
                *request.body_mut() = Some(bytes.into());
            }
            Some(Encoded::Query(pairs)) => {
                request.url_mut().query_pairs_mut().extend_pairs(pairs);
            }
            None => {}
        }
        Ok(request)
    }
}

#[async_trait]
impl Processor for Requester {
    async fn handle(&self, event: &Event, output: &mut Output) -> Result<(), TaskError> {
        let request = self.request(event)?;
        if let Some(span) = output.span() {
            span::describe_request(&request, span);
        }
        let exchange = Exchange::of(&request);
        let mut timing = self.durations.begin(&request, event.trace);
        let answered = self.exchange(request, &exchange, &mut timing, output).await;
        timing.end(answered.as_ref().err().map(TaskError::error_type));
        output.emit(event.with_data(answered?));
        Ok(())
    }
}

impl Requester {
    /// Sends a request, and reads the data of its response.
    async fn exchange(
        &self,
        request: Request,
        exchange: &Exchange,
        timing: &mut Timing<'_>,
        output: &mut Output,
    ) -> Result<event::Payload, TaskError> {
        let response = self.client.execute(request).await.map_err(|error| exchange.broken(error))?;
        timing.status(response.status());
        if let Some(span) = output.span() {
            span::describe_response(&response, span);
        }
        exchange.check_status(&response)?;
        self.reading.read(response, exchange).await
    }
}
