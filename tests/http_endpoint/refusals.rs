//! A request that is refused before its body was read, whose client sends on all the same.

use std::{future::poll_fn, net::SocketAddr};

use bytes::Bytes;
use http::{Request, StatusCode};
use serde_json::json;
use tokio::net::TcpStream;

use super::{Serving, yaml};
use crate::support::{
    client::{Client, Response, request},
    worker::Worker,
};

/// Far more than the buffers of a connection hold.
const LARGE: usize = 6 << 20;

/// Endpoints that refuse in different ways.
fn refusing() -> Serving {
    let tasks = r#"
    - http_endpoint: {name: in, endpoint: /locked, max_body_bytes: 1KiB, auth: {bearer: {tokens: [m4rker]}}}
    - drop: {name: nowhere}
    - http_endpoint: {name: open, endpoint: /open, max_body_bytes: 1KiB}
    - drop: {name: gone, depends_on: [open]}
    - http_endpoint: {name: seldom, endpoint: /seldom, rate_limit: {rate: 0.001, burst: 1, key: all}}
    - drop: {name: away, depends_on: [seldom]}
"#;
    Serving::start("", "", tasks)
}

/// Sends all of a request before it looks for the answer, as most clients do.
fn send_all(address: SocketAddr, line: &str, headers: &str) -> Response {
    let mut client = Client::connect(address);
    assert!(client.try_send(&request(line, headers, &vec![b'a'; LARGE])), "{line}: the server takes no more");
    client.receive().unwrap_or_else(|| panic!("{line}: there is no answer"))
}

#[test]
fn who_sends_a_large_body_in_vain_gets_the_answer() {
    let serving = refusing();
    assert_eq!(Client::connect(serving.address).call("POST /seldom", "", b"").status, 200);
    for (line, status) in [
        ("POST /locked", 401),
        ("POST /open", 413),
        ("POST /seldom", 429),
        ("POST /nowhere", 404),
        ("PUT /open", 405),
    ] {
        let response = send_all(serving.address, line, "");
        assert_eq!((response.status, response.header("connection")), (status, Some("close")), "{line}");
        assert_eq!(response.json()["status"], status, "{line}");
    }
    // `OPTIONS` has no use for a body either.
    assert_eq!(send_all(serving.address, "OPTIONS /open", "").status, 204);
    assert_eq!(send_all(serving.address, "POST /open", "content-encoding: br\r\n").status, 415);
    let mut chunked = Client::connect(serving.address);
    chunked.send(b"POST /open HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
    let chunk = [b"10000\r\n".as_slice(), &[b'a'; 0x10000], b"\r\n"].concat();
    assert!((0..LARGE / 0x10000).all(|_| chunked.try_send(&chunk)) && chunked.try_send(b"0\r\n\r\n"));
    assert_eq!(chunked.receive().unwrap().status, 413);
    // A head that is none is no different.
    let mut headless = Client::connect(serving.address);
    assert!(headless.try_send(b"POST /open HTTP/1.1\r\nx: ") && headless.try_send(&vec![b'a'; LARGE]));
    assert_eq!(headless.receive().unwrap().status, 431);
    assert_eq!(serving.stop().drained()["entered"], 1);
}

#[test]
fn who_never_ends_is_not_listened_to_for_ever() {
    let yaml = yaml("", "", "    - http_endpoint: {name: in, endpoint: /work, max_body_bytes: 1KiB}\n");
    let limits = "\"127.0.0.1:0\", max_connections: 2";
    let serving = Serving::started(Worker::start(&yaml.replace("\"127.0.0.1:0\"", limits), &[]));
    let refused = || {
        let mut client = Client::connect(serving.address);
        client.send(b"POST /work HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999\r\n\r\n");
        assert_eq!(client.receive().unwrap().status, 413);
        client
    };
    // One of them sends without end, the other one nothing.
    let (mut endless, silent) = (refused(), refused());
    let mut sent = 0_usize;
    while endless.try_send(&[b'a'; 1 << 16]) {
        sent += 1 << 16;
        assert!(sent < 1 << 30, "all of it is taken");
    }
    // Both give their place to others, although neither ends the connection itself.
    let mut others = [Client::connect(serving.address), Client::connect(serving.address)];
    for other in &mut others {
        assert_eq!(other.call("POST /work", "", b"1").status, 200);
    }
    drop((endless, silent));
    assert_eq!(serving.stop().drained()["entered"], 2);
}

#[test]
fn who_sends_on_does_not_keep_a_worker_from_stopping() {
    let serving = refusing();
    let mut client = Client::connect(serving.address);
    client.send(b"POST /locked HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n1");
    assert_eq!(client.receive().unwrap().status, 401);
    let ended = serving.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("cut off"), "{}", ended.stderr);
}

/// Sends all of a request over HTTP/2, as the windows let it, and then looks for the answer.
async fn send_all_by_h2(client: &mut h2::client::SendRequest<Bytes>, uri: String) -> (StatusCode, Vec<u8>) {
    let request = Request::post(uri).body(()).unwrap();
    poll_fn(|context| client.poll_ready(context)).await.unwrap();
    let (response, mut body) = client.send_request(request, false).unwrap();
    let mut left = LARGE;
    while left > 0 {
        body.reserve_capacity(left.min(1 << 14));
        let room = poll_fn(|context| body.poll_capacity(context)).await.expect("the stream is open").unwrap();
        let part = room.min(left);
        body.send_data(vec![b'a'; part].into(), part == left).unwrap();
        left -= part;
    }
    let (head, mut body) = response.await.unwrap().into_parts();
    let mut bytes = Vec::new();
    while let Some(part) = body.data().await {
        let part = part.unwrap();
        body.flow_control().release_capacity(part.len()).unwrap();
        bytes.extend_from_slice(&part);
    }
    (head.status, bytes)
}

#[test]
fn a_stream_is_read_to_its_end_too_and_the_connection_goes_on() {
    let serving = refusing();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = TcpStream::connect(serving.address).await.unwrap();
        let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
        let asking = async move {
            for (path, status) in [("locked", 401), ("open", 413), ("nowhere", 404), ("locked", 401)] {
                let uri = format!("http://{}/{path}", serving.address);
                let (answered, body) = send_all_by_h2(&mut client, uri).await;
                assert_eq!(answered, status, "{path}");
                let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
                assert_eq!(problem["status"], json!(status), "{path}");
            }
        };
        let (connection, ()) = tokio::join!(connection, asking);
        connection.unwrap();
    });
    assert_eq!(serving.stop().drained()["entered"], 0);
}
