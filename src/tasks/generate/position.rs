//! How far a generator has come, in the form that outlives the process.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::task::{Position, Resumption};

/// What a position of a generator holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct At {
    /// Events that were made.
    pub(super) made: u64,
    /// The last time of the schedule that came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) due: Option<Timestamp>,
    /// The start that the events are counted from, if they are not counted from the first one on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) start: Option<String>,
}

impl At {
    pub(super) fn position(&self) -> Position {
        Position { part: "".into(), at: serde_json::to_value(self).unwrap_or(Value::Null) }
    }

    /// Reads the position of the generator before, and how many events it made behind it.
    pub(super) fn read(resumptions: Vec<Resumption>) -> Option<(Self, u64)> {
        let of_generator = |Resumption { position, events }| {
            serde_json::from_value(position.at).ok().map(|at: Self| (at, events))
        };
        resumptions.into_iter().find_map(of_generator)
    }
}
