//! Where a set of keys comes from.

use std::{fs::File, io::Read as _, path::PathBuf, time::Duration};

use reqwest::{Client, StatusCode, redirect, retry};
use url::{Host, Url};

use super::{KeySet, KeySetError};
use crate::{task::BuildError, telemetry::spawn_blocking, tls};

/// The longest set that is read.
const MAX_BYTES: usize = 256 << 10;

/// How long a fetch may take: requests wait for it.
const TIMEOUT: Duration = Duration::from_secs(5);

const USER_AGENT: &str = concat!("flowgen/", env!("CARGO_PKG_VERSION"));

/// Where a set of keys comes from.
pub(super) enum Origin {
    File(PathBuf),
    Url(Client, Url),
}

/// Why a set of keys is not to be had. `Display` never holds a path or a query of a URL.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("cannot ask for it")]
    Http(#[source] reqwest::Error),
    #[error("the server answers with status {}", .0.as_u16())]
    Status(StatusCode),
    #[error("it is longer than 256 KiB")]
    TooLong,
    #[error("cannot read the file")]
    File(#[source] std::io::Error),
    #[error(transparent)]
    Content(#[from] KeySetError),
}

/// Returns where keys may be fetched from, or what is wanted instead. Whoever can change them on their way can sign.
pub(in crate::tasks::http_endpoint::auth) fn check_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|_| "an `https://` URL".to_owned())?;
    let is_local = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_local => Ok(url),
        "http" => Err("`https://`: unencrypted only from this machine itself".into()),
        _ => Err("an `https://` URL".into()),
    }
}

impl Origin {
    /// Prepares to fetch from a URL. Reads the machine's certificates.
    pub(super) async fn url(text: &str) -> Result<Self, BuildError> {
        let url = check_url(text)
            .map_err(|wanted| BuildError::new(format!("`auth.jwt.jwks_url` has to be {wanted}")))?;
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
            BuildError::new("cannot set up the HTTP client for `auth.jwt.jwks_url`").with_source(error)
        };
        let tls = spawn_blocking(tls::client).await.map_err(|error| failed(error.into()))?;
        let client = Client::builder()
            .tls_backend_preconfigured(tls.map_err(|error| failed(error.into()))?)
            .user_agent(USER_AGENT)
            .timeout(TIMEOUT)
            .redirect(redirect::Policy::none())
            .referer(false)
            .retry(retry::never())
            .build();
        Ok(Self::Url(client.map_err(|error| failed(error.into()))?, url))
    }

    /// Fetches the set.
    pub(super) async fn fetch(&self) -> Result<KeySet, FetchError> {
        let text = match self {
            Self::File(path) => {
                let path = path.clone();
                let read = spawn_blocking(move || {
                    let mut text = Vec::new();
                    File::open(path)?.take(MAX_BYTES as u64 + 1).read_to_end(&mut text)?;
                    Ok(text)
                });
                let text = read
                    .await
                    .map_err(std::io::Error::from)
                    .and_then(|read| read)
                    .map_err(FetchError::File)?;
                if text.len() > MAX_BYTES {
                    return Err(FetchError::TooLong);
                }
                text
            }
            Self::Url(client, url) => download(client, url).await?,
        };
        Ok(KeySet::parse(&text)?)
    }

    /// Returns what it may be called in the log.
    pub(super) fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Url(_, url) => url.origin().ascii_serialization(),
        }
    }
}

async fn download(client: &Client, url: &Url) -> Result<Vec<u8>, FetchError> {
    let failed = |error: reqwest::Error| FetchError::Http(error.without_url());
    let mut response = client.get(url.clone()).send().await.map_err(failed)?;
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status(response.status()));
    }
    let mut text = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if text.len() + chunk.len() > MAX_BYTES {
            return Err(FetchError::TooLong);
        }
        text.extend_from_slice(&chunk);
    }
    Ok(text)
}
