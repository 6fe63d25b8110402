//! The heads of requests and of responses: what is none, and what could be taken for two, goes neither in nor out.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::Serving;
use crate::support::{
    client::{Client, Response, call},
    collector::Collector,
};

/// Sets what the request says, and puts out what it says.
const SETTING: &str = r#"
    - http_endpoint: {name: in, endpoint: /set}
    - script: {name: set, code: "ctx.meta.http_response = event.data.payload.set; event.data.payload.data"}
"#;

fn set(client: &mut Client, set: &Value, data: &Value) -> Response {
    let body = json!({"set": set, "data": data}).to_string();
    client.call("POST /set", "content-type: application/json\r\n", body.as_bytes())
}

/// Scenario: a flow sets what no response can have, one thing after the other on one connection. Guarantee: each is
/// answered 500 with the key that is wrong and without its value, and nothing else comes on the connection.
#[test]
fn what_no_response_can_have_is_said_by_its_key_and_never_sent() {
    let serving = Serving::start("", "", SETTING);
    let mut client = Client::connect(serving.address);
    let headers = |name: &str, value: Value| json!({"headers": {name: value}});
    let mut cases = vec![
        (json!(404), "http_response"),
        (json!({"stauts": 404}), "http_response.stauts"),
        (json!({"headers": ["m4rker"]}), "http_response.headers"),
    ];
    for status in [json!(0), json!(100), json!(101), json!(103), json!(199), json!(600), json!(65736)] {
        cases.push((json!({"status": status}), "http_response.status"));
    }
    for status in [json!(-200), json!(200.5), json!("200"), json!(true), json!([200])] {
        cases.push((json!({"status": status}), "http_response.status"));
    }
    // There is a body.
    for status in [204, 205, 304] {
        cases.push((json!({"status": status}), "http_response.status"));
    }
    for name in ["Content-Length", "transfer-encoding", "connection", "Trailer", "upgrade", "keep-alive"] {
        cases.push((headers(name, json!("5")), "http_response.headers."));
    }
    for name in ["", "a b", "a:", "x\r\ny", "é", "content-encoding", "proxy-connection", "te"] {
        cases.push((headers(name, json!("5")), "http_response.headers."));
    }
    for value in ["m4rker\r\nx-smuggled: 1", "m4rker\n", "\rm4rker", "m4rker\0", "m4rker\u{7f}"] {
        cases.push((headers("x-it", json!(value)), "http_response.headers.x-it"));
        cases.push((headers("x-it", json!(["fine", value])), "http_response.headers.x-it"));
    }
    for value in [json!(null), json!({"m4rker": 1}), json!([["m4rker"]])] {
        cases.push((headers("x-it", value), "http_response.headers.x-it"));
    }
    cases.push((headers("content-type", json!(["a/b", "c/d"])), "http_response.headers.content-type"));
    cases.push((
        json!({"headers": {"location": "/a", "Location": "/b"}}),
        "http_response.headers.", // whichever comes last
    ));
    for (what, key) in &cases {
        let response = set(&mut client, what, &json!(1));
        assert_eq!(
            (response.status, response.header("content-type")),
            (500, Some("application/problem+json")),
            "{what}"
        );
        let detail = response.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(&format!("`{key}")) && !detail.contains("m4rker"), "{what}: {detail}");
        assert_eq!(response.header("x-smuggled"), None);
    }
    let ended = serving.stop();
    assert!(!ended.stderr.contains("m4rker"), "{}", ended.stderr);
    assert_eq!(ended.drained()["entered"], cases.len());
}

#[test]
fn what_a_response_can_have_is_sent_as_it_is() {
    let serving = Serving::start("", "", SETTING);
    let mut client = Client::connect(serving.address);
    for status in [200, 201, 299, 302, 418, 499, 599] {
        let response = set(&mut client, &json!({"status": status}), &json!({"n": 1}));
        assert_eq!((response.status, response.text()), (status, "{\"n\":1}"));
    }
    for (status, data) in [(204, json!("")), (304, json!("")), (205, json!(""))] {
        let what = json!({"status": status, "headers": {"ETag": "\"7\"", "x-n": [1, true, "a\tb"]}});
        let response = set(&mut client, &what, &data);
        assert_eq!(
            (response.status, &*response.body, response.header("etag")),
            (status, &b""[..], Some("\"7\""))
        );
        assert_eq!(response.headers.iter().filter(|(name, _)| name == "x-n").count(), 3);
    }
    let plain = set(&mut client, &json!({"headers": {}}), &json!({}));
    assert_eq!((plain.status, plain.text()), (200, "{}"));
    serving.stop();
}

/// Tells which headers the event has.
const TELLING: &str = r#"
    - http_endpoint: {name: in, endpoint: /work, headers: [host]}
    - script: {name: tell, code: "event.data.headers"}
"#;

const NEXT: &str = "POST /work HTTP/1.1\r\nhost: next\r\ncontent-length: 0\r\n\r\n";

/// Scenario: a head that says nothing clear, and right behind it a request that is fine. Guarantee: the first is refused,
/// and what comes behind it is not taken for a request.
#[test]
fn a_head_that_two_servers_may_understand_differently_is_refused_and_ends_the_connection() {
    let serving = Serving::start("", "", TELLING);
    let host = "POST /work HTTP/1.1\r\nhost: a\r\n";
    let cases = [
        (400, "POST /work HTTP/1.1\r\n\r\n".to_owned()),
        (400, format!("{host}host: a\r\n\r\n")),
        (400, format!("{host}host: b\r\n\r\n")),
        (400, "POST /work HTTP/1.0\r\nhost: a\r\nhost: b\r\n\r\n".to_owned()),
        (501, "CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n".to_owned()),
        (400, "POST ftp://a/work HTTP/1.1\r\nhost: a\r\n\r\n".to_owned()),
        (400, "POST http://u@a/work HTTP/1.1\r\nhost: a\r\n\r\n".to_owned()),
        (400, "POST work HTTP/1.1\r\nhost: a\r\n\r\n".to_owned()),
        (400, "POST a:80 HTTP/1.1\r\nhost: a\r\n\r\n".to_owned()),
        (400, "POST * HTTP/1.1\r\nhost: a\r\n\r\n".to_owned()),
        (417, format!("{host}expect: 200-ok\r\ncontent-length: 1\r\n\r\n1")),
        (417, format!("{host}expect: 100-continue, more\r\n\r\n")),
        (417, format!("{host}expect: more\r\nexpect: 100-continue\r\n\r\n")),
        (501, format!("{host}transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n")),
        (501, format!("{host}transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")),
        (400, format!("{host}transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n")),
    ];
    let hosts = ["a b", "a@b", "a/b", "[::1", "[::1]80", "a:b", "a:123456", "a\tb", "é"];
    let hosts = hosts.map(|host| (400, format!("POST /work HTTP/1.1\r\nhost: {host}\r\n\r\n")));
    for (status, text) in cases.iter().chain(&hosts) {
        let mut client = Client::connect(serving.address);
        client.send(format!("{text}{NEXT}").as_bytes());
        let response = client.receive().unwrap();
        let told = [response.header("content-type"), response.header("connection")];
        assert_eq!(
            (response.status, told),
            (*status, [Some("application/problem+json"), Some("close")]),
            "{text}"
        );
        assert_eq!(client.until_closed(), b"", "{text}");
    }
    assert_eq!(serving.stop().drained()["entered"], 0);
}

#[test]
fn a_head_is_fine_in_each_of_its_forms() {
    let serving = Serving::start("", "", TELLING);
    for (text, host) in [
        ("POST /work HTTP/1.0\r\n\r\n", json!({})),
        ("POST /work HTTP/1.1\r\nhost:\r\n\r\n", json!({"host": ""})),
        ("POST /work HTTP/1.1\r\nhost: [::1]:80\r\n\r\n", json!({"host": "[::1]:80"})),
        ("POST /work HTTP/1.1\r\nHost: a%20b.Example:\r\n\r\n", json!({"host": "a%20b.Example:"})),
        // A proxy, or whoever takes us for one: the address counts.
        ("POST http://real:80/work HTTP/1.1\r\nhost: other\r\n\r\n", json!({"host": "real:80"})),
        ("POST HTTPS://real/work HTTP/1.1\r\nhost: other\r\n\r\n", json!({"host": "real"})),
        (
            "POST /work HTTP/1.1\r\nhost: a\r\nexpect: 100-Continue\r\ncontent-length: 1\r\n\r\n1",
            json!({"host": "a"}),
        ),
        (
            "POST /work HTTP/1.1\r\nhost: a\r\ntransfer-encoding: Chunked\r\n\r\n0\r\n\r\n",
            json!({"host": "a"}),
        ),
    ] {
        let mut client = Client::connect(serving.address);
        client.send(text.as_bytes());
        let response = client.receive().unwrap();
        assert_eq!((response.status, response.json()), (200, host), "{text}");
    }
    // Two lengths: the chunks count, and nothing is taken for a request behind them.
    let mut client = Client::connect(serving.address);
    let both =
        "POST /work HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    client.send(format!("{both}{NEXT}").as_bytes());
    assert_eq!(client.receive().unwrap().json(), json!({"host": "a"}));
    assert_eq!(client.until_closed(), b"");
    serving.stop();
}

/// Returns the status that a request by HTTP/2 is answered with.
async fn call_h2(address: SocketAddr, uri: &str, headers: &[(&str, &str)]) -> u16 {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    let driving = tokio::task::spawn_local(connection);
    let mut request = http::Request::post(uri).version(http::Version::HTTP_2);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (response, _) = client.send_request(request.body(()).unwrap(), true).unwrap();
    let status = response.await.unwrap().status().as_u16();
    drop(client);
    let _ = driving.await;
    status
}

#[test]
fn a_request_of_http_2_is_for_one_host() {
    let serving = Serving::start("", "", TELLING);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let call = |uri: &str, headers: &[(&str, &str)]| {
        tokio::task::LocalSet::new().block_on(&runtime, call_h2(serving.address, uri, headers))
    };
    for (status, uri, headers) in [
        (200, "http://a/work", &[][..]),
        (200, "http://a/work", &[("host", "A:80")]),
        (200, "http://a:81/work", &[("host", "a:81"), ("te", "trailers")]),
        (400, "http://a/work", &[("host", "b")]),
        (400, "http://a/work", &[("host", "a:81")]),
        (400, "http://a/work", &[("host", "a"), ("host", "a")]),
        (400, "http://u@a/work", &[]),
        (417, "http://a/work", &[("expect", "more")]),
    ] {
        assert_eq!(call(uri, headers), status, "{uri} {headers:?}");
    }
    assert_eq!(serving.stop().drained()["entered"], 3);
}

/// Scenario: heads that the parser refuses by itself, among requests that are fine or refused later, and connections that
/// end without any. Guarantee: whatever was answered is counted once, with its status, and nothing else is.
#[test]
fn what_the_parser_refuses_is_counted_as_what_is_answered() {
    let collector = Collector::start();
    let top = format!("telemetry: {{enabled: true, otlp_endpoint: \"{}\"}}", collector.endpoint());
    let serving = Serving::start(&top, "", TELLING);
    let many: String = (0..150).map(|n| format!("x-{n}: 1\r\n")).collect();
    let malformed = [
        (400, "b@d / HTTP/1.1\r\nhost: a\r\n\r\n".to_owned()),
        (400, "POST /work\u{1} HTTP/1.1\r\nhost: a\r\n\r\n".to_owned()),
        (400, "POST /work HTTP/3.0\r\nhost: a\r\n\r\n".to_owned()),
        (400, "POST /work HTTP/1.1\r\nhost\r\n\r\n".to_owned()),
        (400, "POST /work HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n".to_owned()),
        (400, "POST /work HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n".to_owned()),
        (400, "POST /work HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n".to_owned()),
        (400, "POST /work HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n".to_owned()),
        (431, format!("POST /work HTTP/1.1\r\nhost: a\r\n{many}\r\n")),
    ];
    for (status, text) in &malformed {
        let mut client = Client::connect(serving.address);
        assert_eq!(client.call("POST /work", "", b"1").status, 200);
        client.send(text.as_bytes());
        assert_eq!(client.receive().unwrap().status, *status, "{text}");
        assert_eq!(client.until_closed(), b"");
    }
    assert_eq!(call(serving.address, "POST /nothing", "", b"").status, 404);
    assert_eq!(call(serving.address, "POST /work", "expect: more\r\n", b"").status, 417);
    for text in ["", "POST /wo", "POST /work HTTP/1.1\r\nhost: a\r\n"] {
        let mut client = Client::connect(serving.address);
        client.send(text.as_bytes());
        client.finish();
        assert_eq!(client.until_closed(), b"", "{text}");
    }
    serving.stop();
    let metrics = collector.metrics();
    let count =
        |attributes: &[(&str, &str)]| metrics.histogram_count("http.server.request.duration", attributes);
    let other = ("http.request.method", "_OTHER");
    assert_eq!(count(&[other, ("http.response.status_code", "400")]), 8);
    assert_eq!(count(&[other, ("http.response.status_code", "431")]), 1);
    assert_eq!(count(&[("http.response.status_code", "404")]), 1);
    assert_eq!(count(&[("http.response.status_code", "417")]), 1);
    assert_eq!((count(&[other]), count(&[])), (9, 20));
}
