//! What a model of a flow says, held against what the collector got of it.

use std::collections::BTreeMap;

use super::account::assert_conserved;
use crate::support::{
    collector::{Labels, Metrics, Number, Span, Trace},
    walk::Walk,
};

/// Everything that the metrics of one flow say, by metric, task and a further attribute; without zeros.
type Numbers = BTreeMap<(String, String, String), u64>;

/// Metrics of a flow that follow from what its events went through, each with the attribute that is told apart.
const COUNTED: [(&str, &str); 11] = [
    ("task.handle.count", "outcome"),
    ("task.handle.duration", "outcome"),
    ("task.handle.errors", "error.type"),
    ("task.retry.count", ""),
    ("flowgen.flow.entered", "origin"),
    ("flowgen.flow.events", "outcome"),
    ("flowgen.flow.event.duration", "outcome"),
    ("flowgen.task.queue.duration", ""),
    ("flowgen.task.attempt.errors", "error.type"),
    ("flowgen.task.retries", "error.type"),
    ("flowgen.task.retry.delay", "error.type"),
];

/// Metrics of a flow that are zero at its end.
const GONE: [&str; 5] = [
    "flowgen.flow.inflight",
    "flowgen.task.inflight",
    "flowgen.task.queue.depth",
    "flowgen.task.active",
    "flowgen.task.timeouts",
];

/// Checks that the metrics of a flow are those of a model whose tasks fail with `error_type`. What is tried again of
/// `buffered` tasks is not only their events: of those it is checked that what was tried again did not fail for good.
pub(super) fn assert_numbers(
    metrics: &Metrics,
    flow: &str,
    walks: &[Walk],
    error_type: &str,
    buffered: &[usize],
) {
    let (mut found, mut expected) = (counted(metrics, flow), expected(walks, error_type));
    for task in buffered.iter().map(|task| format!("t{task}")) {
        let take = |numbers: &mut Numbers, name: &str| {
            let key = (name.to_owned(), task.clone(), error_type.to_owned());
            numbers.remove(&key).unwrap_or_default()
        };
        let for_good = |numbers: &mut Numbers| {
            take(numbers, "flowgen.task.retry.delay");
            take(numbers, "flowgen.task.attempt.errors") - take(numbers, "flowgen.task.retries")
        };
        assert_eq!(for_good(&mut found), for_good(&mut expected), "{flow} {task}");
    }
    assert_eq!(found, expected, "{flow}");
    for name in GONE {
        for (labels, point) in
            metrics.get(name).into_iter().flatten().filter(|(labels, _)| labels["flow"] == flow)
        {
            let is_zero = matches!(point.number, Number::UpDown(0) | Number::Counter(0))
                || point.number == Number::Gauge(0.0);
            assert!(is_zero, "{name} {labels:?}: {point:?}");
        }
    }
    assert_conserved(metrics);
}

fn counted(metrics: &Metrics, flow: &str) -> Numbers {
    let mut numbers = Numbers::new();
    for (name, key) in COUNTED {
        for (labels, point) in
            metrics.get(name).into_iter().flatten().filter(|(labels, _)| labels["flow"] == flow)
        {
            let (Number::Counter(count) | Number::Histogram { count, .. }) = point.number else {
                panic!("`{name}` counts nothing: {point:?}");
            };
            let of = |key: &str| Labels::get(labels, key).cloned().unwrap_or_default();
            *numbers.entry((name.to_owned(), of("task"), of(key))).or_default() += count;
        }
    }
    numbers.retain(|_, count| *count > 0);
    numbers
}

fn expected(walks: &[Walk], error_type: &str) -> Numbers {
    let mut numbers = Numbers::new();
    let mut add = |name: &str, task: &str, of: &str, count: u64| {
        if count > 0 {
            *numbers.entry((name.to_owned(), task.to_owned(), of.to_owned())).or_default() += count;
        }
    };
    for walk in walks {
        add("flowgen.flow.entered", "", "source", 1);
        for name in ["flowgen.flow.events", "flowgen.flow.event.duration"] {
            add(name, "", walk.settled().name(), 1);
        }
        let source = walk.task;
        walk.each(&mut |walk| {
            let task = format!("t{}", walk.task);
            add("task.handle.count", &task, walk.outcome, 1);
            add("task.handle.duration", &task, walk.outcome, 1);
            add("task.handle.errors", &task, error_type, u64::from(walk.outcome == "failed"));
            add("task.retry.count", &task, "", walk.retries);
            add("flowgen.task.queue.duration", &task, "", u64::from(walk.task != source));
            add("flowgen.task.attempt.errors", &task, error_type, walk.failed_attempts);
            add("flowgen.task.retries", &task, error_type, walk.retries);
            add("flowgen.task.retry.delay", &task, error_type, walk.retries);
        });
    }
    numbers
}

/// Checks that the traces of a flow are those of a model: at a rate of 0 or 1 the sampled ones are none or all, and of
/// the others those that failed are kept, as far as they failed.
pub(super) fn assert_traces(traces: &[Trace], walks: &[Walk], rate: f64) {
    let (kept, sampled): (Vec<&Trace>, Vec<&Trace>) = traces.iter().partition(|trace| trace.root().is_kept());
    let mut left: BTreeMap<String, Vec<&Walk>> = BTreeMap::new();
    for walk in walks {
        left.entry(root_of(walk)).or_default().push(walk);
    }
    let mut take = |trace: &Trace| {
        let root = label(trace.root());
        let walks = left.get_mut(&root).filter(|walks| !walks.is_empty());
        walks.unwrap_or_else(|| panic!("no event is `{root}`: {trace:#?}")).remove(0)
    };
    for trace in &sampled {
        assert!(trace.spans().iter().all(|span| !span.is_kept()), "{trace:#?}");
        assert_eq!(trace.shape(label), take(trace).shape());
    }
    for trace in &kept {
        assert!(trace.spans().iter().all(|span| span["flowgen.kept"] == "error"), "{trace:#?}");
        assert_eq!(Some(trace.shape(label)), take(trace).kept());
    }
    let forgotten = left.values().flatten().filter(|walk| walk.is_failing()).count();
    assert_eq!(forgotten, 0, "failed and not traced: {left:#?}");
    assert!(rate > 0.0 || sampled.is_empty(), "{sampled:#?}");
    assert!(rate < 1.0 || left.values().all(Vec::is_empty), "not sampled: {left:#?}");
}

fn root_of(walk: &Walk) -> String {
    format!("t{}[{}]{}", walk.task, walk.id, walk.outcome)
}

/// The task, the event's id and what became of it.
fn label(span: &Span) -> String {
    match &*span.name {
        "task.retry" => "retry".to_owned(),
        _ => format!("{}[{}]{}", span.text("task"), span.text("flowgen.event.id"), span.text("outcome")),
    }
}
