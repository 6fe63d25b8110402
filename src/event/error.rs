//! What an event carries of a failure that it was passed on after.

use std::sync::Arc;

/// Why a task could not handle the event, as whoever gets it afterwards may know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventError {
    /// `error.type`.
    pub error_type: &'static str,
    /// The error and all that caused it, in one line; never the event's data.
    pub message: String,
    /// The task that failed.
    pub task: Arc<str>,
}
