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

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::Instant;

use crate::{
    event::Event,
    problem::Problems,
    services::limiter::{self, Limiter, Pace},
    task::{BuildContext, BuildError, Kind, Output, Processor, Role, Task, TaskError},
    template,
};

/// The `throttle` kind.
pub(super) struct Throttle(Pace);

/// How many may pass.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// Events a second; may be a fraction.
    rate: f64,
    /// How many events may pass at once after a quiet time. By default 1: events are evenly spaced.
    #[serde(default = "limiter::one")]
    burst: u32,
    /// A template: events for which it gives the same text share a rate. By default all do.
    key: Option<String>,
    /// For how many keys rates are kept at once. When all of them are in use, an event of another key waits until one
    /// is not.
    #[serde(default = "limiter::ten_thousand")]
    max_keys: usize,
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
        limiter::check("event", config.rate, config.burst, config.max_keys, problems);
        Pace::check_key("key", config.key.as_deref(), problems);
    }

    async fn build(config: &Config, _: &BuildContext) -> Result<Task, BuildError> {
        let limiter = Limiter::new(config.rate, config.burst, config.max_keys, Instant::now());
        let pace = Pace::new(limiter, config.key.as_deref());
        let pace = pace.map_err(|error| BuildError::new("cannot compile `key`").with_source(error))?;
        Ok(Task::Processor(Box::new(Self(pace))))
    }
}

#[async_trait]
impl Processor for Throttle {
    async fn handle(&self, event: &Event, output: &mut Output) -> Result<(), TaskError> {
        self.0.wait(event).await?;
        output.forward();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
