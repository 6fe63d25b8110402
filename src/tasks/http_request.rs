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
//! `Retry-After` asks. Any other status but those of `success_status`, by default 2xx, is permanent. A method that is not
//! idempotent is retried too: nothing is lost rather than nothing sent twice.
//!
//! **As whom.** `auth` is a known token, a user, or the client credentials of OAuth 2.0. A token is asked for by one request
//! however many wait for it, again a minute before it expires (after nine tenths of a short life), and once more when the
//! server answers 401; then the request is made again. Without `expires_in` it holds for five minutes. While the endpoint is
//! down a token that still holds is used. A token that is not to be had is `oauth2`, transient or permanent as the answer
//! would be. `credentials_path` names a JSON file with `bearer_auth`, `basic_auth: {username, password}` or
//! `oauth2_client_credentials: {token_url, client_id, client_secret, scope}`; it is read when the task is built.
//!
//! **Redirects.** GET and HEAD follow up to ten within the host, where the headers may be seen, or with `across_hosts`
//! anywhere, but then without headers, credentials and payload, and never from `https` to `http`. What is not followed is a
//! permanent failure with the 3xx as its type.
//!
//! **Pages.** `pagination` follows the `Link` header, a URL or a cursor in the body, or counts. Each page is an event, or
//! with `items_path` each item. A page that fails fails them all, and the attempt begins anew with the first one, so nothing
//! is emitted twice. More pages than `max_pages`, a page that comes again, and one on another host are `pagination`.
//!
//! **A gentle client.** `rate_limit` makes requests wait, which fails nothing and counts towards no timeout. With
//! `circuit_breaker` a host whose attempts fail so many times in a row, in a way that may pass, is not asked for a while:
//! attempts fail at once as `circuit_open`, transient, and the next one waits until the circuit lets it through.
//! `timeout` is that of each request; one for a token or a page has its own.
//!
//! **Where requests may go.** `allow_hosts` and `deny_private` hold for the URL of every request, redirects and pages
//! included, and for the addresses that its name leads to when a connection is made. What they refuse is `refused`, permanent.
//! Private are loopback, private networks, the link, shared and reserved addresses, multicast, and those of cloud metadata,
//! in IPv6 too and however they are written; a block of `allow_hosts` is an exception. With addresses to look at
//! the environment's proxies are not used, since those look up names themselves; for the same reason a `proxy` and
//! `deny_private` exclude each other, and with a `proxy` a name has to stand in `allow_hosts` itself. They do not
//! hold for `token_url`, which no event can change.
//!
//! **The way there.** Requests go through `proxy`, or without it through the one that the environment's `HTTP_PROXY`,
//! `HTTPS_PROXY` and `NO_PROXY` name; `proxy: none` goes straight. A server is trusted by the public roots, those of the
//! machine, those in `SSL_CERT_FILE`, and `tls.ca_file`. HTTP/2 is spoken with servers that offer it over TLS. Bodies may be
//! compressed with gzip, brotli or zstd; what counts towards `max_response_bytes` is what comes out, as it comes.
//!
//! Telemetry: the span is of kind CLIENT and has `http.request.method`, `server.address`, `server.port`, `url.scheme`,
//! `http.request.body.size`, `http.response.status_code`, `http.response.body.size` if the response says its length
//! and is not compressed, and `network.protocol.version`. A path is not shown: it may hold data or a secret. The one
//! header that is shown is an `x-request-id`, sent or received: `http.request.header.x-request-id` and
//! `http.response.header.x-request-id`, each a list. Of several attempts and requests the last one is described. Each request
//! is one record of `http.client.request.duration`, also one for a token, a redirect or a page. A request carries
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
    task::{BuildContext, BuildError, Kind, Needs, Role, Task},
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

    fn needs(config: &Config) -> Needs {
        Needs { files: config.files(), ..Needs::default() }
    }

    async fn build(config: &Config, context: &BuildContext) -> Result<Task, BuildError> {
        Ok(Task::Processor(Box::new(config.build(context).await?)))
    }
}
