//! What the parts of an event take in memory, about.

use serde_json::{Map, Value};

use super::{Meta, Payload};

/// What an entry of a mapping takes, besides its key and its value: its hash and its place.
const MEMBER: usize = size_of::<String>() + 2 * size_of::<usize>();

/// Returns about how many bytes a value takes.
pub fn of_value(value: &Value) -> usize {
    let below = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(of_value).sum(),
        Value::Object(entries) => of_entries(entries),
    };
    size_of::<Value>() + below
}

/// Returns about how many bytes the data of an event take: as text if they are that, else as a tree.
pub fn of_payload(data: &Payload) -> usize {
    match (data, data.text()) {
        (Payload::Bytes(bytes), _) => bytes.len(),
        (Payload::Json(_), Some(text)) => text.len(),
        (Payload::Json(_), None) => data.json().map_or(0, of_value),
    }
}

/// Returns about how many bytes the metadata of an event take.
pub fn of_meta(meta: &Meta) -> usize {
    meta.entries().map_or(0, of_entries)
}

fn of_entries(entries: &Map<String, Value>) -> usize {
    entries.iter().map(|(key, value)| MEMBER + key.len() + of_value(value)).sum()
}
