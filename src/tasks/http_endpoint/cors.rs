//! Which pages of other origins a browser lets read an endpoint: the CORS protocol of the Fetch standard.
//!
//! ```yaml
//! cors:
//!   allow_origins: [https://shop.example.com]
//!   allow_headers: [content-type, authorization]
//!   max_age: 10m
//! ```
//!
//! It is the browser that refuses; what is not a browser is told who may call by `auth` alone. A preflight carries no
//! credentials, so it is answered before `auth` is asked.

use std::time::Duration;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
        ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
        ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
    },
};
use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;

use crate::problem::Problems;

/// Whatever it is.
const ANY: &str = "*";

/// What the answer to a preflight depends on.
const PREFLIGHT_VARY: HeaderValue =
    HeaderValue::from_static("origin, access-control-request-method, access-control-request-headers");

/// What pages of other origins may do.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// The origins whose pages may read responses, such as `https://shop.example.com`; `["*"]` for all.
    allow_origins: Vec<String>,
    /// The methods that pages may use; each endpoint of a path decides for its own. By default that of the endpoint.
    #[serde(default)]
    allow_methods: Vec<String>,
    /// The headers that pages may send besides those that any form sends; `["*"]` for all but `authorization`.
    #[serde(default = "content_type")]
    #[schemars(extend("default" = ["content-type"]))]
    allow_headers: Vec<String>,
    /// The headers of responses that pages may read besides the common ones; `["*"]` for all.
    #[serde(default)]
    expose_headers: Vec<String>,
    /// Whether a browser may send cookies, client certificates and passwords that it keeps. Not with an origin `*`.
    #[serde(default)]
    allow_credentials: bool,
    /// How long a browser need not ask again. By default its own 5 seconds.
    #[serde(default, with = "humantime_serde::option")]
    #[schemars(with = "Option<String>")]
    max_age: Option<Duration>,
}

fn content_type() -> Vec<String> {
    vec!["content-type".into()]
}

impl Config {
    /// Reports what cannot be right. Paths are relative to the configuration.
    pub(super) fn check(&self, problems: &mut Problems) {
        if self.allow_origins.is_empty() {
            problems.report("allow_origins", "no origin is allowed").hint("name one, or leave `cors` out");
        }
        self.check_stars(problems);
        for (n, origin) in self.allow_origins.iter().enumerate().filter(|(_, origin)| *origin != ANY) {
            if let Err(hint) = check_origin(origin) {
                problems.report(&format!("allow_origins.{n}"), format!("`{origin}` is no origin")).hint(hint);
            }
        }
        for (n, method) in self.allow_methods.iter().enumerate() {
            let is_known = Method::from_bytes(method.as_bytes()).is_ok()
                && !method.bytes().any(|c| c.is_ascii_lowercase());
            if !is_known {
                problems
                    .report(&format!("allow_methods.{n}"), format!("`{method}` is no method"))
                    .hint("methods are written in capitals: `POST`");
            }
        }
        for (key, names) in [("allow_headers", &self.allow_headers), ("expose_headers", &self.expose_headers)]
        {
            for (n, name) in names.iter().enumerate().filter(|(_, name)| *name != ANY) {
                if HeaderName::try_from(name).is_err() {
                    problems.report(&format!("{key}.{n}"), format!("`{name}` is no name of a header"));
                }
            }
        }
    }

    /// A star stands alone, and browsers take it for a name where credentials are sent.
    fn check_stars(&self, problems: &mut Problems) {
        for (key, list) in [
            ("allow_origins", &self.allow_origins),
            ("allow_headers", &self.allow_headers),
            ("expose_headers", &self.expose_headers),
        ] {
            if !list.iter().any(|item| item == ANY) {
                continue;
            }
            if self.allow_credentials {
                problems.report(key, "`*` cannot stand beside `allow_credentials`").hint("name each of them");
            } else if list.len() > 1 {
                problems.report(key, "`*` stands beside others").hint("`*` alone means all");
            }
        }
    }
}

/// Refuses what no browser sends as an origin, and says what is meant.
fn check_origin(origin: &str) -> Result<(), String> {
    let wanted = || {
        "a scheme and a host, and a port if it is not the usual one: `https://shop.example.com`".to_owned()
    };
    let url = Url::parse(origin).map_err(|_| wanted())?;
    let sent = url.origin().ascii_serialization();
    match sent {
        sent if sent == origin => Ok(()),
        _ if !url.has_host() || !url.origin().is_tuple() => Err(wanted()),
        sent => Err(format!("a browser sends `{sent}`")),
    }
}

/// What is allowed, as it is sent.
pub(super) struct Cors {
    /// All, where there are none.
    origins: Option<Vec<String>>,
    /// Of a preflight from an origin that is allowed, besides the origin.
    preflight: HeaderMap,
    /// Of a response to such an origin, besides it.
    actual: HeaderMap,
}

impl Cors {
    /// Prepares the headers of an endpoint of `method`, of a configuration that was checked.
    pub(super) fn new(config: &Config, method: &Method) -> Self {
        let (mut preflight, mut actual) = (HeaderMap::new(), HeaderMap::new());
        let list =
            |items: &[String]| HeaderValue::try_from(items.join(", ")).ok().filter(|_| !items.is_empty());
        let methods = list(&config.allow_methods).or_else(|| HeaderValue::try_from(method.as_str()).ok());
        let max_age = config.max_age.map(|age| HeaderValue::from(age.as_secs()));
        let credentials = config.allow_credentials.then(|| HeaderValue::from_static("true"));
        for (name, value) in [
            (ACCESS_CONTROL_ALLOW_METHODS, methods),
            (ACCESS_CONTROL_ALLOW_HEADERS, list(&config.allow_headers)),
            (ACCESS_CONTROL_MAX_AGE, max_age),
            (ACCESS_CONTROL_ALLOW_CREDENTIALS, credentials.clone()),
        ] {
            preflight.extend(value.map(|value| (name, value)));
        }
        actual.extend(list(&config.expose_headers).map(|value| (ACCESS_CONTROL_EXPOSE_HEADERS, value)));
        actual.extend(credentials.map(|value| (ACCESS_CONTROL_ALLOW_CREDENTIALS, value)));
        let is_any = config.allow_origins.iter().any(|origin| origin == ANY);
        Self { origins: (!is_any).then(|| config.allow_origins.clone()), preflight, actual }
    }

    /// Returns the headers that answer a request of `OPTIONS`, if it is a preflight. One of an origin that is not allowed
    /// learns nothing.
    pub(super) fn preflight(&self, headers: &HeaderMap) -> Option<HeaderMap> {
        if !headers.contains_key(ORIGIN) || !headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
            return None;
        }
        let mut answer = HeaderMap::new();
        if let Some(origin) = self.allowed(headers) {
            answer.clone_from(&self.preflight);
            answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        }
        answer.insert(VARY, PREFLIGHT_VARY);
        Some(answer)
    }

    /// Adds to any response, one that refuses as well, what the page that sent the `request` may read of it.
    pub(super) fn apply(&self, request: &HeaderMap, response: &mut HeaderMap) {
        if self.origins.is_some() {
            // What a cache keeps for one page is not to be given to another, allowed or not.
            response.append(VARY, HeaderValue::from_static("origin"));
        }
        if let Some(origin) = self.allowed(request) {
            response.extend(self.actual.clone());
            response.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        }
    }

    /// Returns what stands for the origin of a request in the response, if it has one that is allowed.
    fn allowed(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let mut given = headers.get_all(ORIGIN).iter();
        let (Some(origin), None) = (given.next(), given.next()) else { return None };
        match &self.origins {
            None => Some(HeaderValue::from_static(ANY)),
            Some(origins) => {
                origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()).then(|| origin.clone())
            }
        }
    }
}

#[cfg(test)]
mod tests;
