//! What a worker that runs does not take over: it says why, and nothing changes.

use std::{
    fs::{self, File},
    io::Write,
    path::PathBuf,
    process::Command,
};

use rustix::{
    fs::{CWD, FileType, Mode},
    process::Signal,
};
use serde_json::Value;

use super::{
    APPLIED, REFUSED, Rows, UNCHANGED, drained, endless, reload, result, start, start_with, stop, told, write,
};
use crate::support::{flowgen, worker::Worker};

/// Two mistakes.
fn broken() -> String {
    endless("a", 2).replace("payload:", "paylaod:").replace("code:", "when: 'event.', code:")
}

#[test]
fn a_broken_file_changes_nothing_and_is_reported_as_at_a_start() {
    for format in ["text", "json"] {
        let settings = format!("logging: {{format: {format}}}\n");
        let files = [("flows/a.yaml", &*endless("a", 1)), ("worker.yaml", &settings)];
        let arguments = ["--config", "worker.yaml", "flows"];
        let mut worker = start_with(&files, &arguments, |_| {});
        let mut rows = Rows::of(&mut worker);
        rows.until("a", 1);
        let reading = std::thread::spawn(move || rows.by_ref().last());
        write(&worker.folder, &[("flows/a.yaml", &broken())]);
        worker.signal(Signal::HUP);
        worker.next_logged(REFUSED);
        let mut validate: Command = flowgen(worker.folder.path());
        let at_start = validate.arg("validate").args(arguments).output().unwrap();
        let at_start = String::from_utf8(at_start.stderr).unwrap();
        assert!(at_start.contains("error: 2 problems in 1 file"), "{at_start}");
        worker.signal(Signal::TERM);
        let last = reading.join().unwrap().unwrap();
        assert_eq!(last["generation"], 1);
        let ended = worker.end();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        if format == "text" {
            assert!(ended.stderr.contains(&at_start), "{}\nis not in\n{}", at_start, ended.stderr);
            continue;
        }
        let errors: Vec<Value> = ended.logs().into_iter().filter(|line| line["level"] == "ERROR").collect();
        let told: Vec<_> =
            errors.iter().map(|line| ["message", "source", "key", "hint"].map(|key| &line[key])).collect();
        assert_eq!(told.len(), 3, "{}", ended.stderr);
        for [message, source, key, hint] in &told[..2] {
            for part in [message, source, key] {
                assert!(at_start.contains(part.as_str().unwrap()), "{part}");
            }
            assert!(hint.is_null() || at_start.contains(hint.as_str().unwrap()), "{hint}");
        }
        assert_eq!(
            (&errors[2]["message"], &errors[2]["error.type"]),
            (&"reload refused: nothing has changed".into(), &"config".into())
        );
        assert_eq!(drained(&ended), ["a"]);
    }
}

#[test]
fn a_broken_file_that_is_mended_is_taken_over() {
    let mut worker = start(&[("flows/a.yaml", &endless("a", 1))]);
    let mut rows = Rows::of(&mut worker);
    rows.until("a", 1);
    let reading = std::thread::spawn(move || {
        rows.until("a", 2);
        rows
    });
    assert_eq!(told(&reload(&worker, &[("flows/a.yaml", &broken())])), (REFUSED, 1));
    assert_eq!(told(&reload(&worker, &[("flows/a.yaml", &endless("a", 2))])), (APPLIED, 2));
    assert_eq!(told(&reload(&worker, &[])), (UNCHANGED, 2));
    stop(worker, reading.join().unwrap());
}

/// Scenario: of three changed flows the tasks of one cannot be built. Guarantee: it is named, and all three go on.
#[test]
fn what_cannot_be_built_refuses_the_whole_reload() {
    let file = |name: &str, code: &str| {
        format!(
            "flow: {{name: {name}, tasks: [{{generate: {{name: numbers, interval: 1h}}}}, {{script: {{name: code, code: {code}}}}}]}}"
        )
    };
    let files = |code: &str| {
        ["a", "b", "c"]
            .map(|name| (format!("flows/{name}.yaml"), file(name, if name == "b" { code } else { "event" })))
    };
    let first = files("'event'");
    let settings = "resources: {path: .}\n";
    let all: Vec<_> =
        first.iter().map(|(name, text)| (&**name, &**text)).chain([("worker.yaml", settings)]).collect();
    let worker = start_with(&all, &["--config", "worker.yaml", "flows"], |_| {});
    let changed = files("{resource: absent.rhai}").map(|(name, text)| (name, text.replace("1h", "2h")));
    let changed: Vec<_> = changed.iter().map(|(name, text)| (&**name, &**text)).collect();
    let line = reload(&worker, &changed);
    assert_eq!((told(&line), &line["error.type"]), ((REFUSED, 1), &"build".into()));
    worker.signal(Signal::TERM);
    let ended = worker.end();
    let errors = ended.logged("cannot build task `code` of flow `b` (flows/b.yaml)");
    assert_eq!(errors.len(), 1, "{}", ended.stderr);
    let cause = errors[0]["error.message"].as_str().unwrap();
    assert!(cause.starts_with("cannot read script `absent.rhai`: "), "{cause}");
    assert_eq!((ended.code, drained(&ended).len()), (Some(0), 3), "{}", ended.stderr);
}

#[test]
fn a_flow_that_reads_stdin_cannot_be_restarted_but_can_be_removed() {
    let reader = |name: &str, format: &str| {
        format!(
            "flow: {{name: {name}, tasks: [{{stdin: {{name: in, format: {format}}}}}, {{drop: {{name: nowhere}}}}]}}"
        )
    };
    let waiting = "flow: {name: b, tasks: [{generate: {name: numbers, interval: 1h}}]}";
    let worker = start(&[("flows/a.yaml", &reader("a", "text")), ("flows/b.yaml", waiting)]);
    let refused = |name: &str, line: &Value| {
        assert_eq!((told(line).0, &line["error.type"]), (REFUSED, &"config".into()));
        assert_eq!(
            worker.count_logged(&format!("undo the change of the flow `{name}`, or restart the worker")),
            1
        );
    };
    refused("a", &reload(&worker, &[("flows/a.yaml", &reader("a", "jsonl"))]));
    assert_eq!(told(&reload(&worker, &[("flows/a.yaml", &reader("a", "text"))])), (UNCHANGED, 1));
    fs::remove_file(worker.folder.path().join("flows/a.yaml")).unwrap();
    assert_eq!(told(&reload(&worker, &[])), (APPLIED, 2));
    refused("c", &reload(&worker, &[("flows/c.yaml", &reader("c", "text"))]));
    worker.signal(Signal::TERM);
    let ended = worker.end();
    assert_eq!((ended.code, drained(&ended)), (Some(0), vec!["a".into(), "b".into()]), "{}", ended.stderr);
}

/// Starts a worker whose configuration is read from a pipe, each time that it is.
fn start_from_pipe() -> (Worker, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let text =
        "flow: {name: a, labels: {text: '${file:pipe}'}, tasks: [{generate: {name: numbers, interval: 1h}}]}";
    fs::write(folder.path().join("a.yaml"), text).unwrap();
    (Worker::start_in(folder, &["run", "a.yaml"], |_| {}), pipe)
}

/// Scenario: a signal ends the worker while the new configuration is being read, from a pipe that nobody writes to.
/// Guarantee: it does not wait for that.
#[test]
fn a_signal_while_files_are_read_ends_the_worker() {
    let (worker, pipe) = start_from_pipe();
    let mut writer = File::create(&pipe).unwrap();
    worker.signal(Signal::HUP);
    writer.write_all(b"text").unwrap();
    drop(writer);
    worker.next_logged("reload begins");
    worker.signal(Signal::TERM);
    assert_eq!(told(&result(&worker)).0, "reload given up");
    let ended = worker.ends_in_time();
    assert_eq!((ended.code, drained(&ended)), (Some(0), vec!["a".to_owned()]), "{}", ended.stderr);
}

/// Scenario: SIGHUP comes while the worker loads its configuration for the first time. Guarantee: it does not end the
/// worker, and the reload comes after the start.
#[test]
fn a_hangup_before_the_start_is_a_reload_after_it() {
    let (worker, pipe) = start_from_pipe();
    for _ in 0..2 {
        // It is there once the worker reads.
        let mut writer = File::create(&pipe).unwrap();
        if worker.count_logged("reload begins") == 0 {
            worker.signal(Signal::HUP);
        }
        writer.write_all(b"text").unwrap();
        drop(writer);
        worker.next_logged("reload ");
    }
    assert_eq!(worker.count_logged(UNCHANGED), 1);
    worker.signal(Signal::TERM);
    assert_eq!(drained(&worker.end()), ["a"]);
}
