//! Requests while flows come and go, and while the worker stops.

use std::{
    fs,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use rustix::process::Signal;
use serde_json::json;

use super::{Serving, yaml};
use crate::support::{
    client::{Client, call, request},
    http::{self, Server},
    worker::Worker,
};

/// Sends requests, one after the other, until it is told to stop or its connection ends.
struct Caller {
    thread: JoinHandle<Vec<u16>>,
    is_over: Arc<AtomicBool>,
}

impl Caller {
    fn start(address: SocketAddr) -> Self {
        let is_over = Arc::<AtomicBool>::default();
        let over = Arc::clone(&is_over);
        let thread = thread::spawn(move || {
            let mut statuses = Vec::new();
            let mut client = Client::connect(address);
            while !over.load(Ordering::Relaxed) {
                if !client.try_send(&request("POST /work", "", b"1")) {
                    break;
                }
                let Some(response) = client.receive() else { break };
                statuses.push(response.status);
                if response.header("connection") == Some("close") {
                    break;
                }
            }
            statuses
        });
        Self { thread, is_over }
    }

    fn end(self) -> Vec<u16> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn version(n: usize) -> String {
    yaml(
        "",
        "",
        &format!(
            "
    - http_endpoint: {{name: in, endpoint: /work}}
    - script: {{name: version, code: '{n}'}}
"
        ),
    )
}

/// Scenario: a flow is changed twenty times while clients send requests. Guarantee: every one is answered by the flow.
#[test]
fn no_request_is_refused_while_its_flow_is_replaced() {
    let serving = Serving::started(Worker::start(&version(0), &[]));
    let callers: Vec<_> = (0..4).map(|_| Caller::start(serving.address)).collect();
    for n in 1..=20 {
        fs::write(serving.worker.folder.path().join("flow.yaml"), version(n)).unwrap();
        serving.worker.signal(Signal::HUP);
        serving.worker.next_logged("reload applied");
        assert_eq!(call(serving.address, "POST /work", "", b"1").text(), n.to_string());
    }
    for caller in callers {
        let statuses = caller.end();
        assert!(!statuses.is_empty() && statuses.iter().all(|status| *status == 200), "{statuses:?}");
    }
    let ended = serving.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

#[test]
fn a_path_that_is_gone_is_not_found_and_another_one_is_served() {
    let serving = Serving::started(Worker::start(&version(0), &[]));
    let moved = version(0).replace("/work", "/moved");
    fs::write(serving.worker.folder.path().join("flow.yaml"), moved).unwrap();
    serving.worker.signal(Signal::HUP);
    serving.worker.next_logged("reload applied");
    let statuses = ["POST /work", "POST /moved"].map(|line| call(serving.address, line, "", b"1").status);
    assert_eq!(statuses, [404, 200]);
}

/// Scenario: a worker is stopped under load. Guarantee: what entered is answered, and nothing else is lost: each response
/// that came is one of the flow's.
#[test]
fn whoever_was_let_in_before_the_worker_stops_is_answered() {
    let serving = Serving::started(Worker::start(&version(0), &[]));
    let callers: Vec<_> = (0..8).map(|_| Caller::start(serving.address)).collect();
    assert_eq!(call(serving.address, "POST /work", "", b"1").status, 200);
    serving.worker.signal(Signal::TERM);
    let statuses: Vec<_> = callers.into_iter().flat_map(|caller| caller.thread.join().unwrap()).collect();
    let ended = serving.worker.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let answered = statuses.iter().filter(|status| **status == 200).count();
    assert_eq!(answered, statuses.len(), "{statuses:?}");
    assert_eq!(ended.drained()["completed"], json!(answered + 1));
}

/// Scenario: a request is in the middle of its body when the worker stops, and the rest comes at once. Guarantee: it is
/// answered; one whose body never comes does not keep the worker.
#[test]
fn a_body_that_is_on_its_way_is_waited_for_and_one_that_never_comes_is_not() {
    let serving = Serving::started(Worker::start(&version(7), &[]));
    let half = |address| {
        let mut client = Client::connect(address);
        client.send(b"POST /work HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n");
        client
    };
    let (mut one, mut other) = (half(serving.address), half(serving.address));
    // The server reads on: it has asked for the body.
    one.send(b"1");
    other.send(b"1");
    assert_eq!(call(serving.address, "POST /work", "", b"1").status, 200);
    serving.worker.signal(Signal::TERM);
    serving.worker.until_logged("sources stop");
    one.send(b"2");
    assert_eq!(one.receive().unwrap().text(), "7");
    assert_eq!(other.receive().unwrap().status, 408);
    let ended = serving.worker.end();
    assert_eq!((ended.code, &ended.drained()["completed"]), (Some(0), &json!(2)), "{}", ended.stderr);
}

/// Scenario: a reload renames a parameter of a path and is refused, since something else in it cannot be built. Guarantee:
/// nothing has changed, and what was only tried is in nobody's way afterwards.
#[test]
fn a_reload_that_is_refused_takes_no_path_away() {
    let flow = |path: &str, more: &str| {
        format!(
            "http_server: {{address: \"127.0.0.1:0\"}}
flows:
  - name: api
    tasks:
      - http_endpoint: {{name: in, endpoint: \"{path}\"}}
      - script: {{name: params, code: event.data.params}}
{more}"
        )
    };
    let broken = "  - name: broken
    tasks:
      - http_endpoint: {name: in, endpoint: \"/zz/{*rest}\", auth: {jwt: {jwks_file: /nonexistent}}}
      - drop: {name: nowhere}
";
    let serving = Serving::started(Worker::start(&flow("/x/{id}", ""), &[]));
    let reload = |yaml: String, outcome: &str| {
        fs::write(serving.worker.folder.path().join("flow.yaml"), yaml).unwrap();
        serving.worker.signal(Signal::HUP);
        serving.worker.next_logged(outcome);
    };
    let ask = |path: &str| call(serving.address, &format!("POST {path}"), "", b"");
    for _ in 0..2 {
        reload(flow("/x/{name}", broken), "reload refused");
        assert_eq!(ask("/x/1").json(), json!({"id": "1"}));
        assert_eq!(ask("/zz/1").status, 404);
    }
    reload(flow("/zz/{id}", ""), "reload applied");
    assert_eq!((ask("/zz/1").json(), ask("/x/1").status), (json!({"id": "1"}), 404));
    // One that could not stand beside the one that it replaces.
    reload(flow("/zz/{*all}", ""), "reload applied");
    assert_eq!(ask("/zz/1/2").json(), json!({"all": "1/2"}));
    let ended = serving.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

/// Scenario: the file with a token is replaced, and nothing else. Guarantee: from the reload on the new one is sent.
#[test]
fn a_new_token_in_a_file_is_sent_after_a_reload() {
    let server = Server::start(|_, request| http::json(request.header("authorization").unwrap_or_default()));
    let tasks = format!(
        "
    - http_endpoint: {{name: in, endpoint: /work}}
    - http_request: {{name: out, endpoint: \"http://{}/\", credentials_path: secret.json}}
",
        server.address
    );
    let secret = |token: &str| json!({"bearer_auth": token}).to_string();
    let serving =
        Serving::started(Worker::start(&yaml("", "", &tasks), &[("secret.json", secret("one").as_bytes())]));
    assert_eq!(call(serving.address, "POST /work", "", b"").json(), json!("Bearer one"));
    fs::write(serving.worker.folder.path().join("secret.json"), secret("two")).unwrap();
    serving.worker.signal(Signal::HUP);
    serving.worker.next_logged("reload applied");
    assert_eq!(call(serving.address, "POST /work", "", b"").json(), json!("Bearer two"));
}
