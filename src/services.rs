//! What tasks are given besides events, behind the traits of `BuildContext`.

pub mod cache;
pub(crate) mod limiter;
pub mod resources;
