//! `tls`: whom requests trust, and as whom they show themselves.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustls::ClientConfig;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    problem::Problems,
    task::{BuildContext, BuildError},
    tls::{self, pem},
};

/// The protocols that a server may choose from.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The certificates of connections.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in super::super) struct Files {
    /// Further root certificates, PEM; public roots and those of the machine are always trusted.
    ca_file: Option<PathBuf>,
    /// The worker's own certificate, PEM; needs `key_file`.
    cert_file: Option<PathBuf>,
    /// The key of that certificate, PEM.
    key_file: Option<PathBuf>,
}

impl Files {
    pub(in super::super) fn check(&self, problems: &mut Problems) {
        match (&self.cert_file, &self.key_file) {
            (Some(_), None) => {
                problems.report("tls.cert_file", "a certificate without its key").hint("add `key_file`");
            }
            (None, Some(_)) => {
                problems.report("tls.key_file", "a key without its certificate").hint("add `cert_file`");
            }
            _ => {}
        }
    }

    /// Returns those that there are.
    pub(in super::super) fn all(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.ca_file, &self.cert_file, &self.key_file].into_iter().flatten()
    }

    /// Finds the files from where the flow stands.
    pub(in super::super) fn resolved(&self, context: &BuildContext) -> Self {
        let resolve = |path: &Option<PathBuf>| path.as_ref().map(|path| context.resolve(path));
        Self {
            ca_file: resolve(&self.ca_file),
            cert_file: resolve(&self.cert_file),
            key_file: resolve(&self.key_file),
        }
    }
}

/// Reads what connections are made with. Blocks.
pub(in super::super) fn connections(files: &Files) -> Result<ClientConfig, BuildError> {
    let mut roots = tls::roots();
    if let Some(path) = &files.ca_file {
        for certificate in
            pem::certificates(&read("ca_file", path)?).map_err(|_| holds_none(path, "certificate"))?
        {
            roots.add(certificate).map_err(|error| {
                let shown = path.display();
                BuildError::new(format!("`{shown}` holds a certificate that cannot be trusted"))
                    .with_source(error)
            })?;
        }
    }
    let failed = |error| BuildError::new("cannot set up TLS").with_source(error);
    let builder = ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_root_certificates(roots);
    let mut config = match (&files.cert_file, &files.key_file) {
        (Some(certificate), Some(key)) => {
            let chain = pem::certificates(&read("cert_file", certificate)?)
                .map_err(|_| holds_none(certificate, "certificate"))?;
            let own =
                pem::private_key(&read("key_file", key)?).map_err(|_| holds_none(key, "private key"))?;
            builder.with_client_auth_cert(chain, own).map_err(|error| {
                let (certificate, key) = (certificate.display(), key.display());
                BuildError::new(format!("the certificate `{certificate}` and the key `{key}` cannot be used"))
                    .with_source(error)
            })?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    Ok(config)
}

fn read(key: &str, path: &Path) -> Result<Vec<u8>, BuildError> {
    fs::read(path).map_err(|error| {
        BuildError::new(format!("cannot read `tls.{key}`, `{}`", path.display())).with_source(error)
    })
}

fn holds_none(path: &Path, what: &str) -> BuildError {
    BuildError::new(format!("`{}` holds no {what} in PEM form", path.display()))
}
