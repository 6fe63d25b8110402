//! The keys of a file that belong to no kind: of the worker, of a flow, and those that every task has.

use std::{path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use crate::{
    plan::OnError,
    problem::{KeyPath, Problems},
    retry::RetryPolicy,
};

/// A duration such as `5s` or `1m 30s`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub(super) struct Period(
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("examples" = ["30s", "1m 30s"]))]
    pub(super) Duration,
);

/// How often and how fast a transient failure is tried again.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RetryKeys {
    /// Attempts in all, the first one included; at least 1. By default 10.
    pub(super) max_attempts: Option<u32>,
    /// The ceiling of the first delay, such as `1s`.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "Option<String>", extend("examples" = ["30s", "1m 30s"]))]
    pub(super) initial_backoff: Option<Duration>,
    /// The ceiling of any delay, such as `30s`.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "Option<String>", extend("examples" = ["30s", "1m 30s"]))]
    pub(super) max_backoff: Option<Duration>,
    /// The time after the first failure beyond which no attempt starts; `null` for none.
    #[serde(deserialize_with = "given")]
    #[schemars(with = "Option<String>", extend("examples" = ["30s", "1m 30s"]))]
    pub(super) max_elapsed: Option<Option<Duration>>,
}

impl RetryKeys {
    /// Reports what cannot be right, with `fallback` for what is not given.
    pub(super) fn check(&self, fallback: RetryPolicy, problems: &mut Problems) {
        if self.max_attempts == Some(0) {
            problems.report("max_attempts", "must be at least 1");
        }
        let ceiling = self.over(fallback).max_backoff;
        if self.initial_backoff.is_some_and(|initial| initial > ceiling) {
            let problem =
                problems.report("initial_backoff", "`initial_backoff` is longer than `max_backoff`");
            if self.max_backoff.is_none() {
                problem.hint("give `max_backoff` too; it is the ceiling of any delay");
            }
        }
    }

    /// Returns the policy, with `fallback` for what is not given.
    pub(super) fn over(&self, fallback: RetryPolicy) -> RetryPolicy {
        RetryPolicy {
            max_attempts: self.max_attempts.unwrap_or(fallback.max_attempts),
            initial_backoff: self.initial_backoff.unwrap_or(fallback.initial_backoff),
            max_backoff: self.max_backoff.unwrap_or(fallback.max_backoff),
            max_elapsed: self.max_elapsed.unwrap_or(fallback.max_elapsed),
        }
    }
}

/// Tells a `null` from a key that is not there.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Duration>>, D::Error> {
    humantime_serde::deserialize(deserializer).map(Some)
}

/// Where the files are that `{resource: path}` names.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ResourcesKeys {
    /// The directory, relative to the file.
    pub(super) path: PathBuf,
}

/// What becomes of an event whose handling failed.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum OnErrorKey {
    /// It is failed, and its source learns that.
    #[default]
    Fail,
    /// It is counted as dropped, and its source is told that it is dealt with.
    Drop,
}

impl From<OnErrorKey> for OnError {
    fn from(key: OnErrorKey) -> Self {
        match key {
            OnErrorKey::Fail => Self::Fail,
            OnErrorKey::Drop => Self::Drop,
        }
    }
}

/// One name or several.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Names {
    /// One name.
    One(String),
    /// Several names.
    Several(Vec<String>),
}

impl Names {
    /// Returns the names.
    pub(super) fn as_slice(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Several(names) => names,
        }
    }

    /// Returns where the name number `n` stands, if they all stand at `path`.
    pub(super) fn path(&self, path: &KeyPath, n: usize) -> KeyPath {
        match self {
            Self::One(_) => path.clone(),
            Self::Several(_) => path.index(n),
        }
    }
}

/// What a source says of the traces that begin at it.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TaskTelemetryKeys {
    /// The share of its traces that is exported: 0.0 to 1.0. By default `telemetry.trace_sample_rate`.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(super) sample_rate: Option<f64>,
}

/// The keys that every task has.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TaskKeys {
    /// The name of the task, unique in the flow: `[a-z0-9_-]+`. By default that of its kind.
    pub(super) name: Option<String>,
    /// The tasks that its events come from. By default the task before it.
    pub(super) depends_on: Option<Names>,
    /// How often a transient failure is tried again. What is not given falls back to the worker's.
    pub(super) retry: Option<RetryKeys>,
    /// How long one attempt may take, such as `10s`. Processors only.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "Option<String>", extend("examples" = ["30s", "1m 30s"]))]
    pub(super) timeout: Option<Duration>,
    /// What becomes of an event in the end when handling it fails.
    pub(super) on_error: OnErrorKey,
    /// What is traced of the events that it brings in. Sources only.
    pub(super) telemetry: Option<TaskTelemetryKeys>,
}

/// The keys of [`TaskKeys`].
pub(super) const TASK_KEYS: [&str; 6] = ["name", "depends_on", "retry", "timeout", "on_error", "telemetry"];
/// The keys of a flow.
pub(super) const FLOW_KEYS: [&str; 3] = ["name", "labels", "tasks"];
/// The keys of the worker, at the top of a file.
pub(super) const WORKER_KEYS: [&str; 6] =
    ["telemetry", "logging", "retry", "resources", "shutdown_timeout", "channel_capacity"];

/// Says where a key stands that stands nowhere here.
pub(super) fn elsewhere(key: &str) -> Option<String> {
    use super::planned::{Place, keys};
    let has = |known: &[&str], place| known.contains(&key) || keys(place).any(|planned| planned == key);
    if has(&WORKER_KEYS, Place::Worker) {
        Some(format!("`{key}` stands at the top of the file"))
    } else if has(&FLOW_KEYS[1..], Place::Flow) {
        Some(format!("`{key}` stands below `flow`"))
    } else if has(&TASK_KEYS, Place::Task) {
        Some(format!("`{key}` is a key of a task: it stands below the task's kind"))
    } else {
        None
    }
}
