//! The engine: it alone loops, spawns, retries, settles acks and stops.
//!
//! The [`TaskManager`] builds the tasks of a plan and spawns one loop for each; [`TaskManager::run`]
//! follows them to their end. Flows come and go meanwhile, as an [`Exchange`] says. Must not know the configuration's text or any task kind.

mod ailments;
mod batches;
mod blocked;
mod checkpoints;
mod drain;
mod durable;
mod exchange;
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
mod roster;
mod running;
mod sinks;
mod source;
mod supervisor;
mod transform;
mod turn;
mod upkeep;
mod wire;
mod workshop;

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

pub use ailments::{Ailing, Ailment};
pub use drain::Report;
pub(crate) use drain::abort_patience;
pub use exchange::{Exchange, Exchanges, Order, Stopping};
pub use flow::{FlowHandle, FlowReport, State};
pub use manager::{Built, Lent, TaskManager};
pub use registration::StartError;
pub use roster::Roster;
pub use running::Former;
pub use workshop::{BuiltFlow, Workshop};
