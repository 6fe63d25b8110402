//! The engine: it alone loops, spawns, retries, settles acks and stops.
//!
//! The [`TaskManager`] builds the tasks of a plan and spawns one loop for each; [`TaskManager::run`]
//! follows them to their end. Must not know the configuration's text or any task kind.

mod batches;
mod blocked;
mod checkpoints;
mod drain;
mod flow;
mod hop;
mod hurry;
mod inbox;
mod letters;
mod manager;
mod meters;
mod outlets;
mod processor;
mod progress;
mod reached;
mod redelivery;
mod registration;
mod replays;
mod restart;
mod sinks;
mod source;
mod supervisor;
mod transform;
mod turn;
mod wire;

/// How the loop of a task ended.
#[derive(Debug)]
enum RunEnd {
    /// There is no more to do.
    Completed,
    /// It could not go on.
    Failed(Failure),
    /// It panicked with this message.
    Panicked(String),
}

/// Why the loop of a task could not go on.
#[derive(Debug)]
struct Failure {
    error_type: &'static str,
    message: String,
    /// Whether the same task may do better later.
    is_transient: bool,
}

pub(crate) use drain::abort_patience;
pub use flow::{FlowHandle, FlowReport};
pub use manager::{Built, Lent, Report, TaskManager};
pub use registration::StartError;
