//! What an entry takes in memory, about.

use serde_json::Value;

use crate::event::weight;

/// What the entry of a key takes in all three orders, besides the key and the value.
const ENTRY: usize = 256;

/// Returns about how many bytes `key` and `value` take.
pub(super) fn of(key: &str, value: &Value) -> usize {
    ENTRY + key.len() + weight::of_value(value)
}
