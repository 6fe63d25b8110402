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

mod auth;
mod circuit;
mod client;
mod config;
mod durations;
mod endpoint;
mod failure;
mod guard;
mod headers;
mod outgoing;
mod pace;
mod pagination;
mod payload;
mod redirects;
mod requester;
mod response;
mod span;
mod success;

use self::config::Config;
use crate::{
    problem::Problems,
    task::{BuildContext, BuildError, Kind, Role, Task},
    telemetry::SpanKind,
};

/// The `http_request` kind.
pub(super) struct HttpRequest;

impl Kind for HttpRequest {
    const NAME: &'static str = "http_request";
    const ROLE: Role = Role::Processor;
    const SUMMARY: &'static str = "calls an HTTP API; the response's body is the new data";
    const ERROR_TYPES: &'static [&'static str] = failure::ERROR_TYPES;
    const SPAN_KIND: SpanKind = SpanKind::Client;
    type Config = Config;

    fn check(config: &Config, problems: &mut Problems) {
        config.check(problems);
    }

    async fn build(config: &Config, context: &BuildContext) -> Result<Task, BuildError> {
        Ok(Task::Processor(Box::new(config.build(context).await?)))
    }
}
