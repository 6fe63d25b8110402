//! Conversion between JSON and native Rhai values.
//!
//! | JSON | Rhai |
//! |---|---|
//! | null | `()` |
//! | integer | `i64`, or `u64` where it does not fit |
//! | other number | `f64` |
//! | string, array, object, bool | string, array, map, bool |
//!
//! Back, a char becomes a string. What JSON has no form for is an error: a float that is not finite, a
//! blob, a timestamp, a function pointer.

use rhai::{Dynamic, ImmutableString, Map as NativeMap};
use serde_json::{Map, Number, Value};

use super::shapes::Shapes;

/// How many arrays and objects JSON has within one another at most: its parser reads no more.
const MAX_DEPTH: usize = 127;

/// Converts JSON.
pub(super) fn from_json(value: &Value) -> Dynamic {
    match value {
        Value::Null => Dynamic::UNIT,
        Value::Bool(value) => Dynamic::from_bool(*value),
        Value::Number(number) => from_number(number),
        Value::String(text) => ImmutableString::from(text.as_str()).into(),
        Value::Array(items) => Dynamic::from_array(items.iter().map(from_json).collect()),
        Value::Object(entries) => Dynamic::from_map(from_entries(entries)),
    }
}

/// Converts a JSON object.
pub(super) fn from_entries(entries: &Map<String, Value>) -> NativeMap {
    entries.iter().map(|(key, value)| (key.as_str().into(), from_json(value))).collect()
}

fn from_number(number: &Number) -> Dynamic {
    if let Some(integer) = number.as_i64() {
        Dynamic::from_int(integer)
    } else if let Some(integer) = number.as_u64() {
        Dynamic::from(integer)
    } else {
        Dynamic::from_float(number.as_f64().unwrap_or(f64::NAN))
    }
}

/// Returns whether `native` would become exactly `json`, but for the order of keys.
pub(super) fn is_same(native: &Dynamic, json: &Value) -> bool {
    match json {
        Value::Null => native.is_unit(),
        Value::Bool(value) => native.as_bool() == Ok(*value),
        Value::Number(number) => {
            if let Some(integer) = number.as_i64() {
                native.as_int() == Ok(integer)
            } else if let Some(integer) = number.as_u64() {
                native.read_lock::<u64>().is_some_and(|native| *native == integer)
            } else {
                let float = number.as_f64().map(f64::to_bits);
                native.as_float().is_ok_and(|native| Some(native.to_bits()) == float)
            }
        }
        Value::String(text) => match native.as_immutable_string_ref() {
            Ok(native) => native.as_str() == text,
            Err(_) => native.as_char().is_ok_and(|native| text.chars().eq([native])),
        },
        Value::Array(items) => native.as_array_ref().is_ok_and(|native| {
            native.len() == items.len()
                && native.iter().zip(items).all(|(native, json)| is_same(native, json))
        }),
        Value::Object(entries) => native.as_map_ref().is_ok_and(|native| is_same_map(&native, entries)),
    }
}

/// Returns whether `native` would become exactly `entries`, but for the order of keys.
pub(super) fn is_same_map(native: &NativeMap, entries: &Map<String, Value>) -> bool {
    native.len() == entries.len()
        && entries
            .iter()
            .all(|(key, json)| native.get(key.as_str()).is_some_and(|native| is_same(native, json)))
}

/// Converts `native` to JSON, with the keys of objects in the order of `original`, if there is one at
/// that place, then in that of a literal of the script, then sorted.
///
/// # Errors
/// What has no form in JSON.
pub(super) fn to_json(native: &Dynamic, original: Option<&Value>, shapes: &Shapes) -> Result<Value, NotJson> {
    to_json_below(0, native, original, shapes)
}

/// The same for a value that stands within `depth` arrays and objects.
pub(super) fn to_json_below(
    depth: usize,
    native: &Dynamic,
    original: Option<&Value>,
    shapes: &Shapes,
) -> Result<Value, NotJson> {
    if let Ok(text) = native.as_immutable_string_ref() {
        return Ok(Value::String(text.as_str().to_owned()));
    }
    if let Ok(integer) = native.as_int() {
        return Ok(integer.into());
    }
    if let Ok(float) = native.as_float() {
        return Number::from_f64(float).map(Value::Number).ok_or(NotJson(format!("the number {float}")));
    }
    if let Ok(map) = native.as_map_ref() {
        let original = original.and_then(Value::as_object);
        return Ok(Value::Object(to_entries_below(depth, &map, original, shapes)?));
    }
    if let Ok(items) = native.as_array_ref() {
        let originals = original.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let depth = deeper(depth)?;
        let item = |(n, item)| to_json_below(depth, item, originals.get(n), shapes);
        return items.iter().enumerate().map(item).collect::<Result<_, _>>().map(Value::Array);
    }
    if native.is_unit() {
        return Ok(Value::Null);
    }
    if let Ok(value) = native.as_bool() {
        return Ok(value.into());
    }
    if let Ok(char) = native.as_char() {
        return Ok(Value::String(char.into()));
    }
    other_integer(native).ok_or_else(|| NotJson(format!("a value of type `{}`", type_name(native))))
}

/// Converts a map to a JSON object.
///
/// # Errors
/// What has no form in JSON.
pub(super) fn to_entries(
    native: &NativeMap,
    original: Option<&Map<String, Value>>,
    shapes: &Shapes,
) -> Result<Map<String, Value>, NotJson> {
    to_entries_below(0, native, original, shapes)
}

fn to_entries_below(
    depth: usize,
    native: &NativeMap,
    original: Option<&Map<String, Value>>,
    shapes: &Shapes,
) -> Result<Map<String, Value>, NotJson> {
    let depth = deeper(depth)?;
    let mut entries = Map::with_capacity(native.len());
    let mut add = |key: &str, value: &Dynamic| -> Result<(), NotJson> {
        let value = to_json_below(depth, value, original.and_then(|original| original.get(key)), shapes)?;
        entries.insert(key.to_owned(), value);
        Ok(())
    };
    let first: Box<dyn Iterator<Item = &str>> = match (original, shapes.of(native)) {
        (Some(original), _) if !original.is_empty() => Box::new(original.keys().map(String::as_str)),
        (_, Some(keys)) => Box::new(keys.iter().map(|key| key.as_ref())),
        _ => {
            native.iter().try_for_each(|(key, value)| add(key, value))?;
            return Ok(entries);
        }
    };
    for key in first {
        if let Some(value) = native.get(key) {
            add(key, value)?;
        }
    }
    if entries.len() < native.len() {
        for (key, value) in native {
            if !entries.contains_key(key.as_str()) {
                let value = to_json_below(
                    depth,
                    value,
                    original.and_then(|original| original.get(key.as_str())),
                    shapes,
                )?;
                entries.insert(key.to_string(), value);
            }
        }
    }
    Ok(entries)
}

/// Returns the depth of what is within an array or object at `depth`.
fn deeper(depth: usize) -> Result<usize, NotJson> {
    if depth < MAX_DEPTH {
        Ok(depth + 1)
    } else {
        Err(NotJson(format!("a value that nests deeper than {MAX_DEPTH} levels")))
    }
}

/// The integers of other widths that Rhai's own functions know.
fn other_integer(native: &Dynamic) -> Option<Value> {
    macro_rules! any_of {
        ($($type:ty),*) => {
            None$(.or_else(|| native.read_lock::<$type>().map(|value| Value::from(*value))))*
        };
    }
    any_of!(u64, u32, i32, u16, i16, u8, i8, usize, isize)
}

/// Returns a short name of the type of a value.
pub(super) fn type_name(native: &Dynamic) -> &'static str {
    match native.type_name() {
        "alloc::string::String" | "rhai::types::immutable_string::ImmutableString" => "string",
        name => name.rsplit("::").next().unwrap_or(name),
    }
}

/// A value has no form in JSON.
#[derive(Debug, thiserror::Error)]
#[error("{0} cannot become JSON")]
pub(super) struct NotJson(String);
