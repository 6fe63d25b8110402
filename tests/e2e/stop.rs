//! SIGTERM in the middle of a run: the Collector's numbers, the drained line, and the log are one story.

use std::{collections::BTreeMap, fs};

use rustix::process::Signal;
use serde_json::json;

use crate::{
    collector::Collector,
    flowgen,
    process::{Process, signal},
};

const FLOW: &str = r#"
telemetry:
  enabled: true
  metrics_export_interval: 200ms
flow:
  name: endless
  tasks:
    - generate: {name: numbers, interval: 2ms}
    - filter: {name: even, condition: parse_int(event.id) % 2 == 0}
    - log: {name: told}
"#;

#[test]
#[expect(clippy::cast_precision_loss, reason = "far less than 2^53 events")]
fn what_had_entered_is_in_the_collector_after_a_stop() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flow.yaml");
    fs::write(&path, FLOW).unwrap();
    let collector = Collector::start();
    let mut command = flowgen(&["run", path.to_str().unwrap()]);
    let mut worker = Process::start(command.env("FLOWGEN_TELEMETRY__OTLP_ENDPOINT", collector.endpoint()));
    worker.until(&[r#""event_id":"600""#]);
    signal(worker.id(), Signal::TERM);
    let ended = worker.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let received = collector.stop();
    received.assert_whole_traces();

    let drained = ended.only("flow drained");
    let count = |key: &str| drained[key].as_u64().unwrap();
    let handled = |task: &str| received.handled_by(task).len() as u64;
    assert!(count("entered") > 600);
    assert_eq!(count("entered"), count("completed") + count("filtered"), "{drained}");
    assert_eq!(handled("numbers"), count("entered"));
    assert_eq!(handled("even"), count("entered"));
    assert_eq!(handled("told"), count("completed"));
    for task in ["numbers", "even", "told"] {
        let total = received.total("task.handle.count", &[("task", task)]);
        assert_eq!(total.to_bits(), (handled(task) as f64).to_bits(), "{task}");
    }
    let exports = received.points.iter().filter(|point| point.metric == "task.run.count");
    let times: std::collections::BTreeSet<_> = exports.map(|point| point.time).collect();
    assert!(times.len() > 1, "the interval has passed, but metrics were exported once");

    let flushed = ended.only("telemetry flushed");
    assert_eq!(flushed["spans_created"], received.spans.len());
    assert_eq!(flushed["spans_exported"], received.spans.len());
    assert_eq!(flushed["points_exported"], received.points.len());
    assert_eq!((&flushed["spans_dropped"], &flushed["points_dropped"]), (&json!(0), &json!(0)));
    assert_eq!(received.spans_named("task_manager.shutdown").len(), 1);

    // With the ids of a log line the Collector finds the very span that it was written in.
    let by_id: BTreeMap<_, _> = received.spans.iter().map(|span| (span.id.as_str(), span)).collect();
    let lines: Vec<_> = ended.lines().filter(|line| line["task"] == "told").collect();
    assert_eq!(lines.len() as u64, count("completed"));
    for line in lines {
        let span = by_id[line["span_id"].as_str().unwrap()];
        assert_eq!((&line["trace_id"], &line["trace_flags"]), (&json!(span.trace), &json!("01")));
        assert_eq!(line["event_id"], span.attributes["flowgen.event.id"]);
        assert_eq!((span.name.as_str(), &span.attributes["task"]), ("task.handle", &json!("told")));
    }
}
