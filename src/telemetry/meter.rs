//! What counts and times things: handles to series, which cost nothing while metrics are off.
//!
//! A series is there, as zero, from when its handle is made, and ends when the last handle is dropped.

use std::sync::{Arc, atomic::Ordering};

use super::{
    instruments::Instrument,
    points::Labels,
    registry::{Cells, Observe, Registry},
};
use crate::trace::Moment;

/// Makes the handles. Cheap to clone; the default makes handles that do nothing.
#[derive(Clone, Debug, Default)]
pub struct Meter(Option<Arc<Registry>>);

impl Meter {
    pub(super) fn new(registry: Arc<Registry>) -> Self {
        Self(Some(registry))
    }

    /// Returns whether anything is counted.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Returns the counter of these attributes.
    pub fn counter(&self, instrument: &'static Instrument, labels: Labels) -> Counter {
        Counter(self.cells(instrument, labels))
    }

    /// Returns the up-down counter or the gauge of these attributes.
    pub fn level(&self, instrument: &'static Instrument, labels: Labels) -> Level {
        Level(self.cells(instrument, labels))
    }

    /// Returns the histogram of these attributes.
    pub fn timer(&self, instrument: &'static Instrument, labels: Labels) -> Timer {
        Timer(self.cells(instrument, labels))
    }

    /// Asks `observe` at every collection what the value is, in nanoseconds if its unit is the second; `None` leaves
    /// the point out. Until what is returned is dropped.
    pub fn observe(
        &self,
        instrument: &'static Instrument,
        labels: Labels,
        observe: impl Fn() -> Option<i64> + Send + Sync + 'static,
    ) -> Observed {
        let observe: Observe = Box::new(observe);
        Observed { _cells: self.0.as_ref().map(|registry| registry.observe(instrument, labels, observe)) }
    }

    fn cells(&self, instrument: &'static Instrument, labels: Labels) -> Option<Arc<Cells>> {
        self.0.as_ref().map(|registry| registry.cells(instrument, labels))
    }
}

/// Adds up. The default does nothing.
#[derive(Clone, Debug, Default)]
pub struct Counter(Option<Arc<Cells>>);

impl Counter {
    /// Adds to it; nanoseconds if its unit is the second.
    pub fn add(&self, value: u64) {
        if let Some(Cells::Count(count)) = self.0.as_deref() {
            count.fetch_add(value, Ordering::Relaxed);
        }
    }
}

/// Goes up and down. The default does nothing.
#[derive(Clone, Debug, Default)]
pub struct Level(Option<Arc<Cells>>);

/// Holds a level up as long as it is there.
#[derive(Debug)]
#[must_use = "what is dropped at once holds nothing"]
pub struct Hold {
    level: Level,
    value: i64,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.level.add(-self.value);
    }
}

impl Level {
    /// Raises it by so many until what is returned is dropped.
    pub fn hold(&self, count: usize) -> Hold {
        let value = i64::try_from(count).unwrap_or(i64::MAX);
        self.add(value);
        Hold { level: self.clone(), value }
    }

    /// Adds to it.
    pub fn add(&self, value: i64) {
        if let Some(Cells::Level(level)) = self.0.as_deref() {
            level.fetch_add(value, Ordering::Relaxed);
        }
    }
}

/// Sorts durations into buckets. The default does nothing.
#[derive(Clone, Debug, Default)]
pub struct Timer(Option<Arc<Cells>>);

impl Timer {
    /// Returns whether anything is recorded.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Records a duration in nanoseconds, measured at a moment: an exemplar if its trace is sampled.
    #[inline]
    pub fn record(&self, nanos: u64, at: Moment) {
        if let Some(Cells::Durations(durations)) = self.0.as_deref() {
            durations.record(nanos, at.context.is_sampled().then_some(at));
        }
    }
}

/// Keeps a value that is asked for. The default keeps none.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    _cells: Option<Arc<Cells>>,
}
