//! The certificate of the server, which may change while it serves.
//!
//! The files are looked at again at most every few seconds, and only when somebody asks for the configuration: there
//! is no thread and no timer of its own. Their content is compared, not their time, so that a file replaced within the
//! same second counts, and one that was only touched does not.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::Instant;

use crate::{
    problem::{Fault, Problems},
    tls::{
        self,
        pem::{self, Pem},
    },
};

/// How long the files are not looked at again.
const PAUSE: Duration = Duration::from_secs(3);

/// How the server shows itself, and whom it lets in.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The server's certificate in PEM form, with those that lead to a root after it. Read again when it changes.
    pub cert_file: PathBuf,
    /// The private key of the certificate, in PEM form. Read again when it changes.
    pub key_file: PathBuf,
    /// Certificates in PEM form: only clients whose certificate leads to one of them are let in.
    pub client_ca_file: Option<PathBuf>,
}

impl Config {
    /// Reports what cannot be right, without any I/O. Paths are relative to the configuration.
    pub fn check(&self, problems: &mut Problems) {
        let ca = self.client_ca_file.as_ref().map(|file| ("client_ca_file", file));
        for (key, file) in
            [("cert_file", &self.cert_file), ("key_file", &self.key_file)].into_iter().chain(ca)
        {
            if file.as_os_str().is_empty() {
                problems.report(key, format!("`{key}` is empty")).hint("the path of a file in PEM form");
            }
        }
    }
}

/// Why files cannot be used. `Display` names the file and the cause.
#[derive(Debug, thiserror::Error)]
#[error("cannot use `{}` for TLS: {message}{}", .file.display(), hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default())]
pub struct TlsError {
    file: PathBuf,
    message: String,
    hint: Option<String>,
}

impl TlsError {
    fn new(file: &Path, fault: Fault) -> Self {
        Self { file: file.to_owned(), message: fault.message, hint: fault.hint }
    }
}

/// The server's side of TLS.
pub struct ServerTls {
    config: Config,
    state: Mutex<State>,
}

struct State {
    /// What new connections use.
    current: Arc<ServerConfig>,
    /// What the files held when they were last looked at, of use or not.
    seen: Contents,
    looked: Instant,
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ServerTls").field(&self.config).finish()
    }
}

impl ServerTls {
    /// Reads the files of `config`, whose paths are relative to `base_dir`.
    ///
    /// # Errors
    /// A file that cannot be read or used.
    pub fn load(config: &Config, base_dir: &Path, now: Instant) -> Result<Self, TlsError> {
        let config = Config {
            cert_file: base_dir.join(&config.cert_file),
            key_file: base_dir.join(&config.key_file),
            client_ca_file: config.client_ca_file.as_ref().map(|file| base_dir.join(file)),
        };
        let seen = Contents::read(&config);
        let current = seen.server_config(&config)?;
        Ok(Self { config, state: Mutex::new(State { current, seen, looked: now }) })
    }

    /// Returns what a connection that begins at `now` uses, with the files as they are but for some seconds. Files that
    /// cannot be used leave it as it was, and are told of once. Reads files, at most every few seconds: call it where
    /// that may take a moment, for each handshake or by a timer.
    pub fn current(&self, now: Instant) -> Arc<ServerConfig> {
        let mut state = self.state();
        if now.saturating_duration_since(state.looked) < PAUSE {
            return Arc::clone(&state.current);
        }
        state.looked = now;
        // A disk that hangs holds up nobody else.
        drop(state);
        let seen = Contents::read(&self.config);
        let mut state = self.state();
        if seen != state.seen {
            match seen.server_config(&self.config) {
                Ok(current) => {
                    state.current = current;
                    tracing::info!("new connections use the new certificate");
                }
                Err(error) => {
                    tracing::warn!(error.message = %error, "connections go on with the old certificate")
                }
            }
            state.seen = seen;
        }
        Arc::clone(&state.current)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the files hold, or why they cannot be read.
#[derive(PartialEq, Eq)]
struct Contents {
    cert: Result<String, io::ErrorKind>,
    key: Result<String, io::ErrorKind>,
    client_ca: Option<Result<String, io::ErrorKind>>,
}

impl Contents {
    fn read(config: &Config) -> Self {
        let read = |file: &PathBuf| fs::read_to_string(file).map_err(|error| error.kind());
        Self {
            cert: read(&config.cert_file),
            key: read(&config.key_file),
            client_ca: config.client_ca_file.as_ref().map(read),
        }
    }

    /// Makes a server of what was read, or says which file is to blame.
    fn server_config(&self, config: &Config) -> Result<Arc<ServerConfig>, TlsError> {
        let (cert_file, key_file) = (&config.cert_file, &config.key_file);
        let cert = checked(Pem::Own, cert_file, &self.cert)?;
        let key = checked(Pem::Key, key_file, &self.key)?;
        let builder = ServerConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(cert_file, &error))?;
        let builder = match config.client_ca_file.as_ref().zip(self.client_ca.as_ref()) {
            None => builder.with_no_client_auth(),
            Some((file, content)) => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(certificates(file, checked(Pem::Roots, file, content)?)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), tls::provider());
                builder.with_client_cert_verifier(verifier.build().map_err(|error| unusable(file, &error))?)
            }
        };
        let key =
            PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| unusable(key_file, &error))?;
        let mut server =
            builder.with_single_cert(certificates(cert_file, cert)?, key).map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => {
                    let fault = Fault::new(format!(
                        "the key is that of another certificate than `{}`",
                        cert_file.display()
                    ));
                    TlsError::new(key_file, fault)
                }
                error => unusable(cert_file, &error),
            })?;
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(server))
    }
}

/// Returns the text of a file that holds what it should.
fn checked<'a>(
    wanted: Pem,
    file: &Path,
    content: &'a Result<String, io::ErrorKind>,
) -> Result<&'a str, TlsError> {
    let read = |_: &Path| content.clone().map_err(io::Error::from);
    wanted.check(file, &read).map_err(|fault| TlsError::new(file, fault))?;
    Ok(content.as_deref().unwrap_or_default())
}

fn certificates(file: &Path, text: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    pem::certificates(text.as_bytes()).map_err(|error| unusable(file, &error))
}

fn unusable(file: &Path, error: &dyn fmt::Display) -> TlsError {
    TlsError::new(file, Fault::new("it cannot be used").hint(error.to_string()))
}

#[cfg(test)]
mod tests;
