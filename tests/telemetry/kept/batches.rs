//! Batches of many events: a batch that fails is exported with the whole ways of what is in it.

use std::collections::BTreeSet;

use super::keep;
use crate::{
    support::collector::{Collector, Span},
    telemetry::{Observed, keep_only, observe, sample, start_with},
};

/// Numbers from 0 as JSON lines.
fn rows(count: u64) -> Vec<u8> {
    (0..count).map(|n| format!("{n}\n")).collect::<String>().into_bytes()
}

/// Where a span stands.
fn place(span: &Span) -> (u128, u64) {
    (span.trace_id, span.span_id)
}

/// Returns what a flush was made of: the span that it is below, and those that it is linked to.
fn parts(flush: &Span) -> Vec<(u128, u64)> {
    [(flush.trace_id, flush.parent.unwrap())].into_iter().chain(flush.links.iter().copied()).collect()
}

#[test]
fn a_batch_goes_on_in_the_trace_of_its_last_event_and_is_linked_to_the_others() {
    let yaml = "
flow:
  tasks:
    - file: {name: in, path: input}
    - buffer: {name: batch, size: 4}
    - drop: {name: nowhere}
";
    let observed = observe(yaml, &[("input", &rows(10))]);
    observed.assert_shapes(&[("in(batch)", 7), ("in(batch(task.flush(nowhere)))", 3)]);
    let mut flushes = observed.spans_named("task.flush");
    flushes.sort_by_key(|flush| flush.start);
    let mut handled = observed.handled("batch");
    handled.sort_by_key(|span| span.start);
    for (flush, chunk) in flushes.iter().zip(handled.chunks(4)) {
        let expected: Vec<_> = chunk.iter().rev().map(|span| place(span)).collect();
        assert_eq!(parts(flush), expected);
        assert_eq!((flush.text("task"), flush.text("outcome")), ("batch", "completed"));
        assert!(flush["flowgen.event.id"].is_null(), "{flush:?}");
    }
    assert_eq!(observed.metrics.counter("task.flush.count", &[("task", "batch")]), 3);
}

/// Scenario: half of the traces are sampled. Guarantee: a batch is below an event whose trace is exported if there is one,
/// and linked to nothing that is not.
#[test]
fn a_batch_stands_where_somebody_can_see_it() {
    let yaml = "
flow:
  tasks:
    - file: {name: in, path: input}
    - buffer: {name: batch, size: 3}
    - drop: {name: nowhere}
";
    let observed = {
        let collector = Collector::start();
        let worker = start_with(&collector, yaml, &[("input", &rows(300))], |command| sample(0.5, command));
        Observed::of_some(worker, &collector)
    };
    let handled: BTreeSet<_> = observed.handled("batch").into_iter().map(place).collect();
    assert!((100..200).contains(&handled.len()), "{}", handled.len());
    let in_batches: Vec<_> = observed.spans_named("task.flush").into_iter().flat_map(parts).collect();
    assert_eq!(in_batches.len(), handled.len());
    assert_eq!(in_batches.into_iter().collect::<BTreeSet<_>>(), handled);
    assert_eq!(observed.metrics.counter("task.flush.count", &[("task", "batch")]), 100);
}

/// Scenario: of three batches the second fails, two tasks further on. Guarantee: the ways of all events that are in it are
/// exported whole, and nothing else.
#[test]
fn a_batch_that_fails_is_kept_with_all_that_is_in_it() {
    let yaml = "
flow:
  tasks:
    - file: {name: in, path: input}
    - script: {name: same, code: event}
    - buffer: {name: batch, size: 4}
    - script: {name: well, code: event}
    - script: {name: ill, code: 'if event.data.batch.contains(5) { throw 1 } event'}
";
    let observed = keep(yaml, &[("input", &rows(12))]);
    observed.assert_shapes(&[("in(same(batch))", 3), ("in(same(batch(task.flush(well(ill:failed)))))", 1)]);
    let ids: BTreeSet<_> =
        observed.handled("batch").iter().map(|span| span.text("flowgen.event.id").to_owned()).collect();
    assert_eq!(ids, ["input:10", "input:12", "input:14", "input:8"].map(str::to_owned).into());
    let flushes = observed.spans_named("task.flush");
    assert_eq!(flushes.len(), 1);
    let handled: BTreeSet<_> = observed.handled("batch").into_iter().map(place).collect();
    assert_eq!(parts(flushes[0]).into_iter().collect::<BTreeSet<_>>(), handled);
    assert_eq!((observed.kept(), observed.ended.drained()["failed"].as_u64()), (4, Some(4)));
}

/// Scenario: a batch of 200 fails in both branches below it. Guarantee: as many events are kept as the flush is linked to,
/// and every span once.
#[test]
fn no_more_of_a_batch_is_kept_than_it_is_linked_to() {
    let yaml = "
flow:
  tasks:
    - file: {name: in, path: input}
    - buffer: {name: batch, size: 200}
    - script: {name: left, depends_on: batch, code: throw 1}
    - script: {name: right, depends_on: batch, code: throw 1}
";
    let observed = keep(yaml, &[("input", &rows(200))]);
    observed.assert_shapes(&[("in(batch)", 128), ("in(batch(task.flush(left:failed right:failed)))", 1)]);
    let flush = observed.spans_named("task.flush")[0];
    assert_eq!((flush.links.len(), flush.dropped_links), (128, 71));
    assert_eq!((observed.kept(), observed.ended.drained()["failed"].as_u64()), (129, Some(200)));
}

#[test]
fn a_batch_of_batches_is_kept_with_all_that_is_in_them() {
    let yaml = "
flow:
  tasks:
    - file: {name: in, path: input}
    - buffer: {name: small, size: 2}
    - buffer: {name: large, size: 3}
    - script: {name: ill, code: throw 1}
";
    let observed = keep(yaml, &[("input", &rows(6))]);
    observed.assert_shapes(&[
        ("in(small)", 3),
        ("in(small(task.flush(large)))", 2),
        ("in(small(task.flush(large(task.flush(ill:failed)))))", 1),
    ]);
}

/// Scenario: both branches of each event are in one batch, which fails. Guarantee: what they have in common is exported
/// once.
#[test]
fn branches_that_meet_in_a_batch_are_told_once() {
    let yaml = "
flow:
  tasks:
    - file: {name: in, path: input}
    - script: {name: left, depends_on: in, code: event}
    - script: {name: right, depends_on: in, code: event}
    - buffer: {name: batch, depends_on: [left, right], size: 4}
    - script: {name: ill, code: throw 1}
";
    let observed = keep(yaml, &[("input", &rows(2))]);
    assert_eq!(observed.traces().len(), 2);
    let counts = ["in", "left", "right", "batch", "ill"].map(|task| observed.handled(task).len());
    assert_eq!(counts, [2, 2, 2, 4, 1]);
}

/// Scenario: every event is slow by what is asked for, and waits for its batch. Guarantee: all that is in it is kept.
#[test]
fn a_batch_that_took_too_long_is_kept_with_all_that_is_in_it() {
    let yaml = "
flow:
  tasks:
    - file: {name: in, path: input}
    - buffer: {name: batch, size: 3}
    - drop: {name: nowhere}
";
    let collector = Collector::start();
    let worker = start_with(&collector, yaml, &[("input", &rows(6))], |command| {
        keep_only(command);
        command.env("FLOWGEN_TELEMETRY__KEEP_TRACES__SLOWER_THAN", "1ns");
    });
    let observed = Observed::of_some(worker, &collector);
    observed.audit_kept("slow");
    observed.assert_shapes(&[("in(batch)", 4), ("in(batch(task.flush(nowhere)))", 2)]);
}
