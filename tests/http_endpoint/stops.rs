//! What was sent before the worker is told to stop.

use std::{
    net::{SocketAddr, TcpStream},
    sync::mpsc,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::json;

use super::{Serving, yaml};
use crate::support::{
    client::{Client, request},
    frames::Frames,
    http::{self, Server},
    worker::Worker,
};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// More than are accepted in one go.
const NEW: usize = 300;

/// Scenario: a worker does nothing for a moment, and what comes meanwhile waits in the system: requests on connections that it
/// knows, of both versions, and on very many new ones; then it is told to stop. Guarantee: all of them are answered.
#[test]
fn what_was_sent_before_the_signal_is_answered() {
    let serving = Serving::start("", "", "    - http_endpoint: {name: in, endpoint: /work, method: GET}\n");
    let at = serving.address;
    let mut known: Vec<_> = (0..20).map(|_| Client::connect(at)).collect();
    for client in &mut known {
        assert_eq!(client.call("GET /work", "", b"").status, 200);
    }
    let mut streams: Vec<_> = (0..5).map(|_| Frames::connect(at, 65_535)).collect();
    for frames in &mut streams {
        frames.get(1, "/work");
        assert!(frames.is_answered(1));
    }
    serving.worker.signal(Signal::STOP);
    known.extend((0..NEW).map(|_| Client::connect(at)));
    known.iter_mut().for_each(|client| client.send(&request("GET /work", "", b"")));
    streams.iter_mut().for_each(|frames| frames.get(3, "/work"));
    serving.worker.signal(Signal::TERM);
    serving.worker.signal(Signal::CONT);
    let lost = |client: &mut Client| client.receive().map(|response| response.status) != Some(200);
    assert_eq!(known.iter_mut().map(lost).filter(|is_lost| *is_lost).count(), 0, "of {}", known.len());
    assert!(streams.iter_mut().all(|frames| frames.is_answered(3)));
    assert!(streams.into_iter().all(Frames::closes_in_good_order));
    let ended = serving.worker.end();
    let expected = json!(20 + 5 + 20 + 5 + NEW);
    assert_eq!((ended.code, &ended.drained()["completed"]), (Some(0), &expected), "{}", ended.stderr);
}

/// Scenario: a worker is told to stop while a request waits for a slow service. Guarantee: it is not ready any more when its
/// address is closed, so that a load balancer may know before; the request is answered.
#[test]
fn a_worker_is_not_ready_any_more_before_its_address_is_closed() {
    let (release, released) = mpsc::channel::<()>();
    let service = Server::start(move |n, _| {
        released.recv().unwrap();
        http::json(n)
    });
    let tasks = format!(
        "
    - http_endpoint: {{name: in, endpoint: /work, method: GET}}
    - http_request: {{name: slow, endpoint: \"http://{}\"}}
",
        service.address
    );
    let top = "health: {enabled: true, address: \"127.0.0.1:0\"}\nshutdown_timeout: 10m";
    let worker = Worker::start(&yaml(top, "", &tasks), &[]);
    let health = crate::health::address(&worker);
    let serving = Serving::started(worker);
    crate::health::until_ready(health);
    let mut client = Client::connect(serving.address);
    client.send(&request("GET /work", "", b""));
    let limit = Instant::now() + PATIENCE;
    while service.requests().is_empty() {
        std::thread::yield_now();
    }
    serving.worker.signal(Signal::TERM);
    while TcpStream::connect(serving.address).is_ok() {
        assert!(Instant::now() < limit, "the address stays open");
    }
    assert_eq!(is_ready(health), 503);
    release.send(()).unwrap();
    assert_eq!(client.receive().unwrap().status, 200);
    assert_eq!(serving.worker.end().code, Some(0));
}

fn is_ready(health: SocketAddr) -> u16 {
    Client::connect(health).call("GET /health/ready", "", b"").status
}
