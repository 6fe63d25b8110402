//! `http_endpoint` and the worker's HTTP server, from the other end of real connections.

mod floods;
mod handover;
mod heads;
mod hostile;
mod limits;
mod preflights;
mod refusals;
mod results;
mod security;
mod stops;
mod streams;
mod telemetry;

use std::net::SocketAddr;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::worker::{Ended, Worker};

/// A worker that serves.
struct Serving {
    worker: Worker,
    address: SocketAddr,
}

/// Returns the address that a worker says it listens at.
fn address(worker: &Worker) -> SocketAddr {
    let line: Value = serde_json::from_str(&worker.next_logged("HTTP server listens")).unwrap();
    line["address"].as_str().unwrap().parse().unwrap()
}

impl Serving {
    /// Starts a worker with these tasks, the first of which is an endpoint. `flow` are further keys of the flow, `top` of
    /// the worker.
    fn start(top: &str, flow: &str, tasks: &str) -> Self {
        Self::started(Worker::start(&yaml(top, flow, tasks), &[]))
    }

    /// As [`Self::start`], with further keys of the server.
    fn limited(limits: &str, top: &str, tasks: &str) -> Self {
        let address = "address: \"127.0.0.1:0\"";
        let yaml = yaml(top, "", tasks).replacen(address, &format!("{address}, {limits}"), 1);
        Self::started(Worker::start(&yaml, &[]))
    }

    fn started(worker: Worker) -> Self {
        let address = address(&worker);
        Self { worker, address }
    }

    /// Stops it, and waits for its end.
    fn stop(self) -> Ended {
        self.worker.signal(Signal::TERM);
        self.worker.end()
    }
}

fn yaml(top: &str, flow: &str, tasks: &str) -> String {
    format!("http_server: {{address: \"127.0.0.1:0\"}}\n{top}\nflow:\n  name: api\n{flow}\n  tasks:\n{tasks}")
}
