//! `generate`: makes events by a schedule, at a rate, or as fast as the flow takes them.
//!
//! ```yaml
//! flow:
//!   name: tick
//!   tasks:
//!     - generate:
//!         name: ticks
//!         interval: 10ms
//!         count: 3
//!         payload: {hello: world}
//!     - log:
//!         name: seen
//! ```
//!
//! The id of an event is its sequence number, from 0. Without `payload` and `code` its data is `{}`. The
//! scheduled events that a busy flow has no room for in time are skipped; how many is logged at the end, at
//! least: after a jump of the clock not every missed time of a `cron` is counted.
//!
//! After a panic, and with state in the next run too, it goes on: with the next number, and at the next time of its schedule.
//! A source with `interval: 1h` that was away for ten minutes makes its next event when an hour has passed since the last
//! one; the times that came meanwhile are skipped. One that has made `count` events makes no more in any run, unless
//! `allow_rerun: true` lets it count anew in each. Without state every run begins with number 0.
//!
//! A clock that is set back by up to three hours makes no time of a `cron` come twice: the schedule waits until the time of
//! its last event has passed again. If it is set back by more, it goes by the new time at once. An `interval` is measured
//! without that clock; only if it was set back while nothing ran, the first event comes one interval after the start.

mod pace;
mod position;
mod schedule;

use std::{mem, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use self::{
    pace::{Pace, Pacer},
    position::At,
    schedule::Schedule,
};
use crate::{
    event::{EventId, Payload},
    problem::{Focus, Problems},
    script::{self, CompileError, Generator},
    shutdown::Stop,
    task::{
        BuildContext, BuildError, Closed, Emitter, Extent, Kind, Record, Role, Source, Task, TaskError,
        Trigger,
    },
};

/// How many events go by between two looks at whether to stop.
const CHUNK: u64 = 64;

/// How many chunks go by before others have their turn.
const CHUNKS_A_TURN: u64 = 16;

/// The most events a second that can be asked for; faster is flat out.
const MOST_A_SECOND: f64 = 1e9;

/// `error.type` of a source whose schedule names no more times.
const SCHEDULE: &str = "schedule";

/// The `generate` kind.
pub(super) struct Generate;

/// When to make what.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// The time from one event to the next; the first comes at the start.
    #[serde(default, with = "humantime_serde::option")]
    #[schemars(with = "Option<String>")]
    interval: Option<Duration>,
    /// A cron expression of five fields, or of six with the seconds first.
    cron: Option<String>,
    /// The time zone of `cron`; UTC without one.
    timezone: Option<String>,
    /// Events a second.
    rate: Option<f64>,
    /// How many events to make; without end if it is not given. With state they are counted over all runs.
    count: Option<u64>,
    /// Whether they are counted anew in each run, so that one that has made all of them makes them again.
    #[serde(default)]
    allow_rerun: bool,
    /// The data of every event.
    payload: Option<Value>,
    /// A script that makes the data of each event.
    code: Option<String>,
    /// Told apart from other starts by this: the configuration is read once in each, and not when a task is built again.
    #[serde(skip)]
    start: Start,
}

/// One start of a flow.
#[derive(Debug)]
struct Start(Uuid);

impl Default for Start {
    fn default() -> Self {
        Self(Uuid::now_v7())
    }
}

impl Kind for Generate {
    const NAME: &'static str = "generate";
    const ROLE: Role = Role::Source;
    const SUMMARY: &'static str = "makes events by a schedule, at a rate, or as fast as it can";
    const ERROR_TYPES: &'static [&'static str] = &[script::SCRIPT, script::LIMIT, SCHEDULE];
    type Config = Config;

    fn check(config: &Config, problems: &mut Problems) {
        let paces = [
            ("interval", config.interval.is_some()),
            ("cron", config.cron.is_some()),
            ("rate", config.rate.is_some()),
        ];
        one_of(&paces, problems);
        one_of(&[("payload", config.payload.is_some()), ("code", config.code.is_some())], problems);
        if config.interval.is_some_and(|interval| interval.is_zero()) {
            problems
                .report("interval", "the interval is zero")
                .hint("leave it out to run as fast as possible");
        }
        if config.rate.is_some_and(|rate| !rate.is_finite() || rate <= 0.0) {
            problems.report("rate", "the rate has to be more than zero events a second");
        }
        if config.rate.is_some_and(|rate| rate > MOST_A_SECOND && rate.is_finite()) {
            problems
                .report("rate", "the rate cannot be more than 1000000000 events a second")
                .hint("leave it out to run as fast as possible");
        }
        Schedule::check(config.cron.as_deref(), config.timezone.as_deref(), problems);
        if let Some(Err(error)) = config.code.as_deref().map(Generator::compile) {
            error.report("code", problems);
        }
    }

    async fn build(config: &Config, _: &BuildContext) -> Result<Task, BuildError> {
        let pace = pace(config).map_err(BuildError::new)?;
        let maker = maker(config).map_err(|error| BuildError::new(error.message))?;
        let start = config.allow_rerun.then(|| config.start.0.to_string());
        Ok(Task::Source(Box::new(Making { pace, maker, count: config.count, start, now: Timestamp::now })))
    }
}

fn pace(config: &Config) -> Result<Pace, String> {
    Ok(match (config.interval, &config.cron, config.rate) {
        (Some(interval), ..) => Pace::Interval(interval),
        (None, Some(cron), _) => Pace::Cron(Box::new(Schedule::new(cron, config.timezone.as_deref())?)),
        (None, None, Some(rate)) => Pace::Rate(rate),
        (None, None, None) => Pace::FlatOut,
    })
}

fn maker(config: &Config) -> Result<Maker, CompileError> {
    Ok(match (&config.code, &config.payload) {
        (Some(code), _) => Maker::Script(Generator::compile(code)?),
        (None, Some(payload)) => Maker::Payload(Payload::from(payload.clone())),
        (None, None) => Maker::Payload(Payload::from(Value::Object(Map::new()))),
    })
}

/// Reports all but the first of the keys that are given.
fn one_of(keys: &[(&str, bool)], problems: &mut Problems) {
    let mut given = keys.iter().filter(|(_, is_given)| *is_given).map(|(key, _)| key);
    let Some(first) = given.next() else { return };
    for key in given {
        problems
            .report(key, format!("`{key}` and `{first}` cannot both be given"))
            .focus(Focus::Key)
            .hint(format!("leave out `{first}` or `{key}`"));
    }
}

struct Making {
    pace: Pace,
    maker: Maker,
    count: Option<u64>,
    /// The start that events are counted from; without one they are counted from the first one that was ever made.
    start: Option<String>,
    /// The clock of the wall, which tests replace.
    now: fn() -> Timestamp,
}

/// What makes the data of an event.
enum Maker {
    /// The same for each: all of them share it.
    Payload(Payload),
    Script(Generator),
}

impl Maker {
    #[inline]
    fn make(&self) -> Result<Record, TaskError> {
        match self {
            Self::Payload(payload) => Ok(Record::from(payload.clone())),
            Self::Script(generator) => generator.evaluate().map(|value| Record::from(Payload::from(value))),
        }
    }
}

#[async_trait]
impl Source for Making {
    async fn run(self: Box<Self>, emitter: &mut Emitter, stop: Stop) -> Result<(), TaskError> {
        let count = self.count.unwrap_or(u64::MAX);
        let is_scheduled = matches!(self.pace, Pace::Interval(_) | Pace::Cron(_));
        let mut pacer = Pacer::new(self.pace, self.now);
        let mut at = At { start: self.start, ..At::default() };
        if let Some((before, events)) = At::read(emitter.resumptions()) {
            let made = before.made.saturating_add(events);
            let is_anew = at.start.is_some() && at.start != before.start;
            at.made = if is_anew { 0 } else { made };
            at.due = before.due;
            if made > 0 {
                pacer.go_on(before.due, events)?;
            }
            if at.made >= count {
                tracing::info!(count, "all events were made before");
            }
        }
        emitter.reach(at.position());
        let mut skipped = 0;
        if is_scheduled {
            emitter.trigger(Trigger::Fired, 0);
        }
        let result = loop {
            if at.made >= count {
                break Ok(());
            }
            let due = tokio::select! {
                biased;
                () = stop.stopped() => break Ok(()),
                due = pacer.due() => due?,
            };
            let end = at.made.saturating_add(due).min(count);
            let (before, mut failed) = (at.made, 0);
            at.due = pacer.last();
            let result = make(&self.maker, &mut at, &mut failed, end, emitter, &stop).await;
            let made = at.made - before;
            pacer.made(made);
            if is_scheduled {
                emitter.trigger(Trigger::Fired, made - failed);
                emitter.trigger(Trigger::Failed, failed);
                emitter
                    .trigger(Trigger::Skipped, pacer.skipped() - mem::replace(&mut skipped, pacer.skipped()));
            }
            if result.is_err() || at.made < end {
                break result;
            }
        };
        match pacer.skipped() {
            0 => {}
            skipped => tracing::info!(skipped, "skipped scheduled events while the flow was busy"),
        }
        Ok(result?)
    }

    fn can_resume(&self) -> bool {
        true
    }

    fn extent(&self) -> Option<Extent> {
        self.count.map(Extent::Events)
    }
}

/// Makes the events from where `at` stands up to `end`, or until `stop`, and sends them on. Counts those that `failed`.
async fn make(
    maker: &Maker,
    at: &mut At,
    failed: &mut u64,
    end: u64,
    emitter: &mut Emitter,
    stop: &Stop,
) -> Result<(), Closed> {
    let mut chunks = 0_u64;
    while at.made < end && !stop.is_stopped() {
        for sequence in at.made..end.min(at.made + CHUNK) {
            at.made += 1;
            let mut make = || maker.make().inspect_err(|_| *failed += 1);
            emitter.stage(EventId::Sequence(sequence), |_| make()).await?;
        }
        emitter.reach(at.position());
        chunks += 1;
        if chunks.is_multiple_of(CHUNKS_A_TURN) {
            tokio::task::yield_now().await;
        }
    }
    emitter.flush().await
}

#[cfg(test)]
mod tests;
