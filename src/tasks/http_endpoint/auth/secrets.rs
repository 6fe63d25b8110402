//! Secrets that are compared without telling by the time it takes how much of one was right, nor which one it was.

use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};

/// What is kept of each secret: of the same size however long it is.
pub(super) struct Secrets(Vec<[u8; 32]>);

impl Secrets {
    pub(super) fn new<T: AsRef<[u8]>>(secrets: impl IntoIterator<Item = T>) -> Self {
        Self(secrets.into_iter().map(|secret| Sha256::digest(secret).into()).collect())
    }

    /// Returns which of the secrets was given, if one was. Looks at all of them, always.
    pub(super) fn find(&self, given: &[u8]) -> Option<usize> {
        let given: [u8; 32] = Sha256::digest(given).into();
        let (mut is_found, mut place) = (Choice::from(0), 0_u64);
        for (secret, n) in self.0.iter().zip(0_u64..) {
            let is_it = secret.ct_eq(&given);
            place.conditional_assign(&n, is_it);
            is_found |= is_it;
        }
        bool::from(is_found).then(|| usize::try_from(place).ok()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_secret_is_found_at_its_place_and_no_other_text() {
        let secrets = Secrets::new(["one", "two", "three"]);
        assert_eq!(
            ["one", "two", "three"].map(|secret| secrets.find(secret.as_bytes())),
            [Some(0), Some(1), Some(2)]
        );
        for other in ["", "o", "onetwo", "One", "one "] {
            assert_eq!(secrets.find(other.as_bytes()), None, "{other}");
        }
        assert_eq!(Secrets::new([""; 0]).find(b""), None);
    }
}
