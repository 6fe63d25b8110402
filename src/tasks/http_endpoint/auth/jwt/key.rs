//! A key that signatures of tokens are verified with.

use std::path::{Path, PathBuf};

use ring::{
    hmac,
    signature::{RsaPublicKeyComponents, UnparsedPublicKey},
};
use rustls::pki_types::{SubjectPublicKeyInfoDer, pem::PemObject as _};
use schemars::JsonSchema;
use serde::Deserialize;
use spki::{
    ObjectIdentifier, SubjectPublicKeyInfoRef,
    der::{Reader as _, SliceReader, asn1::UintRef},
};

use super::algorithm::{Algorithm, Verification};
use crate::{
    problem::{Fault, Problems},
    telemetry::Secret,
};

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const CURVE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// A key of the configuration.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::tasks::http_endpoint) struct Config {
    /// The algorithm that the key is for, and no other.
    pub(super) algorithm: Algorithm,
    /// The secret of `HS256`, `HS384` and `HS512`: at least as long as the hash, 32, 48 or 64 bytes.
    secret: Option<Secret>,
    /// The public key of the other algorithms in PEM form: `BEGIN PUBLIC KEY`.
    public_key: Option<String>,
    /// The file with the public key. Read at start and at a reload.
    public_key_file: Option<PathBuf>,
    /// The id of the key. Tokens that name another one are not verified with it; without an id it is for all tokens.
    kid: Option<String>,
}

impl Config {
    pub(super) fn check(&self, problems: &mut Problems) {
        let (wanted, others) = if self.algorithm.is_symmetric() {
            ("`secret`", [self.public_key.is_some(), self.public_key_file.is_some()])
        } else {
            ("`public_key` or `public_key_file`", [self.secret.is_some(), false])
        };
        let given = [self.secret.is_some(), self.public_key.is_some(), self.public_key_file.is_some()];
        let count = given.into_iter().filter(|is_given| *is_given).count();
        if count != 1 || others.contains(&true) {
            problems
                .report("", format!("a key of `{}` is {wanted}", self.algorithm.name()))
                .hint("exactly one of them, and nothing else");
            return;
        }
        if self.public_key_file.is_some() {
            return;
        }
        if let Err(fault) = self.build(None) {
            fault.report(if self.algorithm.is_symmetric() { "secret" } else { "public_key" }, problems);
        }
    }

    /// Returns the file that has to be read, if there is one.
    pub(super) fn file(&self) -> Option<&Path> {
        self.public_key_file.as_deref()
    }

    /// Makes the key, of the `text` of its file if it is in one.
    pub(super) fn build(&self, text: Option<&str>) -> Result<Key, Fault> {
        let material = match (&self.secret, text.or(self.public_key.as_deref())) {
            (Some(secret), _) => Material::secret(secret.expose().as_bytes(), self.algorithm)?,
            (None, text) => Material::pem(text.unwrap_or_default(), self.algorithm)?,
        };
        Ok(Key { kid: self.kid.clone(), algorithms: vec![self.algorithm], material })
    }
}

/// A key, with the algorithms that it is for.
pub(in crate::tasks::http_endpoint::auth) struct Key {
    pub(in crate::tasks::http_endpoint::auth) kid: Option<String>,
    pub(in crate::tasks::http_endpoint::auth) algorithms: Vec<Algorithm>,
    pub(in crate::tasks::http_endpoint::auth) material: Material,
}

impl Key {
    /// Returns whether `signature` is that of `message`, by an algorithm that this key is for.
    pub(super) fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        if !self.algorithms.contains(&algorithm) {
            return false;
        }
        match (&self.material, algorithm.verification()) {
            (Material::Secret(key), Verification::Mac(mac)) => {
                key.algorithm() == mac && hmac::verify(key, message, signature).is_ok()
            }
            (Material::Rsa { n, e }, Verification::Rsa(parameters)) => {
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok()
            }
            (Material::Curve(point), Verification::Curve(curve)) => {
                UnparsedPublicKey::new(curve, point).verify(message, signature).is_ok()
            }
            _ => false,
        }
    }
}

/// What a key consists of.
pub(in crate::tasks::http_endpoint::auth) enum Material {
    Secret(hmac::Key),
    /// Modulus and exponent, without leading zeros.
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// A point of the curve that the algorithm names.
    Curve(Vec<u8>),
}

impl Material {
    /// Makes a key of a secret. A public key is none.
    pub(in crate::tasks::http_endpoint::auth) fn secret(
        secret: &[u8],
        algorithm: Algorithm,
    ) -> Result<Self, Fault> {
        let Verification::Mac(mac) = algorithm.verification() else { return Err(other_kind(algorithm)) };
        if secret.starts_with(b"-----BEGIN") {
            return Err(Fault::new("a key in PEM form is no secret")
                .hint("tokens that are signed with a private key are of RS, PS, ES or EdDSA"));
        }
        let least = mac.digest_algorithm().output_len();
        if secret.len() < least {
            let message =
                format!("the secret is shorter than the {least} bytes that `{}` wants", algorithm.name());
            return Err(Fault::new(message)
                .hint("`openssl rand -base64 64` makes one; a short one is guessed from a single token"));
        }
        Ok(Self::Secret(hmac::Key::new(mac, secret)))
    }

    /// Makes a key of modulus and exponent.
    pub(in crate::tasks::http_endpoint::auth) fn rsa(n: &[u8], e: &[u8]) -> Result<Self, Fault> {
        let trim = |number: &[u8]| number.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<_>>();
        let (n, e) = (trim(n), trim(e));
        let bits = n.len() * 8 - n.first().map_or(0, |first| first.leading_zeros() as usize);
        if !(2048..=8192).contains(&bits) {
            return Err(
                Fault::new(format!("an RSA key of {bits} bits cannot be used")).hint("2048 to 8192 bits")
            );
        }
        Ok(Self::Rsa { n, e })
    }

    /// Makes a key of a point, whose length is that of the algorithm's curve.
    pub(in crate::tasks::http_endpoint::auth) fn curve(
        point: Vec<u8>,
        algorithm: Algorithm,
    ) -> Result<Self, Fault> {
        let is_point = match algorithm {
            Algorithm::Es256 => point.len() == 65 && point[0] == 4,
            Algorithm::Es384 => point.len() == 97 && point[0] == 4,
            Algorithm::EdDsa => point.len() == 32,
            _ => false,
        };
        if is_point { Ok(Self::Curve(point)) } else { Err(other_kind(algorithm)) }
    }

    /// Makes a key of a public key in PEM form that is for the algorithm.
    fn pem(text: &str, algorithm: Algorithm) -> Result<Self, Fault> {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes()).map_err(|_| {
            Fault::new("there is no public key in PEM form")
                .hint("from `-----BEGIN PUBLIC KEY-----` to its end")
        })?;
        let damaged = |_| Fault::new("the public key is damaged").hint("copy it anew");
        let info = SubjectPublicKeyInfoRef::try_from(der.as_ref()).map_err(damaged)?;
        let kind = (info.algorithm.oid, info.algorithm.parameters_oid().ok());
        let bytes = info.subject_public_key.raw_bytes();
        match (algorithm, kind) {
            (Algorithm::Es256, (CURVE, Some(P256)))
            | (Algorithm::Es384, (CURVE, Some(P384)))
            | (Algorithm::EdDsa, (ED25519, _)) => Self::curve(bytes.to_vec(), algorithm),
            (algorithm, (RSA, _)) if Algorithm::RSA.contains(&algorithm) => {
                let numbers = SliceReader::new(bytes).and_then(|mut reader| {
                    reader.sequence(|reader| {
                        Ok((reader.decode::<UintRef<'_>>()?, reader.decode::<UintRef<'_>>()?))
                    })
                });
                let (n, e) = numbers.map_err(|_: spki::der::Error| damaged(spki::Error::KeyMalformed))?;
                Self::rsa(n.as_bytes(), e.as_bytes())
            }
            _ => Err(other_kind(algorithm)),
        }
    }
}

fn other_kind(algorithm: Algorithm) -> Fault {
    Fault::new(format!("the key is of another kind than `{}` wants", algorithm.name()))
        .hint("RS and PS are of RSA, ES256 of P-256, ES384 of P-384, EdDSA of Ed25519")
}
