//! The worker's HTTP server: one address for all flows.
//!
//! Owns the listener, connections and their limits, and which task a path belongs to. Must not know what a request means
//! to a flow: that is its handler's.

pub mod body;
mod connection;
pub mod encoding;
mod headers_in_time;
mod meters;
pub mod problem;
mod room;
mod routes;
mod server;
pub mod tls;

pub use self::server::Server;
