//! What reloads leave: spans and numbers of their own, those of flows that they do not touch as they were, and nothing of
//! flows that are gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use rustix::process::Signal;
use serde_json::Value;

use super::{
    Observed,
    account::assert_conserved,
    export_to,
    restarts::{flows, totals},
    sample,
};
use crate::support::{
    collector::{Collector, Labels, Metrics, Number, Span},
    worker::{Ended, Worker},
};

/// Starts a worker of these files that exports metrics so often, and this share of the traces.
pub(super) fn start(collector: &Collector, files: &[(&str, &str)], interval: &str, rate: f64) -> Worker {
    let folder = tempfile::tempdir().unwrap();
    files.iter().for_each(|(name, text)| fs::write(folder.path().join(name), text).unwrap());
    let worker = Worker::start_in(folder, &["run", "."], |command| {
        export_to(&collector.endpoint(), command);
        command.env("FLOWGEN_TELEMETRY__METRICS_EXPORT_INTERVAL", interval);
        command.env("RUST_LOG", "info,flowgen::runtime::restart=debug");
        sample(rate, command);
    });
    // Before that a signal may end it at once.
    worker.until_logged("task started");
    worker
}

/// Writes a file as a whole and asks for a reload. Returns what the line says that tells what became of it.
pub(super) fn reload(worker: &Worker, name: &str, text: &str) -> String {
    let path = worker.folder.path();
    fs::write(path.join("new"), text).unwrap();
    fs::rename(path.join("new"), path.join(name)).unwrap();
    worker.signal(Signal::HUP);
    loop {
        let line: Value = serde_json::from_str(&worker.next_logged("\"reload ")).unwrap();
        let message = line["message"].as_str().unwrap();
        if message != "reload begins" {
            return message.to_owned();
        }
    }
}

fn waiting(name: &str, interval: &str, tasks: &str) -> String {
    format!("flow: {{name: {name}, tasks: [{{generate: {{name: numbers, interval: {interval}}}}}{tasks}]}}")
}

#[test]
fn each_reload_is_a_trace_of_its_own_with_the_tasks_that_it_builds() {
    let collector = Collector::start();
    let nowhere = ", {drop: {name: nowhere}}";
    let files = [("a.yaml", &*waiting("a", "1h", nowhere)), ("b.yaml", &waiting("b", "1h", nowhere))];
    let worker = start(&collector, &files, "1h", 1.0);
    let told = [
        reload(&worker, "a.yaml", &waiting("a", "2h", nowhere)),
        reload(&worker, "a.yaml", &waiting("a", "2h", ", {}")),
        reload(&worker, "a.yaml", &waiting("a", "2h", ", {file: {name: in, path: absent}}")),
        reload(&worker, "a.yaml", &waiting("a", "2h", nowhere)),
        reload(&worker, "c.yaml", &waiting("c", "1h", "")),
    ];
    let refused = "reload refused: nothing has changed";
    let expected = ["reload applied", refused, refused, "reload found nothing changed", "reload applied"];
    assert_eq!(told, expected);
    worker.signal(Signal::TERM);
    let observed = Observed::of(worker, &collector);

    let reloads = observed.spans_named("flow.reload");
    let outcomes = ["applied", "failed", "failed", "unchanged", "applied"];
    let counts = [(0, 0, 1), (0, 0, 0), (0, 0, 0), (0, 0, 0), (1, 0, 0)];
    let generations = [2, 2, 2, 2, 3];
    let errors = [Value::Null, "config".into(), "build".into(), Value::Null, Value::Null];
    assert_eq!(reloads.len(), outcomes.len(), "{reloads:#?}");
    for (n, span) in reloads.iter().enumerate() {
        let number = |key: &str| span[&*format!("flowgen.reload.{key}")].as_u64().unwrap();
        assert_eq!(span["flowgen.reload.outcome"], outcomes[n], "{span:?}");
        assert_eq!((number("started"), number("stopped"), number("restarted")), counts[n], "{span:?}");
        assert_eq!((number("generation"), &span["error.type"]), (generations[n], &errors[n]), "{span:?}");
        assert_eq!(span["flowgen.reload.cause"], "SIGHUP", "{span:?}");
        assert!(span.parent.is_none(), "{span:?}");
    }
    // Those of the worker's start, of what was taken over, and of what could not be built.
    let below = |span: &Span| {
        let tasks = observed.spans_named("task_manager.register").into_iter();
        let tasks = tasks.filter(|task| task.parent == Some(span.span_id));
        tasks.map(|task| format!("{}.{}", task.text("flow"), task.text("task"))).collect::<Vec<_>>()
    };
    let tasks = reloads.iter().map(|span| below(span)).collect::<Vec<_>>();
    let none: [&str; 0] = [];
    assert_eq!(tasks[0], ["a.numbers", "a.nowhere"]);
    assert_eq!(
        (&tasks[1], &tasks[3]),
        (&none.map(str::to_owned).to_vec(), &none.map(str::to_owned).to_vec())
    );
    assert_eq!(tasks[2], ["a.numbers", "a.in"]);
    assert_eq!(tasks[4], ["c.numbers"]);
    let runs =
        |flow: &str| observed.spans_named("task.run").iter().filter(|span| span["flow"] == *flow).count();
    assert_eq!([runs("a"), runs("b"), runs("c")], [4, 2, 1]);
    for (outcome, count) in [("applied", 2), ("unchanged", 1), ("failed", 2), ("cancelled", 0)] {
        let counted = observed.metrics.counter("flowgen.reloads", &[("outcome", outcome)]);
        assert_eq!(counted, count, "{outcome}");
    }
}

/// How many reloads there are, every second one of a broken file.
const RELOADS: usize = 100;
/// What those that come after these take is looked at.
const WARM_UP: usize = 30;

/// What may be taken beyond that: memory in KiB, threads, and open files.
const SLACK: (u64, usize, usize) = (12 << 10, 4, 4);

/// As many flows are there at once at most, as it takes its time until an export is known to have arrived.
const MOST_FLOWS: usize = 40;

const STEADY: &str = "
flow:
  name: steady
  tasks:
    - generate: {name: numbers, rate: 3000}
    - script: {name: numbered, code: 'event.data.n = parse_int(event.id); event'}
    - file_write: {name: out, path: steady.jsonl}
";

/// Of each generation another flow.
fn changing(generation: usize) -> String {
    format!(
        "
flows:
  - name: changing
    tasks:
      - generate: {{name: numbers, rate: 3000, payload: {{generation: {generation}}}}}
      - script: {{name: numbered, code: 'event.data.n = parse_int(event.id); event'}}
      - file_write: {{name: out, path: changing.jsonl}}
  - name: passing-{generation}
    tasks:
      - generate: {{name: numbers, count: 10}}
      - script: {{name: same, code: event}}
      - drop: {{name: nowhere}}
"
    )
}

/// What is wrong in one way or another.
fn broken(generation: usize) -> String {
    let right = changing(generation);
    match generation % 4 {
        0 => right.replace("flows:", "flows: ["),
        1 => right.replace("payload", "paylaod"),
        2 => right.replace("- drop: {name: nowhere}", "- file: {name: in, path: absent}"),
        _ => format!("cache: {{max_entries: {generation}}}\n{right}"),
    }
}

/// Returns what a worker takes: memory in KiB, threads, and open files.
fn taken(worker: &Worker) -> (u64, usize, usize) {
    (worker.memory("VmRSS"), worker.thread_count(), worker.open_files())
}

/// Checks that what a flow wrote is every event of each of its generations, in order.
fn assert_complete(ended: &Ended, flow: &str) -> u64 {
    let mut entered = ended.logged("flow drained").into_iter().filter(|line| line["flow"] == flow);
    let mut entered_next = || entered.next().map(|line| line["entered"].as_u64().unwrap());
    let (mut generation, mut expected, mut left, mut sum) = (Value::Null, 0, 0, 0);
    for (n, line) in ended.lines(format!("{flow}.jsonl")).into_iter().enumerate() {
        let row: Value = serde_json::from_str(&line).unwrap();
        if n == 0 || row["generation"] != generation {
            assert_eq!(left, 0, "of {generation} some are missing");
            // One that was replaced at once may have no event.
            left = std::iter::from_fn(&mut entered_next).find(|count| *count > 0).unwrap();
            (generation, expected, sum) = (row["generation"].clone(), 0, sum + left);
        }
        assert_eq!(row["n"], expected, "{row}");
        (expected, left) = (expected + 1, left - 1);
    }
    assert_eq!((left, std::iter::from_fn(entered_next).sum::<u64>()), (0, 0), "some are missing at the end");
    sum
}

/// Checks that a series which begins anew does so after its last point of before.
fn assert_lives_do_not_overlap(collections: &[Metrics]) {
    let mut latest = BTreeMap::<(&str, &Labels), (u64, u64)>::new();
    for metrics in collections {
        for name in metrics.names() {
            for (labels, point) in metrics.of(name) {
                let (start, time) = latest.entry((name, labels)).or_insert((point.start, 0));
                assert!(*start == point.start || *time <= point.start, "`{name}` {labels:?}: {point:?}");
                (*start, *time) = (point.start, point.time);
            }
        }
    }
}

/// Returns how many series a collection has.
fn series(metrics: &Metrics) -> usize {
    metrics.names().map(|name| metrics.of(name).len()).sum()
}

/// Scenario: under load a flow is changed fifty times, another one comes and goes each time, and in between there are fifty
/// broken files. Guarantee: no event is lost, a flow that does not change does not notice, the numbers are exact, and
/// memory, threads, files and series stay what they were.
#[test]
fn a_hundred_reloads_under_load_lose_nothing_and_leave_nothing_behind() {
    let collector = Collector::start();
    let worker = start(&collector, &[("steady.yaml", STEADY), ("changing.yaml", &changing(0))], "50ms", 0.0);
    let mut before = None;
    for n in 1..=RELOADS {
        if n == WARM_UP {
            before = Some(taken(&worker));
        }
        let message = if n.is_multiple_of(2) {
            (reload(&worker, "changing.yaml", &changing(n)), "reload applied")
        } else {
            (reload(&worker, "changing.yaml", &broken(n / 2)), "reload refused: nothing has changed")
        };
        assert_eq!(message.0, message.1, "{n}");
        // It has something to do meanwhile.
        let arrived = collector.received().metric_calls();
        collector.wait_until(|received| received.metric_calls() > arrived);
    }
    let (before, after) = (before.unwrap(), taken(&worker));
    let is_flat =
        after.0 < before.0 + SLACK.0 && after.1 <= before.1 + SLACK.1 && after.2 <= before.2 + SLACK.2;
    assert!(is_flat, "{before:?} has become {after:?}");
    let last = format!("passing-{RELOADS}");
    let there = BTreeSet::from(["steady", "changing", &*last]);
    collector.wait_until(|received| flows(&received.latest()) == there);
    worker.signal(Signal::TERM);
    let ended = worker.ends_in_time();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let received = collector.received();
    let collections = received.collections();

    let steady = assert_complete(&ended, "steady");
    let of_changing = assert_complete(&ended, "changing");
    let drained = ended.logged("flow drained");
    assert_eq!(drained.len(), 1 + 2 * (1 + RELOADS / 2), "{}", ended.stderr);
    assert!(drained.iter().all(|line| line["entered"] == line["completed"]), "{}", ended.stderr);

    collections.iter().for_each(assert_conserved);
    assert_lives_do_not_overlap(&collections);
    for (flow, entered) in [("steady", steady), ("changing", of_changing)] {
        let totals = totals(&collections, flow);
        let handled =
            |(name, _): &&(String, Labels)| name == "task.handle.count" || name == "flowgen.flow.entered";
        let counts: Vec<u64> = totals.keys().filter(handled).map(|key| totals[key]).collect();
        assert_eq!(counts, [entered; 4], "{flow}: {totals:#?}");
        let runs: u64 =
            totals.iter().filter(|((name, _), _)| name == "flowgen.task.starts").map(|(_, n)| n).sum();
        assert_eq!(runs as usize, if flow == "steady" { 3 } else { 3 * (1 + RELOADS / 2) });
    }
    let passing: BTreeSet<&str> =
        collections.iter().flat_map(flows).filter(|flow| flow.starts_with("passing")).collect();
    assert_eq!(passing.len(), 1 + RELOADS / 2, "every flow was told of");
    let most = collections.iter().map(|metrics| flows(metrics).len()).max().unwrap();
    assert!(most <= MOST_FLOWS, "series of {most} flows are there at once");
    let last = collections.last().unwrap();
    assert!(series(last) < 2 * series(&collections[1]), "{} series", series(last));
    // What is collected after all flows have ended may be without it.
    let told = collections.iter().rev().find(|metrics| metrics.get("flowgen.reloads").is_some()).unwrap();
    for (outcome, count) in [("applied", 50), ("failed", 50), ("unchanged", 0)] {
        let Number::Counter(counted) = told.select("flowgen.reloads", &[("outcome", outcome)])[0].1.number
        else {
            panic!()
        };
        assert_eq!(counted, count, "{outcome}");
    }
    assert_eq!(received.spans().iter().filter(|span| span.name == "flow.reload").count(), RELOADS);
}
