//! Dead letters: stored, looked at, replayed and removed.

use std::{collections::BTreeSet, fs, path::Path, process::Output};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    collector::{Collector, traces},
    flowgen,
    http::{self, Server, response},
    worker::{Ended, Worker},
};

/// A flow that stores what its script throws at, unless that is mended.
fn flow(limit: u64) -> String {
    format!(
        "
state: {{path: state}}
flow:
  name: orders
  tasks:
    - file: {{name: read, path: input}}
    - script:
        name: check
        on_error: dead_letter
        code: |
          if event.data.n >= {limit} {{ throw `too large` }}
          event
    - file_write: {{name: out, path: out}}
"
    )
}

fn lines(numbers: impl IntoIterator<Item = u64>) -> String {
    numbers.into_iter().map(|n| format!("{{\"n\":{n}}}\n")).collect()
}

/// Starts the worker of a flow in a folder where one ran before.
fn again(ended: Ended, yaml: &str, prepare: impl FnOnce(&mut std::process::Command)) -> Worker {
    let before = ended.folder;
    Worker::start_with(yaml, &[], |command| {
        // What it finds is what the other one left.
        fs::write(before.path().join("flow.yaml"), yaml).unwrap();
        command.current_dir(before.keep());
        prepare(command);
    })
}

fn dlq(folder: &Path, words: &str) -> Output {
    let words = words.split(' ').filter(|word| !word.is_empty());
    flowgen(folder).arg("dlq").args(words).args(["--state", "state"]).output().unwrap()
}

fn listed(folder: &Path, words: &str) -> Vec<Value> {
    let output = dlq(folder, &format!("{words} --output json"));
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn numbers(letters: &[Value]) -> Vec<u64> {
    letters.iter().map(|letter| letter["number"].as_u64().unwrap()).collect()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Scenario: one event of a hundred cannot be handled until its task is mended. Guarantee: it is stored with all that is
/// known of it, the others arrive, and once it is replayed it arrives too and is stored no more.
#[test]
fn a_poisoned_event_is_stored_and_replayed_once_its_task_is_mended() {
    let ended = Worker::start(&flow(99), &[("input", lines(0..100).as_bytes())]).end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let drained = ended.drained();
    assert_eq!((&drained["completed"], &drained["dead_lettered"]), (&json!(99), &json!(1)));
    assert_eq!(ended.lines("out").len(), 99);
    let folder = ended.folder.path().to_owned();
    let letters = listed(&folder, "show");
    assert_eq!(numbers(&letters), [1]);
    let letter = &letters[0];
    let known = ["flow", "task", "error_type", "attempts", "event_id", "data"].map(|key| letter[key].clone());
    let offset: usize = lines(0..99).len();
    let expected = [
        json!("orders"),
        json!("check"),
        json!("script"),
        json!(1),
        json!(format!("input:{offset}")),
        json!({"n": 99}),
    ];
    assert_eq!(known, expected, "{letter}");
    assert!(letter["errors"].to_string().contains("too large"), "{letter}");
    let shown = dlq(&folder, "list");
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert_eq!(shown.lines().count(), 2, "{shown}");
    assert!(shown.contains("orders  check  script"), "{shown}");

    assert_eq!(told(&dlq(&folder, "replay --all")), "1 dead letter to be replayed\n");
    fs::write(folder.join("input"), "").unwrap();
    let ended = again(ended, &flow(1000), |_| {}).end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.drained()["completed"], 1, "{}", ended.stderr);
    let out = fs::read_to_string(folder.join("out")).unwrap();
    let arrived: Vec<&str> = out.lines().collect();
    assert_eq!((arrived.len(), arrived[99]), (100, r#"{"n":99}"#));
    assert!(listed(&folder, "list").is_empty());
}

/// Scenario: an event is replayed before its task is mended. Guarantee: it is stored again, under another number.
#[test]
fn an_event_that_fails_again_is_stored_again() {
    let ended = Worker::start(&flow(5), &[("input", lines(4..7).as_bytes())]).end();
    let folder = ended.folder.path().to_owned();
    let before = listed(&folder, "show");
    assert_eq!(numbers(&before), [1, 2]);
    dlq(&folder, "replay 2");
    fs::write(folder.join("input"), "").unwrap();
    let ended = again(ended, &flow(5), |_| {}).end();
    assert_eq!(ended.drained()["dead_lettered"], 1, "{}", ended.stderr);
    let after = listed(&folder, "show");
    assert_eq!(numbers(&after), [1, 3]);
    assert_eq!(after[1]["data"], before[1]["data"]);
}

/// Scenario: a server refuses a request; later it does not, and the dead letter is replayed beside the worker that runs.
/// Guarantee: the worker does so at once. It exports the whole way of the event that failed, at any sample rate, links the
/// new trace to the old one, and counts where it came from.
#[test]
fn a_replay_beside_a_running_worker_is_linked_to_the_trace_that_failed() {
    [0.0, 1.0].into_iter().for_each(replayed_beside_a_worker);
}

fn replayed_beside_a_worker(sample_rate: f64) {
    let server = Server::start(|n, _| if n == 0 { response("400 Bad", "") } else { http::json(n) });
    let collector = Collector::start();
    let yaml = format!(
        "
state: {{path: state}}
telemetry:
  enabled: true
  otlp_endpoint: '{}'
  trace_sample_rate: {sample_rate:?}
  metrics_export_interval: 50ms
flow:
  name: calls
  tasks:
    - stdin: {{name: in}}
    - script: {{name: shape, code: event}}
    - http_request: {{name: call, endpoint: 'http://{}', on_error: dead_letter}}
    - file_write: {{name: out, path: out}}
",
        collector.endpoint(),
        server.address
    );
    let mut worker = Worker::start(&yaml, &[]);
    let mut stdin = worker.stdin();
    std::io::Write::write_all(&mut stdin, b"{\"n\":1}\n").unwrap();
    worker.until_logged("event failed and is stored");
    let of_calls = [("flow", "calls"), ("task", "call")];
    let depth = |metrics: &crate::support::collector::Metrics| {
        metrics.get("flowgen.dead_letters.depth")?;
        metrics
            .select("flowgen.dead_letters.depth", &of_calls)
            .first()
            .map(|(_, point)| format!("{:?}", point.number))
    };
    collector.wait_until(|received| {
        received.collections().iter().any(|m| depth(m).is_some_and(|d| d.contains('1')))
    });
    let folder = worker.folder.path().to_owned();
    let letters = listed(&folder, "show");
    assert_eq!(numbers(&letters), [1]);
    assert_eq!(letters[0]["error_type"], "400", "{}", letters[0]);
    assert_eq!(told(&dlq(&folder, "replay 1")), "1 dead letter to be replayed\n");
    collector.wait_until(|received| {
        received.metrics().counter("flowgen.flow.events", &[("outcome", "completed")]) == 1
    });
    worker.signal(Signal::TERM);
    drop(stdin);
    let ended = worker.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.lines("out").len(), 1);
    assert!(listed(&folder, "list").is_empty());
    let metrics = collector.metrics();
    assert_eq!(metrics.counter("flowgen.dead_letters", &[("error.type", "400")]), 1);
    for (origin, count) in [("source", 1), ("replay", 1), ("recovery", 0)] {
        assert_eq!(metrics.counter("flowgen.flow.entered", &[("origin", origin)]), count, "{origin}");
    }
    let spans = collector.spans();
    let failed = letters[0]["trace_id"].as_str().unwrap();
    let traces = traces(spans.into_iter().filter(|span| span.name == "task.handle").collect());
    let (old, new): (Vec<_>, Vec<_>) =
        traces.iter().partition(|trace| format!("{:032x}", trace.root().trace_id) == failed);
    let tasks: BTreeSet<&str> = old[0].spans().iter().map(|span| span.text("task")).collect();
    assert_eq!(tasks, BTreeSet::from(["in", "shape", "call"]), "the whole way of what failed is exported");
    assert!(old[0].spans().iter().all(|span| span.is_kept() == (sample_rate < 1.0)));
    if sample_rate < 1.0 {
        return assert!(new.is_empty());
    }
    let root = new[0].root();
    assert_eq!(root.text("task"), "call");
    let last = old[0].spans().iter().find(|span| span.text("task") == "call").unwrap();
    assert_eq!(root.links, [(last.trace_id, last.span_id)]);
}

/// Scenario: several letters. Guarantee: each filter takes those that it says, `purge` removes those and no others, and
/// without any choice nothing is removed or replayed.
#[test]
fn letters_are_chosen_by_what_is_known_of_them() {
    let yaml = "
state: {path: state}
flow:
  name: mixed
  tasks:
    - file: {name: read, path: input}
    - script: {name: odd, on_error: dead_letter, code: 'if event.data.n % 2 == 1 { throw 1 } event'}
    - validate: {name: small, on_error: dead_letter, schema: {properties: {n: {maximum: 2}}}}
    - drop: {name: end}
";
    let ended = Worker::start(yaml, &[("input", lines(0..8).as_bytes())]).end();
    assert_eq!(ended.drained()["dead_lettered"], 6, "{}", ended.stderr);
    let folder = ended.folder.path();
    let all = listed(folder, "list");
    assert_eq!(all.len(), 6);
    let of = |words: &str| listed(folder, &format!("list {words}")).len();
    assert_eq!((of("--task odd"), of("--task small"), of("--task other")), (4, 2, 0));
    assert_eq!((of("--flow mixed"), of("--flow other")), (6, 0));
    assert_eq!((of("--error-type script"), of("--error-type script --task small")), (4, 0));
    assert_eq!((of("--newer-than 1h"), of("--older-than 1h")), (6, 0));
    assert_eq!((of("1 3"), of("1 3 99")), (2, 2));
    for action in ["purge", "replay"] {
        let output = dlq(folder, action);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(told(&output).contains("or take `--all`"), "{}", told(&output));
    }
    assert_eq!(told(&dlq(folder, "purge --task small")), "2 dead letters removed\n");
    assert_eq!((of(""), of("--task odd")), (4, 4));
    assert_eq!(told(&dlq(folder, "purge --all")), "4 dead letters removed\n");
    assert_eq!(of(""), 0);
    let nowhere = flowgen(folder).args(["dlq", "list", "--state", "nowhere"]).output().unwrap();
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(told(&nowhere).contains("there is no state in `nowhere`"), "{}", told(&nowhere));
}
