//! The HTTP server that the endpoints of all flows share.

pub mod tls;
