//! Very many clients at once that want the worst.

use std::{
    io::Write,
    net::SocketAddr,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use flate2::{Compression, write::GzEncoder};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Serving;
use crate::support::{
    client::{Client, call},
    frames::Frames,
};

/// What requests may take at a time.
const BUDGET: usize = 16 << 20;

/// What a worker may have taken in the end, all in all. Without the budget it would be some gigabytes.
const MOST_KIB: u64 = 256 << 10;

fn zipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Returns a list of so many zeros.
fn zeros(count: usize) -> Vec<u8> {
    [b"[0".to_vec(), b",0".repeat(count - 1), b"]".to_vec()].concat()
}

/// Scenario: forty clients at a time send what is small and becomes large: zeros that are compressed, lists of very many
/// values, lists within lists. Guarantee: memory stays within bounds, everybody is answered, and all of the budget is
/// there again afterwards.
#[test]
fn bombs_take_no_more_memory_than_there_is_for_all() {
    let tasks = "
    - http_endpoint: {name: in, endpoint: /work, max_body_bytes: 7MiB, response: ack}
    - drop: {name: nowhere}
";
    let serving = Serving::limited(&format!("max_buffered_bytes: {BUDGET}"), "", tasks);
    let at = serving.address;
    const GZIP: &str = "content-type: application/json\r\ncontent-encoding: gzip\r\n";
    const JSON: &str = "content-type: application/json\r\n";
    let bombs: [(&str, Vec<u8>, &[u16]); 4] = [
        // More than a body may have.
        (GZIP, zipped(&vec![0; 100 << 20]), &[413, 503]),
        // As much as a body may have, and far more once it is decoded.
        (GZIP, zipped(&zeros(2_000_000)), &[413, 503]),
        // Deeper than it may be.
        (GZIP, zipped(&b"[".repeat(10_000)), &[400, 503]),
        // What two may send at a time.
        (JSON, zeros(100_000), &[200, 503]),
    ];
    assert!(bombs.iter().all(|(_, bomb, _)| bomb.len() < 1 << 20), "each is small");
    thread::scope(|scope| {
        for n in 0..40 {
            let (headers, bomb, expected) = &bombs[n % bombs.len()];
            scope.spawn(move || {
                for _ in 0..3 {
                    let status = call(at, "POST /work", headers, bomb).status;
                    assert!(expected.contains(&status), "bomb {}: {status}", n % 4);
                }
            });
        }
    });
    let most = serving.worker.memory("VmHWM");
    assert!(most < MOST_KIB, "{most} KiB");
    // Its data, and for a moment its bytes too, take most of the budget.
    let large = vec![b'a'; 7 << 20];
    let status = call(at, "POST /work", "content-type: text/plain\r\n", &large).status;
    assert_eq!(status, 200, "something was not given back");
}

/// Raises the limit of open files, for this process and those that it starts. Returns it.
fn raise_files() -> usize {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    maximum.map_or(usize::MAX, |files| files.try_into().unwrap())
}

/// Connects, begins a request, and goes on with it byte by byte.
fn drip(address: SocketAddr, begin: &str) -> Client {
    let mut client = Client::connect(address);
    client.send(begin.as_bytes());
    client
}

/// Scenario: two thousand connections drip the head of a request, or its body, or take nothing of the response. Guarantee: a
/// thousand requests of others are answered meanwhile, and each of the slow ones is cut off by its limit.
#[test]
fn two_thousand_slow_clients_keep_nobody_from_being_served() {
    let tasks = "    - http_endpoint: {name: in, endpoint: /work, max_in_flight: 16}
    - http_endpoint: {name: get, endpoint: /work, method: GET}\n";
    // Where fewer files may be open, there are fewer connections.
    let hundredths = (raise_files() / 2).min(2000) / 100;
    let limits = "header_timeout: 3s, body_timeout: 3s, write_timeout: 3s";
    let serving = Serving::limited(limits, "", tasks);
    let at = serving.address;
    let head = "POST /work HTTP/1.1\r\nhost: a\r\nx-slow: ";
    let body = "POST /work HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n";
    let mut dripping: Vec<_> =
        (0..9 * hundredths).flat_map(|_| [head, body]).map(|begin| drip(at, begin)).collect();
    // Their streams have no window at all.
    let mut lazy: Vec<_> = (0..2 * hundredths)
        .map(|_| {
            let mut frames = Frames::connect(at, 0);
            frames.get(1, "/work");
            frames
        })
        .collect();
    let (over, is_over) = mpsc::channel::<()>();
    let dripping = thread::spawn(move || {
        // Not a wait for anything: this is how slow they are.
        while is_over.recv_timeout(Duration::from_millis(200)) == Err(RecvTimeoutError::Timeout) {
            for client in &mut dripping {
                client.try_send(b"a");
            }
        }
        dripping
    });
    let mut client = Client::connect(at);
    for _ in 0..9 {
        for _ in 0..100 {
            assert_eq!(client.call("POST /work", "", b"1").status, 200);
        }
        // Some come anew.
        for _ in 0..11 {
            assert_eq!(call(at, "POST /work", "", b"1").status, 200);
        }
    }
    for frames in &mut lazy {
        assert!(frames.is_reset(1));
    }
    drop(over);
    for (n, client) in dripping.join().unwrap().into_iter().enumerate() {
        let said = client.until_closed();
        if n % 2 == 0 {
            assert_eq!(said, b"", "a head that never comes is not answered");
        } else {
            assert!(said.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&said));
        }
    }
    let ended = serving.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.drained()["entered"], 999 + 2 * hundredths);
}
