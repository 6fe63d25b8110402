//! Tokens that an identity provider signs: JSON Web Tokens, RFC 7519, as RFC 8725 wants them checked.
//!
//! Which algorithms are right is up to the keys, never to the token: each key is for one kind of algorithm, and a token
//! that names another one is refused, as is one that names none. Nothing that a token claims is looked at before its
//! signature is right.

mod algorithm;
mod claims;
mod key;
mod token;

use std::{
    error::Error,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http::HeaderMap;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::Instant;

pub(super) use self::{
    algorithm::Algorithm,
    key::{Key, Material},
};
use self::{claims::Expected, token::Token};
use super::{
    bearer::SCHEME,
    credentials,
    jwks::{Cached, KeySet},
    principal::Principal,
    refusal::{Challenge, Refusal},
};
use crate::{
    problem::Problems,
    task::{BuildContext, BuildError, http::Credentials},
    telemetry::spawn_blocking,
};

/// Who may call.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::tasks::http_endpoint) struct Config {
    /// The keys, if they are known here. One of `keys`, `jwks_file` and `jwks_url`.
    #[serde(default)]
    keys: Option<Vec<key::Config>>,
    /// A file with a JSON Web Key Set. Read again when it changes.
    jwks_file: Option<PathBuf>,
    /// Where the identity provider has its JSON Web Key Set: `https://`, or `http://` on this machine. Fetched when the
    /// first token comes, again every 10 minutes, and when a token names a key that is not known.
    jwks_url: Option<String>,
    /// Who has to have issued the token: `iss`, a text or a list of texts. By default anybody who has a key.
    issuer: Option<Texts>,
    /// Whom the token has to be for: `aud`, a text or a list of texts, one of which the token has to name. By default
    /// anybody: a token for another service would do as well.
    audience: Option<Texts>,
    /// What the token has to allow: `scope` or `scp`. Without all of them the answer is 403.
    #[serde(default)]
    scopes: Vec<String>,
    /// The algorithms that may be used of those that the keys are for. By default all.
    algorithms: Option<Vec<Algorithm>>,
    /// How far the clock of whoever issues tokens may be from ours.
    #[serde(default = "leeway", with = "humantime_serde")]
    #[schemars(with = "String", extend("default" = "30s"))]
    leeway: Duration,
}

fn leeway() -> Duration {
    Duration::from_secs(30)
}

/// One text, or several.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a text or a list of texts")]
#[schemars(inline)]
enum Texts {
    One(String),
    Many(Vec<String>),
}

impl Texts {
    fn all(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts,
        }
    }
}

impl Config {
    /// Returns the files with public keys. That with a set of keys is looked at again by itself.
    pub(super) fn files(&self) -> impl Iterator<Item = PathBuf> {
        self.keys.iter().flatten().filter_map(key::Config::file).map(Path::to_path_buf)
    }

    pub(super) fn credentials(&self) -> Credentials {
        Credentials::Jwt { is_scoped: !self.scopes.is_empty() }
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        let given = [self.keys.is_some(), self.jwks_file.is_some(), self.jwks_url.is_some()];
        if given.into_iter().filter(|is_given| *is_given).count() != 1 {
            problems
                .report("", "tokens are checked with keys of one place")
                .hint("one of `keys`, `jwks_file` and `jwks_url`");
        }
        if self.keys.as_ref().is_some_and(Vec::is_empty) {
            problems.report("keys", "nobody could call").hint("add a key");
        }
        for (n, key) in self.keys.iter().flatten().enumerate() {
            let mut inner = Problems::below(problems.base().key("keys").index(n));
            key.check(&mut inner);
            problems.extend(inner);
        }
        if self.jwks_file.as_ref().is_some_and(|file| file.as_os_str().is_empty()) {
            problems.report("jwks_file", "`jwks_file` is empty");
        }
        if let Some(Err(hint)) = self.jwks_url.as_deref().map(super::jwks::check_url) {
            problems.report("jwks_url", "keys cannot be fetched from there").hint(hint);
        }
        for (key, texts) in [("issuer", &self.issuer), ("audience", &self.audience)] {
            let Some(texts) = texts else { continue };
            if texts.all().is_empty() || texts.all().iter().any(String::is_empty) {
                problems.report(key, format!("`{key}` is empty")).hint("leave it out where any will do");
            }
        }
        for (n, scope) in self.scopes.iter().enumerate() {
            if !claims::is_scope(scope) {
                problems.report(&format!("scopes.{n}"), "a scope is one word of printable ASCII");
            }
        }
        self.check_algorithms(problems);
    }

    fn check_algorithms(&self, problems: &mut Problems) {
        let Some(algorithms) = &self.algorithms else { return };
        if algorithms.is_empty() {
            problems
                .report("algorithms", "nobody could call")
                .hint("leave it out for all that the keys are for");
        }
        for (n, algorithm) in algorithms.iter().enumerate() {
            let is_of_a_key = match &self.keys {
                Some(keys) => keys.iter().any(|key| key.algorithm == *algorithm),
                None => !algorithm.is_symmetric(),
            };
            if !is_of_a_key {
                problems.report(&format!("algorithms.{n}"), format!("no key is for `{}`", algorithm.name()));
            }
        }
    }
}

/// Admits whoever has a token.
pub(in crate::tasks::http_endpoint) struct Jwt {
    keys: Keys,
    algorithms: Option<Vec<Algorithm>>,
    expected: Expected,
    challenge: Challenge,
    /// For those who may not.
    scope_challenge: Challenge,
}

enum Keys {
    Fixed(Arc<KeySet>),
    Cached(Cached),
}

impl Jwt {
    pub(super) async fn build(config: &Config, context: &BuildContext) -> Result<Self, BuildError> {
        let keys = if let Some(file) = &config.jwks_file {
            Keys::Cached(Cached::file(context.resolve(file)).await?)
        } else if let Some(url) = &config.jwks_url {
            Keys::Cached(Cached::url(url).await?)
        } else {
            let mut keys = Vec::new();
            for key in config.keys.iter().flatten() {
                let file = key.file().map(|file| context.resolve(file));
                let text = match &file {
                    Some(file) => Some(read(file.clone()).await?),
                    None => None,
                };
                keys.push(
                    key.build(text.as_deref()).map_err(|fault| unusable(file.as_deref(), fault.message))?,
                );
            }
            Keys::Fixed(Arc::new(KeySet::new(keys)))
        };
        let texts = |texts: &Option<Texts>| texts.as_ref().map(|texts| texts.all().to_vec());
        let challenge = Challenge::new(SCHEME);
        Ok(Self {
            keys,
            algorithms: config.algorithms.clone(),
            expected: Expected {
                issuers: texts(&config.issuer),
                audiences: texts(&config.audience),
                scopes: config.scopes.clone(),
                leeway: config.leeway,
            },
            scope_challenge: challenge.clone().with("scope", &config.scopes.join(" ")),
            challenge,
        })
    }

    /// Takes the keys of a set instead of those that were configured.
    #[cfg(feature = "fuzzing")]
    pub(super) fn with_keys(self, keys: KeySet) -> Self {
        Self { keys: Keys::Fixed(Arc::new(keys)), ..self }
    }

    pub(super) async fn admit(&self, headers: &HeaderMap, now: Timestamp) -> Result<Principal, Refusal> {
        let invalid = |reason| Refusal::invalid_token(&self.challenge, reason);
        let text = credentials::of_scheme(headers, SCHEME, &self.challenge)?;
        let token = Token::parse(text).ok_or_else(|| invalid("the token is not a signed JSON Web Token"))?;
        let algorithm = token.algorithm;
        if self.algorithms.as_ref().is_some_and(|allowed| !allowed.contains(&algorithm)) {
            return Err(invalid("the algorithm of the token is not allowed"));
        }
        let keys = match &self.keys {
            Keys::Fixed(keys) => Arc::clone(keys),
            // Such a set has no secrets, and a token of one is no reason to fetch it.
            Keys::Cached(_) if algorithm.is_symmetric() => {
                return Err(invalid("the algorithm of the token is not allowed"));
            }
            Keys::Cached(keys) => keys.get(token.kid.as_deref(), Instant::now()).await.ok_or_else(|| {
                Refusal::unavailable(Cached::PAUSE, "the keys of tokens are not to be had at the moment")
            })?,
        };
        let mut candidates = keys.candidates(token.kid.as_deref(), algorithm).peekable();
        if candidates.peek().is_none() {
            return Err(invalid("no key is known for the token"));
        }
        if !candidates.any(|key| key.verify(algorithm, token.message, &token.signature)) {
            return Err(invalid("the signature of the token is wrong"));
        }
        let claims = token.claims().ok_or_else(|| invalid("what the token claims cannot be read"))?;
        self.expected.check(&claims, now).map_err(invalid)?;
        if !self.expected.allows(&claims) {
            return Err(Refusal::forbidden(&self.scope_challenge, "the token does not allow this"));
        }
        let name = claims.get("sub").and_then(serde_json::Value::as_str).map(Arc::from);
        Ok(Principal { scheme: "jwt", name, claims: Some(claims) })
    }
}

/// Reads the text of a file with a public key.
async fn read(file: PathBuf) -> Result<String, BuildError> {
    let path = file.clone();
    let text = spawn_blocking(move || fs::read_to_string(path)).await.map_err(io::Error::from);
    text.and_then(|text| text).map_err(|error| unusable(Some(&file), error))
}

fn unusable(file: Option<&Path>, source: impl Into<Box<dyn Error + Send + Sync>>) -> BuildError {
    let place = file.map_or_else(|| "of `auth.jwt.keys`".into(), |file| format!("in `{}`", file.display()));
    BuildError::new(format!("cannot use the key {place}")).with_source(source)
}

#[cfg(test)]
mod tests;
