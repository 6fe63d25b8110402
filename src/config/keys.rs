//! The keys of a file that belong to no kind: of the worker, of a flow, and those that every task has.

mod http_server;
mod slo;
mod task;

use std::{path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

pub(super) use self::http_server::HttpServerKeys;
use self::slo::SloKeys;
pub(super) use self::task::{
    MOST_CONCURRENCY, MOST_PARALLELISM, Names, OnErrorKey, TASK_KEYS, TaskKeys, TaskTelemetryKeys,
};
use crate::{
    format::ByteSize,
    plan::{CacheLimits, Durable, Fsync, OnTaskPanic},
    problem::{Focus, Problems},
    retry::RetryPolicy,
};

/// The most instances of a task that a flow may ask for: each is there from the start.
pub(super) const MOST_INSTANCES: usize = 1_000;

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

/// What outlives the worker.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StateKeys {
    /// The directory that it is kept in, relative to the file; made if there is none.
    pub(super) path: PathBuf,
}

/// What happens when a task panics, or a source cannot go on for now.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum OnTaskPanicKey {
    /// The task is built anew after a while and goes on with what waits for it.
    Restart,
    /// Its flow stops.
    Stop,
}

impl From<OnTaskPanicKey> for OnTaskPanic {
    fn from(key: OnTaskPanicKey) -> Self {
        match key {
            OnTaskPanicKey::Restart => Self::Restart,
            OnTaskPanicKey::Stop => Self::Stop,
        }
    }
}

/// Whether there is a queue on the disk behind each source of a flow. A mapping is typed apart, so that its mistakes are
/// told as such.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "the schema tells what there is")]
pub(super) enum DurableKey {
    /// There is one, with the defaults, or none.
    Is(bool),
    /// There is one.
    With(DurableKeys),
}

/// The queue on the disk behind a source.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DurableKeys {
    /// When what was accepted outlasts a crash of the machine. By default `always`.
    pub(super) fsync: FsyncKey,
    /// The time from one sync to the next with `fsync: interval`. By default `1s`.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "Option<String>", extend("examples" = ["100ms", "1s"]))]
    pub(super) fsync_interval: Option<Duration>,
    /// What it takes on the disk at most, about; beyond that the source waits. By default `1GiB`.
    pub(super) max_bytes: Option<ByteSize>,
}

/// When what was accepted outlasts a crash of the machine. It outlasts the worker in any case.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(super) enum FsyncKey {
    /// From then on: the source learns that an event is accepted when the disk has it.
    #[default]
    Always,
    /// After `fsync_interval` at most.
    Interval,
}

/// The smallest queue: a few files that are worth their names.
const LEAST_QUEUE: usize = 1 << 20;

impl DurableKeys {
    /// Returns the queue, and reports what cannot be right.
    pub(super) fn durable(&self, problems: &mut Problems) -> Durable {
        let fallback = Durable::default();
        let mut problems_of = Problems::below(problems.base().key("durable"));
        if self.fsync == FsyncKey::Always && self.fsync_interval.is_some() {
            let problem = problems_of.report("fsync_interval", "`fsync: always` has no interval");
            problem.focus(Focus::Key).hint("remove it, or write `fsync: interval`");
        } else if self.fsync_interval.is_some_and(|interval| interval.is_zero()) {
            problems_of.report("fsync_interval", "must be longer than zero").hint("or write `fsync: always`");
        }
        let max_bytes = self.max_bytes.map(|ByteSize(bytes)| bytes);
        if max_bytes.is_some_and(|bytes| bytes < LEAST_QUEUE) {
            problems_of.report("max_bytes", "must be at least 1MiB");
        }
        problems.extend(problems_of);
        let interval = || self.fsync_interval.unwrap_or(Duration::from_secs(1));
        Durable {
            fsync: match self.fsync {
                FsyncKey::Always => Fsync::Always,
                FsyncKey::Interval => Fsync::Interval(interval()),
            },
            max_bytes: max_bytes.map_or(fallback.max_bytes, |bytes| bytes as u64),
        }
    }
}

/// The keys of a flow besides its name, its labels and its tasks.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FlowKeys {
    /// What happens when a task panics, or a source cannot go on for now. By default `restart`.
    pub(super) on_task_panic: Option<OnTaskPanicKey>,
    /// How old an event may become: one that entered longer ago is not handled any more. By default any age.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "Option<String>", extend("examples" = ["30s", "1m 30s"]))]
    pub(super) deadline: Option<Duration>,
    /// `true` for a queue on the disk behind each source: what was accepted outlasts the worker, however it ends. A
    /// mapping says more of it. Needs `state`. By default `false`.
    pub(super) durable: Option<DurableKey>,
    /// How many there are of each task that there can be several of. By default 1.
    #[schemars(range(min = 1, max = MOST_INSTANCES))]
    pub(super) parallel_instances: Option<usize>,
    /// What it promises: service-level objectives, of which `flowgen rules` makes alerts.
    pub(super) slo: Option<SloKeys>,
}

/// Where a cache is kept.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum CacheType {
    /// In the memory of the worker; it is gone with it.
    #[default]
    Memory,
    /// In the memory of the worker and below `state.path`: the next run has it too. Needs `state`.
    Embedded,
}

/// What tasks can remember beyond an event.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CacheKeys {
    /// Where it is kept.
    #[serde(rename = "type")]
    pub(super) kept: CacheType,
    /// How many entries it holds at most. By default 100000.
    #[schemars(range(min = 1))]
    pub(super) max_entries: Option<usize>,
    /// How many bytes its keys and values take at most. By default `64MiB`.
    pub(super) max_bytes: Option<ByteSize>,
}

impl CacheKeys {
    /// Returns the limits, and reports those that nothing is within.
    pub(super) fn limits(&self, problems: &mut Problems) -> CacheLimits {
        let fallback = CacheLimits::default();
        let limits = CacheLimits {
            max_entries: self.max_entries.unwrap_or(fallback.max_entries),
            max_bytes: self.max_bytes.map_or(fallback.max_bytes, |ByteSize(bytes)| bytes),
            is_kept: matches!(self.kept, CacheType::Embedded),
        };
        for (key, limit) in [("max_entries", limits.max_entries), ("max_bytes", limits.max_bytes)] {
            if limit == 0 {
                problems.report(key, "must be at least 1");
            }
        }
        limits
    }
}

/// The keys of a flow.
pub(super) const FLOW_KEYS: [&str; 8] =
    ["name", "labels", "on_task_panic", "deadline", "durable", "parallel_instances", "slo", "tasks"];
/// The keys of the worker, at the top of a file.
pub(super) const WORKER_KEYS: [&str; 10] = [
    "telemetry",
    "logging",
    "http_server",
    "health",
    "retry",
    "state",
    "cache",
    "resources",
    "shutdown_timeout",
    "channel_capacity",
];

/// Says where a key stands that stands nowhere here.
pub(super) fn elsewhere(key: &str) -> Option<String> {
    use super::planned::{Place, keys};
    let has = |known: &[&str], place| known.contains(&key) || keys(place).any(|planned| planned == key);
    if has(&WORKER_KEYS, Place::Worker) {
        Some(format!("`{key}` stands at the top of the file"))
    } else if has(&FLOW_KEYS[1..], Place::Flow) {
        Some(format!("`{key}` stands below `flow`"))
    } else if has(&TASK_KEYS, Place::Task) {
        Some(is_of_task(key))
    } else {
        None
    }
}

/// Says where a key of a task stands.
pub(super) fn is_of_task(key: &str) -> String {
    format!("`{key}` is a key of a task: it stands below the task's kind")
}
