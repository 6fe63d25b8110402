//! What counts and times things: handles to series, which cost nothing while metrics are off.
//!
//! A series is there, as zero, from when its handle is made, and ends when the last handle is dropped.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
};

use super::{
    OVERFLOW,
    instruments::Instrument,
    points::Labels,
    registry::{Cells, Held, Observe, Registry},
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

    /// Returns the histogram of these attributes in which one duration, in nanoseconds, is a bound of its own: what is within
    /// it is known to the event. Only one with bounds has it. Another one is another histogram: what is left of that must not
    /// record any more.
    pub fn timer_with(&self, instrument: &'static Instrument, labels: Labels, bound: Option<u64>) -> Timer {
        Timer(self.0.as_ref().map(|registry| registry.cells_with(instrument, labels, bound)))
    }

    /// Returns what makes the histograms of attributes that are not known yet.
    pub fn timers(&self, instrument: &'static Instrument) -> Timers {
        let source = self.0.is_some().then(|| (self.clone(), instrument));
        Timers { source, known: Mutex::default() }
    }

    fn limit(&self) -> usize {
        self.0.as_ref().map_or(0, |registry| registry.limit)
    }

    /// Asks for these values at every collection, until what is returned is dropped. They begin and end together: no
    /// collection has some of them only.
    pub fn observe(&self, asked: Vec<Asked>) -> Observed {
        Observed(self.0.as_ref().map(|registry| (Arc::clone(registry), registry.observe(asked))))
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

    /// Records a duration in nanoseconds, measured at a moment, which may make it an exemplar.
    #[inline]
    pub fn record(&self, nanos: u64, at: Moment) {
        if let Some(Cells::Durations(durations)) = self.0.as_deref() {
            durations.record(nanos, at);
        }
    }

    /// Makes a duration that was recorded before an exemplar: its span is exported after all.
    pub fn exemplify(&self, nanos: u64, at: Moment) {
        if let Some(Cells::Durations(durations)) = self.0.as_deref() {
            durations.exemplify(nanos, at);
        }
    }
}

/// The histograms of one instrument whose attributes are only known when something happens.
///
/// There are no more of them than the limit allows; what is beyond is recorded together, as the metrics SDK
/// specification of OpenTelemetry wants it. The default does nothing.
#[derive(Debug, Default)]
pub struct Timers {
    source: Option<(Meter, &'static Instrument)>,
    known: Mutex<HashMap<Labels, Timer>>,
}

impl Timers {
    /// Returns the histogram of these attributes.
    pub fn get(&self, labels: Labels) -> Timer {
        let Some((meter, instrument)) = &self.source else { return Timer::default() };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(timer) = known.get(&labels) {
            return timer.clone();
        }
        // One of them is that of all that is beyond.
        let labels = if known.len() + 1 < meter.limit() { labels } else { overflow() };
        known.entry(labels.clone()).or_insert_with(|| meter.timer(instrument, labels)).clone()
    }
}

/// Returns the only attribute of what is beyond the limit.
fn overflow() -> Labels {
    Labels::default().with(OVERFLOW, true)
}

/// A value that is asked for at every collection.
pub struct Asked {
    pub(super) instrument: &'static Instrument,
    pub(super) labels: Labels,
    pub(super) observe: Observe,
}

impl Asked {
    /// Lets `observe` say what the value is, in nanoseconds if its unit is the second; `None` leaves the point out. It
    /// is given the time of the collection in nanoseconds since 1970, which is the same for all that are asked.
    pub fn new(
        instrument: &'static Instrument,
        labels: Labels,
        observe: impl Fn(u64) -> Option<i64> + Send + Sync + 'static,
    ) -> Self {
        Self { instrument, labels, observe: Box::new(observe) }
    }
}

/// Keeps values that are asked for. The default keeps none.
#[derive(Debug, Default)]
pub struct Observed(Option<(Arc<Registry>, Vec<Held>)>);

impl Drop for Observed {
    fn drop(&mut self) {
        if let Some((registry, held)) = &self.0 {
            registry.end(held);
        }
    }
}
