//! What a mistake is called: what was expected and what was found, in words for people.

use serde_json::Value;

use crate::{
    config::{
        interpolate::{self, Substitution},
        schema::View,
    },
    problem::KeyPath,
};

/// Says in plain words what a deserializer expected.
pub(super) fn wanted(expected: &str, view: &View<'_>, found: Option<&Value>) -> (String, Option<String>) {
    match expected {
        "a duration" => {
            let hint = match found {
                Some(Value::Number(number)) => Some(format!("give it a unit: `{number}s`")),
                _ => Some("units are `ms`, `s`, `m`, `h`: `1m 30s`".into()),
            };
            ("a duration such as `5s`".into(), hint)
        }
        "a string" => {
            ("text".into(), Some("put it in quotes".into()).filter(|_| found.is_some_and(is_plain)))
        }
        "a boolean" => ("`true` or `false`".into(), None),
        "a sequence" => {
            (Some(view.expected()).filter(|e| !e.is_empty()).unwrap_or_else(|| "a list".into()), None)
        }
        "a map" => ("a mapping".into(), how_to_write(view, found)),
        "f32" | "f64" => ("a number".into(), None),
        other if other.starts_with("struct ") || other.starts_with("internally tagged enum ") => {
            ("a mapping".into(), how_to_write(view, found))
        }
        other => (other.into(), None),
    }
}

/// Says which whole numbers an integer type has, as far as it matters for what was found. Tells nothing of the
/// value but whether it is too large.
pub(super) fn whole_number(expected: &str, found: Option<&Value>) -> Option<String> {
    let (name, least) = match expected.strip_prefix("a nonzero ") {
        Some(name) => (name, Some(1)),
        None => (expected, expected.starts_with('u').then_some(0)),
    };
    let most = match name {
        "u8" => u8::MAX.into(),
        "u16" => u16::MAX.into(),
        "u32" => u32::MAX.into(),
        "u64" | "usize" => u64::MAX,
        "i8" => i8::MAX as u64,
        "i16" => i16::MAX as u64,
        "i32" => i32::MAX as u64,
        "i64" | "isize" => i64::MAX as u64,
        _ => return None,
    };
    Some(match (found.and_then(Value::as_f64), least) {
        (Some(number), _) if number > most as f64 => format!("a whole number of at most {most}"),
        (_, Some(least)) => format!("a whole number of at least {least}"),
        (_, None) => "a whole number".into(),
    })
}

/// Says how a mapping is written that was written as something else.
pub(in crate::config) fn how_to_write(view: &View<'_>, found: Option<&Value>) -> Option<String> {
    let mut tags = view.tags();
    if let Some(meant) = tags.iter().find(|(_, name)| found.and_then(Value::as_str) == Some(*name)) {
        tags = vec![*meant];
    }
    let forms: Vec<_> = tags.iter().map(|(key, name)| format!("`{{{key}: {name}}}`")).collect();
    if forms.is_empty() {
        // Where texts may stand too, what was expected names all there is.
        return view.known_here().filter(|_| view.constants().is_empty());
    }
    Some(format!("write {}", forms.join(" or ")))
}

fn is_plain(value: &Value) -> bool {
    value.is_number() || value.is_boolean()
}

/// Shows the value at `path` in a message; of a value with something from outside, what the file has.
pub(in crate::config) fn describe(value: &Value, path: &KeyPath, substitutions: &[Substitution]) -> String {
    match value {
        Value::Array(_) => return "a list".into(),
        Value::Object(_) => return "a mapping".into(),
        _ => {}
    }
    match (interpolate::written(path, substitutions), value) {
        (Some(written), _) => quoted(written),
        (None, Value::Null) => "nothing".into(),
        (None, Value::String(text)) => quoted(text),
        (None, other) => format!("`{other}`"),
    }
}

fn quoted(text: &str) -> String {
    if text.chars().count() > 60 {
        format!("`{}…`", text.chars().take(60).collect::<String>().escape_debug())
    } else {
        format!("`{}`", text.replace('\n', "\\n"))
    }
}
