//! What a client may make the server take.

use std::{io::Write, net::TcpListener};

use flate2::{Compression, write::GzEncoder};
use serde_json::json;

use super::{Serving, yaml};
use crate::support::{
    client::{Client, call, post, request},
    worker::Worker,
};

fn zipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_body_has_a_size_and_so_has_what_it_is_decompressed_to() {
    let tasks = r#"
    - http_endpoint: {name: in, endpoint: /size, max_body_bytes: 10KiB, request_type: text}
    - script: {name: size, code: "event.data.payload.len()"}
"#;
    let serving = Serving::start("", "", tasks);
    let at = serving.address;
    let fits = vec![b'a'; 10 << 10];
    assert_eq!(call(at, "POST /size", "", &fits).text(), "10240");
    let chunked = |size: usize| {
        let mut client = Client::connect(at);
        client.send(b"POST /size HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
        for _ in 0..size / 1024 {
            client.try_send(b"400\r\n");
            client.try_send(&[b'a'; 1024]);
            client.try_send(b"\r\n");
        }
        client.try_send(b"0\r\n\r\n");
        client.receive().unwrap()
    };
    assert_eq!((chunked(10 << 10).status, chunked(11 << 10).status), (200, 413));
    assert_eq!(call(at, "POST /size", "", &[b'a'; (10 << 10) + 1]).status, 413);
    // Announced, it is not even read: the client waits for leave to send it.
    let mut asks = Client::connect(at);
    asks.send(b"POST /size HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 99999999\r\n\r\n");
    assert_eq!(asks.receive().unwrap().status, 413);
    let gzip = "content-encoding: gzip\r\n";
    assert_eq!(call(at, "POST /size", gzip, &zipped(&fits)).text(), "10240");
    let bomb = zipped(&vec![0; 10 << 20]);
    assert!(bomb.len() < 10 << 10, "the bomb itself is small enough");
    assert_eq!(call(at, "POST /size", gzip, &bomb).status, 413);
    assert_eq!(serving.stop().drained()["entered"], 3);
}

#[test]
fn a_long_response_is_compressed_for_those_who_take_it() {
    let tasks = r#"
    - http_endpoint: {name: in, endpoint: /text, method: GET}
    - script: {name: text, code: "let text = ``; for i in 0..1000 { text += `abc `; } text"}
"#;
    let serving = Serving::start("", "", tasks);
    let plain = call(serving.address, "GET /text", "", b"");
    let zipped = call(serving.address, "GET /text", "accept-encoding: br, gzip\r\n", b"");
    assert_eq!((plain.header("content-encoding"), plain.body.len()), (None, 4002));
    assert_eq!(
        (zipped.header("content-encoding"), zipped.header("vary")),
        (Some("gzip"), Some("accept-encoding"))
    );
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&*zipped.body), &mut text).unwrap();
    assert_eq!(text, plain.body);
    let mut client = Client::connect(serving.address);
    client.send(&request("HEAD /text", "", b""));
    let (status, headers) = client.head().unwrap();
    assert!(
        status == 200 && headers.contains(&("content-length".to_owned(), "4002".to_owned())),
        "{headers:?}"
    );
    assert_eq!(client.call("GET /text", "", b"").body, plain.body);
}

#[test]
fn a_flow_that_is_saturated_says_so_at_once() {
    let tasks = r#"
    - http_endpoint: {name: in, endpoint: /work, max_in_flight: 2}
    - log: {name: seen}
    - buffer: {name: wait, size: 3, timeout: 1h}
"#;
    let serving = Serving::start("", "", tasks);
    let mut waiting: Vec<_> = (0..2).map(|_| Client::connect(serving.address)).collect();
    for client in &mut waiting {
        client.send(&request("POST /work", "", b"1"));
        serving.worker.next_logged("\\\"payload\\\":1");
    }
    let mut client = Client::connect(serving.address);
    for _ in 0..10 {
        let refused = client.call("POST /work", "", b"2");
        assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
        assert_eq!(refused.header("connection"), None, "it may be asked again without another connection");
    }
    // A body that is still to come is not waited for.
    client.send(b"POST /work HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\n");
    let refused = client.receive().unwrap();
    assert_eq!((refused.status, refused.header("connection")), (503, Some("close")));
    let ended = serving.stop();
    assert_eq!((ended.code, &ended.drained()["completed"]), (Some(0), &json!(2)), "{}", ended.stderr);
    for client in &mut waiting {
        assert_eq!(client.receive().unwrap().json()["batch_size"], 2);
    }
}

#[test]
fn who_dawdles_is_not_waited_for_and_stops_nobody() {
    let yaml = yaml(
        "",
        "",
        r#"
    - http_endpoint: {name: in, endpoint: /work}
"#,
    );
    let limits = "\"127.0.0.1:0\", header_timeout: 100ms, body_timeout: 100ms, idle_timeout: 1h";
    let serving = Serving::started(Worker::start(&yaml.replace("\"127.0.0.1:0\"", limits), &[]));
    let mut idle = Client::connect(serving.address);
    assert_eq!(idle.call("POST /work", "", b"1").status, 200);
    let silent = Client::connect(serving.address);
    let mut headless = Client::connect(serving.address);
    headless.send(b"POST /work HTTP/1.1\r\nhost: a\r\n");
    let mut bodiless = Client::connect(serving.address);
    bodiless.send(b"POST /work HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc");
    assert_eq!(post(serving.address, "/work", &json!(1)).status, 200);
    assert_eq!(bodiless.receive().unwrap().status, 408);
    assert_eq!((silent.until_closed(), headless.until_closed()), (vec![], vec![]));
    // Between requests nothing has to come.
    assert_eq!(idle.call("POST /work", "", b"1").status, 200);
    assert_eq!(serving.stop().drained()["entered"], 3);
}

#[test]
fn there_are_only_so_many_connections_and_further_ones_wait() {
    let yaml = yaml("", "", "    - http_endpoint: {name: in, endpoint: /work}\n");
    let limits = "\"127.0.0.1:0\", max_connections: 2";
    let serving = Serving::started(Worker::start(&yaml.replace("\"127.0.0.1:0\"", limits), &[]));
    let mut first = Client::connect(serving.address);
    let mut second = Client::connect(serving.address);
    assert_eq!(
        (first.call("POST /work", "", b"1").status, second.call("POST /work", "", b"1").status),
        (200, 200)
    );
    let mut third = Client::connect(serving.address);
    third.send(&request("POST /work", "", b"3"));
    // Only when one of the others has left is it served.
    drop(first);
    assert_eq!(third.receive().unwrap().json()["payload"], 3);
    assert_eq!(second.call("POST /work", "", b"1").status, 200);
}

#[test]
fn an_address_that_is_taken_is_said_by_the_task_that_wants_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let yaml = yaml("", "", "    - http_endpoint: {name: in, endpoint: /work}\n");
    let ended = Worker::start(&yaml.replace("127.0.0.1:0", &format!("127.0.0.1:{port}")), &[]).end();
    assert_eq!(ended.code, Some(1));
    for part in ["task `in` of flow `api`", "cannot listen at", "http_server.address", "nothing was started"]
    {
        assert!(ended.stderr.contains(part), "{}", ended.stderr);
    }
}

/// Scenario: what comes of a request takes more memory than it may, as one output or as many small ones. Guarantee: the
/// answer says so instead, and the event comes to its own end.
#[test]
fn outputs_that_take_too_much_memory_are_no_answer_and_no_failure() {
    let tasks = r#"
    - http_endpoint: {name: in, endpoint: /outputs, max_response_bytes: 64KiB}
    - script: {name: outputs, code: "let one = ``; one.pad(event.data.payload.size, 'x'); let all = []; all.pad(event.data.payload.count, one); all"}
"#;
    let serving = Serving::start("", "", tasks);
    let outputs =
        |count: usize, size: usize| post(serving.address, "/outputs", &json!({"count": count, "size": size}));
    for (count, size) in [(1, 60_000), (10, 5_000), (60, 10)] {
        let answer = outputs(count, size);
        assert_eq!((answer.status, answer.body.len() > count * size), (200, true), "{count} of {size}");
    }
    for (count, size) in [(1, 66_000), (2, 40_000), (10, 50_000), (1_000, 1)] {
        let answer = outputs(count, size);
        assert_eq!((answer.status, answer.header("content-type")), (500, Some("application/problem+json")));
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("`max_response_bytes`, 65536 bytes"), "{detail}");
        assert_eq!(outputs(1, 1).status, 200);
    }
    let drained = serving.stop().drained();
    assert_eq!((&drained["completed"], &drained["failed"]), (&json!(11), &json!(0)));
}
