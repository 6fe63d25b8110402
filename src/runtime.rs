//! The engine: it alone loops, spawns, retries, settles acks and stops.
//!
//! The [`TaskManager`] builds the tasks of a plan and spawns one loop for each; [`TaskManager::run`]
//! follows them to their end. Must not know the configuration's text or any task kind.

mod drain;
mod flow;
mod hop;
mod manager;
mod outlets;
mod processor;
mod source;
mod supervisor;
mod transform;
mod turn;

pub use flow::{FlowHandle, FlowReport};
pub use manager::{Built, Report, StartError, TaskManager};
