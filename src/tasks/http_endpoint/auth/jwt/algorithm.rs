//! The algorithms of signatures: RFC 7518, section 3, and RFC 8037.

use ring::{
    hmac,
    signature::{self, RsaParameters, VerificationAlgorithm},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An algorithm that tokens may be signed with. `none` is not one.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(in crate::tasks::http_endpoint) enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    #[serde(rename = "EdDSA", alias = "Ed25519")]
    EdDsa,
}

/// How signatures of an algorithm are verified.
pub(super) enum Verification {
    Mac(hmac::Algorithm),
    Rsa(&'static RsaParameters),
    Curve(&'static dyn VerificationAlgorithm),
}

impl Algorithm {
    /// All that an RSA key is for.
    pub(in crate::tasks::http_endpoint::auth) const RSA: &[Self] =
        &[Self::Rs256, Self::Rs384, Self::Rs512, Self::Ps256, Self::Ps384, Self::Ps512];

    /// Returns the name as tokens have it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    /// Returns whether the same secret signs and verifies.
    pub(super) fn is_symmetric(self) -> bool {
        matches!(self.verification(), Verification::Mac(_))
    }

    pub(super) fn verification(self) -> Verification {
        match self {
            Self::Hs256 => Verification::Mac(hmac::HMAC_SHA256),
            Self::Hs384 => Verification::Mac(hmac::HMAC_SHA384),
            Self::Hs512 => Verification::Mac(hmac::HMAC_SHA512),
            Self::Rs256 => Verification::Rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
            Self::Rs384 => Verification::Rsa(&signature::RSA_PKCS1_2048_8192_SHA384),
            Self::Rs512 => Verification::Rsa(&signature::RSA_PKCS1_2048_8192_SHA512),
            Self::Ps256 => Verification::Rsa(&signature::RSA_PSS_2048_8192_SHA256),
            Self::Ps384 => Verification::Rsa(&signature::RSA_PSS_2048_8192_SHA384),
            Self::Ps512 => Verification::Rsa(&signature::RSA_PSS_2048_8192_SHA512),
            Self::Es256 => Verification::Curve(&signature::ECDSA_P256_SHA256_FIXED),
            Self::Es384 => Verification::Curve(&signature::ECDSA_P384_SHA384_FIXED),
            Self::EdDsa => Verification::Curve(&signature::ED25519),
        }
    }
}
