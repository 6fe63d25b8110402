//! Tokens that are known: RFC 6750.

use http::HeaderMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    credentials,
    principal::Principal,
    refusal::{Challenge, Refusal},
    secrets::Secrets,
};
use crate::{problem::Problems, telemetry::Secret};

/// The scheme in `Authorization`.
pub(super) const SCHEME: &str = "Bearer";

/// Who may call.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::tasks::http_endpoint) struct Config {
    /// The tokens; any of them will do, so that one can be replaced by another.
    tokens: Vec<Secret>,
}

impl Config {
    pub(super) fn check(&self, problems: &mut Problems) {
        if self.tokens.is_empty() {
            problems.report("tokens", "nobody could call").hint("add a token");
        }
        for (n, token) in self.tokens.iter().enumerate() {
            if !is_token(token.expose()) {
                problems
                    .report(&format!("tokens.{n}"), "no caller can send this token")
                    .hint("letters, digits and `-._~+/`, at least one, and then `=` as often as wanted");
            }
        }
    }
}

/// Returns whether a text is a `b64token` of RFC 6750, section 2.1.
fn is_token(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    !body.is_empty() && body.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte))
}

/// Admits whoever has a token.
pub(in crate::tasks::http_endpoint) struct Bearer {
    tokens: Secrets,
    challenge: Challenge,
}

impl Bearer {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            tokens: Secrets::new(config.tokens.iter().map(Secret::expose)),
            challenge: Challenge::new(SCHEME),
        }
    }

    pub(super) fn admit(&self, headers: &HeaderMap) -> Result<Principal, Refusal> {
        let token = credentials::of_scheme(headers, SCHEME, &self.challenge)?;
        match self.tokens.find(token) {
            Some(_) => Ok(Principal::anonymous("bearer")),
            None => Err(Refusal::invalid_token(&self.challenge, "the token is not known")),
        }
    }
}
