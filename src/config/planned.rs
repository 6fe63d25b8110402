//! What the flow language has and this build does not serve yet, in one table: building a thing means
//! deleting its line here.
//!
//! A planned key, value, kind or command is refused as "not supported yet", unless its value means nothing.

use serde_json::{Map, Value, json};

use super::{File, typed};
use crate::problem::{Focus, KeyPath, Problem};

/// Where a planned key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place<'a> {
    /// At the top of a file.
    Worker,
    /// Below `flow`.
    Flow,
    /// In any task.
    Task,
    /// In tasks of one kind.
    Kind(&'a str),
}

/// Which value of a planned key means nothing. `null` always does.
#[derive(Clone, Copy, Debug)]
enum Neutral {
    /// No other.
    Null,
    Bool(bool),
}

impl Neutral {
    fn is(self, value: &Value) -> bool {
        value.is_null()
            || match self {
                Self::Null => false,
                Self::Bool(neutral) => *value == neutral,
            }
    }

    fn schema(self) -> Value {
        match self {
            Self::Null => json!({"const": null}),
            Self::Bool(neutral) => json!({"enum": [neutral, null]}),
        }
    }
}

/// The keys, each with its value that means nothing.
const KEYS: &[(Place<'static>, &str, Neutral)] = &[
    (Place::Flow, "require_leader_election", Neutral::Bool(false)),
    (Place::Kind("file_write"), "rotate", Neutral::Null),
];

/// The kinds.
const KINDS: &[&str] =
    &["convert", "object_store", "nats_jetstream_subscriber", "nats_jetstream_publisher", "nats_kv_store"];

/// The values of `cache.type`.
const CACHE_TYPES: &[&str] = &["nats"];

/// The commands.
const COMMANDS: &[&str] = &["test", "graph", "new", "top", "tap"];

/// What becomes of a planned key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its value means nothing: it is left out.
    Neutral,
    /// It is refused.
    NotYet,
}

/// Returns what becomes of `key`, if it is planned. Texts that a reference gave are parsed in `value`.
pub(super) fn key(place: Place<'_>, key: &str, value: &Value) -> Option<Verdict> {
    let (.., neutral) = KEYS.iter().find(|(at, name, _)| *at == place && *name == key)?;
    Some(if neutral.is(value) { Verdict::Neutral } else { Verdict::NotYet })
}

/// Returns the schemas of the planned keys of a place: their values that mean nothing.
pub(super) fn schemas(place: Place<'_>) -> Map<String, Value> {
    let of = |(_, name, neutral): &(Place<'_>, &str, Neutral)| {
        let mut schema = neutral.schema();
        schema["description"] =
            format!("{} but for what means nothing.", message(format_args!("`{name}`"))).into();
        ((*name).to_owned(), schema)
    };
    KEYS.iter().filter(|(at, ..)| *at == place).map(of).collect()
}

/// Returns the planned keys of a place.
pub(super) fn keys(place: Place<'_>) -> impl Iterator<Item = &'static str> + use<'_> {
    KEYS.iter().filter(move |(at, ..)| *at == place).map(|(_, name, _)| *name)
}

/// Returns the planned kinds.
pub(super) fn kinds() -> &'static [&'static str] {
    KINDS
}

/// Returns whether a value of `cache.type` is planned.
pub(super) fn is_cache_type(value: &Value) -> bool {
    value.as_str().is_some_and(|name| CACHE_TYPES.contains(&name))
}

/// Returns the planned commands.
pub fn commands() -> &'static [&'static str] {
    COMMANDS
}

/// Says that something is not built.
pub(super) fn message(what: impl std::fmt::Display) -> String {
    format!("{what} is not supported yet")
}

/// Refuses a planned key of a file.
pub(super) fn refusal(file: &File, path: KeyPath, key: &str, value: &Value) -> Problem {
    let message = match value {
        Value::Bool(_) | Value::String(_) | Value::Number(_) => {
            let shown = typed::describe(value, &path, &file.substitutions);
            message(format_args!("`{key}: {}`", shown.trim_matches('`')))
        }
        _ => message(format_args!("`{key}`")),
    };
    let mut problem = Problem::new(path, message);
    problem.focus(Focus::Key);
    problem
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_that_mean_nothing_are_left_out() {
        let flow = |name, value| key(Place::Flow, name, &value);
        assert_eq!(flow("require_leader_election", json!(false)), Some(Verdict::Neutral));
        assert_eq!(flow("require_leader_election", json!(null)), Some(Verdict::Neutral));
        assert_eq!(flow("require_leader_election", json!(true)), Some(Verdict::NotYet));
        let file = |name, value| key(Place::Kind("file_write"), name, &value);
        assert_eq!(file("rotate", json!(null)), Some(Verdict::Neutral));
        assert_eq!(file("rotate", json!("1h")), Some(Verdict::NotYet));
        assert_eq!(flow("name", json!("x")), None);
    }
}
