//! The real binary with real files, and a server that is down for a while or for one event.

use std::{collections::BTreeSet, fmt::Write as _, process::Command};

use serde_json::Value;

use crate::support::{
    collector::Collector,
    http::{self, Server, response},
    worker::{Ended, Worker, run},
};

/// What is logged of an outage, at most once a second for each type of error.
const OF_AN_OUTAGE: [&str; 2] = ["attempt failed, trying again", "event failed for now"];

fn lines(count: u64) -> String {
    (0..count).fold(String::new(), |mut text, n| {
        writeln!(text, "{{\"n\":{n}}}").unwrap();
        text
    })
}

/// Runs `count` lines of a file through a server that answers `is_down` for a request by its number with 503.
fn run_through(
    count: u64,
    is_down: impl Fn(usize) -> bool + Send + 'static,
    prepare: impl FnOnce(&mut Command),
) -> (Ended, Server) {
    let server = Server::start(move |n, _| if is_down(n) { response("503 Down", "") } else { http::json(n) });
    let retry = "retry: {max_attempts: 2, initial_backoff: 1ms, max_backoff: 5ms}";
    let yaml = format!(
        "
flow:
  name: calls
  tasks:
    - file: {{name: in, path: input, {retry}}}
    - http_request:
        name: call
        endpoint: 'http://{}'
        method: POST
        payload: {{from_event: true}}
        {retry}
",
        server.address
    );
    let ended = Worker::start_with(&yaml, &[("input", lines(count).as_bytes())], prepare).end();
    (ended, server)
}

/// Returns what each request was about, in order.
fn requested(server: &Server) -> Vec<u64> {
    let number = |body: &str| serde_json::from_str::<Value>(body).unwrap()["n"].as_u64().unwrap();
    server.requests().iter().map(|request| number(&request.body)).collect()
}

/// Checks that the failures of a task that may pass are told once a second, be it by an attempt or by an event.
fn assert_quiet(ended: &Ended) {
    let seconds = ended.drained()["elapsed_ms"].as_u64().unwrap() / 1000;
    let count: usize = OF_AN_OUTAGE.iter().map(|message| ended.logged(message).len()).sum();
    assert!((1..=seconds + 1).contains(&(count as u64)), "{count} in {seconds} s: {}", ended.stderr);
    let source = |line: &&Value| line["task"] == "in" && line["target"] == "flowgen::runtime::redelivery";
    let count = ended.logs().iter().filter(source).count() as u64;
    // It is told when an outage begins and when it is over.
    assert!((1..=2 * (seconds + 1)).contains(&count), "{count} in {seconds} s: {}", ended.stderr);
}

/// Scenario: a server refuses the first requests of a file of 300 lines, two of each. Guarantee: every line arrives once,
/// those that failed in the order of the file, each attempt and each line that is brought in again is counted, and the
/// log stays readable.
#[test]
fn an_outage_of_a_server_loses_nothing_and_every_number_is_exact() {
    const LINES: u64 = 300;
    const REFUSED: usize = 101;
    let collector = Collector::start();
    let (ended, server) = run_through(
        LINES,
        |n| n < REFUSED,
        |command| {
            command
                .env("FLOWGEN_TELEMETRY__ENABLED", "true")
                .env("FLOWGEN_TELEMETRY__OTLP_ENDPOINT", collector.endpoint());
        },
    );
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let drained = ended.drained();
    assert_eq!((&drained["entered"], &drained["completed"]), (&LINES.into(), &LINES.into()));

    let requested = requested(&server);
    let (refused, accepted) = requested.split_at(REFUSED);
    assert_eq!(accepted.len() as u64, LINES, "nothing is sent twice");
    assert_eq!(accepted.iter().copied().collect::<BTreeSet<_>>(), (0..LINES).collect());
    // Two attempts each; the last one of all is followed by one that is accepted.
    let twice: Vec<u64> = refused.chunks_exact(2).map(|two| two[0]).collect();
    assert!(refused.chunks_exact(2).all(|two| two[0] == two[1]), "{refused:?}");
    assert_eq!(accepted[0], refused[REFUSED - 1]);
    let failed: BTreeSet<u64> = twice.iter().copied().collect();
    let again: Vec<u64> = accepted.iter().copied().filter(|n| failed.contains(n)).collect();
    assert!(again.is_sorted(), "{again:?}");

    let metrics = collector.metrics();
    let of_call = [("task", "call"), ("error.type", "503")];
    let retries = refused.len().div_ceil(2) as u64;
    for (name, labels, expected) in [
        ("flowgen.task.attempt.errors", &of_call[..], refused.len() as u64),
        ("flowgen.task.retries", &of_call, retries),
        ("flowgen.source.redeliveries", &[("task", "in")], twice.len() as u64),
        ("flowgen.flow.entered", &[], LINES),
        ("flowgen.flow.events", &[("outcome", "completed")], LINES),
        ("flowgen.flow.events", &[], LINES),
    ] {
        assert_eq!(metrics.counter(name, labels), expected, "{name}");
    }
    assert_quiet(&ended);
}

/// Scenario: a server comes and goes, so often that a file of 400 lines is brought in again many times. Guarantee: every
/// line arrives once, and the log stays readable.
#[test]
fn a_server_that_comes_and_goes_is_not_told_of_each_time() {
    const LINES: u64 = 400;
    let (ended, server) = run_through(LINES, |n| n % 20 < 4, |_| {});
    assert_eq!(ended.drained()["completed"], LINES);
    let accepted: Vec<u64> =
        requested(&server).into_iter().enumerate().filter(|(n, _)| n % 20 >= 4).map(|(_, n)| n).collect();
    assert_eq!(accepted.iter().copied().collect::<BTreeSet<_>>(), (0..LINES).collect());
    assert_eq!(accepted.len() as u64, LINES);
    assert_quiet(&ended);
}

/// Scenario: one of the 10,000 lines of a file fails for good. Guarantee: the others arrive in order, the failure is
/// counted and logged with its place in the file, and the exit code says that there was one.
#[test]
fn one_poisoned_line_of_ten_thousand_is_named_and_holds_up_no_other() {
    const LINES: u64 = 10_000;
    const POISONED: u64 = 7_777;
    let yaml = format!(
        "
flow:
  tasks:
    - file: {{name: in, path: input}}
    - script: {{name: picky, code: 'if event.data.n == {POISONED} {{ throw \"poisoned\" }} event'}}
    - file_write: {{name: out, path: output, format: jsonl}}
"
    );
    let ended = run(&yaml, &[("input", lines(LINES).as_bytes())]);
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    let drained = ended.drained();
    assert_eq!((&drained["completed"], &drained["failed"]), (&(LINES - 1).into(), &1.into()));
    let failures = ended.logged("event failed");
    assert_eq!(failures.len(), 1, "{}", ended.stderr);
    assert_eq!(failures[0]["position"], format!("input:{}", POISONED + 1));
    assert_eq!((&failures[0]["task"], &failures[0]["error.type"]), (&"picky".into(), &"script".into()));
    let expected: Vec<String> =
        (0..LINES).filter(|n| *n != POISONED).map(|n| format!("{{\"n\":{n}}}")).collect();
    assert!(ended.lines("output") == expected, "{} lines", ended.lines("output").len());
}
