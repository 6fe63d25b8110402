//! `--watch`: changes are seen, whichever way they are made, and the worker stays.

use std::{fs, os::unix::fs::symlink, path::Path};

use rustix::process::Signal;

use super::{APPLIED, REFUSED, drained, result, start_with, told, write};
use crate::support::worker::Worker;

/// A flow with one event that tells its text.
fn once(text: &str) -> String {
    format!(
        "flow: {{name: a, tasks: [{{generate: {{name: numbers, count: 1, payload: {{text: '{text}'}}}}}}, {{stdout: {{name: out}}}}]}}"
    )
}

/// Stops a worker, and returns what it wrote to stdout.
fn rows(worker: Worker) -> Vec<String> {
    worker.signal(Signal::TERM);
    let ended = worker.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    ended.stdout.lines().map(str::to_owned).collect()
}

/// Lets the link `..data` of a mount lead to another version of its files, as the kubelet does.
fn mount(folder: &Path, version: &str, text: &str) {
    let flows = folder.join("flows");
    fs::create_dir_all(flows.join(version)).unwrap();
    fs::write(flows.join(version).join("a.yaml"), text).unwrap();
    symlink(version, flows.join("..data_tmp")).unwrap();
    fs::rename(flows.join("..data_tmp"), flows.join("..data")).unwrap();
}

#[test]
fn a_config_map_that_is_swapped_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    mount(folder.path(), "..2026_1", &once("old"));
    symlink("..data/a.yaml", folder.path().join("flows/a.yaml")).unwrap();
    let worker = Worker::start_in(folder, &["run", "--watch", "flows"], |_| {});
    worker.next_logged("flow drained");
    mount(worker.folder.path(), "..2026_2", &once("new"));
    fs::remove_dir_all(worker.folder.path().join("flows/..2026_1")).unwrap();
    let line = result(&worker);
    assert_eq!(
        (told(&line), &line["cause"], &line["restarted"]),
        ((APPLIED, 2), &"watch".into(), &"a".into())
    );
    worker.next_logged("flow drained");
    assert_eq!(rows(worker), [r#"{"text":"old"}"#, r#"{"text":"new"}"#]);
}

/// Scenario: all flows have ended, files come and go, a bad one among them. Guarantee: the worker stays until a signal, a
/// bad file is reported once, and mended it is taken over.
#[test]
fn a_worker_that_is_watched_stays_and_takes_what_comes() {
    let worker = start_with(&[("flows/a.yaml", &once("first"))], &["--watch", "flows"], |_| {});
    worker.until_logged("flow drained");
    write(&worker.folder, &[("flows/b.yaml", "flow: {tasks: [{generate: {cuont: 1}}]}")]);
    assert_eq!(told(&result(&worker)), (REFUSED, 1));
    write(&worker.folder, &[("flows/b.yaml", &once("second").replace("name: a", "name: b"))]);
    let line = result(&worker);
    assert_eq!((told(&line), &line["started"]), ((APPLIED, 2), &"b".into()));
    worker.next_logged("flow drained");
    fs::remove_file(worker.folder.path().join("flows/a.yaml")).unwrap();
    let line = result(&worker);
    assert_eq!((told(&line), &line["stopped"]), ((APPLIED, 3), &"a".into()));
    assert_eq!(worker.count_logged("reload begins"), 3);
    assert_eq!(rows(worker), [r#"{"text":"first"}"#, r#"{"text":"second"}"#]);
}

#[test]
fn files_that_flows_name_are_watched_as_well() {
    let secret = "flow: {name: s, tasks: [{generate: {name: numbers, count: 1, payload: {text: '${file:../secret}'}}}, {stdout: {name: out}}]}";
    let script = "flow: {name: r, tasks: [{generate: {name: numbers, count: 1}}, {script: {name: code, code: {resource: code.rhai}}}, {stdout: {name: out}}]}";
    let files = [
        ("flows/s.yaml", secret),
        ("flows/r.yaml", script),
        ("worker.yaml", "resources: {path: resources}\nshutdown_timeout: 20s"),
        ("secret", "one"),
        ("resources/code.rhai", "#{text: 1}"),
    ];
    let worker = start_with(&files, &["--watch", "--config", "worker.yaml", "flows"], |_| {});
    let restarted = |name: &str, text: &str| {
        write(&worker.folder, &[(name, text)]);
        let line = result(&worker);
        assert_eq!(told(&line).0, APPLIED, "{line}");
        line["restarted"].clone()
    };
    assert_eq!(restarted("secret", "two"), "s");
    assert_eq!(restarted("resources/code.rhai", "#{text: 2}"), "r");
    assert_eq!(
        restarted("worker.yaml", "resources: {path: resources}\nshutdown_timeout: 10s"),
        serde_json::Value::Null
    );
    // What cannot be built is watched too.
    fs::remove_file(worker.folder.path().join("resources/code.rhai")).unwrap();
    assert_eq!(told(&result(&worker)), (REFUSED, 4));
    assert_eq!(restarted("resources/code.rhai", "#{text: 3}"), "r");
    worker.next_logged("flow drained");
    let mut rows = rows(worker);
    rows.sort();
    assert_eq!(rows, [r#""one""#, r#""two""#, "1", "2", "3"].map(|text| format!(r#"{{"text":{text}}}"#)));
}

#[test]
fn a_worker_that_is_not_watched_takes_nothing_by_itself() {
    let waiting = |interval: &str| {
        format!("flow: {{name: a, tasks: [{{generate: {{name: numbers, interval: {interval}}}}}]}}")
    };
    let worker = start_with(&[("flows/a.yaml", &waiting("1h"))], &["flows"], |_| {});
    write(&worker.folder, &[("flows/a.yaml", &waiting("2h"))]);
    worker.signal(Signal::HUP);
    assert_eq!(told(&result(&worker)), (APPLIED, 2));
    worker.signal(Signal::TERM);
    let ended = worker.end();
    assert_eq!((ended.code, drained(&ended).len()), (Some(0), 2), "{}", ended.stderr);
}
