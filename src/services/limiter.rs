//! How many may pass in a time, for each key.
//!
//! The Generic Cell Rate Algorithm in its form of a virtual schedule: ITU-T Recommendation I.371, annex A, and the ATM
//! Forum's Traffic Management Specification 4.1, section 4.4.2.
//!
//! Per key there is one number, the theoretical arrival time (TAT) of the next event: each event that passes moves it on
//! by `1 / rate`. An event passes as soon as it is no more than `(burst - 1) / rate` before it.

mod pace;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

pub(crate) use self::pace::Pace;
use crate::problem::Problems;

/// The lowest rate, a second: one in eleven days.
const LEAST: f64 = 1e-6;

/// The highest rate, a second.
const MOST: f64 = 1e9;

/// Picoseconds since the start: nanoseconds would be off by half at the highest rate.
type Picos = u128;

/// How late an event may be and still count as on time: timers of tokio fire on the next millisecond or the one after.
const LATENESS: Picos = 2 * 1_000_000_000;

/// Reports what is wrong with the keys `rate`, `burst` and `max_keys` of a limit on one `thing` after
/// the other. Paths are relative to it.
pub(crate) fn check(thing: &str, rate: f64, burst: u32, max_keys: usize, problems: &mut Problems) {
    if !(LEAST..=MOST).contains(&rate) {
        problems
            .report("rate", format!("the rate has to be between 0.000001 and 1000000000 {thing}s a second"))
            .hint(format!("`0.1` is one {thing} in ten seconds"));
    }
    if burst == 0 {
        problems
            .report("burst", "the burst has to be at least 1")
            .hint(format!("leave it out for evenly spaced {thing}s"));
    }
    if max_keys == 0 {
        problems.report("max_keys", "`max_keys` has to be at least 1");
    }
}

/// Returns the `burst` of a limit that does not say any.
pub(crate) fn one() -> u32 {
    1
}

/// Returns the `max_keys` of a limit that does not say any.
pub(crate) fn ten_thousand() -> usize {
    10_000
}

/// Keeps one rate for each key.
pub(crate) struct Limiter {
    start: Instant,
    /// From one event to the next.
    increment: Picos,
    /// How much before its theoretical time an event may pass.
    tolerance: Picos,
    max_keys: usize,
    times: HashMap<Arc<str>, Picos>,
    /// The same, the earliest first.
    order: BTreeSet<(Picos, Arc<str>)>,
}

impl Limiter {
    /// Makes a limiter for `rate` a second and `burst` at once, which [`check`] found nothing wrong with.
    pub(crate) fn new(rate: f64, burst: u32, max_keys: usize, start: Instant) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a cast of a float saturates"
        )]
        let increment = (1e12 / rate).round() as Picos;
        let tolerance = increment * Picos::from(burst.saturating_sub(1));
        let (times, order) = (HashMap::new(), BTreeSet::new());
        Self { start, increment, tolerance, max_keys, times, order }
    }

    /// Lets an event of `key` pass at `now`, or says when to ask again. While `max_keys` of them are in use, one of
    /// another key has to wait until one is not: for those who can.
    pub(crate) fn admit(&mut self, key: &str, now: Instant) -> Result<(), Instant> {
        let now = self.picos(now);
        self.forget_until(now);
        let (key, time) = match self.times.get_key_value(key) {
            Some((key, time)) => (Arc::clone(key), *time),
            None => (key.into(), now),
        };
        let is_new = !self.times.contains_key(&key);
        let earliest = match self.order.first() {
            Some((time, _)) if is_new && self.times.len() >= self.max_keys => *time + LATENESS,
            _ => time.saturating_sub(self.tolerance),
        };
        if earliest > now {
            return Err(self.instant(earliest));
        }
        self.order.remove(&(time, Arc::clone(&key)));
        // Time that nobody used is lost, but for what a timer is late.
        let time = time.max(now.saturating_sub(LATENESS)) + self.increment;
        self.order.insert((time, Arc::clone(&key)));
        self.times.insert(key, time);
        Ok(())
    }

    /// Lets a request of `key` pass at `now`, or says after what time it would. While `max_keys` of them are in use, the
    /// one that is nearest to being as if it had never come makes room for another: nobody waits for strangers, and
    /// whoever asks for most is remembered longest.
    ///
    /// # Errors
    /// The time to wait, never zero; the request counts for nothing.
    pub(crate) fn try_acquire(&mut self, key: &str, now: Instant) -> Result<(), Duration> {
        self.forget_until(self.picos(now));
        while self.times.len() >= self.max_keys
            && !self.times.contains_key(key)
            && let Some((_, nearest)) = self.order.pop_first()
        {
            self.times.remove(&nearest);
        }
        self.admit(key, now).map_err(|time| time.saturating_duration_since(now).max(Duration::from_nanos(1)))
    }

    fn picos(&self, now: Instant) -> Picos {
        now.saturating_duration_since(self.start).as_nanos() * 1000
    }

    /// Forgets the keys that are again as if they had never come.
    fn forget_until(&mut self, now: Picos) {
        while let Some((time, _)) = self.order.first()
            && *time + LATENESS <= now
            && let Some((_, key)) = self.order.pop_first()
        {
            self.times.remove(&key);
        }
    }

    /// Returns the first time that is not before `time`, as far as the clock can tell.
    fn instant(&self, time: Picos) -> Instant {
        self.start + Duration::from_nanos(u64::try_from(time.div_ceil(1000)).unwrap_or(u64::MAX))
    }

    #[cfg(test)]
    pub(crate) fn keys(&self) -> usize {
        assert_eq!(self.times.len(), self.order.len());
        self.times.len()
    }
}

#[cfg(test)]
mod tests;
