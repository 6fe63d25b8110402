//! What stands for a text or a tree that only has to be told from another one.

use std::fmt;

use serde_json::Value;
use sha2::{Digest, Sha256};

/// Stands for what was put into it: two that are equal are of the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Takes that of bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Takes that of several parts, of which none runs into the next.
    pub(super) fn of_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Self(hasher.finalize().into())
    }

    /// Takes that of a tree, in the order of its keys: events may keep that order.
    pub(super) fn of_tree(value: &Value) -> Self {
        Self::of(value.to_string().as_bytes())
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Fingerprint {
    /// Shows little: what it is of may be guessed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({:02x}{:02x})", self.0[0], self.0[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_one_another() {
        let of = |parts: &[&str]| Fingerprint::of_parts(parts.iter().map(|part| part.as_bytes()));
        assert_eq!(of(&["ab", "c"]), of(&["ab", "c"]));
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_ne!(of(&["ab"]), of(&["ab", ""]));
    }

    #[test]
    fn keys_in_another_order_are_another_tree() {
        let of = |text: &str| Fingerprint::of_tree(&serde_json::from_str(text).unwrap());
        assert_eq!(of(r#"{"a": 1, "b": [2]}"#), of(r#"{"a":1,"b":[ 2 ]}"#));
        assert_ne!(of(r#"{"a": 1, "b": 2}"#), of(r#"{"b": 2, "a": 1}"#));
        assert_ne!(of(r#"{"a": 1}"#), of(r#"{"a": "1"}"#));
    }
}
