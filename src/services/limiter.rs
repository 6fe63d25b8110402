//! The Generic Cell Rate Algorithm in its form of a virtual schedule: ITU-T Recommendation I.371, annex A, and the ATM
//! Forum's Traffic Management Specification 4.1, section 4.4.2.
//!
//! Per key there is one number, the theoretical arrival time (TAT) of the next event: each event that passes moves it on
//! by `1 / rate`. An event passes as soon as it is no more than `(burst - 1) / rate` before it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

/// Picoseconds since the start: nanoseconds would be off by half at the highest rate.
type Picos = u128;

/// How late an event may be and still count as on time: timers of tokio fire on the next millisecond or the one after.
const LATENESS: Picos = 2 * 1_000_000_000;

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
    /// Makes a limiter for `rate` events a second.
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

    /// Lets an event of `key` pass at `now`, or says when to ask again.
    pub(crate) fn admit(&mut self, key: &str, now: Instant) -> Result<(), Instant> {
        let now = now.saturating_duration_since(self.start).as_nanos() * 1000;
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
