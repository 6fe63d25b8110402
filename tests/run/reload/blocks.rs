//! The blocks of the worker: what changes with a reload, and what needs another worker.

use rustix::process::Signal;

use super::{APPLIED, REFUSED, UNCHANGED, drained, reload, start_with, told};

const FLOW: &str =
    "flow: {name: a, tasks: [{generate: {name: numbers, interval: 1h}}, {drop: {name: nowhere}}]}";

/// What a flow may fall back to, and what lasts as long as the worker.
const SETTINGS: &str = "
telemetry: {enabled: false}
logging: {format: json}
health: {enabled: false}
retry: {max_attempts: 3}
cache: {max_entries: 10}
resources: {path: .}
shutdown_timeout: 20s
channel_capacity: 10
";

#[test]
fn a_block_that_lasts_as_long_as_the_worker_refuses_the_reload_and_is_named() {
    let files = [("flows/a.yaml", FLOW), ("worker.yaml", SETTINGS)];
    let worker = start_with(&files, &["--config", "worker.yaml", "flows"], |_| {});
    let changes = [
        ("telemetry: {enabled: false}", "telemetry: {enabled: true}", "2:1"),
        ("logging: {format: json}", "logging: {format: json, level: debug}", "3:1"),
        ("health: {enabled: false}", "health: {enabled: true, address: '127.0.0.1:0'}", "4:1"),
        ("cache: {max_entries: 10}", "cache: {max_entries: 11}", "6:1"),
        ("resources: {path: .}", "resources: {path: flows}", "7:1"),
    ];
    for (before, after, place) in changes {
        let key = before.split(':').next().unwrap();
        let line = reload(&worker, &[("worker.yaml", &SETTINGS.replace(before, after))]);
        assert_eq!((told(&line), &line["error.type"]), ((REFUSED, 1), &"config".into()), "{key}");
        let message = format!("`{key}` has changed, which a worker that runs cannot take over");
        let place = format!("\"source\":\"worker.yaml:{place}\"");
        assert_eq!(worker.count_logged(&message), 1, "{key}");
        assert_eq!(worker.count_logged(&place), 1, "{key}");
        let line = reload(&worker, &[("worker.yaml", &SETTINGS.replace(before, ""))]);
        assert_eq!(told(&line), (REFUSED, 1), "{key}");
        assert_eq!(worker.count_logged(&format!("`{key}` is gone, which")), 1, "{key}");
    }
    assert_eq!(worker.count_logged("undo the change, or restart the worker"), 2 * changes.len());
    assert_eq!(told(&reload(&worker, &[("worker.yaml", SETTINGS)])), (UNCHANGED, 1));
    worker.signal(Signal::TERM);
    assert_eq!(drained(&worker.end()), ["a"]);
}

#[test]
fn what_reaches_into_flows_is_taken_over() {
    let own =
        "flow: {name: own, tasks: [{generate: {name: numbers, interval: 1h, retry: {max_attempts: 1}}}]}";
    let files = [("flows/a.yaml", FLOW), ("flows/own.yaml", own), ("worker.yaml", SETTINGS)];
    let worker = start_with(&files, &["--config", "worker.yaml", "flows"], |_| {});
    let with = |before: &str, after: &str| {
        let line = reload(&worker, &[("worker.yaml", &SETTINGS.replace(before, after))]);
        assert_eq!(told(&line).0, APPLIED, "{line}");
        line["restarted"].clone()
    };
    assert_eq!(with("shutdown_timeout: 20s", "shutdown_timeout: 1s"), serde_json::Value::Null);
    // `own` says by itself how often it tries.
    assert_eq!(with("max_attempts: 3", "max_attempts: 4"), "a");
    assert_eq!(with("channel_capacity: 10", "channel_capacity: 11"), "a, own");
    worker.signal(Signal::TERM);
    assert_eq!(worker.end().code, Some(0));
}
