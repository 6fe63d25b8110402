//! What tasks are given besides events, behind the traits of `BuildContext`.

pub mod cache;
pub mod http;
pub(crate) mod limiter;
pub mod resources;
