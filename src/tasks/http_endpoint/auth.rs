//! Who may call an endpoint: exactly one way to tell.
//!
//! ```yaml
//! auth:
//!   bearer: {tokens: ["${API_TOKEN}"]}
//! ```
//!
//! A request is admitted by its headers before its body is read. One that is signed is verified once more, with its
//! body: [`Auth::needs_body`] says so. Nothing here logs a request, and nothing that it says holds a secret or what a
//! caller sent: reasons are fixed texts. Secrets are compared in constant time.

mod api_key;
mod basic;
mod bearer;
mod credentials;
mod hmac;
mod jwks;
mod jwt;
mod principal;
mod refusal;
mod secrets;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use http::HeaderMap;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;

pub(super) use self::{principal::Principal, refusal::Refusal};
use crate::{
    problem::{Focus, Problem, Problems},
    task::{BuildContext, BuildError, http::Credentials},
};

/// The ways to tell who calls; exactly one of them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// Tokens that callers send as `Authorization: Bearer <token>`.
    bearer: Option<bearer::Config>,
    /// Names and passwords that callers send as `Authorization: Basic`.
    basic: Option<basic::Config>,
    /// Keys that callers send in a header.
    api_key: Option<api_key::Config>,
    /// A secret that callers sign the body with, as webhooks do.
    hmac: Option<hmac::Config>,
    /// Tokens that an identity provider signs, sent as `Authorization: Bearer <token>`.
    jwt: Option<jwt::Config>,
}

impl Config {
    /// Returns whether callers are known by name, and not only as somebody who knows a secret.
    pub(super) fn names_callers(&self) -> bool {
        self.basic.is_some() || self.jwt.is_some()
    }

    /// Reports what cannot be right, without any I/O. Paths are relative to the configuration.
    pub(super) fn check(&self, problems: &mut Problems) {
        let given = [
            self.bearer.is_some(),
            self.basic.is_some(),
            self.api_key.is_some(),
            self.hmac.is_some(),
            self.jwt.is_some(),
        ];
        match given.into_iter().filter(|is_given| *is_given).count() {
            1 => {}
            count => {
                let message = if count == 0 {
                    "nobody could call"
                } else {
                    "there is more than one way to tell who calls"
                };
                problems.report("", message).focus(Focus::Key).hint(
                    "exactly one of `bearer`, `basic`, `api_key`, `hmac` and `jwt`; leave `auth` out to let everybody call",
                );
            }
        }
        below("bearer", self.bearer.as_ref(), problems, bearer::Config::check);
        below("basic", self.basic.as_ref(), problems, basic::Config::check);
        below("api_key", self.api_key.as_ref(), problems, api_key::Config::check);
        below("hmac", self.hmac.as_ref(), problems, hmac::Config::check);
        below("jwt", self.jwt.as_ref(), problems, jwt::Config::check);
    }
}

impl Config {
    /// Returns the files that are read when a task is built, and never again.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        self.jwt.iter().flat_map(jwt::Config::files).collect()
    }

    /// Returns how callers say who they are.
    pub(super) fn credentials(&self) -> Option<Credentials> {
        let bearer = self.bearer.as_ref().map(|_| Credentials::Bearer);
        let basic = || self.basic.as_ref().map(|_| Credentials::Basic);
        bearer
            .or_else(basic)
            .or_else(|| self.api_key.as_ref().map(api_key::Config::credentials))
            .or_else(|| self.hmac.as_ref().and_then(hmac::Config::credentials))
            .or_else(|| self.jwt.as_ref().map(jwt::Config::credentials))
    }
}

/// Checks what stands at `key`, if anything does, with paths that are relative to it.
fn below<T>(key: &str, config: Option<&T>, problems: &mut Problems, check: impl FnOnce(&T, &mut Problems)) {
    let Some(config) = config else { return };
    let mut inner = Problems::below(problems.base().key(key));
    check(config, &mut inner);
    problems.extend(inner);
}

/// Reports a problem with the key or the item `name`, which may hold dots.
fn report_named<'a>(problems: &'a mut Problems, key: &str, name: &str, message: &str) -> &'a mut Problem {
    let path = problems.base().key(key).key(name);
    problems.push(Problem::new(path, message))
}

/// Tells who calls.
pub(super) enum Auth {
    Bearer(bearer::Bearer),
    Basic(basic::Basic),
    ApiKey(api_key::ApiKey),
    Hmac(Box<hmac::Hmac>),
    Jwt(Box<jwt::Jwt>),
}

impl Auth {
    /// Prepares what a checked configuration says.
    ///
    /// # Errors
    /// A file of keys that cannot be read or used. Keys that are fetched from a URL are fetched when the first request
    /// asks for them: a worker starts while the identity provider is away.
    pub(super) async fn build(config: &Config, context: &BuildContext) -> Result<Self, BuildError> {
        if let Some(config) = &config.bearer {
            Ok(Self::Bearer(bearer::Bearer::new(config)))
        } else if let Some(config) = &config.basic {
            Ok(Self::Basic(basic::Basic::new(config)))
        } else if let Some(config) = &config.api_key {
            api_key::ApiKey::new(config).map(Self::ApiKey)
        } else if let Some(config) = &config.hmac {
            hmac::Hmac::new(config).map(Box::new).map(Self::Hmac)
        } else if let Some(config) = &config.jwt {
            jwt::Jwt::build(config, context).await.map(Box::new).map(Self::Jwt)
        } else {
            Err(BuildError::new("`auth` names no way to tell who calls"))
        }
    }

    /// As [`Self::build`] for `jwt`, with the keys of a JSON Web Key Set instead of those that are configured.
    #[cfg(feature = "fuzzing")]
    pub(super) async fn build_with_keys(
        config: &Config,
        context: &BuildContext,
        set: &[u8],
    ) -> Result<Self, BuildError> {
        let set = jwks::KeySet::parse(set)
            .map_err(|error| BuildError::new("cannot use the keys").with_source(error))?;
        match Self::build(config, context).await? {
            Self::Jwt(jwt) => Ok(Self::Jwt(Box::new(jwt.with_keys(set)))),
            other => Ok(other),
        }
    }

    /// Returns whether a request that was admitted has to pass [`Self::verify_body`] as well.
    pub(super) fn needs_body(&self) -> bool {
        matches!(self, Self::Hmac(_))
    }

    /// Tells who calls, or refuses the request, by its headers.
    pub(super) async fn admit(&self, headers: &HeaderMap, now: Timestamp) -> Result<Principal, Refusal> {
        match self {
            Self::Bearer(bearer) => bearer.admit(headers),
            Self::Basic(basic) => basic.admit(headers),
            Self::ApiKey(api_key) => api_key.admit(headers),
            Self::Hmac(hmac) => hmac.admit(headers, now),
            Self::Jwt(jwt) => jwt.admit(headers, now).await,
        }
    }

    /// Refuses a request whose body is not the one that was signed. The body is as it came, before it is decompressed,
    /// and `now` is when the request was admitted: it may have taken long to read.
    pub(super) fn verify_body(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        now: Timestamp,
    ) -> Result<(), Refusal> {
        match self {
            Self::Hmac(hmac) => hmac.verify(headers, body, now),
            Self::Bearer(_) | Self::Basic(_) | Self::ApiKey(_) | Self::Jwt(_) => Ok(()),
        }
    }
}
