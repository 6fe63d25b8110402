//! `proxy`: by which way requests go.

use reqwest::{ClientBuilder, Proxy, Url};

use crate::{problem::Problems, task::BuildError, telemetry::Secret};

/// The value of `proxy` that stands for none.
const NONE: &str = "none";

/// By which way requests go.
#[derive(Clone, Debug)]
pub(in super::super) enum ProxyChoice {
    /// By the proxy that the environment names, if it names one.
    Environment,
    /// Straight.
    None,
    /// By this one; its URL may hold a password.
    Through(Secret),
}

impl ProxyChoice {
    pub(in super::super) fn of(key: Option<&Secret>) -> Self {
        match key {
            None => Self::Environment,
            Some(text) if text.expose() == NONE => Self::None,
            Some(url) => Self::Through(url.clone()),
        }
    }

    /// Reports what is no proxy.
    pub(in super::super) fn check(key: Option<&Secret>, problems: &mut Problems) {
        if let Self::Through(url) = Self::of(key) {
            let parsed = Url::parse(url.expose()).ok();
            if !parsed.is_some_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host()) {
                problems
                    .report("proxy", "a proxy is an `http://` or `https://` URL, or `none`")
                    .hint("without the key the environment decides: HTTP_PROXY, HTTPS_PROXY and NO_PROXY");
            }
        }
    }

    pub(in super::super) fn is_explicit(&self) -> bool {
        matches!(self, Self::Through(_))
    }

    pub(super) fn is_of_environment(&self) -> bool {
        matches!(self, Self::Environment)
    }

    pub(super) fn apply(&self, builder: ClientBuilder) -> Result<ClientBuilder, BuildError> {
        Ok(match self {
            Self::Environment => builder,
            Self::None => builder.no_proxy(),
            Self::Through(url) => {
                let proxy = Proxy::all(url.expose())
                    .map_err(|error| BuildError::new("`proxy` is none").with_source(error.without_url()))?;
                builder.proxy(proxy)
            }
        })
    }
}
