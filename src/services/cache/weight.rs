//! What an entry takes in memory, about.

use serde_json::Value;

/// What the entry of a key takes in all three orders, besides the key and the value.
const ENTRY: usize = 256;
/// What an entry of a mapping takes, besides its key and its value: its hash and its place.
const MEMBER: usize = size_of::<String>() + 2 * size_of::<usize>();

/// Returns about how many bytes `key` and `value` take.
pub(super) fn of(key: &str, value: &Value) -> usize {
    ENTRY + key.len() + of_value(value)
}

fn of_value(value: &Value) -> usize {
    let below = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(of_value).sum(),
        Value::Object(entries) => {
            entries.iter().map(|(key, value)| MEMBER + key.len() + of_value(value)).sum()
        }
    };
    size_of::<Value>() + below
}
