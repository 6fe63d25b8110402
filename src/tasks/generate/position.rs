//! How far a generator has come, in the form that outlives the process.

use serde_json::json;

use crate::task::{Position, Resumption};

/// Returns the position behind the first so many events.
pub(super) fn at(made: u64) -> Position {
    Position { part: "".into(), at: json!({"made": made}) }
}

/// Returns how many events were made before.
pub(super) fn made(resumption: &Resumption) -> u64 {
    resumption.position.at["made"].as_u64().unwrap_or_default().saturating_add(resumption.events)
}
