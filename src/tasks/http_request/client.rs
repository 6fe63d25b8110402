//! The client: its connections, whom it trusts, and by which way it goes.

mod proxy;
mod tls;

use std::{sync::Arc, time::Duration};

use reqwest::{Client, redirect, retry};
use rustls::ClientConfig;

pub(super) use proxy::ProxyChoice;
pub(super) use tls::{Files, connections};

use super::guard::{Guard, Resolver};
use crate::task::BuildError;

const USER_AGENT: &str = concat!("flowgen/", env!("CARGO_PKG_VERSION"));

/// What a client is made of.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) tls: ClientConfig,
    pub(super) proxy: ProxyChoice,
    pub(super) timeout: Option<Duration>,
    pub(super) connect_timeout: Duration,
    pub(super) pool_max_idle_per_host: Option<usize>,
    pub(super) pool_idle_timeout: Option<Duration>,
}

/// Makes a client that connects to nothing that `guard` refuses. The runtime retries, so the client does not; it follows no
/// redirects, which are requests of their own.
pub(super) fn build(settings: Settings, guard: Option<&Arc<Guard>>) -> Result<Client, BuildError> {
    let mut builder = Client::builder()
        .tls_backend_preconfigured(settings.tls)
        .user_agent(USER_AGENT)
        .connect_timeout(settings.connect_timeout)
        .pool_idle_timeout(settings.pool_idle_timeout)
        .redirect(redirect::Policy::none())
        .referer(false)
        .retry(retry::never());
    if let Some(timeout) = settings.timeout {
        builder = builder.timeout(timeout);
    }
    if let Some(most) = settings.pool_max_idle_per_host {
        builder = builder.pool_max_idle_per_host(most);
    }
    if let Some(guard) = guard.filter(|guard| guard.needs_addresses()) {
        builder = builder.dns_resolver(Resolver(Arc::clone(guard)));
        // A proxy would look up the names itself.
        if settings.proxy.is_of_environment() {
            builder = builder.no_proxy();
        }
    }
    builder = settings.proxy.apply(builder)?;
    builder
        .build()
        .map_err(|error| BuildError::new("cannot set up the HTTP client").with_source(error.without_url()))
}
