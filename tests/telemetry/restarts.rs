//! Flows that come and go for as long as the worker lives: nothing of them is left but what they counted.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use flowgen::{
    plan::Plan,
    telemetry::{Settings, Telemetry},
};
use tokio::runtime::{Builder, Runtime};

use super::account::assert_conserved;
use crate::support::{
    collector::{Labels, Metrics, Number},
    graph::{flow, node, plan},
    own_process,
    tasks::{counting, numbers, slow},
};

const FLOWS: usize = 400;
const TASKS: usize = 25;
const EVENTS: u64 = 7;

/// How many flows come and go before it is looked at what that takes.
const WARM_UP: usize = FLOWS / 4;

/// What may be taken beyond that, in KiB.
const SLACK: u64 = 16 << 10;

/// Returns the name of the n-th flow: every second one is called the same.
fn name(n: usize) -> String {
    if n.is_multiple_of(2) { "same".to_owned() } else { format!("other-{n}") }
}

/// A chain of tasks.
fn chain(name: &str) -> Plan {
    let mut tasks = vec![node("t0", vec![1], || numbers(EVENTS))];
    tasks.extend(
        (1..TASKS - 1)
            .map(|n| node(&format!("t{n}"), vec![n + 1], || counting(&Arc::new(AtomicU64::new(0))))),
    );
    tasks.push(node(&format!("t{}", TASKS - 1), vec![], || slow(Duration::ZERO, |_| Ok(()))));
    plan(vec![flow(name, tasks)], 16)
}

/// Returns the resident memory in KiB, and the number of threads.
fn taken() -> (u64, usize) {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let memory = line.trim().trim_end_matches(" kB").parse().unwrap();
    (memory, fs::read_dir("/proc/self/task").unwrap().count())
}

/// Lets these flows come and go.
fn run(runtime: &Runtime, telemetry: &Telemetry, flows: std::ops::Range<usize>) {
    for n in flows {
        runtime.block_on(own_process::run(chain(&name(n)), telemetry));
    }
}

/// Lets flows come and go, and sees to it that they leave nothing behind.
fn come_and_go(settings: Settings) {
    let settings =
        Settings { trace_sample_rate: 0.0, metrics_export_interval: Duration::from_millis(50), ..settings };
    let telemetry = own_process::start(&settings);
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    run(&runtime, &telemetry, 0..WARM_UP);
    let (memory, threads) = taken();
    run(&runtime, &telemetry, WARM_UP..FLOWS);
    let (memory_after, threads_after) = taken();
    assert_eq!(threads_after, threads, "a thread was left behind");
    assert!(memory_after < memory + SLACK, "{memory} KiB have become {memory_after}");
    own_process::flush(telemetry);
}

/// What a series has counted in all, each time that it began anew.
#[derive(Debug, Default)]
struct Total(BTreeMap<u64, u64>);

/// Returns what every series of a flow has counted, in all its lives.
fn totals(collections: &[Metrics], flow: &str) -> BTreeMap<(String, Labels), u64> {
    let mut totals = BTreeMap::<(String, Labels), Total>::new();
    for metrics in collections {
        for name in metrics.names() {
            let of_flow =
                metrics.of(name).iter().filter(|(labels, _)| labels.get("flow").is_some_and(|of| of == flow));
            for (labels, point) in of_flow {
                let (Number::Counter(count) | Number::Histogram { count, .. }) = point.number else {
                    continue;
                };
                let total = totals.entry((name.to_owned(), labels.clone())).or_default();
                let earlier = total.0.insert(point.start, count);
                assert!(earlier.unwrap_or_default() <= count, "`{name}` {labels:?} goes down");
            }
        }
    }
    let counted = totals.into_iter().map(|(series, total)| (series, total.0.values().sum()));
    counted.filter(|(_, count)| *count > 0).collect()
}

/// What so many runs of a flow must have counted.
fn expected(flow: &str, runs: u64) -> BTreeMap<(String, Labels), u64> {
    let mut expected = BTreeMap::new();
    let mut add = |name: &str, labels: &[(&str, &str)], count| {
        let labels = [labels, &[("flow", flow)]].concat();
        let labels = labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
        expected.insert((name.to_owned(), labels.collect()), count);
    };
    add("flowgen.flow.entered", &[("origin", "source")], runs * EVENTS);
    for name in ["flowgen.flow.events", "flowgen.flow.event.duration"] {
        add(name, &[("outcome", "completed")], runs * EVENTS);
    }
    for task in (0..TASKS).map(|n| format!("t{n}")) {
        let of_span = [("task", &*task), ("task_type", "test"), ("outcome", "completed")];
        for (name, count) in [("task.handle", EVENTS), ("task.run", 1), ("task_manager.register", 1)] {
            add(&format!("{name}.count"), &of_span, runs * count);
            add(&format!("{name}.duration"), &of_span, runs * count);
        }
        if task != "t0" {
            add("flowgen.task.queue.duration", &[("task", &task)], runs * EVENTS);
        }
        add("flowgen.task.starts", &[("task", &task)], runs);
        add("flowgen.task.stops", &[("task", &task), ("reason", "completed")], runs);
    }
    expected
}

/// Returns the flows that a collection has series of.
fn flows(metrics: &Metrics) -> BTreeSet<&str> {
    let labels = metrics.names().flat_map(|name| metrics.of(name).keys());
    labels.filter_map(|labels| labels.get("flow")).map(String::as_str).collect()
}

/// Returns the flows that a collection tells to be done.
fn done(metrics: &Metrics) -> BTreeSet<&str> {
    let states = metrics.get("flowgen.flow.state").into_iter().flatten();
    let done =
        states.filter(|(labels, point)| labels["state"] == "done" && point.number == Number::Gauge(1.0));
    done.map(|(labels, _)| &*labels["flow"]).collect()
}

/// Scenario: flows of ten thousand tasks in all are started and drained, one after the other; every second one has the
/// same name. Guarantee: memory and threads stay what they were (the process looks), the series of a flow that is gone
/// are gone as soon as they have arrived, and nothing that any of them has counted is lost.
#[test]
fn flows_that_come_and_go_leave_nothing_but_their_numbers() {
    if let Some(settings) = own_process::settings() {
        return come_and_go(settings);
    }
    let this = "telemetry::restarts::flows_that_come_and_go_leave_nothing_but_their_numbers";
    let collector = own_process::run_again(this);
    let collections = collector.received().collections();
    collections.iter().for_each(assert_conserved);

    let mut seen_done = BTreeMap::<&str, usize>::new();
    for flow in collections.iter().flat_map(done).filter(|flow| *flow != "same") {
        *seen_done.entry(flow).or_default() += 1;
    }
    // Its last numbers, those that came with them before it was quite gone, and one more time if that was in between.
    let lingering: Vec<_> = seen_done.iter().filter(|(_, times)| **times > 3).collect();
    assert!(lingering.is_empty(), "{lingering:?}");
    let all: BTreeSet<&str> = collections.iter().flat_map(flows).collect();
    assert_eq!(all.len(), FLOWS / 2 + 1, "every flow was told of");
    let last = flows(collections.last().unwrap());
    assert!(!last.contains("other-1"), "{last:?}");

    assert_eq!(totals(&collections, "same"), expected("same", FLOWS as u64 / 2));
    for n in (1..FLOWS).step_by(50) {
        assert_eq!(totals(&collections, &name(n)), expected(&name(n), 1), "{n}");
    }
}
