//! The worker's HTTP server: one address for all flows.
//!
//! Owns the listener, connections and their limits, and which task a path belongs to. Must not know what a request means
//! to a flow: that is its handler's.

mod activity;
pub mod body;
mod connection;
pub mod encoding;
mod head;
mod meters;
mod preflight;
pub mod problem;
mod room;
mod routes;
mod sending;
mod server;
mod timely;
pub mod tls;
mod unread;

pub use self::server::Server;
