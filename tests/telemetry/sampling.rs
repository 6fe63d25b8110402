//! What is sampled: a share of the traces, each as a whole, and every number exact all the same.

use std::collections::BTreeMap;

use super::{Observed, account::spans_ended, sample, start_with};
use crate::support::collector::Collector;

const COUNT: u64 = 10_000;

/// A flow with a bit of everything: half of it filtered, a fifth of the rest failed, the rest at two leaves.
const FLOW: &str = "
flow:
  name: mixed
  tasks:
    - generate: {name: numbers, count: 10000}
    - filter: {name: even, condition: 'parse_int(event.id) % 2 == 0'}
    - script: {name: picky, code: 'if event.id.ends_with(\"0\") { throw \"no tens\" } event'}
    - drop: {name: left, depends_on: picky}
    - drop: {name: right, depends_on: picky}
";

fn at_rate(rate: f64) -> Observed {
    let collector = Collector::start();
    Observed::of_some(start_with(&collector, FLOW, &[], |command| sample(rate, command)), &collector)
}

/// Checks that every event of every task is counted.
fn assert_exact(observed: &Observed) {
    let metrics = &observed.metrics;
    let expected = BTreeMap::from([
        (("numbers", "completed"), COUNT),
        (("even", "completed"), COUNT / 2),
        (("even", "filtered"), COUNT / 2),
        (("picky", "completed"), COUNT / 10 * 4),
        (("picky", "failed"), COUNT / 10),
        (("left", "completed"), COUNT / 10 * 4),
        (("right", "completed"), COUNT / 10 * 4),
    ]);
    for name in ["task.handle.count", "task.handle.duration"] {
        for (&(task, outcome), count) in &expected {
            let of = [("task", task), ("outcome", outcome)];
            let counted = match name {
                "task.handle.count" => metrics.counter(name, &of),
                _ => metrics.histogram_count(name, &of),
            };
            assert_eq!(counted, *count, "{name} {of:?}");
        }
    }
    assert_eq!(metrics.counter("task.handle.count", &[]), expected.values().sum::<u64>());
    assert_eq!(
        metrics.counter("task.handle.errors", &[("task", "picky"), ("error.type", "script")]),
        COUNT / 10
    );
    assert_eq!(metrics.counter("task.handle.errors", &[]), COUNT / 10);
    let flow = ["completed", "filtered", "failed"]
        .map(|outcome| metrics.counter("flowgen.flow.events", &[("outcome", outcome)]));
    assert_eq!(flow, [COUNT / 10 * 4, COUNT / 2, COUNT / 10]);
}

/// Scenario: 10,000 events at several rates. Guarantee: the numbers are the same at each, the share of the traces is as
/// large as it should be, and what is exported is whole, with every parent there (the audit).
#[test]
fn numbers_are_exact_and_shares_right_at_every_rate() {
    for rate in [0.0, 0.01, 0.5, 1.0] {
        let observed = at_rate(rate);
        assert_exact(&observed);
        let shapes = observed.shapes();
        let known =
            ["numbers(even(picky(left right)))", "numbers(even(picky:failed))", "numbers(even:filtered)"];
        assert!(shapes.keys().all(|shape| known.contains(&&**shape)), "{shapes:?}");
        let traces = shapes.values().sum::<usize>() as f64;
        // Five standard deviations of a binomial distribution.
        let slack = 5.0 * (COUNT as f64 * rate * (1.0 - rate)).sqrt();
        assert!((traces - COUNT as f64 * rate).abs() <= slack, "{traces} traces at a rate of {rate}");
        assert_eq!(observed.spans_named("task.run").len(), 5, "lifecycle spans are always exported");
        let started = observed.metrics.counter("otel.sdk.span.started", &[]);
        let lifecycle = 1 + 5 + 5 + 1;
        assert_eq!(started, observed.metrics.counter("task.handle.count", &[]) + lifecycle);
        assert_eq!(started, spans_ended(&observed.metrics));
    }
}
