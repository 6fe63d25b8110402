//! `throttle`: lets no more than so many events a second pass, and makes the others wait.
//!
//! ```yaml
//! flow:
//!   name: gently
//!   tasks:
//!     - generate:
//!         name: numbers
//!         count: 5
//!     - throttle:
//!         name: hundred_a_second
//!         rate: 100
//!     - drop:
//!         name: nowhere
//! ```
//!
//! Nothing is dropped and nothing overtakes: an event waits until its time has come, and so do those behind it, up to
//! the source. By default events pass evenly spaced; after a quiet time `burst` of them pass at once. With `key` each key
//! has a rate of its own, but an event that waits holds up those of all keys behind it.
//!
//! The times follow a schedule that does not drift. A timer is a millisecond or two late; what it is late is caught up
//! with, so that any rate is kept.
//!
//! Waiting is what this task is for, so it has no `timeout`. A flow that stops goes on at this rate with what it has
//! already taken in, until `shutdown_timeout`. The rates begin anew when the worker does.
//!
//! Telemetry: the duration of the span is how long the event waited.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::{Instant, sleep_until};

use crate::{
    event::Event,
    problem::Problems,
    services::limiter::Limiter,
    task::{BuildContext, BuildError, Kind, Output, Processor, Role, Task, TaskError},
    template::{self, Template},
};

/// The lowest rate, in events a second: one in eleven days.
const LEAST: f64 = 1e-6;

/// The highest rate, in events a second.
const MOST: f64 = 1e9;

/// The `throttle` kind.
pub(super) struct Throttle {
    limiter: Mutex<Limiter>,
    /// What tells the events of one rate from those of another.
    key: Option<Template>,
}

/// How many may pass.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// Events a second; may be a fraction.
    rate: f64,
    /// How many events may pass at once after a quiet time. By default 1: events are evenly spaced.
    #[serde(default = "one")]
    burst: u32,
    /// A template: events for which it gives the same text share a rate. By default all do.
    key: Option<String>,
    /// For how many keys rates are kept at once. When all of them are in use, an event of another key waits until one
    /// is not.
    #[serde(default = "ten_thousand")]
    max_keys: usize,
}

fn one() -> u32 {
    1
}

fn ten_thousand() -> usize {
    10_000
}

impl Kind for Throttle {
    const NAME: &'static str = "throttle";
    const ROLE: Role = Role::Processor;
    const SUMMARY: &'static str = "lets no more than so many events a second pass";
    const ERROR_TYPES: &'static [&'static str] = &[template::TEMPLATE];
    const IS_SERIAL: bool = true;
    const IS_PATIENT: bool = true;
    type Config = Config;

    fn check(config: &Config, problems: &mut Problems) {
        if !(LEAST..=MOST).contains(&config.rate) {
            problems
                .report("rate", "the rate has to be between 0.000001 and 1000000000 events a second")
                .hint("`0.1` is one event in ten seconds");
        }
        if config.burst == 0 {
            problems.report("burst", "the burst has to be at least 1").hint("leave it out for evenly spaced events");
        }
        if config.max_keys == 0 {
            problems.report("max_keys", "`max_keys` has to be at least 1");
        }
        if let Some(Err(error)) = config.key.as_deref().map(Template::compile) {
            error.report("key", problems);
        }
    }

    async fn build(config: &Config, _: &BuildContext) -> Result<Task, BuildError> {
        let key = config.key.as_deref().map(Template::compile).transpose();
        let key = key.map_err(|error| BuildError::new("cannot compile `key`").with_source(error))?;
        let limiter = Limiter::new(config.rate, config.burst, config.max_keys, Instant::now());
        Ok(Task::Processor(Box::new(Self { limiter: Mutex::new(limiter), key })))
    }
}

#[async_trait]
impl Processor for Throttle {
    /// Nothing is taken from the rate before the event passes, so that one that is not waited for to the end, and comes
    /// again, counts once.
    async fn handle(&self, event: &Event, output: &mut Output) -> Result<(), TaskError> {
        let key = self.key.as_ref().map_or_else(|| Ok(String::new()), |key| key.render(event))?;
        while let Some(time) = self.admit(&key) {
            sleep_until(time).await;
        }
        output.forward();
        Ok(())
    }
}

impl Throttle {
    fn admit(&self, key: &str) -> Option<Instant> {
        let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        limiter.admit(key, Instant::now()).err()
    }
}

#[cfg(test)]
mod tests;
