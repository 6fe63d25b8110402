//! Looks up names, and keeps the addresses that may be connected to.

use std::{net::SocketAddr, sync::Arc};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::Guard;

/// Looks up names for the client. The client connects to what this returns and looks nothing up itself.
pub(in super::super) struct Resolver(pub(in super::super) Arc<Guard>);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = Arc::clone(&self.0);
        Box::pin(async move {
            // The port comes from the URL.
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let kept = guard.keep(name.as_str(), found, |address: SocketAddr| address.ip())?;
            Ok(Box::new(kept.into_iter()) as Addrs)
        })
    }
}
