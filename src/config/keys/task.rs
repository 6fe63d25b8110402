//! The keys that every task has.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::RetryKeys;
use crate::{plan::OnError, problem::KeyPath};

/// The most events that a task may handle at a time: each is an attempt under way, with all that it holds.
pub(in crate::config) const MOST_CONCURRENCY: usize = 10_000;

/// The most threads that a task may ask for, far more than machines have.
pub(in crate::config) const MOST_PARALLELISM: usize = 1_000;

/// What becomes of an event whose handling failed.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum OnErrorKey {
    /// It is failed, and its source learns that.
    #[default]
    Fail,
    /// It is counted as dropped, and its source is told that it is dealt with.
    Drop,
    /// It is stored as it came, for `flowgen dlq`. Needs `state`.
    DeadLetter,
    /// It goes on as it came, with the error. It is dropped where no task follows.
    Continue,
    /// It goes on as it came, with the error, to the task of this name and to no other.
    Route(String),
}

impl OnErrorKey {
    /// Returns the name of the task that it names.
    pub(in crate::config) fn route(&self) -> Option<&str> {
        match self {
            Self::Fail | Self::Drop | Self::DeadLetter | Self::Continue => None,
            Self::Route(task) => Some(task),
        }
    }

    /// Returns what is to be done, if the task that it names is that of this index.
    pub(in crate::config) fn resolved(&self, route: Option<usize>) -> Option<OnError> {
        Some(match self {
            Self::Fail => OnError::Fail,
            Self::Drop => OnError::Drop,
            Self::DeadLetter => OnError::DeadLetter,
            Self::Continue => OnError::Continue,
            Self::Route(_) => OnError::Route(route?),
        })
    }
}

/// One name or several.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(in crate::config) enum Names {
    /// One name.
    One(String),
    /// Several names.
    Several(Vec<String>),
}

impl Names {
    /// Returns the names.
    pub(in crate::config) fn as_slice(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Several(names) => names,
        }
    }

    /// Returns where the name number `n` stands, if they all stand at `path`.
    pub(in crate::config) fn path(&self, path: &KeyPath, n: usize) -> KeyPath {
        match self {
            Self::One(_) => path.clone(),
            Self::Several(_) => path.index(n),
        }
    }
}

/// What a source says of the traces that begin at it.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct TaskTelemetryKeys {
    /// The share of its traces that is exported: 0.0 to 1.0. By default `telemetry.trace_sample_rate`.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(in crate::config) sample_rate: Option<f64>,
}

/// The keys that every task has.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct TaskKeys {
    /// The name of the task, unique in the flow: `[a-z0-9_-]+`. By default that of its kind.
    pub(in crate::config) name: Option<String>,
    /// The tasks that its events come from. By default the task before it.
    pub(in crate::config) depends_on: Option<Names>,
    /// A Rhai condition: events that it is not true for pass by unhandled. Not for sources.
    pub(in crate::config) when: Option<String>,
    /// How often a transient failure is tried again. What is not given falls back to the worker's.
    pub(in crate::config) retry: Option<RetryKeys>,
    /// How long one attempt may take, such as `10s`. Processors only.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "Option<String>", extend("examples" = ["30s", "1m 30s"]))]
    pub(in crate::config) timeout: Option<Duration>,
    /// How many events it handles at a time. By default 1. Processors only.
    #[schemars(range(min = 1, max = MOST_CONCURRENCY))]
    pub(in crate::config) concurrency: Option<usize>,
    /// Whether events leave it in the order in which they came, also if it handles several at a time. By default true.
    /// Processors only.
    pub(in crate::config) ordered: Option<bool>,
    /// A template: of the events that it handles at a time only those with the same text keep their order.
    /// Processors only.
    #[schemars(extend("examples" = ["{{ event.data.customer }}"]))]
    pub(in crate::config) key: Option<String>,
    /// On how many threads at a time it works. Its events keep their order. By default 1. Transforms only.
    #[schemars(range(min = 1, max = MOST_PARALLELISM))]
    pub(in crate::config) parallelism: Option<usize>,
    /// What becomes of an event in the end when handling it fails.
    pub(in crate::config) on_error: OnErrorKey,
    /// What is traced of the events that it brings in. Sources only.
    pub(in crate::config) telemetry: Option<TaskTelemetryKeys>,
}

/// The keys of [`TaskKeys`].
pub(in crate::config) const TASK_KEYS: [&str; 11] = [
    "name",
    "depends_on",
    "when",
    "retry",
    "timeout",
    "concurrency",
    "ordered",
    "key",
    "parallelism",
    "on_error",
    "telemetry",
];
