//! The flight recorder: the ways of the latest events that failed or were slow, kept in memory for whoever asks what
//! happened, also when no collector can be asked.
//!
//! Independent of sampling and of what is exported: it reads the trail that every event carries while telemetry is on.
//! Owns how much is remembered of which flow, and when it is told. Must not know tasks or signals.

mod entry;
mod ring;
mod show;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tracing::Level;

use super::{
    logs::{self, Fields, Format},
    stderr,
};

pub(super) use entry::{Entry, Failure};
pub(super) use ring::Ring;

/// The target of all lines.
const TARGET: &str = module_path!();

/// The most entries that are told at once; flows share them evenly, and each has at least one.
const MOST_TOLD: usize = 1024;

/// Flows that are gone and whose entries are kept, those with the latest ones.
const FORMER_FLOWS: usize = 256;

/// What to do about a recorder that is off.
const SWITCH_ON: &str = "it records while traces or metrics are exported: start the worker with `FLOWGEN_TELEMETRY__ENABLED=true`";

/// Remembers the ways of the latest events that failed or were slow, and tells them on stderr. Cheap to clone; the
/// default remembers nothing.
///
/// What is told goes to stderr in one piece, so that nothing comes between its lines.
#[derive(Clone, Debug, Default)]
pub struct FlightRecorder(Option<Arc<Flights>>);

#[derive(Debug)]
struct Flights {
    slower_than: Option<Duration>,
    rings: Mutex<Rings>,
}

#[derive(Debug)]
struct Rings {
    /// By the name of the flow.
    of_flows: BTreeMap<Arc<str>, Arc<Ring>>,
    /// As many rings make it worth while to look for those of flows that are gone.
    limit: usize,
    /// What was recorded in rings that are gone.
    gone: u64,
}

/// What is told at once.
struct Told {
    /// The earliest first.
    entries: Vec<Arc<Entry>>,
    /// How many there have been since the start.
    recorded: u64,
}

impl FlightRecorder {
    /// Makes a recorder that is on. Events are slow that take longer than `slower_than`.
    pub(super) fn new(slower_than: Option<Duration>) -> Self {
        let rings = Rings { of_flows: BTreeMap::new(), limit: FORMER_FLOWS, gone: 0 };
        Self(Some(Arc::new(Flights { slower_than, rings: Mutex::new(rings) })))
    }

    /// Returns what remembers the events of a flow. One of the same name goes on.
    pub(super) fn ring(&self, flow: &Arc<str>) -> Option<Arc<Ring>> {
        let flights = self.0.as_ref()?;
        let mut rings = flights.rings();
        if !rings.of_flows.contains_key(flow) {
            rings.make_room();
        }
        let ring = rings.of_flows.entry(Arc::clone(flow));
        Some(Arc::clone(ring.or_insert_with(|| Arc::new(Ring::new(flights.slower_than)))))
    }

    /// Tells everything, or that there is nothing: somebody asked, by this signal. Whatever the log filter says.
    pub fn tell_all(&self, signal: &str) {
        let Some(format) = logs::format() else { return };
        let mut lines = Vec::new();
        match &self.0 {
            None => {
                let fields = [("cause", Value::from(signal)), ("hint", Value::from(SWITCH_ON))];
                note(format, "the flight recorder is off", fields, &mut lines);
            }
            Some(flights) => write(format, signal, None, &flights.told(None, |_| true), &mut lines),
        }
        stderr::write(&lines);
    }

    /// Tells what happened in a flow of which a task has panicked, if the log filter lets it.
    pub fn tell_panic(&self, flow: &str) {
        self.tell_new("panic", Some(flow));
    }

    /// Tells what happened before the worker ends, if anything did and the log filter lets it.
    pub fn tell_end(&self) {
        self.tell_new("shutdown", None);
    }

    /// Tells what nobody asked for: nothing that was told so before.
    fn tell_new(&self, cause: &str, flow: Option<&str>) {
        let (Some(flights), Some(format)) = (&self.0, logs::format()) else { return };
        if !tracing::enabled!(target: TARGET, Level::INFO) {
            return;
        }
        let told = flights.told(flow, |entry| !entry.is_told());
        if told.entries.is_empty() {
            return;
        }
        told.entries.iter().for_each(|entry| entry.set_told());
        let mut lines = Vec::new();
        write(format, cause, flow, &told, &mut lines);
        stderr::write(&lines);
    }
}

impl Flights {
    /// Returns the latest of the entries that `is_meant` picks, of one flow or of all.
    fn told(&self, flow: Option<&str>, is_meant: impl Fn(&Entry) -> bool) -> Told {
        let (rings, gone) = self.chosen(flow);
        let recorded = gone + rings.iter().map(|ring| ring.recorded()).sum::<u64>();
        let of_ring = |ring: &Arc<Ring>| {
            let mut entries = ring.entries();
            entries.retain(|entry| is_meant(entry));
            entries
        };
        let flows: Vec<_> = rings.iter().map(of_ring).filter(|entries| !entries.is_empty()).collect();
        let share = (MOST_TOLD / flows.len().max(1)).max(1);
        let latest = |mut entries: Vec<_>| entries.split_off(entries.len().saturating_sub(share));
        let mut entries: Vec<Arc<Entry>> = flows.into_iter().flat_map(latest).collect();
        entries.sort_by_key(|entry| entry.end());
        Told { entries, recorded }
    }

    /// Returns the rings, and how much was recorded in others that are gone.
    fn chosen(&self, flow: Option<&str>) -> (Vec<Arc<Ring>>, u64) {
        let rings = self.rings();
        match flow {
            Some(flow) => (rings.of_flows.get(flow).cloned().into_iter().collect(), 0),
            None => (rings.of_flows.values().cloned().collect(), rings.gone),
        }
    }

    fn rings(&self) -> MutexGuard<'_, Rings> {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rings {
    /// Forgets flows that are gone, if there are many: those that have no entries, and those whose latest is oldest.
    fn make_room(&mut self) {
        if self.of_flows.len() < self.limit {
            return;
        }
        // Nobody adds to a ring that only this map holds.
        let former = self.of_flows.iter().filter(|(_, ring)| Arc::strong_count(ring) == 1);
        let mut former: Vec<_> = former.map(|(flow, ring)| (ring.latest(), Arc::clone(flow))).collect();
        former.sort_unstable();
        let surplus = former.len().saturating_sub(FORMER_FLOWS);
        for (place, (latest, flow)) in former.into_iter().enumerate() {
            if place < surplus || !latest.is_set() {
                let ring = self.of_flows.remove(&flow);
                self.gone += ring.map_or(0, |ring| ring.recorded());
            }
        }
        self.limit = self.of_flows.len() + FORMER_FLOWS;
    }
}

/// Adds what is told, below a line that says how much of how many that is.
fn write(format: &Format, cause: &str, flow: Option<&str>, told: &Told, lines: &mut Vec<u8>) {
    let message = if told.entries.is_empty() { "the flight recorder is empty" } else { "flight recorder" };
    let fields = [
        ("cause", Value::from(cause)),
        ("shown", Value::from(told.entries.len())),
        ("recorded", Value::from(told.recorded)),
    ];
    let flow = flow.map(|flow| ("flow", Value::from(flow)));
    note(format, message, fields.into_iter().chain(flow), lines);
    for entry in &told.entries {
        if format.is_json() {
            format.line(Level::INFO, TARGET, &show::fields(entry), lines);
        } else {
            lines.extend_from_slice(show::text(entry).as_bytes());
        }
    }
}

fn note(
    format: &Format,
    message: &str,
    fields: impl IntoIterator<Item = (&'static str, Value)>,
    lines: &mut Vec<u8>,
) {
    let fields = Fields { message: message.to_owned(), rest: fields.into_iter().collect() };
    format.line(Level::INFO, TARGET, &fields, lines);
}
