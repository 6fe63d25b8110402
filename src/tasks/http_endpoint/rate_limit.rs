//! How many requests of whom are let in.

use std::{
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use http::{HeaderMap, HeaderName};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::Instant;

use super::auth::Principal;
use crate::{
    problem::Problems,
    services::limiter::{self, Limiter},
    task::BuildError,
};

/// How many requests are let in a second, one after the other, and whose are counted together.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// Requests a second; may be a fraction.
    rate: f64,
    /// How many requests may come at once after a quiet time. By default 1.
    #[serde(default = "limiter::one")]
    burst: u32,
    /// Whose requests are counted together: those of an `address`, of a `caller` that `auth` knows by name, of each value of a
    /// `{header: x-api-key}`, or `all`. By default `address`.
    #[serde(default)]
    #[schemars(extend("default" = "address"))]
    key: Key,
    /// For how many of them rates are kept at once. By default 10000.
    #[serde(default = "limiter::ten_thousand")]
    max_keys: usize,
}

/// Whose requests are counted together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Key {
    /// Those that come from one address.
    #[default]
    Address,
    /// Those of one caller.
    Caller,
    /// All.
    All,
    /// Those that have the same value of this header.
    Header(#[schemars(description = "The name of the header.")] String),
}

impl Config {
    /// Reports what cannot be right. Paths are relative to the configuration.
    pub(super) fn check(&self, knows_callers: bool, problems: &mut Problems) {
        limiter::check("request", self.rate, self.burst, self.max_keys, problems);
        match &self.key {
            Key::Caller if !knows_callers => {
                problems
                    .report("key", "no caller is known by name")
                    .hint("`auth` by `basic` or `jwt` tells names; or write `address`");
            }
            Key::Header(name) if HeaderName::try_from(name).is_err() => {
                problems.report("key.header", "no header can have this name");
            }
            Key::Address | Key::Caller | Key::All | Key::Header(_) => {}
        }
    }
}

/// Lets in so many.
pub(super) struct RateLimit {
    key: Key,
    header: Option<HeaderName>,
    limiter: Mutex<Limiter>,
}

impl RateLimit {
    /// Makes what a checked configuration says.
    ///
    /// # Errors
    /// No header can have the name.
    pub(super) fn new(config: &Config) -> Result<Self, BuildError> {
        let header = match &config.key {
            Key::Header(name) => Some(HeaderName::try_from(name)),
            Key::Address | Key::Caller | Key::All => None,
        };
        let header =
            header.transpose().map_err(|error| BuildError::new("no such header").with_source(error))?;
        let limiter = Limiter::new(config.rate, config.burst, config.max_keys, Instant::now());
        Ok(Self { key: config.key.clone(), header, limiter: Mutex::new(limiter) })
    }

    /// Returns whether only those are counted that `auth` lets in. Of an address all are: whoever tries out passwords is
    /// slowed down, and takes nothing from others.
    pub(super) fn needs_identity(&self) -> bool {
        self.key != Key::Address
    }

    /// Lets a request in, or says how long to wait.
    pub(super) fn admit(
        &self,
        peer: SocketAddr,
        caller: Option<&Principal>,
        headers: &HeaderMap,
    ) -> Result<(), Duration> {
        let key = match &self.key {
            Key::Address => peer.ip().to_string(),
            Key::Caller => caller.and_then(|caller| caller.name.as_deref()).unwrap_or_default().to_owned(),
            Key::All => String::new(),
            Key::Header(_) => {
                let value = self.header.as_ref().and_then(|header| headers.get(header));
                value.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).unwrap_or_default()
            }
        };
        let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        limiter.try_acquire(&key, Instant::now())
    }
}
