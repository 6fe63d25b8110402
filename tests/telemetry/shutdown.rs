//! The end of a worker: all that happened has been exported.

use std::io::{BufRead, BufReader};

use rustix::{process::Signal, thread::CpuSet};

use super::{Observed, number, start};
use crate::support::collector::Collector;

/// Scenario: a signal in the middle of an endless flow. Guarantee: the collector has counted what the flow has
/// drained, and has every span of it.
#[test]
fn a_signal_in_the_middle_loses_nothing() {
    let yaml = "
flow:
  tasks:
    - generate: {name: numbers, payload: {text: hello}}
    - filter: {name: all, condition: 'event.data.text == \"hello\"'}
    - stdout: {name: out}
";
    let collector = Collector::start();
    let mut worker = start(&collector, yaml, &[]);
    let mut lines = BufReader::new(worker.stdout()).lines();
    for _ in 0..5_000 {
        lines.next().unwrap().unwrap();
    }
    worker.signal(Signal::TERM);
    let rest = lines.map(Result::unwrap).count() as u64;
    let observed = Observed::of(worker, &collector);
    assert_eq!(observed.ended.code, Some(0), "{}", observed.ended.stderr);
    let drained = observed.ended.drained();
    assert_eq!(number(&drained, "completed"), 5_000 + rest);
    for task in ["numbers", "all", "out"] {
        assert_eq!(observed.count(task, "completed"), number(&drained, "entered"), "{task}");
    }
    assert_eq!(observed.traces().len() as u64, number(&drained, "entered"));
}

/// Calls `f` with the current thread, and what it starts, kept to one core.
fn on_one_core<R>(f: impl FnOnce() -> R) -> R {
    let before = rustix::thread::sched_getaffinity(None).unwrap();
    let mut one = CpuSet::new();
    one.set((0..CpuSet::MAX_CPU).find(|core| before.is_set(*core)).unwrap());
    rustix::thread::sched_setaffinity(None, &one).unwrap();
    let result = f();
    rustix::thread::sched_setaffinity(None, &before).unwrap();
    result
}

/// Scenario: there is one core, for the flow, for the exporter and for the end. Guarantee: no run hangs, none
/// loses a span or a count.
#[test]
fn fifty_runs_on_one_core_end_and_lose_nothing() {
    let yaml = "flow: {tasks: [{generate: {name: numbers, count: 20}}, {script: {name: same, code: event}}, {drop: {name: nowhere}}]}";
    for _ in 0..50 {
        let collector = Collector::start();
        let worker = on_one_core(|| start(&collector, yaml, &[]));
        let observed = Observed::of(worker, &collector);
        assert_eq!(observed.ended.code, Some(0), "{}", observed.ended.stderr);
        observed.assert_shapes(&[("numbers(same(nowhere))", 20)]);
    }
}

/// Scenario: a failing flow, a flow that cannot be built. Guarantee: what happened is exported on these ways
/// out too.
#[test]
fn every_way_out_exports() {
    let failing =
        "flow: {tasks: [{generate: {name: numbers, count: 3}}, {script: {name: ill, code: 'throw 1'}}]}";
    let collector = Collector::start();
    let worker = start(&collector, failing, &[]);
    let observed = Observed::of(worker, &collector);
    assert_eq!(observed.ended.code, Some(3), "{}", observed.ended.stderr);
    assert_eq!(observed.count("ill", "failed"), 3);

    let missing = "flow: {tasks: [{file: {name: in, path: missing.jsonl}}, {drop: {name: nowhere}}]}";
    let collector = Collector::start();
    let worker = start(&collector, missing, &[]);
    let ended = worker.end();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let observed = Observed::after(ended, &collector);
    observed.audit_data();
    let start = observed.spans_named("task_manager.start");
    assert_eq!(start.len(), 1, "{}", observed.ended.stderr);
    assert_eq!(
        start[0].status,
        opentelemetry_proto::tonic::trace::v1::status::StatusCode::Error,
        "{start:?}"
    );
}

/// Scenario: what is in flight at the deadline is cut off. Guarantee: it is exported as cancelled or not at
/// all, and the collector's numbers are those of the spans.
#[test]
fn what_is_cut_off_at_the_deadline_is_in_the_account() {
    let yaml = "
shutdown_timeout: 2s
channel_capacity: 16
flow: {tasks: [{stdin: {name: lines}}, {stdout: {name: out}}]}
";
    let collector = Collector::start();
    let mut worker = start(&collector, yaml, &[]);
    let stdout = worker.stdout();
    let mut stdin = worker.stdin();
    rustix::pipe::fcntl_setpipe_size(&stdout, 4096).unwrap();
    let row = [b"\"".to_vec(), b"x".repeat(8192), b"\"\n".to_vec()].concat();
    std::io::Write::write_all(&mut stdin, &row).unwrap();
    while rustix::io::ioctl_fionread(&stdout).unwrap() == 0 {
        std::thread::yield_now();
    }
    worker.signal(Signal::TERM);
    let ended = worker.wait(String::new());
    assert_eq!(ended.code, Some(4), "{}", ended.stderr);
    let observed = Observed::after(ended, &collector);
    observed.audit_flush();
    assert_eq!(number(&observed.ended.drained(), "cancelled"), 1);
    assert_eq!(observed.count("lines", "completed"), 1);
    assert_eq!(observed.count("out", "cancelled"), 1);
    assert_eq!(observed.handled("out")[0]["outcome"], "cancelled");
    assert_eq!(observed.count("out", "completed"), 0);
    drop((stdin, stdout));
}
