//! A port that is a test's own, whether something listens on it or not.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use tokio::net::TcpSocket;

/// A port of this machine that nobody else is given.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) address: SocketAddr,
    /// Bound, but not listening: whoever connects is refused.
    _reserved: TcpSocket,
}

impl Port {
    pub(crate) fn reserve() -> Self {
        let reserved = TcpSocket::new_v4().unwrap();
        // So that it and a listener can be bound to the same port.
        reserved.set_reuseaddr(true).unwrap();
        reserved.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        Self { address: reserved.local_addr().unwrap(), _reserved: reserved }
    }

    /// Listens on it, without blocking.
    pub(crate) fn listen(&self) -> TcpListener {
        let listener = TcpListener::bind(self.address).unwrap();
        listener.set_nonblocking(true).unwrap();
        listener
    }

    /// Returns the endpoint for clients without TLS.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}
