//! What becomes of the events of a flow that leaves, and of a signal meanwhile.

use std::collections::BTreeMap;

use rustix::process::Signal;
use serde_json::Value;

use super::{APPLIED, Rows, drained, endless, reload, result, start, start_with, stop, told, write};
use crate::support::worker::{Ended, Worker};

/// What a flow says when a reload stops it.
const STOPS: &str = "flow stops: what has entered drains";

/// Starts a flow without an end that waits for the reader of stdout, who does not read: all that it has room for is full.
fn blocked(settings: &str) -> (Worker, Rows) {
    let files = [("flows/a.yaml", &*endless("a", 1)), ("worker.yaml", settings)];
    let mut worker = start_with(&files, &["--config", "worker.yaml", "flows"], |_| {});
    let stdout = worker.stdout();
    let (mut waiting, mut unchanged) = (0, 0);
    while waiting == 0 || unchanged < 10_000 {
        let now = rustix::io::ioctl_fionread(&stdout).unwrap();
        unchanged = if now == waiting { unchanged + 1 } else { 0 };
        waiting = now;
        std::thread::yield_now();
    }
    (worker, Rows::read(stdout))
}

/// Checks that of each generation the rows are those of all events that entered, in order, and that no generation is in
/// the rows of another.
fn assert_nothing_lost(ended: &Ended, rows: &[Value]) {
    let mut generations: Vec<u64> = rows.iter().map(|row| row["generation"].as_u64().unwrap()).collect();
    let mut counts = BTreeMap::<u64, u64>::new();
    for (row, generation) in rows.iter().zip(&generations) {
        let count = counts.entry(*generation).or_default();
        assert_eq!(row["n"], *count, "{row}");
        *count += 1;
    }
    assert!(generations.is_sorted(), "two generations at once");
    generations.dedup();
    let lines = ended.logged("flow drained");
    assert_eq!(lines.len(), generations.len(), "{}", ended.stderr);
    for (line, count) in lines.iter().zip(counts.values()) {
        assert_eq!((&line["entered"], &line["completed"]), (&(*count).into(), &(*count).into()), "{line}");
    }
}

#[test]
fn a_flow_drains_before_another_one_takes_its_place() {
    let mut worker = start(&[("flows/a.yaml", &endless("a", 1))]);
    let mut rows = Rows::of(&mut worker);
    let mut all = vec![rows.next().unwrap()];
    write(&worker.folder, &[("flows/a.yaml", &endless("a", 2))]);
    worker.signal(Signal::HUP);
    worker.next_logged(STOPS);
    // Nothing is done about it before what waits for this reader is through.
    all.extend(rows.by_ref().take_while(|row| row["generation"] == 1));
    // The first row of the second generation was taken away.
    all.push(serde_json::json!({"flow": "a", "generation": 2, "n": 0}));
    assert_eq!(told(&result(&worker)), (APPLIED, 2));
    let (ended, rest) = stop(worker, rows);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    all.extend(rest);
    assert_nothing_lost(&ended, &all);
}

/// Scenario: files change again and again while a flow drains. Guarantee: the last one is taken over, and those before it
/// are not, or are as a whole.
#[test]
fn what_comes_during_a_reload_is_taken_afterwards() {
    let (worker, rows) = blocked("shutdown_timeout: 20s");
    write(&worker.folder, &[("flows/a.yaml", &endless("a", 2))]);
    worker.signal(Signal::HUP);
    worker.next_logged(STOPS);
    for generation in 3..6 {
        write(&worker.folder, &[("flows/a.yaml", &endless("a", generation))]);
        worker.signal(Signal::HUP);
    }
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || {
            let mut rows = rows;
            rows.until("a", 5);
            rows
        });
        let mut applied = vec![told(&result(&worker)).1];
        let rows = loop {
            if reading.is_finished() {
                break reading.join().unwrap();
            }
            std::thread::yield_now();
        };
        let (ended, _) = stop(worker, rows);
        applied.extend(ended.logged(APPLIED).iter().map(|line| line["generation"].as_u64().unwrap()));
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert_eq!((applied[0], ended.logged("reload begins").len()), (2, 2), "{}", ended.stderr);
    });
}

#[test]
fn a_signal_during_a_reload_drains_and_starts_nothing_any_more() {
    let (worker, rows) = blocked("shutdown_timeout: 20s");
    write(&worker.folder, &[("flows/a.yaml", &endless("a", 2)), ("flows/b.yaml", &endless("b", 1))]);
    worker.signal(Signal::HUP);
    worker.next_logged(STOPS);
    worker.signal(Signal::TERM);
    assert_eq!(told(&result(&worker)).0, "reload given up");
    let rest: Vec<Value> = rows.collect();
    let ended = worker.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(rest.iter().all(|row| row["flow"] == "b" || row["generation"] == 1), "its place is taken");
    let mut names = drained(&ended);
    names.sort();
    // A flow in nobody's place had started before.
    assert_eq!(names, ["a", "b"]);
}

#[test]
fn a_shutdown_during_a_reload_is_over_in_its_own_time() {
    let (worker, rows) = blocked("shutdown_timeout: 1h");
    // What was given up is not taken over, but how long a shutdown takes is in force at once.
    write(&worker.folder, &[("worker.yaml", "shutdown_timeout: 2s"), ("flows/a.yaml", &endless("a", 2))]);
    worker.signal(Signal::HUP);
    worker.next_logged(STOPS);
    worker.signal(Signal::TERM);
    let ended = worker.wait(String::new());
    assert_eq!(ended.code, Some(4), "{}", ended.stderr);
    assert!(ended.drained()["cancelled"].as_u64().unwrap() > 0, "{}", ended.stderr);
    assert_eq!(
        ended.logged("shutdown ran out of time, what is left is cancelled").len(),
        1,
        "{}",
        ended.stderr
    );
    drop(rows);
}

#[test]
fn a_second_signal_during_a_reload_ends_it_at_once() {
    let (worker, rows) = blocked("shutdown_timeout: 1h");
    write(&worker.folder, &[("flows/a.yaml", &endless("a", 2))]);
    worker.signal(Signal::HUP);
    worker.next_logged(STOPS);
    worker.signal(Signal::TERM);
    worker.next_logged("stopping");
    worker.signal(Signal::INT);
    let ended = worker.wait(String::new());
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    assert_eq!(ended.logged("second signal: exits at once and leaves this behind").len(), 1);
    drop(rows);
}

/// Scenario: nobody reads stdout, and the flow has little time to drain. Guarantee: what is left of it is cancelled and
/// counted, another flow does not notice, and the one in its place starts.
#[test]
fn what_is_left_at_the_deadline_is_cancelled_and_only_of_that_flow() {
    let other =
        "flow: {name: other, tasks: [{generate: {name: numbers, rate: 1000}}, {drop: {name: nowhere}}]}";
    let (worker, rows) = blocked("shutdown_timeout: 1s");
    assert_eq!(told(&reload(&worker, &[("flows/other.yaml", other)])), (APPLIED, 2));
    let waiting = "flow: {name: a, tasks: [{generate: {name: numbers, interval: 1h}}]}";
    assert_eq!(told(&reload(&worker, &[("flows/a.yaml", waiting)])), (APPLIED, 3));
    assert_eq!(worker.count_logged("the drain of a reload ran out of time, what is left is cancelled"), 1);
    worker.signal(Signal::TERM);
    drop(rows);
    let ended = worker.end();
    assert_eq!(ended.code, Some(0), "it was no shutdown that ran out of time: {}", ended.stderr);
    let lines = ended.logged("flow drained");
    assert_eq!(lines.len(), 3, "{}", ended.stderr);
    let count = |line: &Value, key: &str| line[key].as_u64().unwrap();
    let first = &lines[0];
    assert!(first["flow"] == "a" && count(first, "cancelled") > 0, "{first}");
    assert_eq!(count(first, "entered"), count(first, "completed") + count(first, "cancelled"), "{first}");
    let other = lines.iter().find(|line| line["flow"] == "other").unwrap();
    assert!(count(other, "completed") > 0 && other["completed"] == other["entered"], "{other}");
}

/// Scenario: a flow that ran out of time, in a worker that ends by itself. Guarantee: its exit code tells.
#[test]
fn a_drain_that_ran_out_of_time_is_the_verdict_of_a_run_that_comes_to_its_end() {
    let (worker, rows) = blocked("shutdown_timeout: 1s");
    let once = "flow: {name: a, tasks: [{generate: {name: numbers, count: 1}}]}";
    assert_eq!(told(&reload(&worker, &[("flows/a.yaml", once)])), (APPLIED, 2));
    let ended = worker.ends_in_time();
    assert_eq!(ended.code, Some(4), "{}", ended.stderr);
    drop(rows);
}

/// Scenario: of a worker with state a flow changes while its source has read a part of a file. Guarantee: the one in its
/// place goes on behind that, and every record is written once.
#[test]
fn with_state_a_source_goes_on_where_the_one_before_it_stood() {
    let file = |generation: u64| {
        format!(
            "
flow:
  name: a
  tasks:
    - file: {{name: in, path: ../input.jsonl}}
    - script: {{name: marked, code: 'event.data.generation = {generation}; event'}}
    - stdout: {{name: out}}
"
        )
    };
    let input: String = (0..20_000).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    let files = [
        ("flows/a.yaml", &*file(1)),
        ("worker.yaml", "state: {path: kept}\nshutdown_timeout: 1h"),
        ("input.jsonl", &input),
    ];
    let mut worker = start_with(&files, &["--config", "worker.yaml", "flows"], |_| {});
    let mut rows = Rows::of(&mut worker);
    let mut all = vec![rows.next().unwrap()];
    write(&worker.folder, &[("flows/a.yaml", &file(2))]);
    worker.signal(Signal::HUP);
    worker.next_logged(STOPS);
    all.extend(rows);
    let ended = worker.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(all.iter().enumerate().all(|(n, row)| row["n"] == n), "some are missing, or there twice");
    assert_eq!(all.len(), 20_000);
    assert_eq!(all.last().unwrap()["generation"], 2);
}
