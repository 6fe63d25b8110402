//! What an event carries of a failure that it was passed on after.

use std::sync::Arc;

use serde_json::{Value, json};

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

impl EventError {
    /// Returns the error as scripts and templates have it: `{type, message, task}`.
    pub fn to_json(&self) -> Value {
        json!({"type": self.error_type, "message": self.message, "task": &*self.task})
    }
}
