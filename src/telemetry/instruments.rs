//! The instruments of the worker, in one table: what each is called, what it counts, and with which attributes. It
//! creates them, and `docs/telemetry.md` is generated from it.
//!
//! The instruments that are derived from spans are made of [`SPAN_DURATION`], [`SPAN_COUNT`] and [`SPAN_ERRORS`], once
//! for each of [`SPANS`].

use std::fmt::Write as _;

/// What an instrument does with what it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstrumentKind {
    /// Adds up, and never goes down.
    Counter,
    /// The same, of what something else adds up, which is asked when metrics are collected.
    ObservableCounter,
    /// Goes up and down; the values of several add up to something.
    UpDownCounter,
    /// Says how much there is; several do not add up.
    Gauge,
    /// Sorts values into buckets.
    Histogram(Buckets),
}

/// The upper bounds of a histogram's buckets, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Buckets {
    /// Those of `telemetry.histogram`.
    Configured,
    /// For what may take hours.
    Long,
    /// Those that the semantic conventions of HTTP give.
    Http,
}

/// The bounds of [`Buckets::Configured`] where none are configured.
pub(super) const DEFAULT_BUCKETS: &[f64] = &[
    0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5,
    10.0, 30.0, 60.0,
];

const LONG_BUCKETS: &[f64] =
    &[0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0, 604800.0];

const HTTP_BUCKETS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

impl Buckets {
    /// All of them.
    pub(super) const ALL: [Self; 3] = [Self::Configured, Self::Long, Self::Http];

    /// Returns the bounds, where none are configured.
    pub(super) fn bounds(self) -> &'static [f64] {
        match self {
            Self::Configured => DEFAULT_BUCKETS,
            Self::Long => LONG_BUCKETS,
            Self::Http => HTTP_BUCKETS,
        }
    }
}

/// An instrument: what all its series have in common.
#[derive(Debug, PartialEq, Eq)]
pub struct Instrument {
    /// The name; with `S` for the name of a span in those that are derived from spans.
    pub name: &'static str,
    /// What it does.
    pub kind: InstrumentKind,
    /// The unit, in the notation of UCUM. What has the unit `s` is counted in nanoseconds and exported as a double.
    pub unit: &'static str,
    /// The keys of its attributes.
    pub attributes: &'static [&'static str],
    /// One sentence.
    pub description: &'static str,
}

impl Instrument {
    /// Returns whether its values are seconds.
    pub fn is_time(&self) -> bool {
        self.unit == "s"
    }

    /// Returns the name that it has in Prometheus, as the Collector translates it: with the unit, and with `_total` for
    /// counters.
    pub fn prometheus(&self) -> String {
        let mut name = self.name.replace('.', "_");
        if self.is_time() {
            name.push_str("_seconds");
        }
        if matches!(self.kind, InstrumentKind::Counter | InstrumentKind::ObservableCounter) {
            name.push_str("_total");
        }
        name
    }

    /// Returns what it is called in OpenTelemetry.
    pub fn type_name(&self) -> &'static str {
        match self.kind {
            InstrumentKind::Counter | InstrumentKind::ObservableCounter => "counter",
            InstrumentKind::UpDownCounter => "up-down counter",
            InstrumentKind::Gauge => "gauge",
            InstrumentKind::Histogram(_) => "histogram",
        }
    }
}

/// The names of the spans that metrics are derived from.
pub const SPANS: [&str; 9] = [
    "task.handle",
    "task.retry",
    "task.flush",
    "task.run",
    "task_manager.start",
    "task_manager.register",
    "task_manager.shutdown",
    "flow.reload",
    "flow.recover",
];

macro_rules! instruments {
    ($($name:ident = $kind:expr, $text:literal, $unit:literal, [$($attribute:literal),*], $description:literal;)*) => {
        $(
            #[doc = concat!("`", $text, "`: ", $description)]
            pub static $name: Instrument = Instrument {
                name: $text,
                kind: $kind,
                unit: $unit,
                attributes: &[$($attribute),*],
                description: $description,
            };
        )*

        /// All instruments, in the order of the documentation.
        pub static ALL: &[&Instrument] = &[$(&$name),*];
    };
}

use InstrumentKind::{Counter, Gauge, Histogram, ObservableCounter, UpDownCounter};

instruments! {
    SPAN_DURATION = Histogram(Buckets::Configured), "S.duration", "s", ["flow", "task", "task_type", "outcome"],
        "The duration of the spans, from start to end.";
    SPAN_COUNT = Counter, "S.count", "{span}", ["flow", "task", "task_type", "outcome"],
        "The number of spans that ended.";
    SPAN_ERRORS = Counter, "S.errors", "{error}", ["flow", "task", "task_type", "error.type"],
        "The number of spans that failed.";

    FLOW_ENTERED = ObservableCounter, "flowgen.flow.entered", "{event}", ["flow", "origin"],
        "The events that entered the flow.";
    FLOW_EVENTS = ObservableCounter, "flowgen.flow.events", "{event}", ["flow", "outcome"],
        "The events that entered and came to an end, by the worst that became of them.";
    FLOW_EVENT_DURATION = Histogram(Buckets::Configured), "flowgen.flow.event.duration", "s", ["flow", "outcome"],
        "The time from the entry of an event until all that came of it was settled.";
    FLOW_INFLIGHT = UpDownCounter, "flowgen.flow.inflight", "{event}", ["flow"],
        "The events that entered and have not come to an end.";
    FLOW_STATE = Gauge, "flowgen.flow.state", "{flow}", ["flow", "state"],
        "1 for the state that the flow is in, 0 for the others.";
    FLOW_CANCELLATIONS = Counter, "flowgen.flow.cancellations", "{cancellation}", ["flow", "phase"],
        "Shutdowns that ran out of time: `start` when the rest of a flow is given up, `finish` when all its tasks have ended.";
    SOURCE_REDELIVERIES = Counter, "flowgen.source.redeliveries", "{event}", ["flow", "task"],
        "The events that the source brought in again because they had failed and may succeed.";
    DEAD_LETTERS = Counter, "flowgen.dead_letters", "{event}", ["flow", "task", "error.type"],
        "The events that failed and were stored.";
    DEAD_LETTERS_DEPTH = Gauge, "flowgen.dead_letters.depth", "{event}", ["flow", "task"],
        "The dead letters that are stored, from this and earlier runs.";
    CHECKPOINT_DURATION = Histogram(Buckets::Configured), "flowgen.checkpoint.duration", "s", ["flow", "task"],
        "The time that it took to keep how far a source is done, from the sync of what its sinks wrote to the commit.";
    DURABLE_DEPTH = Gauge, "flowgen.durable.depth", "{event}", ["flow"],
        "The events that were accepted and wait in the queues of the flow: they enter it when they leave.";
    DURABLE_BYTES = Gauge, "flowgen.durable.bytes", "By", ["flow"],
        "What the queues of the flow take on the disk.";
    DURABLE_OLDEST = Gauge, "flowgen.durable.oldest", "s", ["flow"],
        "How long ago the first of the events that wait in a queue was accepted; 0 when none does.";
    SCHEDULE_TRIGGERS = Counter, "flowgen.schedule.triggers", "{trigger}", ["flow", "task", "outcome"],
        "The times of a schedule that came: `fired`, `skipped` because the flow was busy, or `failed`.";
    TASK_QUEUE_DURATION = Histogram(Buckets::Configured), "flowgen.task.queue.duration", "s", ["flow", "task"],
        "The time that events waited for the task, from the end of the span upstream to the start of the task's own.";
    TASK_QUEUE_DEPTH = Gauge, "flowgen.task.queue.depth", "{event}", ["flow", "task"],
        "The events that wait in the task's channel.";
    TASK_QUEUE_CAPACITY = Gauge, "flowgen.task.queue.capacity", "{event}", ["flow", "task"],
        "The events that the task's channel has room for.";
    TASK_BLOCKED = ObservableCounter, "flowgen.task.blocked", "s", ["flow", "task"],
        "The time that the task waited for room in a full channel downstream.";
    TASK_INFLIGHT = UpDownCounter, "flowgen.task.inflight", "{event}", ["flow", "task"],
        "The events that the task has taken from its channel and is not done with; those of a batch that has not left are among them.";
    TASK_ATTEMPT_ERRORS = Counter, "flowgen.task.attempt.errors", "{error}", ["flow", "task", "error.type"],
        "The attempts that failed, whether another one follows or not.";
    TASK_RETRIES = Counter, "flowgen.task.retries", "{retry}", ["flow", "task", "error.type"],
        "The attempts that follow a failed one.";
    TASK_RETRY_DELAY = Histogram(Buckets::Long), "flowgen.task.retry.delay", "s", ["flow", "task", "error.type"],
        "The time from a failed attempt to the next one.";
    TASK_TIMEOUTS = Counter, "flowgen.task.timeouts", "{timeout}", ["flow", "task"],
        "The attempts that took too long: those that failed with the type `timeout`.";
    TASK_DEADLINE_SKIPS = Counter, "flowgen.task.deadline_skips", "{event}", ["flow", "task"],
        "The events that the task did not handle, or did not try again, because they were older than `flow.deadline`.";
    TASK_ACTIVE = UpDownCounter, "flowgen.task.active", "{task}", ["flow", "task"],
        "The loops of the task that run.";
    TASK_STARTS = Counter, "flowgen.task.starts", "{start}", ["flow", "task"],
        "The times that the task's loop started.";
    TASK_STOPS = Counter, "flowgen.task.stops", "{stop}", ["flow", "task", "reason"],
        "The times that the task's loop ended: `completed`, `failed`, `panic` or `cancelled`.";
    RELOADS = Counter, "flowgen.reloads", "{reload}", ["outcome"],
        "The reloads of the configuration: `applied`, `unchanged`, `failed` where the worker goes on as it did, or `cancelled` by its end.";
    CACHE_LOOKUPS = Counter, "flowgen.cache.lookups", "{lookup}", ["flow", "result"],
        "The keys that were looked for in the cache: `hit` or `miss`.";
    HTTP_CLIENT_REQUEST_DURATION = Histogram(Buckets::Http), "http.client.request.duration", "s",
        ["flow", "task", "http.request.method", "server.address", "server.port", "http.response.status_code", "error.type"],
        "The duration of HTTP requests, to the end of the response.";
    HTTP_SERVER_REQUEST_DURATION = Histogram(Buckets::Http), "http.server.request.duration", "s",
        ["flow", "task", "http.request.method", "url.scheme", "http.route", "http.response.status_code", "network.protocol.version", "error.type"],
        "The duration of HTTP requests that came in, from their head to that of the response; also of those that were refused and became no event.";
    HTTP_SERVER_ACTIVE_REQUESTS = UpDownCounter, "http.server.active_requests", "{request}",
        ["flow", "task", "http.request.method", "url.scheme"],
        "The HTTP requests that have come in and are not answered.";
    HTTP_CIRCUIT_STATE = Gauge, "flowgen.http.circuit.state", "{circuit}", ["flow", "task", "state"],
        "The circuits of the task, one for each host, that are `open` or `half_open`; the others are closed.";
    HTTP_CIRCUIT_TRANSITIONS = Counter, "flowgen.http.circuit.transitions", "{transition}", ["flow", "task", "state"],
        "The times that a circuit became `open`, `half_open` or `closed`.";

    SPAN_STARTED = ObservableCounter, "otel.sdk.span.started", "{span}", ["otel.span.sampling_result"],
        "The spans that were started: `RECORD_AND_SAMPLE` or `DROP`.";
    SPAN_PROCESSED = ObservableCounter, "otel.sdk.processor.span.processed", "{span}", ["otel.component.type", "otel.component.name", "error.type"],
        "The spans that were queued for export, or with `error.type` `queue_full` found no room.";
    SPAN_QUEUE_SIZE = UpDownCounter, "otel.sdk.processor.span.queue.size", "{span}", ["otel.component.type", "otel.component.name"],
        "The spans that wait for the exporter.";
    SPAN_QUEUE_CAPACITY = UpDownCounter, "otel.sdk.processor.span.queue.capacity", "{span}", ["otel.component.type", "otel.component.name"],
        "The spans that the queue has room for.";
    SPAN_EXPORTED = ObservableCounter, "otel.sdk.exporter.span.exported", "{span}", ["otel.component.type", "otel.component.name", "error.type"],
        "The spans that the collector took, or with `error.type` those that were given up.";
    POINT_EXPORTED = ObservableCounter, "otel.sdk.exporter.metric_data_point.exported", "{data_point}", ["otel.component.type", "otel.component.name", "error.type"],
        "The data points that the collector took, or with `error.type` those that were given up.";
    EXPORT_DURATION = Histogram(Buckets::Configured), "otel.sdk.exporter.operation.duration", "s", ["otel.component.type", "otel.component.name", "error.type"],
        "The duration of export calls.";
    TRACES_SHED = ObservableCounter, "flowgen.traces.shed", "{trace}", ["reason"],
        "The traces that were not exported for want of room: `queue` where the span queue was too full, `limit` beyond `keep_traces.limit`.";
    TRACES_KEPT = ObservableCounter, "flowgen.traces.kept", "{trace}", ["reason"],
        "The traces that were exported although not sampled: `error` or `slow`.";
}

/// Returns whether the metric of this name is a counter that is asked, not added to.
pub(super) fn is_observed(name: &str) -> bool {
    ALL.iter().any(|one| one.name == name && one.kind == InstrumentKind::ObservableCounter)
}

/// The instruments of the documentation, by what the names of those under each heading begin with.
const GROUPS: [(&str, &[&str]); 7] = [
    ("Spans: of every name `S`", &["S."]),
    ("Flows", &["flowgen.flow.", "flowgen.source.", "flowgen.schedule.", "flowgen.cache."]),
    ("Tasks", &["flowgen.task."]),
    ("State", &["flowgen.checkpoint.", "flowgen.dead_letters", "flowgen.durable."]),
    ("The worker", &["flowgen.reloads"]),
    ("Connectors", &["http.", "flowgen.http.", "messaging."]),
    ("Telemetry itself", &["otel.", "flowgen.traces."]),
];

/// Returns the tables of `docs/telemetry.md`: all instruments, and the buckets of histograms.
pub fn documentation() -> String {
    let mut text = String::new();
    for (heading, beginnings) in GROUPS {
        let mut rows = String::new();
        let belongs = |name: &str| beginnings.iter().any(|beginning| name.starts_with(beginning));
        ALL.iter()
            .filter(|instrument| belongs(instrument.name))
            .for_each(|instrument| rows += &row(instrument));
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "### {heading}\n\n| instrument, and its name in Prometheus | type | unit | attributes | what it tells |\n\
             |---|---|---|---|---|\n{rows}\n"
        );
    }
    text += "### Buckets\n\n| histograms | upper bounds in seconds |\n|---|---|\n";
    text.push_str(&buckets());
    text
}

fn row(instrument: &Instrument) -> String {
    let attributes: Vec<_> = instrument.attributes.iter().map(|key| format!("`{key}`")).collect();
    format!(
        "| `{}`<br>`{}` | {} | `{}` | {} | {} |\n",
        instrument.name,
        instrument.prometheus(),
        instrument.type_name(),
        instrument.unit,
        attributes.join(", "),
        instrument.description,
    )
}

fn buckets() -> String {
    let row = |buckets: Buckets| {
        let is_one = |one: &&&Instrument| one.kind == InstrumentKind::Histogram(buckets);
        let names: Vec<_> = ALL.iter().filter(is_one).map(|one| format!("`{}`", one.name)).collect();
        let names = if buckets == Buckets::Configured { "all others".into() } else { names.join(", ") };
        let bounds: Vec<_> = buckets.bounds().iter().map(f64::to_string).collect();
        format!("| {names} | {} |\n", bounds.join(", "))
    };
    Buckets::ALL.iter().rev().map(|buckets| row(*buckets)).collect()
}
