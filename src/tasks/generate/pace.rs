//! When the next events are due.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, sleep, sleep_until};

use super::schedule::Schedule;
use crate::task::TaskError;

/// How far behind its rate a source may fall and still catch up.
const CATCH_UP: Duration = Duration::from_secs(1);

/// The shortest sleep between two batches at a rate; tokio's clock ticks in milliseconds.
const TICK: Duration = Duration::from_millis(1);

/// The shortest interval that the clock is fine enough for; shorter ones are rates.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

/// The longest sleep towards a time of the wall clock, which may be set meanwhile.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(30);

/// The most missed times of a schedule that are counted one by one. Behind more of them the clock was set,
/// or the machine slept: the schedule goes on from now.
const COUNTED: u32 = 1000;

/// How far the clock may be set back before a schedule goes by its new time at once. Until then the times that come a second
/// time are left out, so that it waits for no longer than that.
const SET_BACK: SignedDuration = SignedDuration::from_hours(3);

/// How fast to go.
pub(super) enum Pace {
    FlatOut,
    /// One event each interval.
    Interval(Duration),
    /// Events a second.
    Rate(f64),
    /// One event at each time of the schedule.
    Cron(Box<Schedule>),
}

/// Keeps a pace without drift: when an event is due follows from the start, not from the last one.
pub(super) struct Pacer {
    pace: Pace,
    now: fn() -> Timestamp,
    start: Instant,
    /// From the start to the first event of an interval.
    first: Duration,
    made: u64,
    skipped: u64,
    /// Times of the schedule that came while nobody was there.
    missed: u64,
    /// The last time of the schedule that came.
    last: Option<Timestamp>,
}

impl Pacer {
    pub(super) fn new(pace: Pace, now: fn() -> Timestamp) -> Self {
        let pace = match pace {
            Pace::Interval(interval) if interval < SHORTEST_INTERVAL => {
                Pace::Rate(1.0 / interval.as_secs_f64())
            }
            pace => pace,
        };
        Self {
            pace,
            now,
            start: Instant::now(),
            first: Duration::ZERO,
            made: 0,
            skipped: 0,
            missed: 0,
            last: None,
        }
    }

    /// Goes on where another one stood: `last` was its last time of the schedule, and it made so many events behind that.
    pub(super) fn go_on(&mut self, last: Option<Timestamp>, events: u64) -> Result<(), TaskError> {
        match &self.pace {
            Pace::FlatOut => {}
            // The first event is not due at the start again.
            Pace::Rate(_) => self.made = 1,
            Pace::Interval(interval) => {
                let last = last.and_then(|last| last.checked_add(times(*interval, events)).ok());
                let since = last.map(|last| (self.now)().duration_since(last).as_nanos());
                let interval = interval.as_nanos();
                // A clock that was set back says nothing: the next one comes an interval from now.
                let since = since.and_then(|since| u128::try_from(since).ok()).unwrap_or_default();
                let missed = since.div_ceil(interval).saturating_sub(1);
                self.missed = u64::try_from(missed).unwrap_or(u64::MAX);
                self.first = Duration::from_nanos_u128((missed + 1) * interval - since);
            }
            Pace::Cron(schedule) => {
                self.last = last;
                for _ in 0..events {
                    self.last = Some(schedule.after(self.last.unwrap_or_else(self.now))?);
                }
            }
        }
        Ok(())
    }

    /// Returns the last time of the schedule that came.
    pub(super) fn last(&self) -> Option<Timestamp> {
        self.last
    }

    /// Waits until at least one event is due, and returns how many are.
    pub(super) async fn due(&mut self) -> Result<u64, TaskError> {
        match &self.pace {
            Pace::FlatOut => Ok(u64::MAX),
            Pace::Interval(interval) => {
                let interval = *interval;
                self.tick(interval).await;
                Ok(1)
            }
            Pace::Rate(rate) => {
                let rate = *rate;
                Ok(self.batch(rate).await)
            }
            Pace::Cron(_) => self.scheduled().await.map(|()| 1),
        }
    }

    /// Notes how many of the events that were due were made.
    pub(super) fn made(&mut self, events: u64) {
        self.made += events;
    }

    /// Returns how many scheduled events were skipped; after a jump of the clock, at least.
    pub(super) fn skipped(&self) -> u64 {
        self.missed.saturating_add(self.skipped)
    }

    async fn tick(&mut self, interval: Duration) {
        let slot = u128::from(self.made + self.skipped);
        let elapsed = self.start.elapsed().saturating_sub(self.first).as_nanos();
        let interval = interval.as_nanos();
        // A slot whose time is over is skipped, except the first: it may be due at the start.
        let next = if slot * interval < elapsed && slot > 0 { elapsed.div_ceil(interval) } else { slot };
        self.skipped += u64::try_from(next - slot).unwrap_or(u64::MAX);
        let due = self.start + self.first + Duration::from_nanos_u128(next * interval);
        sleep_until(due).await;
        // By the clock of the wall as it is now, whatever it was at the start.
        self.last = (self.now)().checked_sub(due.elapsed()).ok();
    }

    async fn batch(&mut self, rate: f64) -> u64 {
        loop {
            let elapsed = self.start.elapsed().as_secs_f64();
            // The first event is due at the start.
            let due = saturating(elapsed * rate).saturating_add(1);
            let slot = self.made + self.skipped;
            let waiting = due.saturating_sub(slot);
            let most = saturating(CATCH_UP.as_secs_f64() * rate).max(1);
            self.skipped += waiting.saturating_sub(most);
            if waiting > 0 {
                return waiting.min(most);
            }
            #[expect(clippy::cast_precision_loss, reason = "off by less than a tick for thousands of years")]
            let wait = Duration::try_from_secs_f64(slot as f64 / rate - elapsed).unwrap_or_default();
            sleep(wait.max(TICK)).await;
        }
    }

    async fn scheduled(&mut self) -> Result<(), TaskError> {
        let Pace::Cron(schedule) = &self.pace else { return Ok(()) };
        let mut now = (self.now)();
        self.last = self.last.filter(|last| !is_set_back(now, *last));
        let mut next = schedule.after(self.last.unwrap_or(now))?;
        for counted in 1.. {
            if next >= now {
                break;
            }
            self.skipped += 1;
            next = schedule.after(if counted < COUNTED { next } else { now })?;
            tokio::task::consume_budget().await;
        }
        while now < next {
            let wait = Duration::try_from(next.duration_since(now)).unwrap_or_default();
            sleep(wait.clamp(TICK, LOOK_AT_CLOCK)).await;
            let before = std::mem::replace(&mut now, (self.now)());
            if now < before && self.last.is_none_or(|last| is_set_back(now, last)) {
                self.last = None;
                next = schedule.after(now)?;
            }
        }
        self.last = Some(next);
        Ok(())
    }
}

/// Returns whether the clock was set back so far that the times up to `last` are to come again.
fn is_set_back(now: Timestamp, last: Timestamp) -> bool {
    last.duration_since(now) > SET_BACK
}

/// Returns so many intervals.
fn times(interval: Duration, count: u64) -> Duration {
    interval.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast of a float saturates")]
fn saturating(number: f64) -> u64 {
    number as u64
}
