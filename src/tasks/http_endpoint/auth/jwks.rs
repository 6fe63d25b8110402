//! Sets of keys: JSON Web Key Sets, RFC 7517.

mod cached;
mod origin;
#[cfg(test)]
mod tests;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::Value;

pub(super) use self::{cached::Cached, origin::check_url};
use super::jwt::{Algorithm, Key, Material};

/// The most keys of a set that are looked at: a token that names none is tried with all of them.
const MAX_KEYS: usize = 32;

/// Keys.
pub(super) struct KeySet(Vec<Key>);

/// Why a text is no set of keys. Never shows the text.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeySetError {
    #[error("it is no JSON Web Key Set: `{{\"keys\": [...]}}` is wanted")]
    Shape,
    #[error("it holds no key that can be used: RSA from 2048 bits, P-256, P-384 and Ed25519, for signatures")]
    Empty,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

/// What is read of a key.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    n: Option<String>,
    e: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    pub(super) fn new(keys: Vec<Key>) -> Self {
        Self(keys)
    }

    /// Reads a set. Keys that cannot be used here are passed over, as RFC 7517, section 5, wants it; so are secrets,
    /// which have no place in a set.
    pub(super) fn parse(text: &[u8]) -> Result<Self, KeySetError> {
        let set: Set = serde_json::from_slice(text).map_err(|_| KeySetError::Shape)?;
        let usable = |key| serde_json::from_value(key).ok().and_then(Jwk::into_key);
        let keys: Vec<_> = set.keys.into_iter().filter_map(usable).take(MAX_KEYS).collect();
        if keys.is_empty() { Err(KeySetError::Empty) } else { Ok(Self(keys)) }
    }

    /// Returns the keys that may have signed a token that names the key `kid` and the algorithm.
    pub(super) fn candidates(&self, kid: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &Key> {
        self.of(kid).filter(move |key| key.algorithms.contains(&algorithm))
    }

    /// Returns whether there is a key that a token that names `kid` may be of.
    fn knows(&self, kid: Option<&str>) -> bool {
        self.of(kid).next().is_some()
    }

    fn of(&self, kid: Option<&str>) -> impl Iterator<Item = &Key> {
        self.0.iter().filter(move |key| kid.is_none() || key.kid.is_none() || key.kid.as_deref() == kid)
    }
}

impl Jwk {
    fn into_key(self) -> Option<Key> {
        let is_for_signatures = self.purpose.as_deref().is_none_or(|purpose| purpose == "sig")
            && self
                .key_ops
                .as_ref()
                .is_none_or(|operations| operations.iter().any(|operation| operation == "verify"));
        if !is_for_signatures {
            return None;
        }
        let bytes = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_ref()?).ok();
        let (algorithms, material) = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => (Algorithm::RSA, Material::rsa(&bytes(&self.n)?, &bytes(&self.e)?)),
            ("EC", Some("P-256")) => point(&[Algorithm::Es256], &bytes(&self.x)?, &bytes(&self.y)?),
            ("EC", Some("P-384")) => point(&[Algorithm::Es384], &bytes(&self.x)?, &bytes(&self.y)?),
            ("OKP", Some("Ed25519")) => {
                (&[Algorithm::EdDsa][..], Material::curve(bytes(&self.x)?, Algorithm::EdDsa))
            }
            _ => return None,
        };
        let algorithms = match &self.alg {
            None => algorithms.to_vec(),
            Some(name) => {
                let named: Algorithm = serde_json::from_value(name.as_str().into()).ok()?;
                algorithms.contains(&named).then(|| vec![named])?
            }
        };
        Some(Key { kid: self.kid, algorithms, material: material.ok()? })
    }
}

/// Makes a point of its coordinates, which are as long as the curve is wide.
fn point(
    algorithms: &'static [Algorithm; 1],
    x: &[u8],
    y: &[u8],
) -> (&'static [Algorithm], Result<Material, crate::problem::Fault>) {
    (algorithms, Material::curve([&[4], x, y].concat(), algorithms[0]))
}
