//! Servers that are left alone for a while, and requests that wait for their turn.

use std::time::Duration;

use serde_json::json;

use super::{ONE, assert_completed, call, events};
use crate::support::http::{self, Server, response};

/// Scenario: a server fails twice and is then well; the circuit opens after two failures.
/// Guarantee: no request is made before its time is over, and the event waits for it instead of failing.
#[test]
fn an_open_circuit_lets_nothing_through_and_the_event_waits() {
    let server = Server::start(|n, _| if n < 2 { response("503 Busy", "") } else { http::json(n) });
    let keys = "endpoint: http://HOST\nretry: {max_attempts: 10}\n\
                circuit_breaker: {failure_threshold: 2, open_for: 500ms}";
    let ended = call(&server, keys, ONE);
    assert_completed(&ended, &[json!(2)]);
    let requests = server.requests();
    assert_eq!(requests.len(), 3);
    assert!(requests[2].at - requests[1].at >= Duration::from_millis(490), "it was open");
    assert!(ended.stderr.contains("circuit_open"), "{}", ended.stderr);
}

#[test]
fn each_host_of_a_template_has_a_circuit_of_its_own() {
    let down = Server::start(|_, _| response("503 Busy", ""));
    let well = Server::start(|n, _| http::json(n));
    let line = |server: &Server| format!("{{\"url\":\"http://{}\"}}\n", server.address);
    let input = [line(&down), line(&well), line(&down), line(&well), line(&down)].concat();
    let keys = "endpoint: '{{ event.data.url }}'\non_error: drop\nretry: {max_attempts: 1}\n\
                circuit_breaker: {failure_threshold: 1, open_for: 1h}";
    let ended = call(&well, keys, &input);
    assert_eq!(ended.stdout, "0\n1\n", "{}", ended.stderr);
    assert_eq!((down.requests().len(), well.requests().len()), (1, 2));
    let types: Vec<_> = ended.logged("event dropped").iter().map(|line| line["error.type"].clone()).collect();
    assert!(types.contains(&json!("503")), "{types:?}");
    assert_eq!(ended.drained()["dropped"], 3);
}

#[test]
fn requests_keep_to_their_rate_and_none_fails_by_waiting() {
    let server = Server::start(|n, _| http::json(n));
    let keys = "endpoint: http://HOST\nconcurrency: 4\ntimeout: 150ms\nrate_limit: {rate: 10}";
    let ended = call(&server, keys, &events(5));
    assert_eq!(ended.drained()["completed"], 5, "{}", ended.stderr);
    let mut times: Vec<_> = server.requests().iter().map(|request| request.at).collect();
    times.sort();
    assert_eq!(times.len(), 5, "the timeout is that of the request, not of the wait");
    assert!(times[4] - times[0] >= Duration::from_millis(380), "{times:?}");
}
