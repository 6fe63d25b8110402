//! Keys in a header of their own.

use http::{HeaderMap, HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    credentials,
    principal::Principal,
    refusal::{Challenge, Refusal},
    secrets::Secrets,
};
use crate::{
    problem::Problems,
    task::{BuildError, http::Credentials},
    telemetry::Secret,
};

/// Who may call.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::tasks::http_endpoint) struct Config {
    /// The header that the key is in.
    #[serde(default = "x_api_key")]
    #[schemars(extend("default" = "x-api-key"))]
    header: String,
    /// The keys; any of them will do, so that one can be replaced by another.
    keys: Vec<Secret>,
}

fn x_api_key() -> String {
    "x-api-key".into()
}

impl Config {
    pub(super) fn credentials(&self) -> Credentials {
        Credentials::Key { header: self.header.clone() }
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        if HeaderName::try_from(&self.header).is_err() {
            problems.report("header", format!("`{}` is no name of a header", self.header));
        }
        if self.keys.is_empty() {
            problems.report("keys", "nobody could call").hint("add a key");
        }
        for (n, key) in self.keys.iter().enumerate() {
            let text = key.expose();
            if text.is_empty() || text.trim() != text || HeaderValue::try_from(text).is_err() {
                problems
                    .report(&format!("keys.{n}"), "no caller can send this key in a header")
                    .hint("at least one character, none of them a control character, no space around it");
            }
        }
    }
}

/// Admits whoever has a key.
pub(in crate::tasks::http_endpoint) struct ApiKey {
    header: HeaderName,
    keys: Secrets,
    challenge: Challenge,
}

impl ApiKey {
    pub(super) fn new(config: &Config) -> Result<Self, BuildError> {
        let header = HeaderName::try_from(&config.header).map_err(|error| {
            BuildError::new("`auth.api_key.header` is no name of a header").with_source(error)
        })?;
        let challenge = Challenge::new("ApiKey").with("header", header.as_str());
        Ok(Self { header, keys: Secrets::new(config.keys.iter().map(Secret::expose)), challenge })
    }

    pub(super) fn admit(&self, headers: &HeaderMap) -> Result<Principal, Refusal> {
        let key = credentials::one(headers, &self.header, &self.challenge)?;
        match self.keys.find(key) {
            Some(_) => Ok(Principal::anonymous("api_key")),
            None => Err(Refusal::unknown(&self.challenge, "the key is not known")),
        }
    }
}
