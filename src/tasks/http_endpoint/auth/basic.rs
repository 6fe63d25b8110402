//! Names and passwords: RFC 7617.

use std::{collections::BTreeMap, sync::Arc};

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::HeaderMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    credentials,
    principal::Principal,
    refusal::{Challenge, Refusal},
    report_named,
    secrets::Secrets,
};
use crate::{problem::Problems, telemetry::Secret};

const SCHEME: &str = "Basic";

/// Some clients leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Who may call.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::tasks::http_endpoint) struct Config {
    /// The password of each user by the user's name.
    users: BTreeMap<String, Secret>,
}

impl Config {
    pub(super) fn check(&self, problems: &mut Problems) {
        if self.users.is_empty() {
            problems.report("users", "nobody could call").hint("add a user: `name: password`");
        }
        for (name, password) in &self.users {
            if name.contains(':') || name.chars().any(char::is_control) {
                report_named(problems, "users", name, "a name holds neither a colon nor a control character");
            }
            if password.expose().is_empty() || password.expose().chars().any(char::is_control) {
                report_named(
                    problems,
                    "users",
                    name,
                    "a password is not empty and holds no control character",
                );
            }
        }
    }
}

/// Admits users by their passwords.
pub(in crate::tasks::http_endpoint) struct Basic {
    names: Vec<Arc<str>>,
    /// Name and password of each, as they are sent: a name that is not known costs what a wrong password does.
    pairs: Secrets,
    challenge: Challenge,
}

impl Basic {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            names: config.users.keys().map(|name| Arc::from(&**name)).collect(),
            pairs: Secrets::new(
                config.users.iter().map(|(name, password)| format!("{name}:{}", password.expose())),
            ),
            challenge: Challenge::new(SCHEME).with("charset", "UTF-8"),
        }
    }

    pub(super) fn admit(&self, headers: &HeaderMap) -> Result<Principal, Refusal> {
        let encoded = credentials::of_scheme(headers, SCHEME, &self.challenge)?;
        let pair = BASE64.decode(encoded).map_err(|_| {
            Refusal::unknown(&self.challenge, "name and password are not encoded as they should be")
        })?;
        let name = self.pairs.find(&pair).and_then(|n| self.names.get(n));
        let name =
            name.ok_or_else(|| Refusal::unknown(&self.challenge, "name and password are not known"))?;
        Ok(Principal { name: Some(Arc::clone(name)), ..Principal::anonymous("basic") })
    }
}
