//! What a request becomes, and what it is answered with.

use serde_json::{Value, json};

use super::Serving;
use crate::support::client::{Client, Response, call, post};

const ORDERS: &str = r#"
    - http_endpoint: {name: in, endpoint: "/orders/{id}", headers: [x-tenant]}
    - script:
        name: work
        code: |
          switch event.data.payload {
            "all" => event.data,
            "created" => {
              ctx.meta.http_response = #{status: 201, headers: #{location: "/orders/7", "x-many": ["a", "b"]}};
              #{id: 7}
            }
            "several" => [1, #{n: 2}, "three"],
            "none" => (),
            "text" => { ctx.meta.http_response = #{headers: #{"content-type": "text/csv"}}; "a,b\n1,2\n" }
            "map" => { ctx.meta.http_response = 404; 1 }
            "odd" => { ctx.meta.http_response = #{status: 99}; 1 }
            "own" => { ctx.meta.http_response = #{headers: #{"content-length": "5"}}; 1 }
            "fail" => { throw "m4rker"; }
            _ => event.data.payload
          }
"#;

fn orders() -> Serving {
    Serving::start("", "", ORDERS)
}

fn problem(response: &Response, status: u16) -> Value {
    assert_eq!(
        (response.status, response.header("content-type")),
        (status, Some("application/problem+json"))
    );
    let problem = response.json();
    assert_eq!((&problem["status"], &problem["type"]), (&json!(status), &json!("about:blank")));
    assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
    problem
}

#[test]
fn a_request_becomes_an_event_and_the_event_its_response() {
    let serving = orders();
    let at = serving.address;
    let headers = "X-Tenant: acme\r\nauthorization: m4rker\r\ncontent-type: application/json\r\n";
    let all = call(at, "POST /orders/a%20b?q=1&q=2&z=%C3%A9", headers, b"\"all\"");
    let expected = json!({
        "method": "POST",
        "path": "/orders/a%20b",
        "params": {"id": "a b"},
        "query": {"q": ["1", "2"], "z": "é"},
        "headers": {"x-tenant": "acme"},
        "payload": "all",
    });
    assert_eq!(
        (all.status, all.json(), all.header("content-type")),
        (200, expected, Some("application/json"))
    );
    let created = post(at, "/orders/7", &json!("created"));
    assert_eq!((created.status, created.header("location")), (201, Some("/orders/7")));
    assert_eq!(created.headers.iter().filter(|(name, _)| name == "x-many").count(), 2);
    let several = post(at, "/orders/7", &json!("several"));
    assert_eq!((several.status, several.json()), (200, json!([1, {"n": 2}, "three"])));
    let none = post(at, "/orders/7", &json!("none"));
    assert_eq!((none.status, &*none.body), (204, &b""[..]));
    let text = post(at, "/orders/7", &json!("text"));
    assert_eq!((text.text(), text.header("content-type")), ("a,b\n1,2\n", Some("text/csv")));
    for (what, detail) in [("map", "no status"), ("odd", "status"), ("own", "header"), ("fail", "failed")] {
        let problem = problem(&post(at, "/orders/7", &json!(what)), 500);
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{problem}");
        assert!(problem["event_id"].as_str().unwrap().len() == 36 && !problem.to_string().contains("m4rker"));
    }
    for (value, text) in
        [(json!(false), "false"), (json!(""), "\"\""), (json!({"a": [1.0]}), r#"{"a":[1.0]}"#)]
    {
        assert_eq!(post(at, "/orders/7", &value).text(), text);
    }
    let ended = serving.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let drained = ended.drained();
    assert_eq!(
        (&drained["completed"], &drained["filtered"], &drained["failed"]),
        (&json!(10), &json!(1), &json!(1))
    );
}

#[test]
fn what_is_refused_says_why_and_becomes_no_event() {
    let serving = orders();
    let at = serving.address;
    problem(&call(at, "POST /nothing", "", b""), 404);
    let other = call(at, "GET /orders/7", "", b"");
    problem(&other, 405);
    assert_eq!(other.header("allow"), Some("POST, OPTIONS"));
    let options = call(at, "OPTIONS /orders/7", "", b"");
    assert_eq!((options.status, options.header("allow")), (204, Some("POST, OPTIONS")));
    let malformed = call(at, "POST /orders/7", "content-type: application/json\r\n", b"{\"a\":m4rker}");
    assert!(!problem(&malformed, 400).to_string().contains("m4rker"));
    problem(&call(at, "POST /orders/7", "content-type: text/plain\r\n", b"\xff"), 400);
    problem(&call(at, "POST /orders/%ff", "", b""), 400);
    problem(&call(at, "POST /orders/7", "content-encoding: br\r\n", b"x"), 415);
    problem(&call(at, "POST /orders/7", "content-encoding: gzip\r\n", b"x"), 400);
    let deep = "[".repeat(100_000);
    problem(&call(at, "POST /orders/7", "content-type: application/json\r\n", deep.as_bytes()), 400);
    // Nothing of all that has done the server any harm.
    assert_eq!(post(at, "/orders/7", &json!(1)).status, 200);
    let ended = serving.stop();
    assert_eq!(ended.drained()["entered"], 1);
}

#[test]
fn a_path_tells_all_its_methods_whoever_serves_them() {
    let tasks = r#"
    - http_endpoint: {name: put, method: PUT, endpoint: "/orders/{id}", cors: {allow_origins: ["*"]}}
    - http_endpoint: {name: get, method: GET, endpoint: "/orders/{order}"}
    - drop: {depends_on: [put, get]}
"#;
    let serving = Serving::start("", "", tasks);
    let all = Some("GET, PUT, HEAD, OPTIONS");
    let preflight = "origin: https://a.example\r\naccess-control-request-method: PUT\r\n";
    for headers in ["", preflight] {
        let options = call(serving.address, "OPTIONS /orders/7", headers, b"");
        assert_eq!((options.status, options.header("allow")), (204, all));
    }
    let other = call(serving.address, "DELETE /orders/7", "", b"");
    assert_eq!((other.status, other.header("allow")), (405, all));
    serving.stop();
}

#[test]
fn outputs_of_several_branches_are_one_list_in_the_order_of_their_tasks() {
    let tasks = r#"
    - http_endpoint: {name: in, endpoint: /split, method: PUT}
    - script: {name: slow, code: "let n = 0; for i in 0..20000 { n += 1; } [`slow`, n]"}
    - script: {name: fast, depends_on: [in], code: "`fast`"}
    - script: {name: join, depends_on: [slow, fast], code: "event.data"}
"#;
    let serving = Serving::start("", "", tasks);
    for _ in 0..3 {
        let response = call(serving.address, "PUT /split", "", b"");
        // The ids tell: the branch `fast` keeps that of the request, what `slow` puts out is derived from it.
        assert_eq!(response.json(), json!(["fast", "slow", 20000]));
    }
    assert_eq!(serving.stop().drained()["completed"], 3);
}

#[test]
fn all_requests_of_a_batch_are_answered_with_what_it_becomes() {
    let tasks = r#"
    - http_endpoint: {name: in, endpoint: /sum}
    - buffer: {name: three, size: 3}
    - script: {name: sum, code: "let sum = 0; for one in event.data.batch { sum += one.payload; } sum"}
"#;
    let serving = Serving::start("", "", tasks);
    let mut clients: Vec<_> = (0..3).map(|_| Client::connect(serving.address)).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(&crate::support::client::request("POST /sum", "", n.to_string().as_bytes()));
    }
    for client in &mut clients {
        assert_eq!(client.receive().unwrap().text(), "3");
    }
    assert_eq!(serving.stop().drained()["completed"], 3);
}

#[test]
fn a_failure_that_may_pass_and_one_that_is_dealt_with_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let top = format!("state: {{path: {}}}\nretry: {{max_attempts: 1}}", directory.path().display());
    let tasks = r#"
    - http_endpoint: {name: in, endpoint: /work}
    - switch:
        name: which
        cases:
          - {when: 'event.data.query.how == "later"', to: later}
          - {when: 'event.data.query.how == "dropped"', to: dropped}
        default: stored
    - http_request: {name: later, endpoint: "http://127.0.0.1:1/"}
    - http_request: {name: dropped, endpoint: "http://127.0.0.1:1/", on_error: drop}
    - script: {name: stored, code: 'throw "no"', on_error: dead_letter}
"#;
    let serving = Serving::start(&top, "", tasks);
    let later = call(serving.address, "POST /work?how=later", "", b"");
    problem(&later, 503);
    assert_eq!(later.header("retry-after"), Some("1"));
    assert_eq!(call(serving.address, "POST /work?how=dropped", "", b"").status, 204);
    let stored = call(serving.address, "POST /work?how=stored", "", b"");
    assert_eq!((stored.status, stored.json()["event_id"].is_string()), (202, true));
    let drained = serving.stop().drained();
    assert_eq!(
        (&drained["failed"], &drained["dropped"], &drained["dead_lettered"]),
        (&json!(1), &json!(1), &json!(1))
    );
}

#[test]
fn an_ack_says_that_the_whole_flow_has_succeeded() {
    let tasks = r#"
    - http_endpoint: {name: in, endpoint: /work, response: ack}
    - script: {name: picky, code: 'if event.data.payload == 2 { throw "no" } event'}
    - file_write: {name: out, path: out}
"#;
    let serving = Serving::start("", "", tasks);
    let acked = post(serving.address, "/work", &json!(1));
    let line = &std::fs::read_to_string(serving.worker.folder.path().join("out")).unwrap();
    assert_eq!((acked.status, acked.json()["event_id"].is_string()), (200, true));
    assert!(line.contains("\"payload\":1"), "{line}");
    problem(&post(serving.address, "/work", &json!(2)), 500);
    assert_eq!(serving.stop().drained()["completed"], 1);
}

#[test]
fn what_is_accepted_outlasts_the_worker() {
    let directory = tempfile::tempdir().unwrap();
    let top = format!("state: {{path: {}}}", directory.path().display());
    // What waits in the buffer is not done when the worker is killed.
    let tasks = |then: &str| {
        format!(
            "
    - http_endpoint: {{name: in, endpoint: /work, response: accepted}}
    {then}
    - file_write: {{name: out, path: {}/out}}
    - log: {{name: seen}}
",
            directory.path().display()
        )
    };
    let waiting = tasks("- buffer: {name: wait, size: 1000, timeout: 1h}");
    let serving = Serving::start(&top, "  durable: true", &waiting);
    let accepted: Vec<_> = (0..20).map(|n| post(serving.address, "/work", &json!(n))).collect();
    assert!(accepted.iter().all(|response| response.status == 202), "{accepted:?}");
    serving.worker.signal(rustix::process::Signal::KILL);
    serving.worker.end();
    let serving = Serving::start(&top, "  durable: true", &tasks("- script: {name: same, code: event}"));
    assert_eq!(post(serving.address, "/work", &json!(20)).status, 202);
    // What waits in the queue at the end stays for the next run.
    serving.worker.until_logged("\\\"payload\\\":20");
    let drained = serving.stop().drained();
    assert_eq!(drained["completed"], 21);
    let lines = std::fs::read_to_string(directory.path().join("out")).unwrap();
    let payloads: Vec<_> =
        lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["payload"].clone()).collect();
    assert_eq!(payloads, (0..21).map(Value::from).collect::<Vec<_>>());
}

#[test]
fn after_the_time_the_client_is_told_and_the_event_goes_on() {
    let tasks = r#"
    - http_endpoint: {name: in, endpoint: /work, ack_timeout: 50ms}
    - buffer: {name: wait, size: 1000, timeout: 1h}
"#;
    let serving = Serving::start("", "", tasks);
    let late = call(serving.address, "POST /work", "", b"1");
    let problem = problem(&late, 504);
    assert!(problem["detail"].as_str().unwrap().contains("goes on"), "{problem}");
    let ended = serving.stop();
    assert_eq!(ended.drained()["completed"], 1, "{}", ended.stderr);
}

#[test]
fn an_event_whose_client_is_gone_goes_on() {
    let tasks = r#"
    - http_endpoint: {name: in, endpoint: /work}
    - log: {name: seen}
    - buffer: {name: wait, size: 2, timeout: 1h}
"#;
    let serving = Serving::start("", "", tasks);
    let mut client = Client::connect(serving.address);
    client.send(&crate::support::client::request("POST /work", "", b"1"));
    serving.worker.until_logged("\\\"payload\\\":1");
    drop(client);
    assert_eq!(call(serving.address, "POST /work", "", b"2").json()["batch_size"], 2);
    assert_eq!(serving.stop().drained()["completed"], 2);
}

/// Scenario: the body of a request ends before its end, or is no body. Guarantee: nobody is told that it was handled, and
/// it is no event.
#[test]
fn a_body_that_is_cut_off_or_malformed_is_never_a_success() {
    let tasks =
        "    - http_endpoint: {name: in, endpoint: /work, response: ack}\n    - drop: {name: nowhere}\n";
    let serving = Serving::start("", "", tasks);
    let chunked = "transfer-encoding: chunked\r\n\r\n5\r\n[1,2]\r\n";
    for rest in ["content-length: 100\r\n\r\n[1, 2]", chunked, &format!("{chunked}XY\r\n")] {
        let mut client = Client::connect(serving.address);
        client.send(format!("POST /work HTTP/1.1\r\nhost: a\r\n{rest}").as_bytes());
        client.finish();
        // It may be gone without a word, but never with a good one.
        if let Some(response) = client.receive() {
            problem(&response, 400);
            assert_eq!(response.header("connection"), Some("close"));
        }
    }
    assert_eq!(serving.stop().drained()["entered"], 0);
}
