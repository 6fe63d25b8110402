//! Files of TLS in PEM form: what they have to hold to be of use.

use std::{io, path::Path};

use rustls::{
    Error, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    server::ParsedCertificate,
    sign::CertifiedKey,
};

use crate::problem::Fault;

/// Opens and reads a file that the configuration names.
pub(crate) type ReadFile<'a> = &'a dyn Fn(&Path) -> io::Result<String>;

/// What a file of TLS holds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pem {
    /// Certificates to trust.
    Roots,
    /// The worker's own certificate, with those that lead to a root after it.
    Own,
    /// A private key.
    Key,
}

impl Pem {
    /// Refuses a file that cannot be read or does not hold it.
    pub(crate) fn check(self, file: &Path, read: ReadFile<'_>) -> Result<(), Fault> {
        let text = read(file).map_err(|error| self.unreadable(&error))?;
        match self {
            Self::Roots => {
                let mut roots = RootCertStore::empty();
                let mut found = self.certificates(&text)?.into_iter();
                found
                    .try_for_each(|certificate| roots.add(certificate))
                    .map_err(|error| self.unusable(&error))
            }
            Self::Own => {
                let found = self.certificates(&text)?;
                ParsedCertificate::try_from(&found[0]).map(drop).map_err(|error| self.unusable(&error))
            }
            Self::Key => {
                let key =
                    PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|error| self.broken(&error))?;
                ring::sign::any_supported_type(&key).map(drop).map_err(|error| self.unusable(&error))
            }
        }
    }

    /// Returns the certificates of a text: at least one.
    fn certificates(self, text: &str) -> Result<Vec<CertificateDer<'static>>, Fault> {
        certificates(text.as_bytes()).map_err(|error| self.broken(&error))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Roots | Self::Own => "certificate",
            Self::Key => "private key",
        }
    }

    fn unreadable(self, error: &io::Error) -> Fault {
        if error.kind() == io::ErrorKind::InvalidData {
            return self.broken(&pem::Error::NoItemsFound);
        }
        let cause = error.to_string().to_lowercase();
        let cause = cause.split(" (os error").next().unwrap_or_default().to_owned();
        Fault::new("cannot read the file").hint(cause)
    }

    /// Never shows the error: some of them quote the file.
    fn broken(self, error: &pem::Error) -> Fault {
        let name = self.name();
        match error {
            pem::Error::NoItemsFound => {
                Fault::new(format!("the file holds no {name}")).hint("PEM is read, DER is not")
            }
            _ => Fault::new(format!("the file holds a {name} that is damaged"))
                .hint("copy it anew, from its line `BEGIN` to its line `END`"),
        }
    }

    fn unusable(self, error: &Error) -> Fault {
        let name = self.name();
        let wanted = match self {
            Self::Roots | Self::Own => "an X.509 certificate of version 3 is wanted",
            Self::Key => "a key of RSA, ECDSA or Ed25519 is wanted, without a password",
        };
        Fault::new(format!("the file holds a {name} that cannot be used")).hint(format!("{wanted}: {error}"))
    }
}

/// Returns the certificates of a file's content: at least one.
pub(crate) fn certificates(content: &[u8]) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    let found = CertificateDer::pem_slice_iter(content).collect::<Result<Vec<_>, _>>()?;
    if found.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(found) }
}

/// Returns the first private key of a file's content.
pub(crate) fn private_key(content: &[u8]) -> Result<PrivateKeyDer<'static>, pem::Error> {
    PrivateKeyDer::from_pem_slice(content)
}

/// Returns whether the key in one file is that of the certificate in another, as far as files can be used.
pub(crate) fn belong_together(certificate: &Path, key: &Path, read: ReadFile<'_>) -> bool {
    let certified = || {
        let chain = certificates(read(certificate).ok()?.as_bytes()).ok()?;
        let key = PrivateKeyDer::from_pem_slice(read(key).ok()?.as_bytes()).ok()?;
        Some(CertifiedKey::from_der(chain, key, &ring::default_provider()))
    };
    !matches!(certified(), Some(Err(Error::InconsistentKeys(_))))
}

#[cfg(test)]
pub(crate) mod samples {
    //! Certificates and keys that can be used.

    use std::sync::LazyLock;

    use rcgen::{CertificateParams, KeyPair};

    /// A certificate, its key, and the key of another one.
    pub(crate) struct Samples {
        pub(crate) certificate: String,
        pub(crate) key: String,
        pub(crate) other_key: String,
    }

    pub(crate) static SAMPLES: LazyLock<Samples> = LazyLock::new(|| {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["flowgen".into()]).unwrap().self_signed(&key).unwrap();
        let other_key = KeyPair::generate().unwrap().serialize_pem();
        Samples { certificate: certificate.pem(), key: key.serialize_pem(), other_key }
    });
}

#[cfg(test)]
mod tests {
    use super::{samples::SAMPLES, *};

    fn told(content: Pem, text: &str) -> String {
        match content.check(Path::new("x.pem"), &|_| Ok(text.to_owned())) {
            Ok(()) => "ok".into(),
            Err(fault) => format!("{} | {}", fault.message, fault.hint.unwrap_or_default()),
        }
    }

    #[test]
    fn a_file_holds_what_it_is_named_for() {
        for content in [Pem::Roots, Pem::Own] {
            assert_eq!(told(content, &SAMPLES.certificate), "ok");
            assert_eq!(told(content, &SAMPLES.certificate.repeat(2)), "ok");
            for text in ["", &SAMPLES.key] {
                assert_eq!(told(content, text), "the file holds no certificate | PEM is read, DER is not");
            }
        }
        assert_eq!(told(Pem::Key, &SAMPLES.key), "ok");
        assert_eq!(
            told(Pem::Key, &SAMPLES.certificate),
            "the file holds no private key | PEM is read, DER is not"
        );
        let der = Pem::Key.check(Path::new("x.der"), &|_| Err(io::ErrorKind::InvalidData.into()));
        assert_eq!(der.unwrap_err().message, "the file holds no private key");
    }

    #[test]
    fn what_only_looks_like_pem_is_refused_and_not_shown() {
        for (content, text) in
            [(Pem::Roots, &SAMPLES.certificate), (Pem::Own, &SAMPLES.certificate), (Pem::Key, &SAMPLES.key)]
        {
            let name = content.name();
            let damaged = format!("the file holds a {name} that is damaged | ");
            let (half, _) = text.split_at(text.len() / 2);
            assert!(told(content, half).starts_with(&damaged), "{}", told(content, half));
            assert!(told(content, &text.replacen('M', "%", 1)).starts_with(&damaged));
            let first = text.lines().next().unwrap();
            let empty = format!("{first}\naHVudGVyMg==\n{}\n", first.replace("BEGIN", "END"));
            let told = told(content, &empty);
            assert!(told.starts_with(&format!("the file holds a {name} that cannot be used | ")), "{told}");
            assert!(!told.contains("hunter2"), "{told}");
        }
    }

    #[test]
    fn a_key_belongs_to_its_certificate_alone() {
        let read = |path: &Path| match path.to_str() {
            Some("own.pem") => Ok(SAMPLES.certificate.clone()),
            Some("own.key") => Ok(SAMPLES.key.clone()),
            Some("other.key") => Ok(SAMPLES.other_key.clone()),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        let belong = |key| belong_together(Path::new("own.pem"), Path::new(key), &read);
        assert!(belong("own.key") && !belong("other.key"));
        // What is wrong with a file alone is told of that file.
        assert!(belong("missing.key") && belong("own.pem"));
    }
}
