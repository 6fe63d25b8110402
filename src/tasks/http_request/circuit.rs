//! `circuit_breaker`: a server that fails again and again is left alone for a while.
//!
//! One circuit for each host and port, since a template may name several. It is closed while all is well, opens after so
//! many attempts in a row have failed for now, and lets some through after a time, to see: if they succeed it closes, and
//! if one fails it opens anew. Which circuits there are is bounded; a closed one without failures is not kept at all.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use reqwest::Url;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::Instant;

use super::failure::{CIRCUIT_OPEN, OAUTH2, REFUSED, authority};
use crate::{
    problem::Problems,
    task::{BuildContext, ErrorClass, TaskError},
    telemetry::{
        Counter, Hold, Labels, Level,
        instruments::{HTTP_CIRCUIT_STATE, HTTP_CIRCUIT_TRANSITIONS},
    },
};

/// For how many hosts failures are kept at once.
const MAX_HOSTS: usize = 1000;

/// How long an attempt is to wait while others find out how the server is.
const SHORTLY: Duration = Duration::from_secs(1);

/// When to leave a server alone.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Config {
    /// After how many failures in a row the circuit opens.
    failure_threshold: u32,
    /// For how long it stays open.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    open_for: Duration,
    /// How many attempts then go through at a time, and have to succeed for it to close.
    half_open_requests: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { failure_threshold: 5, open_for: Duration::from_secs(30), half_open_requests: 1 }
    }
}

impl Config {
    pub(super) fn check(self, problems: &mut Problems) {
        for (key, count) in
            [("failure_threshold", self.failure_threshold), ("half_open_requests", self.half_open_requests)]
        {
            if count == 0 {
                problems.report(&format!("circuit_breaker.{key}"), format!("`{key}` has to be at least 1"));
            }
        }
        if self.open_for.is_zero() {
            problems.report("circuit_breaker.open_for", "must be longer than zero");
        }
    }
}

/// The circuits of one task.
pub(super) struct Circuits {
    config: Config,
    /// By host and port; none where all is well.
    troubled: Mutex<Troubled>,
    meters: Meters,
}

#[derive(Default)]
struct Troubled {
    circuits: HashMap<Arc<str>, Circuit>,
    /// How often a circuit has been half open.
    episodes: u64,
}

/// A circuit that is not closed without failures. What holds up the gauge goes with the state.
enum Circuit {
    Closed { failures: u32 },
    Open { until: Instant, _shown: Hold },
    HalfOpen { episode: u64, under_way: u32, succeeded: u32, _shown: Hold },
}

/// How an attempt went, as far as it tells of the server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Well,
    Failed,
    /// It never came to that.
    Unknown,
}

/// An attempt that was let through. Dropped before its end it tells nothing.
pub(super) struct Passage<'a> {
    circuits: &'a Circuits,
    host: Arc<str>,
    /// The half-open episode that it belongs to, if it is to find out how the server is.
    probes: Option<u64>,
    verdict: Verdict,
}

impl Circuits {
    pub(super) fn new(config: Config, context: &BuildContext) -> Self {
        Self { config, troubled: Mutex::default(), meters: Meters::new(context) }
    }

    /// Lets an attempt through, unless the circuit is open.
    pub(super) fn admit(&self, url: &Url) -> Result<Passage<'_>, TaskError> {
        let host = authority(url);
        let mut troubled = self.lock();
        let Troubled { circuits, episodes } = &mut *troubled;
        let passage =
            |host: Arc<str>, probes| Ok(Passage { circuits: self, host, probes, verdict: Verdict::Unknown });
        let Some((host, _)) = circuits.get_key_value(host.as_str()) else {
            return passage(host.into(), None);
        };
        let host = Arc::clone(host);
        let Some(circuit) = circuits.get_mut(&host) else { return passage(host, None) };
        match circuit {
            Circuit::Closed { .. } => passage(host, None),
            Circuit::Open { until, .. } => {
                let left = until.saturating_duration_since(Instant::now());
                if !left.is_zero() {
                    return Err(open(&host, left));
                }
                *episodes += 1;
                let shown = self.meters.half_open();
                *circuit =
                    Circuit::HalfOpen { episode: *episodes, under_way: 1, succeeded: 0, _shown: shown };
                passage(host, Some(*episodes))
            }
            Circuit::HalfOpen { episode, under_way, succeeded, .. } => {
                if *under_way + *succeeded >= self.config.half_open_requests {
                    return Err(open(&host, SHORTLY.min(self.config.open_for)));
                }
                *under_way += 1;
                passage(host, Some(*episode))
            }
        }
    }

    fn settle(&self, host: &Arc<str>, probes: Option<u64>, verdict: Verdict) {
        let mut troubled = self.lock();
        let circuits = &mut troubled.circuits;
        match (circuits.get_mut(host), probes) {
            (None, _) if verdict == Verdict::Failed => {
                if circuits.len() >= MAX_HOSTS {
                    circuits.retain(|_, circuit| !matches!(circuit, Circuit::Closed { .. }));
                }
                if circuits.len() < MAX_HOSTS {
                    circuits.insert(Arc::clone(host), self.failed(1));
                }
            }
            (Some(circuit), _) if matches!(circuit, Circuit::Closed { .. }) => match (verdict, &*circuit) {
                (Verdict::Failed, Circuit::Closed { failures }) => *circuit = self.failed(failures + 1),
                (Verdict::Well, _) => drop(circuits.remove(host)),
                _ => {}
            },
            (Some(Circuit::HalfOpen { episode, under_way, succeeded, .. }), Some(own)) if *episode == own => {
                *under_way -= 1;
                *succeeded += u32::from(verdict == Verdict::Well);
                let is_well = *succeeded >= self.config.half_open_requests;
                if verdict == Verdict::Failed {
                    circuits.insert(Arc::clone(host), self.opened());
                } else if is_well {
                    circuits.remove(host);
                    self.meters.to_closed.add(1);
                }
            }
            // It began before the circuit opened: what it tells is out of date.
            _ => {}
        }
    }

    /// Makes a closed circuit with so many failures, or an open one if those are enough.
    fn failed(&self, failures: u32) -> Circuit {
        if failures >= self.config.failure_threshold { self.opened() } else { Circuit::Closed { failures } }
    }

    fn opened(&self) -> Circuit {
        let now = Instant::now();
        Circuit::Open {
            until: now.checked_add(self.config.open_for).unwrap_or(now),
            _shown: self.meters.open(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Troubled> {
        self.troubled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Passage<'_> {
    /// Ends it with the error of the attempt, if it failed.
    pub(super) fn end(mut self, error: Option<&TaskError>) {
        self.verdict = match error {
            None => Verdict::Well,
            Some(error) if [OAUTH2, REFUSED].contains(&error.error_type()) => Verdict::Unknown,
            Some(error) if error.class() == ErrorClass::Transient => Verdict::Failed,
            // The server has answered.
            Some(_) => Verdict::Well,
        };
    }
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        self.circuits.settle(&self.host, self.probes, self.verdict);
    }
}

fn open(host: &str, left: Duration) -> TaskError {
    TaskError::transient(CIRCUIT_OPEN, format!("{host} has failed too often and is left alone for now"))
        .with_retry_after(left)
}

/// What is shown of the circuits.
struct Meters {
    open: Level,
    half_open: Level,
    to_open: Counter,
    to_half_open: Counter,
    to_closed: Counter,
}

impl Meters {
    fn new(context: &BuildContext) -> Self {
        let of = |state: &'static str| {
            Labels::default()
                .with("flow", Arc::clone(&context.flow))
                .with("task", Arc::clone(&context.task))
                .with("state", state)
        };
        let level = |state| context.meter.level(&HTTP_CIRCUIT_STATE, of(state));
        let to = |state| context.meter.counter(&HTTP_CIRCUIT_TRANSITIONS, of(state));
        Self {
            open: level("open"),
            half_open: level("half_open"),
            to_open: to("open"),
            to_half_open: to("half_open"),
            to_closed: to("closed"),
        }
    }

    fn open(&self) -> Hold {
        self.to_open.add(1);
        self.open.hold(1)
    }

    fn half_open(&self) -> Hold {
        self.to_half_open.add(1);
        self.half_open.hold(1)
    }
}

#[cfg(test)]
mod tests;
