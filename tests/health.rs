//! What a worker answers to whoever asks how it is, and the command that asks.

mod command;
mod degraded;
mod life;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::support::worker::Worker;

/// Far more than an answer takes: a worker that says nothing fails its test.
const PATIENCE: Duration = Duration::from_secs(60);

/// The block of a worker that may be asked on a port of its own.
const HEALTH: &str = "health: {enabled: true, address: \"127.0.0.1:0\"}\n";

/// A flow that goes on and does next to nothing.
const IDLE: &str = "flow: {name: idle, tasks: [{generate: {interval: 1h}}, {drop: {}}]}\n";

/// An answer: its status and what it says.
#[derive(Debug)]
struct Answer {
    status: u16,
    body: Value,
}

impl Answer {
    fn output(&self) -> &str {
        self.body["output"].as_str().unwrap_or_default()
    }
}

/// Waits until a worker says where it can be asked.
pub(crate) fn address(worker: &Worker) -> SocketAddr {
    let line: Value = serde_json::from_str(&worker.next_logged("health can be asked")).unwrap();
    line["address"].as_str().unwrap().parse().unwrap()
}

/// Asks `path`, and panics unless it is answered.
fn ask(address: SocketAddr, path: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, body: serde_json::from_str(body).unwrap() }
}

fn ready(address: SocketAddr) -> Answer {
    ask(address, "/health/ready")
}

/// Asks whether the worker is ready until the answer is as wanted.
fn until(address: SocketAddr, is_wanted: impl Fn(&Answer) -> bool) -> Answer {
    let limit = Instant::now() + PATIENCE;
    loop {
        let answer = ready(address);
        if is_wanted(&answer) {
            return answer;
        }
        assert!(Instant::now() < limit, "it stays {answer:?}");
    }
}

pub(crate) fn until_ready(address: SocketAddr) {
    until(address, |answer| answer.status == 200);
}

fn assert_live(address: SocketAddr) {
    let answer = ask(address, "/health/live");
    assert_eq!((answer.status, &answer.body), (200, &serde_json::json!({"status": "pass"})));
}

/// Starts a worker of these files that may be asked.
fn start(yaml: &str, files: &[(&str, &[u8])]) -> (Worker, SocketAddr) {
    start_with(yaml, files, |_| {})
}

fn start_with(
    yaml: &str,
    files: &[(&str, &[u8])],
    prepare: impl FnOnce(&mut Command),
) -> (Worker, SocketAddr) {
    let worker = Worker::start_with(&format!("{HEALTH}{yaml}"), files, prepare);
    let address = address(&worker);
    (worker, address)
}
