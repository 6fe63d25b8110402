//! Flows that come and go for as long as the worker lives: nothing of them is left but what they counted.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read as _, Write as _},
    ops::Range,
    sync::{Arc, Condvar, Mutex, atomic::AtomicU64, mpsc},
    thread,
    time::Duration,
};

use flowgen::{
    plan::Plan,
    telemetry::{Settings, Telemetry},
};
use tokio::runtime::{Builder, Runtime};

use super::account::assert_conserved;
use crate::support::{
    collector::{Answer, Collector, Labels, Metrics, Number, Signal},
    graph::{flow, node, plan},
    own_process,
    tasks::{counting, numbers, slow},
};

const FLOWS: usize = 400;
const TASKS: usize = 25;
const EVENTS: u64 = 7;

/// How many of them come and go before it is waited for exports.
const BATCH: usize = 20;

/// As many are there at once at most, as it takes its time until an export is known to have arrived.
const LATEST: usize = 3 * BATCH;

/// What those that come after these leave behind is looked at.
const WARM_UP: usize = 5 * BATCH;

/// What may be taken beyond that, in KiB.
const SLACK: u64 = 8 << 10;

const PATIENCE: Duration = Duration::from_secs(60);

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

/// Counts the exports of metrics that have arrived, of which the collector tells on stdin.
#[derive(Clone, Default)]
struct Exports(Arc<(Mutex<u64>, Condvar)>);

impl Exports {
    fn follow() -> Self {
        let exports = Self::default();
        let told = exports.clone();
        thread::spawn(move || {
            for byte in std::io::stdin().lock().bytes() {
                byte.unwrap();
                *told.0.0.lock().unwrap() += 1;
                told.0.1.notify_all();
            }
        });
        exports
    }

    /// Waits for so many more.
    fn wait(&self, more: u64) {
        let (count, changed) = &*self.0;
        let count = count.lock().unwrap();
        let enough = *count + more;
        let (count, timeout) = changed.wait_timeout_while(count, PATIENCE, |count| *count < enough).unwrap();
        assert!(!timeout.timed_out(), "nothing is exported any more after {count}");
    }
}

/// Lets these flows come and go. In between, all that they have to tell arrives.
fn run(runtime: &Runtime, telemetry: &Telemetry, exports: &Exports, flows: Range<usize>) {
    for n in flows {
        runtime.block_on(own_process::run(chain(&name(n)), telemetry));
        if (n + 1).is_multiple_of(BATCH) {
            // One may be on its way already; the next one has the last numbers, the one after that has none.
            exports.wait(3);
        }
    }
}

/// Lets flows come and go, and sees to it that they leave nothing behind.
fn come_and_go(settings: Settings) {
    let settings =
        Settings { trace_sample_rate: 0.0, metrics_export_interval: Duration::from_millis(20), ..settings };
    let telemetry = own_process::start(&settings);
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let exports = Exports::follow();
    run(&runtime, &telemetry, &exports, 0..WARM_UP);
    let (memory, threads) = taken();
    run(&runtime, &telemetry, &exports, WARM_UP..FLOWS);
    let (memory_after, threads_after) = taken();
    assert_eq!(threads_after, threads, "a thread was left behind");
    assert!(memory_after < memory + SLACK, "{memory} KiB have become {memory_after}");
    own_process::flush(telemetry);
}

/// What a series has counted in all, each time that it began anew.
#[derive(Debug, Default)]
struct Total(BTreeMap<u64, u64>);

/// Returns what every series of a flow has counted, in all its lives.
pub(super) fn totals(collections: &[Metrics], flow: &str) -> BTreeMap<(String, Labels), u64> {
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
pub(super) fn flows(metrics: &Metrics) -> BTreeSet<&str> {
    let labels = metrics.names().flat_map(|name| metrics.of(name).keys());
    labels.filter_map(|labels| labels.get("flow")).map(String::as_str).collect()
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
    let (tell, told) = mpsc::channel();
    let collector = Collector::scripted(move |call| {
        if call.signal == Signal::Metrics {
            // Nobody listens any more once the process has ended.
            let _ = tell.send(());
        }
        Answer::Accept
    });
    own_process::run_with(&collector, this, |mut stdin| {
        let mut is_there = |()| stdin.write_all(b"1").is_ok();
        told.into_iter().all(&mut is_there);
    });
    let collections = collector.received().collections();
    collections.iter().for_each(assert_conserved);

    let most = collections.iter().map(|metrics| flows(metrics).len()).max().unwrap();
    assert!(most <= LATEST, "series of {most} flows are there at once");
    let latest: BTreeSet<String> = (FLOWS - LATEST..FLOWS).map(name).collect();
    let last = flows(collections.last().unwrap());
    assert!(last.iter().all(|flow| latest.contains(*flow)), "{last:?}");
    let all: BTreeSet<&str> = collections.iter().flat_map(flows).collect();
    assert_eq!(all.len(), FLOWS / 2 + 1, "every flow was told of");

    assert_eq!(totals(&collections, "same"), expected("same", FLOWS as u64 / 2));
    for n in (1..FLOWS).step_by(50) {
        assert_eq!(totals(&collections, &name(n)), expected(&name(n), 1), "{n}");
    }
}
