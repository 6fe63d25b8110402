//! Signals while telemetry has something left that the collector does not take.

use std::{collections::BTreeSet, fs::OpenOptions, io::Write};

use rustix::{
    fs::{CWD, FileType, Mode},
    process,
};

use super::{Observed, number, start_with};
use crate::support::{
    collector::{Answer, Collector, Signal},
    worker::{Ended, Worker},
};

const TERM: process::Signal = process::Signal::TERM;
const INT: process::Signal = process::Signal::INT;

/// A shutdown that leaves the flush all the time that it ever has, and much more to everything else.
const LONG: &str = "shutdown_timeout: 1h\n";

/// A flow that goes on until it is stopped, without an event.
const IDLE: &str = "flow: {tasks: [{stdin: {name: lines}}, {drop: {name: nowhere}}]}\n";

/// The spans of [`IDLE`] and every other flow of two tasks that sees no event: its start with each task's
/// registration, each task's run, and its end.
const LIFECYCLE: u64 = 6;

/// A collector that takes calls and answers none.
fn silent() -> Collector {
    Collector::scripted(|_| Answer::Hold)
}

/// Starts a flow whose spans leave for the collector only in the flush, all at once.
fn start(collector: &Collector, yaml: &str) -> Worker {
    start_with(collector, &format!("{LONG}{yaml}"), &[], |command| {
        command.env("FLOWGEN_TELEMETRY__SPAN_QUEUE__DELAY", "1h").env("RUST_LOG", "flowgen=debug");
    })
}

/// Waits until the flush of a worker that was started by [`start`] has begun.
fn until_it_flushes(collector: &Collector) {
    until_calls(collector, 1);
}

/// Waits until so many calls with spans are in hand.
fn until_calls(collector: &Collector, count: usize) {
    collector.wait_until(|received| {
        received.calls.iter().filter(|call| call.signal == Signal::Traces).count() == count
    });
}

/// Checks that one line says that this signal leaves something, and returns how many spans.
fn spans_left(ended: &Ended, signal: &str) -> u64 {
    let lines = ended.logged("signal: telemetry is not flushed");
    assert_eq!(lines.len(), 1, "{}", ended.stderr);
    assert_eq!(lines[0]["signal"], signal);
    assert_eq!(ended.logged("telemetry flushed").len(), 0, "{}", ended.stderr);
    number(&lines[0], "spans_left")
}

#[test]
fn a_second_signal_ends_the_flush_at_once_and_says_what_is_left() {
    for (first, second, name, code) in [(TERM, INT, "SIGINT", 130), (INT, TERM, "SIGTERM", 143)] {
        let collector = silent();
        let worker = start(&collector, IDLE);
        worker.until_logged("task started");
        worker.signal(first);
        until_it_flushes(&collector);
        worker.signal(second);
        let ended = worker.ends_in_time();
        assert_eq!(ended.code, Some(code), "{}", ended.stderr);
        assert_eq!(spans_left(&ended, name), LIFECYCLE);
    }
}

/// Scenario: the flow cannot drain, and all spans that have ended are on their way to a collector that does not
/// answer. Guarantee: a second signal leaves them behind, and says so.
#[test]
fn a_second_signal_during_the_drain_says_what_the_exporter_holds() {
    let collector = silent();
    let yaml = format!("{LONG}flow: {{tasks: [{{stdin: {{name: lines}}}}, {{stdout: {{name: out}}}}]}}\n");
    let mut worker = start_with(&collector, &yaml, &[], |command| {
        command
            .env("FLOWGEN_TELEMETRY__SPAN_QUEUE__BATCH", "1")
            .env("FLOWGEN_TELEMETRY__SPAN_QUEUE__DELAY", "1ms");
    });
    let stdout = worker.stdout();
    let mut stdin = worker.stdin();
    rustix::pipe::fcntl_setpipe_size(&stdout, 4096).unwrap();
    stdin.write_all(&[b"\"".to_vec(), b"x".repeat(8192), b"\"\n".to_vec()].concat()).unwrap();
    // The start, two registrations, and what the source has done with its row.
    until_calls(&collector, 4);
    worker.signal(TERM);
    worker.until_logged("stopping");
    worker.signal(INT);
    let ended = worker.ends_in_time();
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    assert!(spans_left(&ended, "SIGINT") >= 4, "{}", ended.stderr);
    drop((stdin, stdout));
}

/// Scenario: the flow drains at once, and the collector takes nothing. Guarantee: the flush gets its own share of
/// the shutdown's time, and not what the drain has left of it.
#[test]
fn a_flush_to_nobody_ends_long_before_the_shutdown_has_to() {
    let collector = Collector::scripted(|_| Answer::Never);
    let worker = start(&collector, IDLE);
    worker.until_logged("task started");
    worker.signal(TERM);
    let ended = worker.ends_in_time();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let flushed = super::flushed(&ended);
    assert_eq!(number(&flushed, "spans_dropped"), LIFECYCLE, "{flushed}");
}

/// Scenario: a run has come to its own end with failed events, and its flush hangs. Guarantee: the first signal ends
/// the flush at once, and does not turn the run into one that was stopped.
#[test]
fn a_signal_in_the_flush_keeps_the_verdict_of_the_run() {
    let failing =
        "flow: {tasks: [{generate: {name: numbers, count: 3}}, {script: {name: ill, code: 'throw 1'}}]}";
    let collector = silent();
    let worker = start(&collector, failing);
    until_it_flushes(&collector);
    worker.signal(TERM);
    let ended = worker.ends_in_time();
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert_eq!(spans_left(&ended, "SIGTERM"), LIFECYCLE + 2 * 3);
    assert!(!ended.stderr.contains("stopping"), "{}", ended.stderr);
}

#[test]
fn a_signal_in_the_flush_after_a_failed_start_ends_it_at_once() {
    let missing = "flow: {tasks: [{file: {name: in, path: missing.jsonl}}, {drop: {name: nowhere}}]}";
    let collector = silent();
    let worker = start(&collector, missing);
    until_it_flushes(&collector);
    worker.signal(TERM);
    let ended = worker.wait(String::new());
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let line = ended.stderr.lines().find(|line| line.contains("telemetry is not flushed"));
    assert!(line.is_some_and(|line| line.contains("\"spans_left\":3")), "{}", ended.stderr);
}

/// Scenario: a signal while a task is being built, which hangs in the certificates of the machine: a pipe that
/// nobody writes to. Guarantee: nothing starts, and the spans of what was given up are exported as cancelled.
#[test]
fn a_signal_during_the_build_exports_a_cancelled_start() {
    let yaml = "
flow:
  tasks:
    - generate: {name: numbers, count: 1}
    - http_request: {name: call, endpoint: 'http://localhost:1'}
";
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("certificates");
    rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let collector = Collector::start();
    let worker = start_with(&collector, yaml, &[], |command| {
        command.env("SSL_CERT_FILE", &pipe);
    });
    // Waits for the reader.
    let writer = OpenOptions::new().write(true).open(&pipe).unwrap();
    worker.signal(TERM);
    let observed = Observed::after(worker.ends_in_time(), &collector);
    assert_eq!(observed.ended.code, Some(0), "{}", observed.ended.stderr);
    observed.audit();
    let outcomes =
        observed.spans.iter().map(|span| (&*span.name, span.text("task"), span.text("outcome"))).collect();
    assert_eq!(
        BTreeSet::from([
            ("task_manager.start", "", "cancelled"),
            ("task_manager.register", "numbers", "completed"),
            ("task_manager.register", "call", "cancelled"),
        ]),
        outcomes
    );
    let count =
        |name: &str, outcome| observed.metrics.counter(&format!("{name}.count"), &[("outcome", outcome)]);
    assert_eq!(count("task_manager.start", "cancelled"), 1);
    assert_eq!(count("task_manager.register", "cancelled"), 1);
    drop(writer);
}
