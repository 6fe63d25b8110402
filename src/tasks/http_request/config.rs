//! The keys of a request, what is wrong with them, and the task that is made of them.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use reqwest::Method;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    auth,
    circuit::{self, Circuits},
    client::{self, Files, ProxyChoice, Settings},
    durations::Durations,
    endpoint::Endpoint,
    guard::{self, Guard},
    headers::{self, Headers},
    outgoing::Outgoing,
    pace, pagination, payload,
    redirects::Redirects,
    requester::Requester,
    response::{Reading, ResponseType, Shape},
    success::Statuses,
};
use crate::{
    format::ByteSize,
    problem::Problems,
    task::{BuildContext, BuildError},
    telemetry::{Secret, spawn_blocking},
    template::TemplateError,
};

/// What to ask whom.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Config {
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
    /// As whom: one of `bearer: {token}`, `basic: {user, password}` and `oauth2: {token_url, client_id, client_secret}`.
    auth: Option<auth::Config>,
    /// The same from a JSON file with `bearer_auth`, `basic_auth: {username, password}` or `oauth2_client_credentials`.
    credentials_path: Option<PathBuf>,
    /// How long one request may take, from the start to the end of the response; `null` for no limit.
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
    /// What of the response becomes the event's data: the body, or `{status, headers, body}`.
    #[serde(default)]
    #[schemars(extend("default" = "body"))]
    response: Shape,
    /// The statuses that are a success: a list of `404`, `2xx`, `200-204` and the like; by default all of 2xx.
    #[serde(default)]
    success_status: Statuses,
    /// How long the response's body may be, decompressed; with `pagination` those of all pages together.
    #[serde(default = "max_response_bytes")]
    #[schemars(extend("default" = "10MiB"))]
    max_response_bytes: ByteSize,
    /// Gets all pages: `type` is one of `link_header`, `link_body`, `cursor` and `page`.
    pagination: Option<pagination::Config>,
    /// Which redirects of GET and HEAD are followed.
    #[serde(default)]
    #[schemars(extend("default" = {"max": 10, "across_hosts": false}))]
    redirects: Redirects,
    /// How many requests may go a second.
    rate_limit: Option<pace::Config>,
    /// When a server that fails is left alone for a while.
    circuit_breaker: Option<circuit::Config>,
    /// The hosts that requests may go to: names, `*.` and a name, addresses, and blocks such as `10.0.0.0/8`.
    allow_hosts: Option<Vec<String>>,
    /// Refuses private addresses, also those that a name leads to, but for blocks in `allow_hosts`.
    #[serde(default)]
    deny_private: bool,
    /// The certificates of the connections.
    #[serde(default)]
    tls: Files,
    /// The URL of a proxy, or `none`; without it the environment decides.
    proxy: Option<Secret>,
    /// How many connections to one host wait for the next request; without it no limit.
    pool_max_idle_per_host: Option<usize>,
    /// How long a connection waits for the next request.
    #[serde(default = "pool_idle_timeout", with = "humantime_serde::option")]
    #[schemars(with = "Option<String>", extend("default" = "90s"))]
    pool_idle_timeout: Option<Duration>,
}

fn timeout() -> Option<Duration> {
    Some(Duration::from_secs(30))
}

fn connect_timeout() -> Duration {
    Duration::from_secs(10)
}

fn pool_idle_timeout() -> Option<Duration> {
    Some(Duration::from_secs(90))
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

impl Config {
    pub(super) fn check(&self, problems: &mut Problems) {
        Endpoint::check(&self.endpoint, problems);
        headers::check(&self.headers, problems);
        if let Some(payload) = &self.payload {
            payload.check(problems);
        }
        self.check_credentials(problems);
        for (key, limit) in [
            ("timeout", self.timeout),
            ("connect_timeout", Some(self.connect_timeout)),
            ("pool_idle_timeout", self.pool_idle_timeout),
        ] {
            if limit.is_some_and(|limit| limit.is_zero()) {
                problems.report(key, "must be longer than zero");
            }
        }
        self.max_response_bytes.check_limit("max_response_bytes", problems);
        self.success_status.check(problems);
        self.check_shape(problems);
        if let Some(rate_limit) = &self.rate_limit {
            rate_limit.check(problems);
        }
        if let Some(circuit_breaker) = self.circuit_breaker {
            circuit_breaker.check(problems);
        }
        self.tls.check(problems);
        self.check_way(problems);
    }

    fn check_credentials(&self, problems: &mut Problems) {
        if let Some(auth) = &self.auth {
            auth.check(problems);
        }
        let key = match (&self.auth, &self.credentials_path) {
            (Some(_), Some(_)) => {
                problems
                    .report("credentials_path", "`auth` says already as whom requests are made")
                    .hint("remove one of the two");
                return;
            }
            (Some(_), None) => "auth",
            (None, Some(_)) => "credentials_path",
            (None, None) => return,
        };
        if let Some(name) = self.headers.keys().find(|name| name.eq_ignore_ascii_case("authorization")) {
            problems
                .report(&format!("headers.{name}"), format!("`{key}` makes this header"))
                .hint("remove one of the two");
        }
    }

    fn check_shape(&self, problems: &mut Problems) {
        let is_whole = self.response == Shape::Whole;
        if is_whole && self.response_type == ResponseType::Bytes {
            problems
                .report("response_type", "a whole response is JSON, which holds no bytes")
                .hint("leave out `response: whole`, or read the body as `text`");
        }
        let Some(pagination) = &self.pagination else { return };
        pagination.check(problems);
        if pagination.is_by_item() {
            if is_whole {
                problems
                    .report("response", "an item of a page is no whole response")
                    .hint("leave out `items_path` or `response: whole`");
            }
            if self.response_type == ResponseType::Bytes {
                problems
                    .report("response_type", "bytes hold no list of items")
                    .hint("read the body as `json`");
            }
        }
    }

    fn check_way(&self, problems: &mut Problems) {
        guard::check(self.allow_hosts.as_deref(), problems);
        ProxyChoice::check(self.proxy.as_ref(), problems);
        let proxy = ProxyChoice::of(self.proxy.as_ref());
        if self.deny_private && proxy.is_explicit() {
            problems
                .report("deny_private", "the proxy looks up names, so nobody here sees where they lead")
                .hint("let the proxy refuse private addresses, and name the hosts in `allow_hosts`");
        }
        if let Some(guard) = self.guard()
            && let Some(url) = Endpoint::constant(&self.endpoint)
            && let Err(refused) = guard.check(&url)
        {
            problems.report("endpoint", refused.to_string());
        }
    }

    fn guard(&self) -> Option<Arc<Guard>> {
        let is_proxied = ProxyChoice::of(self.proxy.as_ref()).is_explicit();
        Guard::compile(self.allow_hosts.as_deref(), self.deny_private, is_proxied)
    }

    /// Returns the files that the task is made of.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        self.credentials_path.iter().chain(self.tls.all()).cloned().collect()
    }

    /// Makes the task.
    pub(super) async fn build(&self, context: &BuildContext) -> Result<Requester, BuildError> {
        let uncompiled = |key: &str, error: TemplateError| {
            BuildError::new(format!("cannot compile `{key}`")).with_source(error)
        };
        let method = Method::from(self.method);
        let guard = self.guard();
        let (settings, auth) = self.read_files(context).await?;
        let durations = Arc::new(Durations::new(context));
        let credentials = match auth {
            Some(auth) => {
                // A token endpoint is never where event data lead, so the guard does not hold there.
                let client = auth.asks_for_tokens().then(|| client::build(settings.clone(), None));
                auth.compile(client.transpose()?, &durations, context.propagators)
            }
            None => None,
        };
        let payload = self.payload.as_ref().map(payload::Config::compile).transpose();
        let pace = self.rate_limit.as_ref().map(pace::Config::compile).transpose();
        Ok(Requester {
            redirects: method.is_safe().then_some(self.redirects),
            outgoing: Outgoing {
                client: client::build(settings, guard.as_ref())?,
                endpoint: Endpoint::compile(&self.endpoint).map_err(|error| uncompiled("endpoint", error))?,
                headers: Headers::compile(&self.headers, context.propagators)
                    .map_err(|error| uncompiled("headers", error))?,
                payload: payload.map_err(|error| uncompiled("payload", error))?,
                method,
            },
            credentials,
            guard,
            pace: pace.map_err(|error| uncompiled("rate_limit", error))?,
            circuits: self.circuit_breaker.map(|config| Circuits::new(config, context)),
            pagination: self.pagination.as_ref().map(pagination::Config::compile),
            success: self.success_status.clone(),
            reading: Reading {
                response_type: self.response_type,
                shape: self.response,
                limit: self.max_response_bytes.0,
            },
            durations,
        })
    }

    /// Reads the certificates and the credentials.
    async fn read_files(
        &self,
        context: &BuildContext,
    ) -> Result<(Settings, Option<auth::Config>), BuildError> {
        let files = self.tls.resolved(context);
        let path = self.credentials_path.as_ref().map(|path| context.resolve(path));
        let read = spawn_blocking(move || {
            let auth = path.as_deref().map(auth::read).transpose()?;
            Ok::<_, BuildError>((client::connections(&files)?, auth))
        });
        let cut_short =
            |error| BuildError::new("setting up the HTTP client was cut short").with_source(error);
        let (tls, auth) = read.await.map_err(cut_short)??;
        let settings = Settings {
            tls,
            proxy: ProxyChoice::of(self.proxy.as_ref()),
            timeout: self.timeout,
            connect_timeout: self.connect_timeout,
            pool_max_idle_per_host: self.pool_max_idle_per_host,
            pool_idle_timeout: self.pool_idle_timeout,
        };
        Ok((settings, auth.or_else(|| self.auth.clone())))
    }
}
