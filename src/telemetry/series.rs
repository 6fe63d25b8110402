//! The metrics of spans: for every span name `S` and every task the instruments `S.duration`, `S.count`
//! and `S.errors`, counted in cells.
//!
//! A series has a place, a number as compact as what remembers a span. A place is used again when its series is over.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock},
};

use super::{
    ExemplarFilter, Identity, OTHER_ERROR, RUNTIME_ERRORS, SpanKind, SpanOutcome,
    durations::{Aggregation, Durations},
    encode,
    instruments::{SPAN_COUNT, SPAN_DURATION, SPAN_ERRORS},
    life::{Life, MOST_ENDED},
    points::{Collection, Interval, Labels, Number},
};
use crate::trace::{Moment, Ticks};

/// What the spans of one name and one task have in common.
#[derive(Debug)]
pub(super) struct Series {
    name: &'static str,
    /// The task; none for the spans of the worker.
    pub(super) identity: Option<Arc<Identity>>,
    /// Every `error.type` that they can have.
    error_types: Cow<'static, [&'static str]>,
    /// What is exported of every one of them, encoded.
    pub(super) encoded: Vec<u8>,
}

impl Series {
    pub(super) fn new(
        name: &'static str,
        kind: SpanKind,
        identity: Option<Arc<Identity>>,
        error_types: impl Into<Cow<'static, [&'static str]>>,
    ) -> Self {
        let encoded = encode::common(name, kind, identity.as_deref());
        Self { name, identity, error_types: error_types.into(), encoded }
    }

    /// Returns the value of `error.type` for an error of this type: never one that is not declared.
    pub(super) fn error_type(&self, error_type: &'static str) -> &'static str {
        let is_known = self.error_types.contains(&error_type) || RUNTIME_ERRORS.contains(&error_type);
        if is_known { error_type } else { OTHER_ERROR }
    }

    fn labels(&self) -> Labels {
        match &self.identity {
            None => Labels::default(),
            Some(identity) => Labels::default()
                .with("flow", Arc::clone(&identity.flow))
                .with("task", Arc::clone(&identity.task))
                .with("task_type", identity.task_type),
        }
    }
}

/// The cells of one series.
#[derive(Debug)]
struct Slot {
    tenant: RwLock<Tenant>,
    /// By outcome; made when the first span ends with it.
    durations: [OnceLock<Durations>; SpanOutcome::ALL.len()],
    errors: Mutex<BTreeMap<&'static str, u64>>,
}

/// Whose cells they are.
#[derive(Debug)]
struct Tenant {
    /// `None` while the place is free.
    series: Option<Arc<Series>>,
    /// How many hold it.
    holders: usize,
    life: Life,
    /// Nanoseconds since 1970. Not told anew: a start that moves looks like a restart.
    registered: u64,
}

/// All series of spans.
#[derive(Debug)]
pub(super) struct SpanTable {
    aggregation: Arc<Aggregation>,
    exemplars: ExemplarFilter,
    slots: boxcar::Vec<Slot>,
    /// Where series are, for those that come again, and places that are free. Locked while a series comes or goes.
    directory: Mutex<Directory>,
}

#[derive(Debug, Default)]
struct Directory {
    known: BTreeMap<Labels, u32>,
    free: Vec<u32>,
}

/// Holds a series. When the last one is dropped, the series ends.
#[derive(Debug)]
pub(super) struct Held {
    table: Arc<SpanTable>,
    pub(super) place: u32,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.table.release(self.place);
    }
}

impl SpanTable {
    pub(super) fn new(aggregation: Arc<Aggregation>, exemplars: ExemplarFilter) -> Self {
        Self { aggregation, exemplars, slots: boxcar::Vec::new(), directory: Mutex::default() }
    }

    /// Adds a series, whose counters are zero from here on; one that is known goes on.
    pub(super) fn hold(self: &Arc<Self>, series: Arc<Series>) -> Held {
        let mut directory = lock(&self.directory);
        let key = series.labels().with("span", series.name);
        let place = match directory.known.get(&key) {
            Some(place) => *place,
            None => {
                let place = directory.free.pop().unwrap_or_else(|| self.add());
                directory.known.insert(key, place);
                place
            }
        };
        let slot = &self.slots[place as usize];
        let mut tenant = slot.tenant.write().unwrap_or_else(PoisonError::into_inner);
        if tenant.series.is_none() {
            tenant.registered = Ticks::now().unix_nanos();
        }
        for error_type in &*series.error_types {
            lock(&slot.errors).entry(error_type).or_default();
        }
        tenant.series = Some(series);
        tenant.life = Life::Held;
        tenant.holders += 1;
        Held { table: Arc::clone(self), place }
    }

    fn add(&self) -> u32 {
        let tenant = Tenant { series: None, holders: 0, life: Life::Ended, registered: 0 };
        let slot =
            Slot { tenant: RwLock::new(tenant), durations: Default::default(), errors: Mutex::default() };
        u32::try_from(self.slots.push(slot)).expect("there are fewer series than that")
    }

    fn release(&self, place: u32) {
        let mut tenant = self.slots[place as usize].tenant.write().unwrap_or_else(PoisonError::into_inner);
        tenant.holders -= 1;
        if tenant.holders == 0 {
            tenant.life = Life::Ended;
        }
    }

    /// Counts a span that ended at a moment, which may make it an exemplar.
    #[inline]
    pub(super) fn observe(
        &self,
        place: u32,
        outcome: SpanOutcome,
        nanos: u64,
        error_type: Option<&'static str>,
        at: Moment,
    ) {
        let Some(slot) = self.slots.get(place as usize) else { return };
        let duration = slot.durations[outcome as usize]
            .get_or_init(|| Durations::new(&self.aggregation, self.exemplars));
        duration.record(nanos, at);
        if let Some(error_type) = error_type {
            let error_type = self.series(place).map_or(OTHER_ERROR, |series| series.error_type(error_type));
            *lock(&slot.errors).entry(error_type).or_default() += 1;
        }
    }

    /// Makes a span that was counted before an exemplar.
    pub(super) fn exemplify(&self, place: u32, outcome: SpanOutcome, nanos: u64, at: Moment) {
        let duration = self.slots.get(place as usize).and_then(|slot| slot.durations[outcome as usize].get());
        if let Some(duration) = duration {
            duration.exemplify(nanos, at);
        }
    }

    /// Returns the series at a place.
    pub(super) fn series(&self, place: u32) -> Option<Arc<Series>> {
        let slot = self.slots.get(place as usize)?;
        slot.tenant.read().unwrap_or_else(PoisonError::into_inner).series.clone()
    }

    /// Collects everything counted so far. `has_arrived` says whether all of the collection before did.
    pub(super) fn collect(&self, has_arrived: bool, now: u64, into: &mut Collection) {
        let mut directory = lock(&self.directory);
        let tenants =
            self.slots.iter().map(|(_, slot)| slot.tenant.read().unwrap_or_else(PoisonError::into_inner));
        let ended = tenants.filter(|tenant| tenant.series.is_some() && tenant.life == Life::Told).count();
        let has_arrived = has_arrived || ended > MOST_ENDED;
        for (place, slot) in &self.slots {
            let mut tenant = slot.tenant.write().unwrap_or_else(PoisonError::into_inner);
            let Some(series) = tenant.series.clone() else { continue };
            if tenant.life.is_collected(has_arrived) {
                // It may have been made after the collection began, or the clock was set back.
                tenant.registered = tenant.registered.min(now);
                let interval = Interval { start: tenant.registered, now };
                drop(tenant);
                slot.collect(&series, interval, into);
            } else {
                tenant.series = None;
                slot.clear();
                directory.known.remove(&series.labels().with("span", series.name));
                directory.free.push(u32::try_from(place).expect("as when it was added"));
            }
        }
    }
}

impl Slot {
    fn collect(&self, series: &Series, interval: Interval, into: &mut Collection) {
        let name = |what: &str| format!("{}.{what}", series.name);
        for outcome in SpanOutcome::ALL {
            // One that is empty is of a series which was here before.
            let duration = self.durations[outcome as usize].get().filter(|duration| !duration.is_empty());
            let is_promised = matches!(outcome, SpanOutcome::Completed | SpanOutcome::Failed);
            if duration.is_none() && !is_promised {
                continue;
            }
            let labels = series.labels().with("outcome", outcome.name());
            let count = duration.map_or(0, |duration| {
                duration.collect(&name("duration"), &SPAN_DURATION, &labels, interval, into)
            });
            into.number(&name("count"), &SPAN_COUNT, &labels, Number::of(count), interval);
        }
        for (error_type, count) in &*lock(&self.errors) {
            let labels = series.labels().with("error.type", *error_type);
            into.number(&name("errors"), &SPAN_ERRORS, &labels, Number::of(*count), interval);
        }
    }

    fn clear(&self) {
        self.durations.iter().filter_map(OnceLock::get).for_each(Durations::clear);
        lock(&self.errors).clear();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
