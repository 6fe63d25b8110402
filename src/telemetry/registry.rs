//! All series of a worker that are not derived from spans, and the collection of all that are.
//!
//! Numbers only ever grow here: what is exported of them, and since when, is the exporter's business.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    thread,
};

use opentelemetry_proto::tonic::metrics::v1::Metric;

use super::{
    ExemplarFilter, config,
    durations::{Aggregation, Durations},
    histogram::Bounds,
    instruments::{Buckets, Instrument, InstrumentKind},
    life::{Life, MOST_ENDED},
    meter::Asked,
    points::{Collection, Interval, Labels, Number},
    series::SpanTable,
};
use crate::trace::{Ticks, follow_wall_clock};

/// The limit of series where none is configured (OpenTelemetry, metrics SDK specification).
const DEFAULT_LIMIT: usize = 2000;

/// Says what a gauge or a counter is at; `None` if there is nothing to say. It is given the time of the collection.
pub(super) type Observe = Box<dyn Fn(u64) -> Option<i64> + Send + Sync>;

/// The series of one instrument with one set of attributes.
pub(super) enum Cells {
    Count(AtomicU64),
    Level(AtomicI64),
    Durations(Durations),
    Observed {
        observe: Observe,
        /// What a counter was at when it was replaced.
        base: i64,
    },
}

impl Cells {
    /// Asks for the value of a series that is asked for.
    fn observed(&self, now: u64) -> Option<i64> {
        let Self::Observed { observe, base } = self else { return None };
        // Without an answer a counter is still at what it was before.
        observe(now).map(|value| base.saturating_add(value)).or_else(|| (*base != 0).then_some(*base))
    }
}

impl fmt::Debug for Cells {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Count(_) => "Count",
            Self::Level(_) => "Level",
            Self::Durations(_) => "Durations",
            Self::Observed { .. } => "Observed",
        })
    }
}

/// What is collected of one series.
#[derive(Debug)]
struct Entry {
    /// Kept until its last point has arrived.
    cells: Arc<Cells>,
    life: Life,
    registered: u64,
}

/// Collects what is counted elsewhere. It is given the time of the collection, in nanoseconds since 1970.
pub(super) type Collector = Box<dyn Fn(&mut Collection, u64) + Send>;

type Key = (&'static str, Labels);
type Entries = HashMap<Key, (&'static Instrument, Entry)>;

/// Holds a series that is asked for.
#[derive(Debug)]
pub(super) struct Held {
    key: Key,
    cells: Arc<Cells>,
}

/// All instruments of a worker.
#[derive(Debug)]
pub(super) struct Registry {
    pub(super) spans: Arc<SpanTable>,
    aggregations: [Arc<Aggregation>; Buckets::ALL.len()],
    exemplars: ExemplarFilter,
    /// How many series an instrument may have whose attributes are not known beforehand.
    pub(super) limit: usize,
    entries: Mutex<Entries>,
    collectors: Collectors,
}

#[derive(Default)]
struct Collectors(Mutex<Vec<Collector>>);

impl fmt::Debug for Collectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Collectors")
    }
}

impl Registry {
    /// Makes a registry whose histograms have these buckets, where their instrument has none of its own.
    pub(super) fn new(
        histogram: &config::Histogram,
        exemplars: ExemplarFilter,
        limit: Option<usize>,
    ) -> Self {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let aggregations = Buckets::ALL.map(|kind| {
            Arc::new(match histogram {
                config::Histogram::Exponential {} => Aggregation::Exponential(threads),
                config::Histogram::Explicit { buckets } => {
                    let configured = buckets.as_deref().filter(|_| kind == Buckets::Configured);
                    Aggregation::Explicit(Bounds::new(configured.unwrap_or_else(|| kind.bounds()), threads))
                }
            })
        });
        let of_spans = Arc::clone(&aggregations[Buckets::Configured as usize]);
        Self {
            spans: Arc::new(SpanTable::new(of_spans, exemplars)),
            aggregations,
            exemplars,
            limit: limit.unwrap_or(DEFAULT_LIMIT),
            entries: Mutex::default(),
            collectors: Collectors::default(),
        }
    }

    /// Returns the cells of a series, which begins with zero; one that is known goes on.
    pub(super) fn cells(&self, instrument: &'static Instrument, labels: Labels) -> Arc<Cells> {
        self.cells_with(instrument, labels, None)
    }

    /// As [`Self::cells`]; a histogram with bounds has this one besides, in nanoseconds. One that is known goes on with the
    /// bounds that are wanted now: its earlier handles must not be used any more if those are others.
    pub(super) fn cells_with(
        &self,
        instrument: &'static Instrument,
        labels: Labels,
        bound: Option<u64>,
    ) -> Arc<Cells> {
        match instrument.kind {
            InstrumentKind::Counter | InstrumentKind::ObservableCounter => {
                self.entry(instrument, labels, || Cells::Count(AtomicU64::new(0)))
            }
            InstrumentKind::UpDownCounter | InstrumentKind::Gauge => {
                self.entry(instrument, labels, || Cells::Level(AtomicI64::new(0)))
            }
            InstrumentKind::Histogram(buckets) => {
                let common = &self.aggregations[buckets as usize];
                let aggregation = match (&**common, bound) {
                    (Aggregation::Explicit(bounds), Some(bound)) => {
                        Arc::new(Aggregation::Explicit(bounds.with(bound)))
                    }
                    _ => Arc::clone(common),
                };
                self.durations(instrument, labels, &aggregation)
            }
        }
    }

    fn durations(
        &self,
        instrument: &'static Instrument,
        labels: Labels,
        aggregation: &Arc<Aggregation>,
    ) -> Arc<Cells> {
        let make = || Cells::Durations(Durations::new(aggregation, self.exemplars));
        let cells = self.entry(instrument, labels.clone(), make);
        let Cells::Durations(known) = &*cells else { return cells };
        let Some(anew) = known.sorted_into(aggregation) else { return cells };
        let anew = Arc::new(Cells::Durations(anew));
        if let Some((_, entry)) = self.entries().get_mut(&(instrument.name, labels)) {
            entry.cells = Arc::clone(&anew);
        }
        anew
    }

    /// Adds series whose values are asked for at every collection. They replace those that are known, from where
    /// counters go on.
    pub(super) fn observe(&self, asked: Vec<Asked>) -> Vec<Held> {
        let now = Ticks::now().unix_nanos();
        let mut entries = self.entries();
        asked.into_iter().map(|asked| observe(&mut entries, asked, now)).collect()
    }

    /// Ends series all at once, but for those that have been replaced.
    pub(super) fn end(&self, held: &[Held]) {
        let mut entries = self.entries();
        for Held { key, cells } in held {
            if let Some((_, entry)) = entries.get_mut(key)
                && Arc::ptr_eq(&entry.cells, cells)
            {
                entry.life = Life::Ended;
            }
        }
    }

    /// Asks somebody else at every collection.
    pub(super) fn ask(&self, collector: Collector) {
        self.collectors.0.lock().unwrap_or_else(PoisonError::into_inner).push(collector);
    }

    fn entry(
        &self,
        instrument: &'static Instrument,
        labels: Labels,
        make: impl FnOnce() -> Cells,
    ) -> Arc<Cells> {
        let mut entries = self.entries();
        let (_, entry) = entries.entry((instrument.name, labels)).or_insert_with(|| {
            let registered = Ticks::now().unix_nanos();
            (instrument, Entry { cells: Arc::new(make()), life: Life::Held, registered })
        });
        entry.life = Life::Held;
        Arc::clone(&entry.cells)
    }

    /// Returns everything counted so far. `has_arrived` says whether all of the collection before did: series that
    /// ended are collected until then.
    pub(super) fn collect(&self, has_arrived: bool) -> Vec<Metric> {
        follow_wall_clock();
        let now = Ticks::now().unix_nanos();
        let mut collection = Collection::default();
        self.spans.collect(has_arrived, now, &mut collection);
        for series in self.series(has_arrived, now) {
            series.collect(&mut collection);
        }
        for collector in &*self.collectors.0.lock().unwrap_or_else(PoisonError::into_inner) {
            collector(&mut collection, now);
        }
        collection.into_metrics()
    }

    /// Returns the series that are collected, and forgets those that are over. What is asked for its value, and what goes
    /// with a series, may end events, which are timed here: so nothing of that is done under the lock.
    fn series(&self, has_arrived: bool, now: u64) -> Vec<Series> {
        let mut entries = self.entries();
        let ended = entries.values().filter(|(_, entry)| entry.life == Life::Told).count();
        let has_arrived = has_arrived || ended > MOST_ENDED;
        let is_over =
            |_: &Key, (_, entry): &mut (&'static Instrument, Entry)| !entry.is_collected(has_arrived);
        let over: Vec<_> = entries.extract_if(is_over).collect();
        let series = entries.iter_mut().map(|((_, labels), (instrument, entry))| {
            // It may have been made after the collection began. What it says then is what it says from then on: a start
            // that moves looks like a restart.
            entry.registered = entry.registered.min(now);
            let interval = Interval { start: entry.registered, now };
            Series { instrument, labels: labels.clone(), cells: Arc::clone(&entry.cells), interval }
        });
        let series = series.collect();
        drop(entries);
        drop(over);
        series
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn observe(entries: &mut Entries, asked: Asked, now: u64) -> Held {
    let Asked { instrument, labels, observe } = asked;
    let key = (instrument.name, labels);
    let (_, entry) = entries.entry(key.clone()).or_insert_with(|| {
        let nothing = Cells::Observed { observe: Box::new(|_| None), base: 0 };
        (instrument, Entry { cells: Arc::new(nothing), life: Life::Held, registered: now })
    });
    let is_counter = instrument.kind == InstrumentKind::ObservableCounter;
    let base = if is_counter { entry.cells.observed(now).unwrap_or_default() } else { 0 };
    entry.cells = Arc::new(Cells::Observed { observe, base });
    entry.life = Life::Held;
    Held { key, cells: Arc::clone(&entry.cells) }
}

impl Entry {
    /// Takes note of a collection. Returns whether the series is part of it.
    fn is_collected(&mut self, has_arrived: bool) -> bool {
        // Nobody else holds the cells, and whatever was counted is seen from here.
        if self.life == Life::Held && Arc::get_mut(&mut self.cells).is_some() {
            self.life = Life::Ended;
        }
        self.life.is_collected(has_arrived)
    }
}

/// A series that is being collected.
struct Series {
    instrument: &'static Instrument,
    labels: Labels,
    cells: Arc<Cells>,
    interval: Interval,
}

impl Series {
    fn collect(&self, into: &mut Collection) {
        let Self { instrument, labels, cells, interval } = self;
        let number = match &**cells {
            Cells::Durations(durations) => {
                durations.collect(instrument.name, instrument, labels, *interval, into);
                return;
            }
            Cells::Count(count) => Number::of(count.load(Ordering::Relaxed)),
            Cells::Level(level) => Number(level.load(Ordering::Relaxed)),
            Cells::Observed { .. } => match cells.observed(interval.now) {
                Some(value) => Number(value),
                None => return,
            },
        };
        into.number(instrument.name, instrument, labels, number, *interval);
    }
}
