//! What stands beside the flows: what tasks are given besides events, behind the traits of `BuildContext`, and what answers
//! probes.

pub mod cache;
pub mod health;
pub mod http;
pub(crate) mod limiter;
pub mod resources;
