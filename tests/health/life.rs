//! From the start of a worker to its end.

use std::{
    fs::OpenOptions,
    io::Write,
    net::{TcpListener, TcpStream},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::mpsc,
    time::Instant,
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags},
    process::Signal,
};
use serde_json::json;

use super::{HEALTH, IDLE, PATIENCE, address, ask, assert_live, ready, start, until_ready};
use crate::support::{
    http::{self, Server},
    worker::Worker,
};

/// Waits for the reader of a named pipe, and gives it this text.
fn feed(pipe: &Path, text: &str) {
    let limit = Instant::now() + PATIENCE;
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap();
    loop {
        // It can be opened as soon as somebody reads it.
        if let Ok(mut file) = OpenOptions::new().write(true).custom_flags(flags).open(pipe) {
            return file.write_all(text.as_bytes()).unwrap();
        }
        assert!(Instant::now() < limit, "nobody reads {}", pipe.display());
        std::thread::yield_now();
    }
}

/// Scenario: a task cannot be built yet, because the script that it is made of does not come. Guarantee: the worker can be
/// asked before that, is live and not ready, and is ready when its flows run.
#[test]
fn a_worker_that_starts_is_live_and_not_ready() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("script.rhai");
    rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let flow = "
resources: {path: .}
flow: {tasks: [{generate: {interval: 1h}}, {script: {code: {resource: script.rhai}}}, {drop: {}}]}
";
    std::fs::write(folder.path().join("flow.yaml"), format!("{HEALTH}{flow}")).unwrap();
    let worker = Worker::start_in(folder, &["run", "flow.yaml"], |_| {});
    // Of the configuration, which is loaded before anything starts.
    feed(&pipe, "event");
    let address = address(&worker);
    let starting = ready(address);
    assert_eq!((starting.status, starting.output()), (503, "the worker is starting"));
    assert_live(address);
    assert_eq!(ask(address, "/health").body["checks"]["worker:phase"][0]["observedValue"], "starting");
    feed(&pipe, "event");
    until_ready(address);
    worker.signal(Signal::TERM);
    assert_eq!(worker.ends_in_time().code, Some(0));
}

/// Scenario: the state takes its time to be opened: its lock is a pipe that says nothing. Guarantee: the worker can be asked
/// meanwhile, is live and not ready.
#[test]
fn a_worker_that_opens_its_state_is_live_and_not_ready() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("state")).unwrap();
    let lock = folder.path().join("state/lock");
    rustix::fs::mknodat(CWD, &lock, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    std::fs::write(folder.path().join("flow.yaml"), format!("{HEALTH}state: {{path: state}}\n{IDLE}"))
        .unwrap();
    let worker = Worker::start_in(folder, &["run", "flow.yaml"], |_| {});
    let address = address(&worker);
    let starting = ready(address);
    assert_eq!((starting.status, starting.output()), (503, "the worker is starting"));
    assert_live(address);
    // As much as is read of a lock. It is none, though.
    feed(&lock, &"x".repeat(100));
    let ended = worker.ends_in_time();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("cannot write to the state"), "{}", ended.stderr);
}

/// Scenario: SIGTERM comes while an event is on its way, and the collector never answers. Guarantee: from then on until
/// the process ends, in the drain and in the flush, the worker is live and not ready.
#[test]
fn a_worker_that_drains_and_flushes_is_live_and_not_ready() {
    let (release, released) = mpsc::channel::<()>();
    let server = Server::start(move |n, _| {
        released.recv().unwrap();
        http::json(n)
    });
    let collector = TcpListener::bind("127.0.0.1:0").unwrap();
    let yaml = format!(
        "
shutdown_timeout: 10m
telemetry: {{enabled: true, otlp_endpoint: 'http://{}'}}
flow: {{tasks: [{{generate: {{interval: 1h}}}}, {{http_request: {{endpoint: 'http://{}'}}}}]}}
",
        collector.local_addr().unwrap(),
        server.address
    );
    let (worker, address) = start(&yaml, &[]);
    until_ready(address);
    while server.requests().is_empty() {
        std::thread::yield_now();
    }
    worker.signal(Signal::TERM);
    worker.until_logged("stopping");
    let assert_draining = || {
        let draining = ready(address);
        assert_eq!((draining.status, draining.output()), (503, "the worker is draining"));
        assert_live(address);
    };
    assert_draining();
    let whole = ask(address, "/health");
    assert_eq!(whole.status, 503);
    assert_eq!(whole.body["checks"]["flow:state"][0]["observedValue"], "draining");
    release.send(()).unwrap();
    worker.until_logged("flow drained");
    assert_draining();
    // Not of the same number, which would be the same signal.
    worker.signal(Signal::INT);
    assert_eq!(worker.ends_in_time().code, Some(130));
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn the_whole_answer_tells_the_worker_its_flows_and_its_state() {
    let yaml = "
state: {path: state}
flows:
  - {name: ends, tasks: [{generate: {count: 1}}, {drop: {}}]}
  - {name: idle, tasks: [{generate: {interval: 1h}}, {drop: {}}]}
";
    let (worker, address) = start(yaml, &[]);
    worker.until_logged("flow drained");
    // A flow that has read its input to the end is no reason not to be ready.
    until_ready(address);
    let mut whole = ask(address, "/health");
    assert_eq!(whole.status, 200);
    assert!(whole.body["uptime"].take().is_u64());
    let check = |component: &str, observed: &str| json!({"componentType": component, "observedValue": observed, "status": "pass"});
    let flow = |name: &str, observed: &str| {
        let mut flow = check("component", observed);
        flow["componentId"] = name.into();
        flow
    };
    let expected = json!({
        "status": "pass",
        "version": env!("CARGO_PKG_VERSION"),
        "uptime": null,
        "checks": {
            "worker:phase": [check("system", "running")],
            "flow:state": [flow("ends", "done"), flow("idle", "running")],
            "state:writes": [check("datastore", "accepted")],
        },
    });
    assert_eq!(whole.body, expected);
    worker.signal(Signal::TERM);
    assert_eq!(worker.ends_in_time().code, Some(0));
}

/// A worker that stays has nothing to do, and is ready for what comes.
#[test]
fn a_watched_worker_without_a_flow_that_runs_is_ready() {
    let folder = tempfile::tempdir().unwrap();
    let flow = "flow: {tasks: [{generate: {count: 1}}, {drop: {}}]}\n";
    std::fs::write(folder.path().join("flow.yaml"), format!("{HEALTH}{flow}")).unwrap();
    let worker = Worker::start_in(folder, &["run", "--watch", "flow.yaml"], |_| {});
    let address = address(&worker);
    worker.until_logged("flow drained");
    until_ready(address);
    assert_eq!(ask(address, "/health").body["checks"]["flow:state"][0]["observedValue"], "done");
    worker.signal(Signal::TERM);
    assert_eq!(worker.ends_in_time().code, Some(0));
}

/// Scenario: every thread that runs tasks is kept busy by a script that does not come to its end. Guarantee: probes are
/// answered.
#[test]
fn a_worker_all_of_whose_threads_are_busy_answers() {
    let busy = 4 * std::thread::available_parallelism().unwrap().get();
    let flows: String = (0..busy)
        .map(|n| {
            let code = "print(\"turning\"); while true {}";
            format!(
                "  - {{name: busy{n}, tasks: [{{generate: {{count: 1}}}}, {{script: {{limits: {{max_operations: 200000000000}}, code: '{code}'}}}}]}}\n"
            )
        })
        .collect();
    let (worker, address) = start(&format!("flows:\n{flows}"), &[]);
    for _ in 0..std::thread::available_parallelism().unwrap().get() {
        worker.next_logged("turning");
    }
    assert_live(address);
    assert_eq!(ready(address).status, 200);
    // Nothing of it can be stopped.
    worker.signal(Signal::KILL);
    worker.ends_in_time();
}

#[test]
fn slow_clients_keep_no_probe_of_a_worker_waiting() {
    let (worker, address) = start(IDLE, &[]);
    let slow: Vec<TcpStream> = (0..500)
        .map(|_| {
            let mut client = TcpStream::connect(address).unwrap();
            client.write_all(b"GET /health/ready HTTP/1.1\r\n").unwrap();
            client
        })
        .collect();
    assert_live(address);
    until_ready(address);
    // Those of the flood that are left, the listener, and what else it has.
    assert!(worker.tcp_sockets() < 100, "{}", worker.tcp_sockets());
    drop(slow);
    worker.signal(Signal::TERM);
    assert_eq!(worker.ends_in_time().code, Some(0));
}

#[test]
fn a_port_that_is_taken_ends_the_start_with_1_and_names_the_key() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let yaml = format!("health: {{enabled: true, address: '{address}'}}\nstate: {{path: state}}\n{IDLE}");
    let ended = Worker::start(&yaml, &[]).ends_in_time();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    for said in
        ["the `health.address`", "Address already in use", "nothing was started", &address.to_string()]
    {
        assert!(ended.stderr.contains(said), "{said}: {}", ended.stderr);
    }
    assert!(!ended.folder.path().join("state").exists(), "it was opened before");
}

#[test]
fn nobody_listens_without_the_block_or_a_switch_in_it() {
    let cases = [("", 0), ("health: {enabled: false}\n", 0), ("health: {address: '127.0.0.1:0'}\n", 1)];
    for (block, warnings) in cases {
        let worker = Worker::start_with(&format!("{block}{IDLE}"), &[], |command| {
            command.env("RUST_LOG", "info,flowgen::runtime::restart=debug");
        });
        worker.until_logged("task started");
        assert_eq!(worker.tcp_sockets(), 0, "{block}");
        assert_eq!(
            worker.count_logged("health is off: its block does not say `enabled`"),
            warnings,
            "{block}"
        );
        worker.signal(Signal::TERM);
        assert_eq!(worker.ends_in_time().code, Some(0));
    }
}

#[test]
fn variables_switch_it_on_and_say_where() {
    let worker = Worker::start_with(IDLE, &[], |command| {
        command.env("FLOWGEN_HEALTH__ENABLED", "true").env("FLOWGEN_HEALTH__ADDRESS", "127.0.0.1:0");
    });
    until_ready(address(&worker));
    worker.signal(Signal::TERM);
    assert_eq!(worker.ends_in_time().code, Some(0));
}
