//! What outlives the worker: the embedded store below `state.path`.
//!
//! Owns the directory, its lock and the store in it, and the words in which things are kept. Must not know what the
//! runtime makes of any of it.

mod accepted;
mod cached;
mod error;
mod letters;
mod lock;
mod positions;
mod queue;
mod saved;
mod store;
mod writer;

pub use accepted::Accepted;
pub use cached::Cached;
pub use error::StateError;
pub use letters::Letter;
pub use positions::Owner;
pub use queue::{AppendError, Appender, Frames, Opened, Queue, QueueReader};
pub use saved::SavedEvent;
pub use store::{State, StateWatch};
pub use writer::Done;
