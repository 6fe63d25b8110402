//! Bodies that are signed with a secret both sides know, as webhooks do.

mod format;

use std::time::Duration;

use http::{HeaderMap, HeaderName};
use jiff::Timestamp;
use ring::hmac;
use schemars::JsonSchema;
use serde::Deserialize;
use subtle::ConstantTimeEq as _;

use self::format::{Format, Signed};
use super::{
    credentials,
    principal::Principal,
    refusal::{Challenge, Refusal},
};
use crate::{
    problem::Problems,
    task::{BuildError, http::Credentials},
    telemetry::Secret,
};

/// How far the time of a signature may be from ours by default.
const TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// Who may call.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::tasks::http_endpoint) struct Config {
    /// What the header holds, and what is signed.
    #[serde(default)]
    #[schemars(extend("default" = "hex"))]
    format: Format,
    /// The header that the signature is in. `github`, `stripe` and `slack` have one of their own by default.
    header: Option<String>,
    /// The secret, as the sender shows it.
    secret: Secret,
    /// The hash function.
    #[serde(default)]
    #[schemars(extend("default" = "sha256"))]
    algorithm: Algorithm,
    /// The header that the time is in, for `slack`. By default `x-slack-request-timestamp`.
    timestamp_header: Option<String>,
    /// How far the time of a signature may be from ours, for `stripe` and `slack`. By default 5m.
    #[serde(default, with = "humantime_serde::option")]
    #[schemars(with = "Option<String>")]
    tolerance: Option<Duration>,
}

/// The hash functions.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(in crate::tasks::http_endpoint) enum Algorithm {
    /// For senders that know nothing better: as a MAC it is not broken.
    Sha1,
    #[default]
    Sha256,
    Sha512,
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn mac(self) -> hmac::Algorithm {
        match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512 => hmac::HMAC_SHA512,
        }
    }
}

impl Config {
    pub(super) fn check(&self, problems: &mut Problems) {
        if self.header_name().is_none() {
            problems.report("", "the field `header` is missing").hint("the header that the signature is in");
        }
        for (key, name) in [("header", &self.header), ("timestamp_header", &self.timestamp_header)] {
            if let Some(name) = name
                && HeaderName::try_from(name).is_err()
            {
                problems.report(key, format!("`{name}` is no name of a header"));
            }
        }
        if self.secret.expose().is_empty() {
            problems.report("secret", "the secret is empty").hint("anybody could sign with it");
        }
        if self.format.has_time() && self.algorithm != Algorithm::Sha256 {
            problems.report("algorithm", "this format is always of `sha256`").hint("leave `algorithm` out");
        }
        if !self.format.has_time() && self.tolerance.is_some() {
            problems.report("tolerance", "signatures of this format have no time").hint("remove it");
        }
        if self.format != Format::Slack && self.timestamp_header.is_some() {
            problems.report("timestamp_header", "only `slack` has the time in a header").hint("remove it");
        }
        if self.tolerance.is_some_and(|tolerance| tolerance.as_secs() == 0) {
            problems.report("tolerance", "must be at least a second");
        }
    }

    pub(super) fn credentials(&self) -> Option<Credentials> {
        let time_header = (self.format == Format::Slack).then(|| self.timestamp_header_name().to_owned());
        Some(Credentials::Signature { header: self.header_name()?.to_owned(), time_header })
    }

    fn timestamp_header_name(&self) -> &str {
        self.timestamp_header.as_deref().unwrap_or(format::SLACK_TIMESTAMP)
    }

    fn header_name(&self) -> Option<&str> {
        self.header.as_deref().or_else(|| self.format.header(self.algorithm))
    }
}

/// Admits requests whose body is signed.
pub(in crate::tasks::http_endpoint) struct Hmac {
    format: Format,
    header: HeaderName,
    timestamp_header: HeaderName,
    algorithm: Algorithm,
    key: hmac::Key,
    tolerance: Duration,
    challenge: Challenge,
}

impl Hmac {
    pub(super) fn new(config: &Config) -> Result<Self, BuildError> {
        let name = |key: &str, name: &str| {
            HeaderName::try_from(name).map_err(|error| {
                BuildError::new(format!("`auth.hmac.{key}` is no name of a header")).with_source(error)
            })
        };
        let header = name("header", config.header_name().unwrap_or_default())?;
        Ok(Self {
            format: config.format,
            timestamp_header: name("timestamp_header", config.timestamp_header_name())?,
            algorithm: config.algorithm,
            key: hmac::Key::new(config.algorithm.mac(), config.secret.expose().as_bytes()),
            tolerance: config.tolerance.unwrap_or(TOLERANCE),
            challenge: Challenge::new("HMAC")
                .with("algorithm", config.algorithm.name())
                .with("header", header.as_str()),
            header,
        })
    }

    /// Refuses a request that is not signed, or not now. Who signed it is seen by the body alone.
    pub(super) fn admit(&self, headers: &HeaderMap, now: Timestamp) -> Result<Principal, Refusal> {
        self.signed(headers, now)?;
        Ok(Principal::anonymous("hmac"))
    }

    pub(super) fn verify(&self, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<(), Refusal> {
        let signed = self.signed(headers, now)?;
        let mut context = hmac::Context::with_key(&self.key);
        signed.prefix(self.format).iter().for_each(|part| context.update(part));
        context.update(body);
        let tag = context.sign();
        let is_signed = signed.signatures.iter().fold(subtle::Choice::from(0), |is_signed, signature| {
            is_signed | signature.as_slice().ct_eq(tag.as_ref())
        });
        if bool::from(is_signed) { Ok(()) } else { Err(self.refuse("the signature is not that of the body")) }
    }

    /// Reads what the headers say of the signature.
    fn signed<'a>(&self, headers: &'a HeaderMap, now: Timestamp) -> Result<Signed<'a>, Refusal> {
        let value = credentials::one(headers, &self.header, &self.challenge)?;
        let time = match self.format {
            Format::Slack => Some(credentials::one(headers, &self.timestamp_header, &self.challenge)?),
            _ => None,
        };
        let signed = self
            .format
            .parse(value, time, self.algorithm)
            .ok_or_else(|| self.refuse("the signature is not written as it should be"))?;
        if let Some(time) = &signed.time
            && now.as_second().abs_diff(time.second) > self.tolerance.as_secs()
        {
            return Err(self.refuse("the signature is of another time"));
        }
        Ok(signed)
    }

    fn refuse(&self, reason: &'static str) -> Refusal {
        Refusal::unknown(&self.challenge, reason)
    }
}

#[cfg(test)]
mod tests;
