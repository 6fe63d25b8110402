//! Failing events: their spans are errors, counted once each, after all attempts.

use std::{collections::BTreeMap, sync::Mutex};

use super::{Observed, observe};
use crate::support::{
    collector::Span,
    http::{self, Reply, Server, response},
};

const ATTEMPTS: usize = 4;

/// A flow that calls `address` for each number, with these further keys of the request.
fn calls(address: impl std::fmt::Display, count: usize, keys: &str) -> String {
    format!(
        "retry: {{initial_backoff: 1ms, max_backoff: 2ms, max_attempts: {ATTEMPTS}}}
flow:
  name: calls
  tasks:
    - generate: {{name: numbers, count: {count}}}
    - http_request: {{name: call, endpoint: 'http://{address}/{{{{ event.id }}}}', {keys}}}
    - drop: {{name: nowhere}}
"
    )
}

/// A server that is down for the first `failures` requests of each path.
fn failing_at_first(failures: impl Fn(usize) -> usize + Send + 'static) -> Server {
    let attempts = Mutex::new(BTreeMap::<usize, usize>::new());
    Server::start(move |_, request| {
        let event: usize = request.line.strip_prefix("GET /").unwrap().parse().unwrap();
        let mut attempts = attempts.lock().unwrap();
        let earlier = attempts.entry(event).or_default();
        *earlier += 1;
        if *earlier <= failures(event) { response("503 Down", "") } else { http::json(event) }
    })
}

fn errors(observed: &Observed, task: &str) -> BTreeMap<String, u64> {
    let metrics = &observed.metrics;
    let series = metrics.select("task.handle.errors", &[("task", task)]).into_iter();
    let errors = series.map(|(labels, _)| {
        let error_type = labels["error.type"].clone();
        let count = metrics.counter("task.handle.errors", &[("task", task), ("error.type", &error_type)]);
        (error_type, count)
    });
    errors.filter(|(_, count)| *count > 0).collect()
}

fn is_failure(span: &&Span) -> bool {
    span["outcome"] == "failed"
}

/// Scenario: a server is down for 0 to 6 attempts of each event, 4 of which are made. Guarantee: each attempt
/// but the first is a span below that of its event, and only what failed for good is an error of the task.
#[test]
fn an_attempt_is_a_span_and_only_a_failure_after_all_of_them_is_an_error() {
    const EVENTS: usize = 140;
    let server = failing_at_first(|event| event % 7);
    let observed = observe(&calls(server.address, EVENTS, "on_error: drop"), &[]);
    let each = EVENTS / 7;
    let call = |retries: usize| vec!["task.retry"; retries].join(" ");
    observed.assert_shapes(&[
        ("numbers(call(nowhere))", each),
        ("numbers(call(nowhere task.retry))", each),
        (&format!("numbers(call(nowhere {}))", call(2)), each),
        (&format!("numbers(call(nowhere {}))", call(3)), each),
        (&format!("numbers(call:failed({}))", call(3)), 3 * each),
    ]);
    let each = each as u64;
    assert_eq!(observed.metrics.counter("task.retry.count", &[("task", "call")]), (1 + 2 + 3 + 3 * 3) * each);
    assert_eq!(observed.count("call", "completed"), 4 * each);
    assert_eq!(observed.count("call", "failed"), 3 * each);
    assert_eq!(errors(&observed, "call"), [("503".to_owned(), 3 * each)].into());
    assert_eq!(observed.ended.drained()["dropped"], 3 * each);
    for span in observed.handled("call").into_iter().filter(is_failure) {
        assert_eq!(span["error.type"], "503", "{span:?}");
        assert_eq!(span["http.response.status_code"], 503, "{span:?}");
    }
    for retry in observed.spans_named("task.retry") {
        assert!(
            retry.has(&[("flow", "calls"), ("task", "call"), ("task_type", "http_request")]),
            "{retry:?}"
        );
    }
}

#[test]
fn a_permanent_failure_has_no_retry() {
    let server = Server::start(|n, _| if n % 2 == 0 { response("404 Gone", "") } else { http::json(n) });
    let observed = observe(&calls(server.address, 10, ""), &[]);
    observed.assert_shapes(&[("numbers(call(nowhere))", 5), ("numbers(call:failed)", 5)]);
    assert_eq!(errors(&observed, "call"), [("404".to_owned(), 5)].into());
}

#[test]
fn a_timeout_is_an_error_type_of_its_own() {
    let server = Server::start(|_, _| Reply::Hang(Vec::new()));
    let observed = observe(&calls(server.address, 2, "timeout: 50ms, on_error: drop"), &[]);
    observed.assert_shapes(&[("numbers(call:failed(task.retry task.retry task.retry))", 2)]);
    assert_eq!(errors(&observed, "call"), [("timeout".to_owned(), 2)].into());
}

#[test]
fn a_script_that_throws_fails_its_event_alone() {
    let yaml = "
flow:
  tasks:
    - generate: {name: numbers, count: 100}
    - script: {name: picky, code: 'if event.id.ends_with(\"3\") { throw \"no threes\" } event'}
    - drop: {name: nowhere}
";
    let observed = observe(yaml, &[]);
    observed.assert_shapes(&[("numbers(picky(nowhere))", 90), ("numbers(picky:failed)", 10)]);
    assert_eq!(errors(&observed, "picky"), [("script".to_owned(), 10)].into());
}

/// Scenario: the condition of a task whose kind runs no scripts throws. Guarantee: the error has its own name, and
/// what passes by is no failure.
#[test]
fn a_condition_that_throws_fails_its_event_under_its_own_name() {
    let condition = r#"if event.id.ends_with("3") { throw "no threes" } event.id != "5""#;
    let yaml = format!(
        "flow:
  tasks:
    - generate: {{name: numbers, count: 100}}
    - drop: {{name: picky, when: '{condition}'}}
    - drop: {{name: nowhere}}
"
    );
    let observed = observe(&yaml, &[]);
    observed.assert_shapes(&[
        ("numbers(picky(nowhere))", 89),
        ("numbers(picky:failed)", 10),
        ("numbers(picky:skipped(nowhere))", 1),
    ]);
    assert_eq!(errors(&observed, "picky"), [("script".to_owned(), 10)].into());
    let attempts = |error_type: &str| {
        let of = [("task", "picky"), ("error.type", error_type)];
        observed.metrics.counter("flowgen.task.attempt.errors", &of)
    };
    assert_eq!((attempts("script"), attempts("_OTHER")), (10, 0));
}

/// A record that cannot be parsed is an event that entered and failed, at its source.
#[test]
fn a_bad_record_fails_at_the_source() {
    let yaml = "flow: {tasks: [{file: {name: in, path: input}}, {drop: {name: nowhere}}]}";
    let observed = observe(yaml, &[("input", b"1\nbad\n3\nworse\n5\n")]);
    observed.assert_shapes(&[("in(nowhere)", 3), ("in:failed", 2)]);
    assert_eq!(errors(&observed, "in"), [("parse".to_owned(), 2)].into());
    let failures = observed.handled("in");
    let ids: Vec<&str> =
        failures.into_iter().filter(is_failure).map(|span| span.text("flowgen.event.id")).collect();
    assert_eq!(ids, ["input:2", "input:8"]);
}

/// What becomes of the failed event is the policy's business; that it failed is the task's.
#[test]
fn a_failure_that_is_dropped_is_a_failure_all_the_same() {
    let yaml = "
flow:
  tasks:
    - generate: {name: numbers, count: 20}
    - script: {name: picky, on_error: drop, code: 'if event.id.ends_with(\"3\") { throw \"no threes\" } event'}
";
    let observed = observe(yaml, &[]);
    assert_eq!(observed.ended.code, Some(0), "{}", observed.ended.stderr);
    assert_eq!(observed.ended.drained()["dropped"], 2);
    observed.assert_shapes(&[("numbers(picky)", 18), ("numbers(picky:failed)", 2)]);
    assert_eq!(errors(&observed, "picky"), [("script".to_owned(), 2)].into());
}

/// Scenario: one branch of a fan-out fails. Guarantee: the other branch and what is above are no errors.
#[test]
fn a_failing_branch_leaves_its_sibling_and_its_parent_alone() {
    let yaml = "
flow:
  tasks:
    - generate: {name: numbers, count: 30}
    - drop: {name: well, depends_on: numbers}
    - script: {name: ill, code: 'throw \"never\"', depends_on: numbers}
";
    let observed = observe(yaml, &[]);
    observed.assert_shapes(&[("numbers(ill:failed well)", 30)]);
    assert_eq!(errors(&observed, "numbers"), BTreeMap::new());
    assert_eq!(errors(&observed, "ill"), [("script".to_owned(), 30)].into());
}
