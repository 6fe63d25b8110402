//! Clients that take nothing, say nothing, or never come to an end.

use std::time::{Duration, Instant};

use serde_json::json;

use super::Serving;
use crate::support::{
    client::{Client, call, request},
    frames::Frames,
};

/// Far more than anything here takes: what does not come until then never does.
const PATIENCE: Duration = Duration::from_secs(60);

/// More than the buffers of the system hold of a connection.
const LARGE: usize = 8_000_000;

/// The window of a stream of HTTP/2 that says nothing about it.
const WINDOW: u32 = 65_535;

fn large(bytes: usize) -> String {
    format!(
        "
    - http_endpoint: {{name: in, endpoint: /large, method: GET, max_in_flight: 1}}
    - script: {{name: text, code: 'let text = \"\"; text.pad({bytes}, \"x\"); text'}}
    - http_endpoint: {{name: other, endpoint: /small, method: GET}}
"
    )
}

/// Scenario: a client asks for a large response and takes only its head. Guarantee: after `write_timeout` its connection is
/// closed, and its place is somebody else's.
#[test]
fn who_takes_nothing_of_a_response_is_cut_off() {
    let serving = Serving::limited("write_timeout: 300ms", "", &large(LARGE));
    let mut lazy = Client::connect(serving.address);
    lazy.send(&request("GET /large", "", b""));
    assert_eq!(lazy.head().unwrap().0, 200);
    let limit = Instant::now() + PATIENCE;
    while call(serving.address, "GET /large", "", b"").status == 503 {
        assert!(Instant::now() < limit, "its place is taken for good");
    }
    assert!(lazy.until_closed().len() < LARGE);
    assert_eq!(serving.stop().drained()["completed"], 2);
}

/// Scenario: on a connection of HTTP/2 one stream takes nothing of its response, and others are answered. Guarantee: after
/// `write_timeout` that one is reset, its place is somebody else's, and the connection goes on.
#[test]
fn a_stream_that_takes_nothing_is_reset_and_others_go_on() {
    let serving = Serving::limited("write_timeout: 300ms", "", &large(WINDOW as usize * 2));
    let mut frames = Frames::connect(serving.address, WINDOW);
    frames.get(1, "/large");
    let limit = Instant::now() + PATIENCE;
    let mut last = 1;
    while !frames.was_reset(1) {
        assert!(Instant::now() < limit, "it is waited for for good");
        last += 2;
        frames.get(last, "/small");
        assert!(frames.is_answered(last));
    }
    frames.get(last + 2, "/small");
    assert!(frames.is_answered(last + 2));
    assert_eq!(call(serving.address, "GET /large", "", b"").status, 200);
}

/// Scenario: connections of both versions have nothing under way, others wait for a slow answer meanwhile. Guarantee: the
/// former are closed after `idle_timeout`, in good order; the latter only after their answer.
#[test]
fn idle_connections_are_closed_and_those_with_a_request_under_way_are_not() {
    let tasks = "
    - http_endpoint: {name: in, endpoint: /wait, method: GET}
    - log: {name: seen}
    - buffer: {name: three, size: 3, timeout: 1h}
    - http_endpoint: {name: other, endpoint: /small, method: GET}
";
    let serving = Serving::limited("idle_timeout: 200ms", "", tasks);
    let at = serving.address;
    let mut waiting = Client::connect(at);
    waiting.send(&request("GET /wait", "", b""));
    serving.worker.next_logged("/wait");
    let mut stream = Frames::connect(at, WINDOW);
    stream.get(1, "/wait");
    serving.worker.next_logged("/wait");
    for _ in 0..3 {
        let mut idle = Client::connect(at);
        assert_eq!(idle.call("GET /small", "", b"").status, 200);
        assert_eq!(idle.until_closed(), b"");
        let mut idle = Frames::connect(at, WINDOW);
        idle.get(1, "/small");
        assert!(idle.is_answered(1) && idle.closes_in_good_order());
    }
    assert_eq!(call(at, "GET /wait", "", b"").json()["batch_size"], 3);
    assert_eq!(waiting.receive().unwrap().json()["batch_size"], 3);
    assert!(stream.is_answered(1) && stream.closes_in_good_order());
    assert_eq!(waiting.until_closed(), b"");
    assert_eq!(serving.stop().drained()["completed"], json!(9));
}

/// Scenario: the bodies of many requests are on their way, byte by byte, far more than there are places. Guarantee: others
/// are served meanwhile, and who drips is told after `body_timeout` that it took too long.
#[test]
fn a_body_that_drips_takes_no_place_from_others() {
    let tasks = "    - http_endpoint: {name: in, endpoint: /work, max_in_flight: 2}\n";
    let serving = Serving::limited("body_timeout: 2s", "", tasks);
    let mut dripping: Vec<_> = (0..8)
        .map(|_| {
            let mut client = Client::connect(serving.address);
            client.send(
                b"POST /work HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 99\r\n\r\n",
            );
            client.until_asked();
            client.send(b"1");
            client
        })
        .collect();
    for _ in 0..20 {
        dripping.iter_mut().for_each(|client| client.send(b"1"));
        assert_eq!(call(serving.address, "POST /work", "", b"1").status, 200);
    }
    for client in &mut dripping {
        assert_eq!(client.receive().unwrap().status, 408);
    }
    assert_eq!(serving.stop().drained()["entered"], 20);
}
