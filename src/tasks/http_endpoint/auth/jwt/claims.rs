//! What a token has to claim: RFC 7519, section 4.1.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value};

/// What is expected of tokens.
pub(super) struct Expected {
    pub(super) issuers: Option<Vec<String>>,
    pub(super) audiences: Option<Vec<String>>,
    pub(super) scopes: Vec<String>,
    pub(super) leeway: Duration,
}

impl Expected {
    /// Says what is wrong with a token at `now`. It has to end, and what it says of itself has to be of the right type.
    pub(super) fn check(&self, claims: &Map<String, Value>, now: Timestamp) -> Result<(), &'static str> {
        let now = now.as_duration().as_secs_f64();
        let leeway = self.leeway.as_secs_f64();
        let end = claims.get("exp").and_then(Value::as_f64).ok_or("the token does not say when it ends")?;
        if end + leeway <= now {
            return Err("the token has expired");
        }
        if let Some(start) = claims.get("nbf") {
            let start = start.as_f64().ok_or("the token does not say when it begins")?;
            if now + leeway < start {
                return Err("the token is not valid yet");
            }
        }
        let is_one_of = |wanted: &[String], given: &str| wanted.iter().any(|wanted| wanted == given);
        if let Some(issuers) = &self.issuers
            && !claims.get("iss").and_then(Value::as_str).is_some_and(|issuer| is_one_of(issuers, issuer))
        {
            return Err("the token is of another issuer");
        }
        if let Some(audiences) = &self.audiences
            && !texts(claims.get("aud")).any(|audience| is_one_of(audiences, audience))
        {
            return Err("the token is for another audience");
        }
        Ok(())
    }

    /// Returns whether a token has all scopes that are wanted.
    pub(super) fn allows(&self, claims: &Map<String, Value>) -> bool {
        let given =
            || texts(claims.get("scope")).chain(texts(claims.get("scp"))).flat_map(|text| text.split(' '));
        self.scopes.iter().all(|wanted| given().any(|scope| scope == wanted))
    }
}

/// Returns the texts of a claim that is one or a list of them.
fn texts(claim: Option<&Value>) -> impl Iterator<Item = &str> {
    let values = match claim {
        Some(Value::Array(values)) => values.as_slice(),
        Some(value) => std::slice::from_ref(value),
        None => &[],
    };
    values.iter().filter_map(Value::as_str)
}

/// Returns whether a text is a scope: RFC 6749, section 3.3.
pub(super) fn is_scope(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\')
}
