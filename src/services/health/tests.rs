use std::{
    io::{Read, Write},
    net::TcpStream as Client,
    thread,
};

use proptest::prelude::*;
use serde_json::json;
use tokio::runtime::Builder;

use super::*;

/// Serves until what `work` does with its address, on another thread, is done.
fn serving<T: Send>(work: impl FnOnce(SocketAddr) -> T + Send) -> T {
    let mut server = HealthServer::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = server.bound.as_ref().unwrap().local_addr().unwrap();
    let ask: Ask = Arc::new(|question| Answer {
        is_ok: question == Question::Live,
        body: json!({"asked": format!("{question:?}")}),
    });
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    thread::scope(|scope| {
        let (done, is_done) = tokio::sync::oneshot::channel::<()>();
        let work = scope.spawn(move || {
            let result = work(address);
            drop(done);
            result
        });
        runtime.block_on(async {
            tokio::select! {
                never = server.serve(ask) => match never.unwrap() {},
                _ = is_done => {}
            }
        });
        work.join().unwrap()
    })
}

/// Sends these bytes, and returns all that is answered.
fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut client = Client::connect(address).unwrap();
    client.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    // It may be reset where not all was read.
    let _ = client.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

fn asked(address: SocketAddr, line: &str) -> String {
    exchange(address, format!("{line} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes())
}

#[test]
fn three_paths_are_answered_to_two_methods_and_nothing_else() {
    serving(|address| {
        for (line, status, body) in [
            ("GET /health/live", "200 OK", "Live"),
            ("GET /health/ready", "503 Service Unavailable", "Ready"),
            ("GET /health", "503 Service Unavailable", "Whole"),
            ("GET /health?verbose=1", "503 Service Unavailable", "Whole"),
        ] {
            let answer = asked(address, line);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{line}: {answer}");
            assert!(answer.contains("content-type: application/health+json\r\n"), "{line}: {answer}");
            assert!(answer.ends_with(&format!("\r\n\r\n{{\"asked\":\"{body}\"}}\n")), "{line}: {answer}");
            let head = asked(address, &line.replace("GET", "HEAD"));
            let mut of_get: Vec<_> = answer.lines().take_while(|line| !line.is_empty()).collect();
            let mut of_head: Vec<_> = head.lines().take_while(|line| !line.is_empty()).collect();
            for lines in [&mut of_get, &mut of_head] {
                lines.retain(|line| !line.starts_with("date: "));
            }
            assert_eq!(of_head, of_get, "{line}");
            assert!(head.ends_with("\r\n\r\n"), "{line}: {head}");
        }
        for line in ["GET /", "GET /health/", "GET /health/live/x", "POST /", "GET /Health"] {
            assert!(asked(address, line).starts_with("HTTP/1.1 404 "), "{line}");
        }
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
            let answer = asked(address, &format!("{method} /health/live"));
            assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
            assert!(answer.contains("allow: GET, HEAD\r\n"), "{answer}");
        }
    });
}

#[test]
fn a_head_without_an_end_is_refused() {
    serving(|address| {
        let answer =
            exchange(address, format!("GET /health HTTP/1.1\r\nx: {}", "y".repeat(64 << 10)).as_bytes());
        assert!(!answer.contains(" 200 ") && !answer.contains(" 503 "), "{answer}");
    });
}

/// Scenario: many more clients than connections there may be begin a request and go no further. Guarantee: every probe
/// after them is answered, and no more of them are kept than there may be.
#[test]
fn clients_that_never_come_to_an_end_keep_no_probe_waiting() {
    serving(|address| {
        let mut slow = Vec::new();
        for _ in 0..5 {
            for _ in 0..2 * MOST_CONNECTIONS {
                let mut client = Client::connect(address).unwrap();
                client.write_all(b"GET /health/live HTTP/1.1\r\nx: ").unwrap();
                slow.push(client);
            }
            assert!(asked(address, "GET /health/live").starts_with("HTTP/1.1 200 "));
        }
        // The first ones are closed: they have nothing more to read, or are reset.
        for client in &mut slow[..MOST_CONNECTIONS] {
            assert!(client.read(&mut [0]).map_or(true, |count| count == 0));
        }
    });
}

/// Scenario: a probe is on its way when it is no longer served, and later it is again. Guarantee: it is answered then.
#[test]
fn a_probe_that_came_before_a_pause_is_answered_after_it() {
    let mut server = HealthServer::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = server.bound.as_ref().unwrap().local_addr().unwrap();
    let ask: Ask = Arc::new(|_| Answer { is_ok: true, body: json!({}) });
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let mut client = Client::connect(address).unwrap();
    client.write_all(b"GET /health/live HTTP/1.1\r\n").unwrap();
    runtime.block_on(async {
        // Connections are taken in their order: with the answer to the second one the first has been.
        let second = thread::spawn(move || asked(address, "GET /health/live"));
        let accepted = async {
            while !second.is_finished() {
                yield_now().await;
            }
        };
        tokio::select! {
            never = server.serve(Arc::clone(&ask)) => match never.unwrap() {},
            () = accepted => {}
        }
    });
    assert!(!server.by_age.is_empty());
    client.write_all(b"host: x\r\n\r\n").unwrap();
    let answer = thread::spawn(move || {
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        text
    });
    runtime.block_on(async {
        let answered = async {
            while !answer.is_finished() {
                yield_now().await;
            }
        };
        tokio::select! {
            never = server.serve(ask) => match never.unwrap() {},
            () = answered => {}
        }
    });
    assert!(answer.join().unwrap().starts_with("HTTP/1.1 200 "));
}

#[test]
fn an_address_that_is_taken_is_named_with_its_key() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = HealthServer::bind(address).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen on {address}, the `health.address`"));
    assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// Whatever bytes a client sends, the next probe is answered.
    #[test]
    fn no_bytes_stop_the_next_probe(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let next = serving(|address| {
            let mut client = Client::connect(address).unwrap();
            client.write_all(&bytes).unwrap();
            asked(address, "GET /health/live")
        });
        prop_assert!(next.starts_with("HTTP/1.1 200 "), "{}", next);
    }
}
