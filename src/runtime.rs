//! The engine: it alone loops, spawns, retries, settles acks and stops.
//!
//! The [`TaskManager`] builds the tasks of a plan and spawns one loop for each; [`TaskManager::run`]
//! follows them to their end. Must not know the configuration's text or any task kind.

mod blocked;
mod drain;
mod flow;
mod hop;
mod manager;
mod meters;
mod outlets;
mod processor;
mod source;
mod supervisor;
mod transform;
mod turn;

/// How the loop of a task ended; the error is its type.
type RunEnd = Result<(), &'static str>;

pub(crate) use drain::abort_patience;
pub use flow::{FlowHandle, FlowReport};
pub use manager::{Built, Report, StartError, TaskManager};
