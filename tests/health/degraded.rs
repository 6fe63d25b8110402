//! A worker that runs and is not ready: what is wrong with it, and that it passes.

use std::{fs, io::Write, os::unix::fs::symlink, process::Command};

use rustix::process::Signal;

use super::{HEALTH, IDLE, address, ask, assert_live, start, until, until_ready};
use crate::support::worker::Worker;

/// What can be opened and not read.
const UNREADABLE: &str = "/proc/self/mem";

/// A flow whose source cannot read, beside one that is well.
fn broken(keys: &str, path: &str) -> String {
    format!(
        "
flows:
  - name: broken
    {keys}
    tasks:
      - file: {{name: in, path: {path}, format: text, retry: {{initial_backoff: 100ms, max_backoff: 1s}}}}
      - drop:
  - {{name: idle, tasks: [{{generate: {{interval: 1h}}}}, {{drop: {{}}}}]}}
"
    )
}

#[test]
fn a_flow_that_failed_is_named_and_the_worker_is_live() {
    let (worker, address) = start(&broken("on_task_panic: stop", UNREADABLE), &[]);
    let degraded = until(address, |answer| answer.output().contains("broken"));
    assert_eq!((degraded.status, degraded.output()), (503, "flow `broken` has failed"));
    assert_eq!(degraded.body["status"], "fail");
    assert_live(address);
    worker.until_logged("flow drained");
    let whole = ask(address, "/health");
    assert_eq!((whole.status, &whole.body["status"]), (503, &"fail".into()));
    let flows = &whole.body["checks"]["flow:state"];
    assert_eq!((&flows[0]["componentId"], &flows[0]["status"]), (&"broken".into(), &"fail".into()));
    assert_eq!((&flows[0]["observedValue"], &flows[1]["status"]), (&"failed".into(), &"pass".into()));
    // Why it failed is told in the log, to those who may read that.
    assert!(!whole.body.to_string().contains("/proc"), "{}", whole.body);
    worker.signal(Signal::TERM);
    assert_eq!(worker.ends_in_time().code, Some(1));
}

/// Scenario: what a source reads cannot be read, and later can. Guarantee: as long as its task waits to be built again the
/// worker is not ready and says which one that is; then it is.
#[test]
fn a_flow_that_is_restarted_is_named_until_it_works() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("input");
    symlink(UNREADABLE, &input).unwrap();
    fs::write(folder.path().join("flow.yaml"), format!("{HEALTH}{}", broken("", "input"))).unwrap();
    let worker = Worker::start_in(folder, &["run", "flow.yaml"], |_| {});
    let address = address(&worker);
    let degraded = until(address, |answer| answer.output().contains("broken"));
    let output = "flow `broken` is restarting; task `in` of flow `broken` waits to be built again";
    assert_eq!((degraded.status, degraded.output()), (503, output));
    assert_live(address);
    fs::remove_file(&input).unwrap();
    fs::write(&input, "a line\n").unwrap();
    until_ready(address);
    // It has read all of it.
    worker.until_logged("flow drained");
    until_ready(address);
    worker.signal(Signal::TERM);
    assert_eq!(worker.ends_in_time().code, Some(0));
}

/// Scenario: no file may grow any more, and later may; nobody writes in between. Guarantee: the worker is not ready from the
/// first write that failed until writes go well, and finds that out by itself.
#[test]
fn a_state_that_cannot_be_written_is_told_until_it_can() {
    let yaml = "
state: {path: state}
cache: {type: embedded}
flow:
  tasks:
    - stdin: {name: in, format: text}
    - cache: {name: remember, operation: put, key: latest, value: '{{ event.data }}'}
    - log: {name: out}
";
    let (mut worker, address) = start(yaml, &[]);
    let mut stdin = worker.stdin();
    until_ready(address);
    worker.limit_file_size(Some(1));
    stdin.write_all(b"first\n").unwrap();
    let degraded = until(address, |answer| answer.status == 503);
    assert_eq!(degraded.output(), "the state cannot be written");
    assert_live(address);
    let whole = ask(address, "/health");
    assert_eq!(whole.body["checks"]["state:writes"][0]["observedValue"], "refused");
    assert!(!whole.body.to_string().contains("redb"), "{}", whole.body);
    worker.limit_file_size(None);
    until_ready(address);
    drop(stdin);
    worker.ends_in_time();
}

/// The same of the queue behind a source, which is no part of the store.
#[test]
fn a_queue_that_cannot_be_written_is_told_until_it_can() {
    let yaml = "
state: {path: state}
flow:
  name: queued
  durable: true
  tasks:
    - stdin: {name: in, format: text}
    - log: {name: out}
";
    let (mut worker, address) = start(yaml, &[]);
    let mut stdin = worker.stdin();
    stdin.write_all(b"first\n").unwrap();
    worker.until_logged("first");
    worker.limit_file_size(Some(1));
    stdin.write_all(b"second\n").unwrap();
    let refused = "task `in` of flow `queued` waits because its queue cannot be written";
    until(address, |answer| answer.status == 503 && answer.output().contains(refused));
    worker.limit_file_size(None);
    until_ready(address);
    worker.until_logged("second");
    drop(stdin);
    assert_eq!(worker.ends_in_time().code, Some(0));
}

/// Scenario: a reload puts a changed flow in the place of one, and the one before it drains meanwhile. Guarantee: that is no
/// reason to send nothing more to the worker.
#[test]
fn a_worker_that_exchanges_a_flow_stays_ready() {
    let folder = tempfile::tempdir().unwrap();
    let write = |text: &str| fs::write(folder.path().join("flow.yaml"), format!("{HEALTH}{text}")).unwrap();
    // Its drain ends as late as the script does.
    let slow = IDLE.replace(
        "{drop: {}}",
        "{script: {code: 'print(\"turning\"); while true {}', limits: {max_operations: 200000000000}}}",
    );
    write(&format!("shutdown_timeout: 10m\n{slow}"));
    let path = folder.path().to_path_buf();
    let worker = Worker::start_in(folder, &["run", "flow.yaml"], |_: &mut Command| {});
    let address = address(&worker);
    worker.until_logged("turning");
    fs::write(path.join("flow.yaml"), format!("{HEALTH}shutdown_timeout: 10m\n{IDLE}")).unwrap();
    worker.signal(Signal::HUP);
    worker.until_logged("flow stops");
    let whole = ask(address, "/health");
    assert_eq!(whole.body["checks"]["flow:state"][0]["observedValue"], "draining", "{}", whole.body);
    assert_eq!(whole.status, 200);
    worker.signal(Signal::KILL);
    worker.ends_in_time();
}
