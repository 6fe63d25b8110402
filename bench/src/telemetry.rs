//! What telemetry costs: the flow of the engine group with more and more of it switched on, exporting to a
//! collector of the benchmark's own. Settings are variables, so that the flow is the same in every row.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{
    cases::{Case, Commands, FLOOR, Limit, floor},
    log::Flushed,
    measure::{self, Sample},
    sink::{Behaviour, Sink, Tally},
};

/// Name of the group.
const GROUP: &str = "telemetry";
const OFF: &str = "off: no settings";
/// Spans that an event leaves in the three tasks.
const HOPS: u64 = 3;
/// Those of the worker's life: start, three tasks that are registered and run, shutdown.
const LIFECYCLE: u64 = 2 * HOPS + 2;
/// What an event may cost, as a multiple of the floor: with metrics alone, and with 1 % of traces.
const METRICS_ONLY: f64 = 8.0;
const SOME_TRACES: f64 = 9.0;
/// What a worker may hold with the default queue, in bytes.
pub(crate) const MAX_MEMORY: u64 = 64 << 20;

/// What must have been exported, besides being accounted for.
#[derive(Clone, Copy, Debug)]
enum Traces {
    /// Telemetry is off: nobody calls.
    Off,
    /// No event's span.
    None,
    /// Those of some events, none dropped.
    Some,
    /// Those of all events, none dropped.
    All,
    /// As many as a slow exporter takes.
    Any,
}

/// One row of the table.
struct Row {
    name: &'static str,
    variables: Vec<(&'static str, String)>,
    traces: Traces,
    limit: Option<Limit>,
}

impl Row {
    fn new(name: &'static str, traces: Traces, limit: impl Into<Option<Limit>>) -> Self {
        let variables = match traces {
            Traces::Off => Vec::new(),
            _ => vec![("FLOWGEN_TELEMETRY__ENABLED", "true".to_owned())],
        };
        Self { name, variables, traces, limit: limit.into() }
    }

    fn set(mut self, name: &'static str, value: impl ToString) -> Self {
        self.variables.push((name, value.to_string()));
        self
    }

    /// Runs the flow against a collector and checks what both of them counted.
    fn measure(&self, command: &mut Command, events: u64) -> Result<Sample> {
        let sink = Sink::start(Behaviour::Well)?;
        command.env("FLOWGEN_LOGGING__FORMAT", "json").envs(self.variables.iter().cloned());
        if !self.variables.is_empty() {
            command.env("FLOWGEN_TELEMETRY__OTLP_ENDPOINT", &sink.endpoint);
        }
        let (sample, stderr) = measure::with_stderr(command)?;
        let spans = checked(self.traces, &stderr, sink.finish()?, events)
            .with_context(|| format!("the worker said:\n{stderr}"))?;
        Ok(Sample { spans, ..sample })
    }
}

/// Returns the cases. `run` makes the commands of the flow for a number of events.
pub(crate) fn cases(events: u64, run: &dyn Fn(u64) -> Result<Commands>) -> Result<Vec<Case>> {
    let mut cases = vec![floor(GROUP, events)?];
    for row in rows(events) {
        let events = match row.traces {
            // What waits at the end has to be sent within the few seconds that there are to flush.
            Traces::All => events / 4,
            Traces::Any => events / 2,
            _ => events,
        };
        let (commands, name, limit) = (run(events)?, row.name, row.limit);
        let case = Case::new(GROUP, name, Some(events), move || row.measure(&mut commands(), events));
        cases.push(case.limited(limit));
    }
    Ok(cases)
}

fn rows(events: u64) -> [Row; 9] {
    let rate = "FLOWGEN_TELEMETRY__TRACE_SAMPLE_RATE";
    let of_floor = |times| Limit::Cpu { times, of: FLOOR };
    [
        Row::new(OFF, Traces::Off, None),
        Row::new("enabled: false", Traces::Off, Limit::Cpu { times: 1.05, of: OFF })
            .set("FLOWGEN_TELEMETRY__ENABLED", false),
        Row::new("metrics only: no exporter of traces", Traces::None, of_floor(METRICS_ONLY))
            .set("OTEL_TRACES_EXPORTER", "none"),
        Row::new("metrics only: trace_sample_rate 0", Traces::None, of_floor(METRICS_ONLY)).set(rate, "0.0"),
        Row::new("metrics only: rate 0, no kept traces", Traces::None, of_floor(METRICS_ONLY))
            .set(rate, "0.0")
            .set("FLOWGEN_TELEMETRY__KEEP_TRACES__ERRORS", false),
        Row::new("metrics only: rate 0, exponential histograms", Traces::None, of_floor(METRICS_ONLY))
            .set(rate, "0.0")
            .set("FLOWGEN_TELEMETRY__HISTOGRAM__TYPE", "exponential"),
        Row::new("1 % of traces", Traces::Some, of_floor(SOME_TRACES)).set(rate, "0.01"),
        Row::new("all traces, queue for all spans", Traces::All, Limit::EventsPerCore(150_000.0))
            .set(rate, "1.0")
            // Above the mark at which no new traces are begun.
            .set("FLOWGEN_TELEMETRY__SPAN_QUEUE__SIZE", 2 * HOPS * events + LIFECYCLE)
            .set("FLOWGEN_TELEMETRY__SPAN_QUEUE__BATCH", 8192.min(events)),
        Row::new("all traces, default queue", Traces::Any, Limit::Memory(MAX_MEMORY)).set(rate, "1.0"),
    ]
}

/// Compares what the worker says, what arrived and what there was to export.
fn checked(traces: Traces, stderr: &str, tally: Tally, events: u64) -> Result<Option<Flushed>> {
    let flushed = Flushed::find(stderr);
    if let Traces::Off = traces {
        ensure!(flushed.is_none() && tally == Tally::default(), "it exported while off: {tally:?}");
        return Ok(None);
    }
    let flushed = flushed.context("it did not say what became of its spans")?;
    let Flushed { created, exported, dropped, points_exported, points_dropped } = flushed;
    ensure!(flushed.adds_up(), "it lost count of its spans: {flushed:?}");
    ensure!(
        (exported, points_exported) == (tally.spans, tally.points),
        "it says {flushed:?}, and what arrived is {tally:?}"
    );
    ensure!(
        tally.handled == HOPS * events && points_dropped == 0,
        "{} of {events} events in {HOPS} tasks were counted: {flushed:?}",
        tally.handled
    );
    let all = HOPS * events + LIFECYCLE;
    let expected = match traces {
        Traces::Off | Traces::None => 0..=LIFECYCLE,
        Traces::Some | Traces::Any => 0..=all,
        Traces::All => all..=all,
    };
    ensure!(expected.contains(&created), "{created} spans of {events} events were made, not {expected:?}");
    ensure!(dropped == 0 || matches!(traces, Traces::Any), "{dropped} spans were dropped");
    Ok(Some(flushed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flushed(spans: [u64; 3], points: [u64; 2]) -> String {
        let [created, exported, dropped] = spans;
        let [points_exported, points_dropped] = points;
        format!(
            "no JSON\n{{\"message\":\"another line\"}}\n{{\"message\":\"telemetry flushed\",\"spans_created\":{created},\
             \"spans_exported\":{exported},\"spans_dropped\":{dropped},\"points_exported\":{points_exported},\
             \"points_dropped\":{points_dropped}}}\n"
        )
    }

    fn is_right(traces: Traces, spans: [u64; 3], points: [u64; 2], arrived: [u64; 2]) -> bool {
        let tally =
            Tally { calls: 2, spans: arrived[0], points: arrived[1], handled: 30, ..Tally::default() };
        let missing = Tally { handled: 29, ..tally };
        assert!(checked(traces, &flushed(spans, points), missing, 10).is_err());
        checked(traces, &flushed(spans, points), tally, 10).is_ok()
    }

    #[test]
    fn every_span_must_be_accounted_for_and_have_arrived() {
        assert!(is_right(Traces::All, [38, 38, 0], [9, 0], [38, 9]));
        assert!(!is_right(Traces::All, [38, 37, 0], [9, 0], [37, 9]));
        assert!(!is_right(Traces::All, [38, 38, 0], [9, 0], [37, 9]));
        assert!(!is_right(Traces::All, [38, 38, 0], [9, 0], [38, 8]));
        assert!(!is_right(Traces::All, [38, 38, 0], [9, 1], [38, 9]));
    }

    #[test]
    fn what_a_row_is_about_must_have_happened() {
        assert!(!is_right(Traces::All, [37, 37, 0], [9, 0], [37, 9]));
        assert!(!is_right(Traces::All, [39, 39, 0], [9, 0], [39, 9]));
        assert!(!is_right(Traces::All, [38, 37, 1], [9, 0], [37, 9]));
        assert!(!is_right(Traces::Some, [30, 29, 1], [9, 0], [29, 9]));
        assert!(is_right(Traces::Any, [30, 29, 1], [9, 0], [29, 9]));
        assert!(is_right(Traces::None, [8, 8, 0], [9, 0], [8, 9]));
        assert!(!is_right(Traces::None, [9, 9, 0], [9, 0], [9, 9]));
    }

    #[test]
    fn a_worker_whose_telemetry_is_off_calls_nobody() {
        assert_eq!(checked(Traces::Off, "{}\n", Tally::default(), 10).unwrap(), None);
        assert!(checked(Traces::Off, "", Tally { calls: 1, ..Tally::default() }, 10).is_err());
        assert!(checked(Traces::Off, &flushed([0; 3], [0; 2]), Tally::default(), 10).is_err());
        assert!(checked(Traces::Any, "{}\n", Tally::default(), 10).is_err());
    }
}
