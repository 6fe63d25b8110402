//! What outlives the worker: the embedded store below `state.path`.
//!
//! Owns the directory, its lock and the store in it, and the words in which things are kept. Must not know what the
//! runtime makes of any of it.

mod error;
mod lock;
mod positions;
mod store;
mod writer;

pub use error::StateError;
pub use positions::Owner;
pub use store::State;
