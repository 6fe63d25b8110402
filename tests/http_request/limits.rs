//! Servers that lie about how much they send, or send more than anybody asked for.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};

use super::{assert_completed, assert_failed, call, events};
use crate::support::http::{self, Reply, Server, response};

/// How a server compresses what.
fn compressed(encoding: &str, content: &[u8]) -> Vec<u8> {
    match encoding {
        "gzip" => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap()
        }
        "br" => {
            let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 22);
            encoder.write_all(content).unwrap();
            encoder.into_inner()
        }
        _ => zstd::encode_all(content, 3).unwrap(),
    }
}

const ENCODINGS: [&str; 3] = ["gzip", "br", "zstd"];

#[test]
fn each_compression_is_asked_for_and_understood() {
    for encoding in ENCODINGS {
        let body = compressed(encoding, b"{\"a\":\"what was compressed\"}");
        let head = format!("200 OK\r\ncontent-encoding: {encoding}");
        let server = Server::start(move |_, _| response(&head, &body));
        let ended = call(&server, "endpoint: http://HOST", &events(1));
        assert_completed(&ended, &[json!({"a": "what was compressed"})]);
        let requests = server.requests();
        let accepted = requests[0].header("accept-encoding").unwrap_or_default();
        assert!(accepted.contains(encoding), "{accepted}");
    }
}

/// Scenario: a few kilobytes become 256 MiB.
/// Guarantee: it is given up at the limit; the worker's memory never holds the rest.
#[test]
fn a_compression_bomb_goes_off_nowhere() {
    let content = vec![b' '; 256 << 20];
    for encoding in ENCODINGS {
        let body = compressed(encoding, &content);
        assert!(body.len() < content.len() / 900, "{} bytes are no bomb", body.len());
        let head = format!("200 OK\r\ncontent-encoding: {encoding}");
        let server = Server::start(move |_, _| response(&head, &body));
        let keys = "endpoint: http://HOST\nmax_response_bytes: 1MiB";
        let message = assert_failed(&call(&server, keys, &events(1)), "too_large");
        assert!(message.contains("longer than `max_response_bytes`, 1048576"), "{message}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[test]
fn what_is_not_compressed_as_it_says_is_a_permanent_failure() {
    for encoding in ["br", "zstd"] {
        let head = format!("200 OK\r\ncontent-encoding: {encoding}");
        let server =
            Server::start(move |_, _| response(&head, b"\x28\xb5this is nothing of the kind, at all"));
        assert_failed(&call(&server, "endpoint: http://HOST", &events(1)), "decode");
    }
}

/// Scenario: a server sends more than its `content-length`, and the rest looks like another response.
/// Guarantee: no other event is answered with it.
#[test]
fn what_follows_a_body_answers_nobody() {
    let smuggled = b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n7HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n\"stolen\"";
    let server = Server::start(move |n, _| match n {
        0 => Reply::Bytes(smuggled.to_vec()),
        _ => http::json(n),
    });
    assert_completed(&call(&server, "endpoint: http://HOST", &events(2)), &[json!(7), json!(1)]);
}

#[test]
fn a_length_that_is_too_long_is_a_connection_that_broke() {
    let server = Server::start(|n, _| match n {
        0 => Reply::Close(b"HTTP/1.1 200 OK\r\ncontent-length: 999999999999\r\n\r\n1".to_vec()),
        1 => Reply::Close(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n1".to_vec()),
        2 => Reply::Close(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nff\r\n1".to_vec()),
        n => http::json(n),
    });
    assert_failed(&call(&server, "endpoint: http://HOST", &events(1)), "too_large");
    assert_completed(&call(&server, "endpoint: http://HOST", &events(1)), &[json!(3)]);
}

#[test]
fn a_body_is_counted_once_it_is_decompressed_and_never_less() {
    let content = Value::from("x".repeat(98)).to_string();
    for encoding in ENCODINGS {
        let (head, body) =
            (format!("200 OK\r\ncontent-encoding: {encoding}"), compressed(encoding, content.as_bytes()));
        let server = Server::start(move |_, _| response(&head, &body));
        let with = |limit: usize| {
            call(&server, &format!("endpoint: http://HOST\nmax_response_bytes: {limit}"), &events(1))
        };
        assert_completed(&with(100), &["x".repeat(98).into()]);
        assert_failed(&with(99), "too_large");
    }
}
