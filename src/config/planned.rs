//! What the flow language has and this build does not serve yet, in one table: building a thing means
//! deleting its line here.
//!
//! A planned key, value, kind or command is refused as "not supported yet", unless its value means nothing.

use serde_json::Value;

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

/// The keys, each with the JSON texts of the values that mean nothing; `null` always does.
const KEYS: &[(Place<'static>, &str, &[&str])] = &[
    (Place::Worker, "http_server", &[]),
    (Place::Worker, "health", &[r#"{"enabled":false}"#]),
    (Place::Worker, "state", &[]),
    (Place::Worker, "cache", &[r#"{"type":"memory"}"#, "{}"]),
    (Place::Flow, "on_task_panic", &[r#""stop""#]),
    (Place::Flow, "deadline", &[]),
    (Place::Flow, "durable", &["false"]),
    (Place::Flow, "slo", &[]),
    (Place::Flow, "require_leader_election", &["false"]),
    (Place::Flow, "parallel_instances", &["1"]),
    (Place::Task, "concurrency", &["1"]),
    (Place::Task, "ordered", &["true"]),
    (Place::Task, "when", &[]),
    // Without state every run counts anew.
    (Place::Kind("generate"), "allow_rerun", &["true"]),
    (Place::Kind("file"), "follow", &["false"]),
    (Place::Kind("file"), "start_at", &[r#""beginning""#]),
    (Place::Kind("file_write"), "rotate", &[]),
    (Place::Kind("http_request"), "credentials_path", &[]),
    (Place::Kind("http_request"), "auth", &[]),
    (Place::Kind("http_request"), "rate_limit", &[]),
    (Place::Kind("http_request"), "circuit_breaker", &[]),
];

/// The kinds.
const KINDS: &[&str] = &[
    "http_endpoint",
    "buffer",
    "validate",
    "convert",
    "dedupe",
    "cache",
    "throttle",
    "object_store",
    "nats_jetstream_subscriber",
    "nats_jetstream_publisher",
    "nats_kv_store",
];

/// The values of `on_error`; `{route: <task>}` is the last of them.
const ON_ERROR: &[&str] = &["continue", "dead_letter"];

/// The commands.
const COMMANDS: &[&str] =
    &["doctor", "dlq", "rules", "dashboard", "health", "completions", "test", "graph", "new", "top", "tap"];

/// What becomes of a planned key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its value means nothing: it is left out.
    Neutral,
    /// It is refused.
    NotYet,
}

/// Returns what becomes of `key`, if it is planned.
pub(super) fn key(place: Place<'_>, key: &str, value: &Value) -> Option<Verdict> {
    let (.., neutral) = KEYS.iter().find(|(at, name, _)| *at == place && *name == key)?;
    let is_neutral = value.is_null() || neutral.contains(&&*value.to_string());
    Some(if is_neutral { Verdict::Neutral } else { Verdict::NotYet })
}

/// Returns the planned keys of a place.
pub(super) fn keys(place: Place<'_>) -> impl Iterator<Item = &'static str> + use<'_> {
    KEYS.iter().filter(move |(at, ..)| *at == place).map(|(_, name, _)| *name)
}

/// Returns the planned kinds.
pub(super) fn kinds() -> &'static [&'static str] {
    KINDS
}

/// Returns whether a value of `on_error` is planned.
pub(super) fn is_on_error(value: &Value) -> bool {
    match value {
        Value::String(name) => ON_ERROR.contains(&name.as_str()),
        Value::Object(object) => object.contains_key("route"),
        _ => false,
    }
}

/// Returns the planned commands.
pub fn commands() -> &'static [&'static str] {
    COMMANDS
}

/// Returns whether `telemetry.enabled: true` is refused.
pub(super) fn is_telemetry_planned() -> bool {
    true
}

/// Says that something is not built.
pub(super) fn message(what: impl std::fmt::Display) -> String {
    format!("{what} is not supported yet")
}

/// Refuses a planned key.
pub(super) fn refusal(path: KeyPath, key: &str, value: &Value) -> Problem {
    let message = match value {
        Value::Bool(_) | Value::String(_) | Value::Number(_) => {
            message(format_args!("`{key}: {}`", value.as_str().map_or(value.to_string(), str::to_owned)))
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
        assert_eq!(flow("durable", json!(false)), Some(Verdict::Neutral));
        assert_eq!(flow("deadline", json!(null)), Some(Verdict::Neutral));
        assert_eq!(flow("durable", json!(true)), Some(Verdict::NotYet));
        assert_eq!(flow("on_task_panic", json!("stop")), Some(Verdict::Neutral));
        assert_eq!(flow("on_task_panic", json!("restart")), Some(Verdict::NotYet));
        assert_eq!(key(Place::Task, "ordered", &json!(true)), Some(Verdict::Neutral));
        assert_eq!(flow("name", json!("x")), None);
    }
}
