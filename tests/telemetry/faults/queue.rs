//! Queues that are too small for what the collector leaves waiting: whole traces are left out, and counted.

use crate::{
    support::{
        collector::{Answer, Collector},
        worker::Ended,
    },
    telemetry::{Observed, flushed, number, start_with},
};

/// Runs a flow past a collector that does not answer before all events are through.
fn overflow(yaml: &str, size: usize) -> Observed {
    let collector = Collector::scripted(|_| Answer::Hold);
    let worker = start_with(&collector, yaml, &[], |command| {
        command
            .env("FLOWGEN_TELEMETRY__SPAN_QUEUE__SIZE", size.to_string())
            .env("FLOWGEN_TELEMETRY__SPAN_QUEUE__BATCH", (size / 8).to_string());
    });
    worker.until_logged("flow drained");
    collector.release();
    let observed = Observed::after(worker.end(), &collector);
    assert_eq!(observed.ended.code, Some(0), "{}", observed.ended.stderr);
    observed
}

/// Checks that the collector has what was exported, and that the metrics have all events of each task.
fn assert_accounted(observed: &Observed, events: &[(&str, u64)]) {
    let line = flushed(&observed.ended);
    assert_eq!(number(&line, "spans_exported"), observed.spans.len() as u64, "{line}");
    assert_eq!(number(&line, "points_exported"), observed.metrics.points, "{line}");
    for (task, count) in events {
        assert_eq!(observed.count(task, "completed"), *count, "{task}");
    }
}

/// Scenario: the queue of spans fills up, and what is in flight fits into its last quarter. Guarantee: whole
/// traces are left out, and no span of any other.
#[test]
fn a_full_queue_sheds_whole_traces() {
    let yaml = "
channel_capacity: 64
flow:
  tasks:
    - generate: {name: numbers, count: 50000}
    - script: {name: same, code: event}
    - drop: {name: nowhere}
";
    let observed = overflow(yaml, 8192);
    assert_accounted(&observed, &[("numbers", 50_000), ("same", 50_000), ("nowhere", 50_000)]);
    assert_eq!(number(&flushed(&observed.ended), "spans_dropped"), 0, "{}", observed.ended.stderr);
    assert_told(&observed.ended);
    let shapes = observed.shapes();
    assert_eq!(shapes.keys().collect::<Vec<_>>(), ["numbers(same(nowhere))"]);
    let traces = shapes.values().sum::<usize>();
    assert!((2_000..50_000).contains(&traces), "{traces} traces");
}

/// Checks that the warnings told of everything that was left out, no more and no less.
fn assert_told(ended: &Ended) {
    for what in ["traces_shed", "spans_dropped"] {
        assert_eq!(warned(ended, what), number(&flushed(ended), what), "{what}: {}", ended.stderr);
    }
}

/// Returns how much all warnings together told of something.
pub(super) fn warned(ended: &Ended, what: &str) -> u64 {
    let lines = ended.logs().into_iter().filter(|line| line["level"] == "WARN");
    lines.map(|line| line[what].as_u64().unwrap_or_default()).sum()
}

/// Scenario: one trace alone has more spans than the queue has room for, and no later one fits. Guarantee: every
/// span is exported or counted as dropped, and every trace is begun or counted as shed.
#[test]
fn a_queue_that_is_too_small_counts_what_it_drops() {
    let yaml = "
flow:
  tasks:
    - generate: {name: numbers, count: 3}
    - script: {name: many, code: 'let events = []; events.pad(1000, 1); events'}
    - drop: {name: nowhere}
";
    let observed = overflow(yaml, 64);
    assert_accounted(&observed, &[("numbers", 3), ("many", 3), ("nowhere", 3_000)]);
    let line = flushed(&observed.ended);
    // The queue holds twice its size, and the exporter a few batches of an eighth of it.
    let room = 2 * 64 + 4 * 8;
    assert!(number(&line, "spans_dropped") >= 1_002 - room, "{line}");
    assert!(number(&line, "spans_exported") >= 64, "{line}");
    assert_told(&observed.ended);
    let traces = 3 - number(&line, "traces_shed");
    // Those of the worker's own life come on top.
    let own = number(&line, "spans_created") - traces * 1_002;
    assert!((1..20).contains(&own), "{own} of the worker's own in {line}");
}
