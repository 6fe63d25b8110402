//! `http_request` against a server that answers as the test says.

mod auth;
mod circuit;
mod connections;
mod guard;
mod limits;
mod pages;
mod responses;
mod spans;

use std::{io::Write, net::TcpListener, time::Duration};

use serde_json::{Value, json};

use crate::support::{
    http::{self, Reply, Server, response},
    worker::{Ended, Worker, run},
};

/// Makes a flow that puts JSON lines through a request with these further keys.
fn flow(keys: &str) -> String {
    let keys: String = keys.lines().map(|line| format!("        {}\n", line.trim_start())).collect();
    format!(
        "retry: {{initial_backoff: 1ms, max_backoff: 5ms, max_attempts: 3}}
flow:
  name: calls
  tasks:
    - file: {{name: in, path: input}}
    - http_request:
        name: call
{keys}    - stdout: {{name: out}}
"
    )
}

/// Runs a flow with these keys, and these files beside its input.
fn call_with(server: &Server, keys: &str, input: &str, files: &[(&str, &str)]) -> Ended {
    let mut all = vec![("input", input.as_bytes())];
    all.extend(files.iter().map(|(name, content)| (*name, content.as_bytes())));
    run(&flow(&keys.replace("HOST", &server.address.to_string())), &all)
}

/// Makes so many events.
fn events(count: usize) -> String {
    (0..count).map(|n| format!("{{\"n\":{n}}}\n")).collect()
}

/// Runs it; `HOST` is where the server is.
fn call_at(host: &str, keys: &str, input: &str) -> Ended {
    run(&flow(&keys.replace("HOST", host)), &[("input", input.as_bytes())])
}

fn call(server: &Server, keys: &str, input: &str) -> Ended {
    call_at(&server.address.to_string(), keys, input)
}

/// What a transient failure is given up by, so that it ends.
const GIVEN_UP: &str = "endpoint: http://HOST\non_error: drop";

const ONE: &str = "{\"n\":1}\n";

fn rows(ended: &Ended) -> Vec<Value> {
    ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn assert_completed(ended: &Ended, expected: &[Value]) {
    assert_eq!(rows(ended), expected, "{}", ended.stderr);
    assert_eq!(ended.drained()["completed"], expected.len(), "{}", ended.stderr);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

/// Checks that the only event failed for good with this type, and returns the message.
fn assert_failed(ended: &Ended, error_type: &str) -> String {
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert_eq!(ended.drained()["failed"], 1, "{}", ended.stderr);
    assert_only_failure(ended, "event failed", error_type)
}

/// Checks that the only event failed for now with this type and was dropped, and returns the message.
fn assert_given_up(ended: &Ended, error_type: &str) -> String {
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.drained()["dropped"], 1, "{}", ended.stderr);
    assert_only_failure(ended, "event dropped", error_type)
}

fn assert_only_failure(ended: &Ended, message: &str, error_type: &str) -> String {
    assert_eq!(ended.stdout, "");
    let failures = ended.logged(message);
    assert_eq!(failures.len(), 1, "{}", ended.stderr);
    assert_eq!(failures[0]["error.type"], error_type, "{}", ended.stderr);
    failures[0]["error.message"].as_str().unwrap().to_owned()
}

#[test]
fn the_templates_make_the_request_and_the_body_becomes_the_data() {
    let server = Server::start(|_, _| http::json(json!({"ok": true})));
    let keys = "endpoint: http://HOST/orders/{{ event.data.id | urlencode }}?source={{ event.subject }}\n\
                method: PUT\n\
                timeout: null\n\
                headers: {x-id: \"{{ event.data.id }}-1\", X-Fixed: yes it is}\n\
                payload: {object: {n: \"{{ event.data.n }}\", text: \"n={{ event.data.n }}\", list: [\"{{ event.data.id }}\"]}}";
    let ended = call(&server, keys, "{\"id\":\"a b?\",\"n\":1.5}\n");
    assert_completed(&ended, &[json!({"ok": true})]);
    let requests = server.requests();
    let request = &requests[0];
    assert_eq!(request.line, "PUT /orders/a%20b%3F?source=in");
    assert_eq!(request.header("x-id"), Some("a b?-1"));
    assert_eq!(request.header("x-fixed"), Some("yes it is"));
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert!(request.headers.iter().all(|(name, _)| !name.contains("trace")), "nothing is traced here");
    assert_eq!(request.header("user-agent"), Some(concat!("flowgen/", env!("CARGO_PKG_VERSION"))));
    assert_eq!(request.body, r#"{"n":1.5,"text":"n=1.5","list":["a b?"]}"#);
}

#[test]
fn each_payload_is_sent_as_it_says() {
    let cases = [
        ("", "GET /", "", None),
        ("payload: {from_event: true}", "GET /", r#"{"a":"x y","b":2}"#, Some("application/json")),
        (
            "payload: {input: '<{{ event.data.a }}>', send_as: text}",
            "GET /",
            "<x y>",
            Some("text/plain; charset=utf-8"),
        ),
        (
            "payload: {from_event: true, send_as: urlencoded}",
            "GET /",
            "a=x+y&b=2",
            Some("application/x-www-form-urlencoded"),
        ),
        ("payload: {from_event: true, send_as: queryparams}", "GET /?a=x+y&b=2", "", None),
        (
            "headers: {Content-Type: text/csv}\npayload: {input: 'a,b', send_as: text}",
            "GET /",
            "a,b",
            Some("text/csv"),
        ),
    ];
    for (keys, line, body, content_type) in cases {
        let server = Server::start(|_, _| http::json(1));
        let ended = call(&server, &format!("endpoint: http://HOST\n{keys}"), "{\"a\":\"x y\",\"b\":2}\n");
        assert_completed(&ended, &[json!(1)]);
        let requests = server.requests();
        assert_eq!((&*requests[0].line, &*requests[0].body), (line, body), "{keys}");
        assert_eq!(requests[0].header("content-type"), content_type, "{keys}");
    }
}

#[test]
fn a_body_becomes_what_it_is_or_what_the_response_type_says() {
    let json_head = "200 OK\r\ncontent-type: application/problem+json; charset=utf-8";
    let cases = [
        ("auto", json_head, "{\n  \"a\": 1\n}\n", json!({"a": 1})),
        ("auto", "200 OK", "[1]", json!([1])),
        ("auto", "200 OK\r\ncontent-type: text/html", "<p>é", json!("<p>é")),
        ("json", "200 OK\r\ncontent-type: text/plain", "7", json!(7)),
        ("text", json_head, "{\"a\":1}", json!("{\"a\":1}")),
        ("json", "204 No Content", "", Value::Null),
    ];
    for (response_type, head, body, expected) in cases {
        let server = Server::start(move |_, _| response(head, body));
        let ended = call(&server, &format!("endpoint: http://HOST\nresponse_type: {response_type}"), ONE);
        assert_completed(&ended, &[expected]);
        assert_eq!(ended.stdout.lines().count(), 1);
    }
}

#[test]
fn a_status_that_may_pass_is_tried_again_and_any_other_is_not() {
    for status in [408, 425, 429, 500, 502, 503, 504] {
        let server = Server::start(move |n, _| match n {
            0 | 1 => response(&format!("{status} Some"), "secret-body"),
            _ => http::json(n),
        });
        assert_completed(&call(&server, "endpoint: http://HOST", ONE), &[json!(2)]);
    }
    for status in [300, 304, 400, 401, 404, 409, 422, 501, 505] {
        let server = Server::start(move |_, _| response(&format!("{status} Some"), ""));
        let message = assert_failed(&call(&server, "endpoint: http://HOST", ONE), &status.to_string());
        assert!(message.contains(&format!("GET {}: the answer is {status}", server.address)), "{message}");
        assert_eq!(server.requests().len(), 1, "{status}");
    }
    let server = Server::start(|_, _| response("599 Odd", ""));
    assert_failed(&call(&server, "endpoint: http://HOST", ONE), "_OTHER");
    let server = Server::start(|_, _| response("503 Down", ""));
    assert_given_up(&call(&server, GIVEN_UP, ONE), "503");
    assert_eq!(server.requests().len(), 3, "as many attempts as `max_attempts`");
}

#[test]
fn an_attempt_waits_as_long_as_the_server_asks() {
    let server = Server::start(|n, _| match n {
        0 => response("429 Slow Down\r\nretry-after: 1", ""),
        _ => http::json(n),
    });
    assert_completed(&call(&server, "endpoint: http://HOST", ONE), &[json!(1)]);
    let requests = server.requests();
    assert!(requests[1].at - requests[0].at >= Duration::from_millis(990), "the cap of the backoff is 5 ms");
}

#[test]
fn an_attempt_takes_no_longer_than_its_timeout_however_lively_the_server_seems() {
    let head = || b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n".to_vec();
    let server = Server::start(move |n, _| match n {
        0 => Reply::Hang(Vec::new()),
        1 => Reply::Drip(head()),
        _ => http::json(n),
    });
    let ended = call(&server, "endpoint: http://HOST\ntimeout: 200ms", ONE);
    assert_completed(&ended, &[json!(2)]);
    let server = Server::start(move |_, _| Reply::Drip(head()));
    let message = assert_given_up(&call(&server, &format!("{GIVEN_UP}\ntimeout: 50ms"), ONE), "timeout");
    assert!(message.contains("took longer than `timeout`"), "{message}");
}

#[test]
fn a_refused_connection_is_tried_until_someone_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let host = address.to_string();
    assert!(assert_given_up(&call_at(&host, GIVEN_UP, ONE), "connect").contains(&host));

    let keys = format!("endpoint: http://{host}\nretry: {{max_attempts: 100000}}");
    let yaml = format!("logging: {{level: debug}}\n{}", flow(&keys));
    let worker = Worker::start(&yaml, &[("input", ONE.as_bytes())]);
    worker.until_logged("attempt failed, trying again");
    let _server = Server::start_on(TcpListener::bind(address).unwrap(), |_, _| http::json("well"));
    assert_completed(&worker.end(), &[json!("well")]);
}

#[test]
fn a_connection_that_breaks_is_tried_again() {
    let server = Server::start(|n, _| match n {
        0 => Reply::Close(Vec::new()),
        // It promises more than it sends.
        1 => Reply::Close(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n[1,".to_vec()),
        _ => http::json(n),
    });
    assert_completed(&call(&server, "endpoint: http://HOST\nmethod: POST", ONE), &[json!(2)]);
    let server =
        Server::start(|_, _| Reply::Close(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n[1".to_vec()));
    assert_given_up(&call(&server, GIVEN_UP, ONE), "io");
    let head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 99\r\n\r\n\x1f\x8b\x08\0\0\0";
    let server = Server::start(|_, _| Reply::Close(head.to_vec()));
    assert_given_up(&call(&server, GIVEN_UP, ONE), "io");
}

#[test]
fn a_body_is_read_to_its_limit_and_no_further() {
    let keys = "endpoint: http://HOST\nmax_response_bytes: 10";
    let chunked = |size: usize| {
        let body = format!("{size:x}\r\n\"{}\"\r\n0\r\n\r\n", "x".repeat(size - 2));
        Reply::Bytes(format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{body}").into_bytes())
    };
    let server = Server::start(move |_, _| chunked(10));
    assert_completed(&call(&server, keys, ONE), &[json!("xxxxxxxx")]);
    let server = Server::start(move |_, _| chunked(11));
    assert_failed(&call(&server, keys, ONE), "too_large");
    // What is announced as too long is not waited for.
    let server = Server::start(|_, _| Reply::Hang(b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n".to_vec()));
    let message = assert_failed(&call(&server, keys, ONE), "too_large");
    assert!(message.contains("`max_response_bytes`, 10"), "{message}");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_body_that_cannot_be_decoded_is_a_permanent_failure() {
    let json_head = "200 OK\r\ncontent-type: application/json";
    for (head, body) in [
        (json_head, &b"{\"secret\": oops"[..]),
        ("200 OK", b"\xff\xfe"),
        ("200 OK\r\ncontent-encoding: gzip", b"this is not gzip at all"),
        ("200 OK\r\ncontent-encoding: gzip", b"\x1f\x8b\x08\0\0\0\0\0\0\0\xff"),
        ("200 OK\r\ncontent-encoding: gzip", b"\x1f\x8b\x08\0\0\0\0\0\0\0\x01"),
    ] {
        let server = Server::start(move |_, _| response(head, body));
        let ended = call(&server, "endpoint: http://HOST", ONE);
        assert_failed(&ended, "decode");
        assert!(!ended.stderr.contains("secret"), "{}", ended.stderr);
        assert_eq!(server.requests().len(), 1, "{head}");
    }
}

#[test]
fn redirects_are_followed_within_the_host_only_and_not_for_ever() {
    let server = Server::start(|n, request| match &*request.line {
        "GET /old" => response("302 Found\r\nlocation: /new", ""),
        _ => http::json(n),
    });
    assert_completed(&call(&server, "endpoint: http://HOST/old", ONE), &[json!(1)]);

    let server = Server::start(|_, _| response("302 Found\r\nlocation: /loop", ""));
    assert_failed(&call(&server, "endpoint: http://HOST/loop", ONE), "302");
    assert_eq!(server.requests().len(), 11);

    let other = Server::start(|_, _| http::json("stolen"));
    let location = format!("307 Elsewhere\r\nlocation: http://{}/", other.address);
    let server = Server::start(move |_, _| response(&location, ""));
    assert_failed(&call(&server, "endpoint: http://HOST\nheaders: {x-key: secret}", ONE), "307");
    assert_eq!(other.requests().len(), 0);

    let server = Server::start(|_, _| response("307 Again\r\nlocation: /twice", ""));
    assert_failed(&call(&server, "endpoint: http://HOST\nmethod: POST", ONE), "307");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_server_that_speaks_no_tls_is_not_trusted() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            drop(stream.write_all(b"HTTP/1.1 400 This is no TLS\r\n\r\n"));
        }
    });
    assert_given_up(&call_at(&address, "endpoint: https://HOST\non_error: drop", ONE), "tls");
}

/// Scenario: a marker in everything that may be secret, failing in every way, with all that can be logged.
/// Guarantee: the marker reaches the server, and no log line.
#[test]
fn nothing_that_may_be_secret_is_logged() {
    let keys = "endpoint: http://user:m4rker@HOST/m4rker/{{ event.data.id }}?key=m4rker&id={{ event.data.id }}\n\
                method: POST\n\
                headers: {authorization-x: m4rker, x-id: \"{{ event.data.id }}\"}\n\
                payload: {object: {key: m4rker, id: \"{{ event.data.id }}\"}}\n\
                timeout: 200ms";
    let server = Server::start(|n, _| match n % 9 {
        0 => response("404 m4rker\r\nx-m4rker: m4rker", "m4rker"),
        1 => response("302 Found\r\nlocation: http://m4rker.invalid/m4rker", "m4rker"),
        2 => response("200 OK\r\ncontent-type: application/json", "m4rker"),
        3 => response("503 m4rker", "m4rker"),
        4 => Reply::Close(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nm4rker".to_vec()),
        5 => Reply::Hang(b"HTTP/1.1 200 OK\r\nx-m4rker: m4rker\r\n".to_vec()),
        6 => Reply::Close(b"m4rker m4rker\r\n\r\n".to_vec()),
        7 => response("200 OK\r\ncontent-encoding: gzip", "m4rker"),
        _ => response("200 OK\r\ncontent-type: application/json\r\nbad m4rker", "m4rker"),
    });
    let input: String = (0..12).map(|n| format!("{{\"id\":\"m4rker{n}\"}}\n")).collect();
    let keys = keys.replace("HOST", &server.address.to_string());
    let ended = run(&format!("logging: {{level: trace}}\n{}", flow(&keys)), &[("input", input.as_bytes())]);
    assert!(server.requests()[0].body.contains("m4rker"));
    assert_eq!(server.requests()[0].header("authorization"), Some("Basic dXNlcjptNHJrZXI="));
    assert!(ended.logged("event failed").len() >= 3, "{}", ended.stderr);
    assert!(!ended.stderr.contains("m4rker"), "{}", ended.stderr);
    assert_eq!(ended.drained()["failed"], 12);
}

#[test]
fn order_is_kept_and_nothing_is_lost() {
    let server = Server::start(|n, request| match n % 5 {
        0 => response("503 Busy", ""),
        3 if request.body.contains("7") => response("400 Odd", ""),
        _ => http::json(serde_json::from_str::<Value>(&request.body).unwrap()),
    });
    let input: String = (0..500).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    let ended = call(&server, "endpoint: http://HOST\nmethod: POST\npayload: {from_event: true}", &input);
    let out: Vec<u64> = rows(&ended).iter().map(|row| row["n"].as_u64().unwrap()).collect();
    assert!(out.is_sorted_by(|a, b| a < b), "{out:?}");
    let drained = ended.drained();
    assert_eq!(drained["entered"], 500);
    assert_eq!(drained["completed"], out.len());
    let refused = server
        .requests()
        .iter()
        .enumerate()
        .filter(|(n, request)| n % 5 == 3 && request.body.contains('7'))
        .count();
    assert_eq!(drained["failed"], refused);
    assert_eq!(out.len() + refused, 500);
    assert!(refused > 0);
}
