//! The clock that events are timed with: monotonic, so that no duration is negative and spans nest, and told
//! as wall time only when it is exported.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// A difference to the wall clock that is more than the noise of reading two clocks: someone set it.
const STEP: Duration = Duration::from_millis(10);

/// How often both clocks are read to find one reading that nothing came between.
const READINGS: usize = 5;

static BASE: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The wall time at [`BASE`], in nanoseconds since 1970.
static EPOCH: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(wall_time_at_base()));

/// What the clock shows at `BASE`, ten years: what is older than the process has its place too.
const START: u64 = 10 * 365 * 24 * 3600 * 1_000_000_000;

/// Nanoseconds, ten years of them at the first look at this clock. Zero means never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticks(u64);

impl Ticks {
    /// Reads the clock.
    pub fn now() -> Self {
        Self(nanos(BASE.elapsed()) + START)
    }

    /// Returns the nanoseconds from `earlier` to this, zero if it is not earlier.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Returns the moment so many nanoseconds later.
    #[must_use]
    pub fn after(self, nanos: u64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    /// Returns the moment so many nanoseconds earlier.
    #[must_use]
    pub fn before(self, nanos: u64) -> Self {
        Self(self.0.saturating_sub(nanos).max(1))
    }

    /// Returns whether this was ever read from the clock.
    pub fn is_set(self) -> bool {
        self.0 != 0
    }

    /// Returns nanoseconds since 1970.
    pub(crate) fn unix_nanos(self) -> u64 {
        EPOCH.load(Ordering::Relaxed).saturating_add(self.0).saturating_sub(START)
    }
}

/// Follows the wall clock if it was set since the process started. Spans exported later move with it;
/// small differences are left alone, so that the spans of one trace keep their order.
pub(crate) fn follow_wall_clock() {
    let now = wall_time_at_base();
    if now.abs_diff(EPOCH.load(Ordering::Relaxed)) > nanos(STEP) {
        EPOCH.store(now, Ordering::Relaxed);
    }
}

/// A thread may lose the processor between reading one clock and the other, for longer than a [`STEP`].
fn wall_time_at_base() -> u64 {
    let base = *BASE;
    let reading = |_| {
        let before = base.elapsed();
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let noise = base.elapsed() - before;
        (noise, nanos(wall).saturating_sub(nanos(before)))
    };
    let (_, closest) = (0..READINGS).map(reading).min().unwrap_or_default();
    closest
}

/// Returns a duration in nanoseconds. They fit for more than 500 years.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_forward_and_is_told_as_wall_time() {
        let before = nanos(SystemTime::now().duration_since(UNIX_EPOCH).unwrap());
        let (first, second) = (Ticks::now(), Ticks::now());
        follow_wall_clock();
        let after = nanos(SystemTime::now().duration_since(UNIX_EPOCH).unwrap());
        assert!(first <= second && first.is_set() && !Ticks::default().is_set());
        assert_eq!(first.since(second), 0);
        let slack = nanos(STEP) * 2;
        assert!(before - slack <= first.unix_nanos() && second.unix_nanos() <= after + slack);
    }
}
