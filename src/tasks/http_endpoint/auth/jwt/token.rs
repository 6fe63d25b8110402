//! The text of a token: JSON Web Signature in its compact form, RFC 7515, section 3.1.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::algorithm::Algorithm;

/// The longest token that is looked at.
const MAX_LEN: usize = 16 << 10;

/// A token that nothing is known of yet but what it says of its signature.
#[derive(Debug)]
pub(super) struct Token<'a> {
    /// The algorithm that it says it is signed with; whether that may be is up to the keys.
    pub(super) algorithm: Algorithm,
    /// The key that it says it is signed with.
    pub(super) kid: Option<String>,
    /// What is signed.
    pub(super) message: &'a [u8],
    pub(super) signature: Vec<u8>,
    payload: &'a [u8],
}

/// What is read of a header. Keys and addresses of keys in it are not looked at.
#[derive(Deserialize)]
struct Header {
    alg: Algorithm,
    kid: Option<String>,
    /// What has to be understood. Nothing that could stand here is.
    crit: Option<Value>,
}

impl<'a> Token<'a> {
    /// Reads a token: three parts, of which the first is a header that is understood.
    pub(super) fn parse(text: &'a [u8]) -> Option<Self> {
        let mut parts = text.split(|byte| *byte == b'.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return None;
        };
        if text.len() > MAX_LEN {
            return None;
        }
        let decoded = URL_SAFE_NO_PAD.decode(header).ok()?;
        let Header { alg: algorithm, kid, crit: None } = serde_json::from_slice(&decoded).ok()? else {
            return None;
        };
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        Some(Self { algorithm, kid, message: &text[..header.len() + 1 + payload.len()], signature, payload })
    }

    /// Reads what the token claims. Only to be believed once the signature is known to be right.
    pub(super) fn claims(&self) -> Option<Map<String, Value>> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(self.payload).ok()?).ok()
    }
}
