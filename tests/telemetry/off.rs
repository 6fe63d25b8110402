//! Telemetry that is off: no thread, no socket.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Write},
};

use super::start_with;
use crate::support::{collector::Collector, worker::Worker};

const FLOW: &str = "flow: {tasks: [{stdin: {name: lines}}, {stdout: {name: out}}]}\n";

/// What a worker is seen to have, from outside.
#[derive(Debug, PartialEq)]
struct Seen {
    threads: BTreeSet<String>,
    tcp_sockets: usize,
}

/// Looks at a worker that has handled an event and waits for the next one, and at its end once `is_settled`
/// has returned.
fn look(mut worker: Worker, is_settled: impl FnOnce()) -> Seen {
    let mut stdin = worker.stdin();
    let mut stdout = BufReader::new(worker.stdout());
    stdin.write_all(b"1\n").unwrap();
    stdout.read_line(&mut String::new()).unwrap();
    is_settled();
    let mut seen = Seen { threads: worker.threads(), tcp_sockets: worker.tcp_sockets() };
    // The thread of the log comes with the first line, and may not have its name yet.
    seen.threads.remove("stderr");
    drop(stdin);
    let ended = worker.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    seen
}

#[test]
fn what_is_off_has_no_thread_and_no_socket() {
    let collector = Collector::start();
    let none = look(Worker::start(FLOW, &[]), || {});
    let endpoint = collector.endpoint();
    let block = format!("telemetry: {{enabled: false, otlp_endpoint: \"{endpoint}\"}}\n{FLOW}");
    let off = look(Worker::start(&block, &[]), || {});
    let block = format!("telemetry: {{otlp_endpoint: \"{endpoint}\"}}\n{FLOW}");
    let undecided = look(Worker::start(&block, &[]), || {});
    assert_eq!(collector.calls().len(), 0);

    // What is looked for is there as soon as it is switched on.
    let worker = start_with(&collector, FLOW, &[], |command| {
        command.env("FLOWGEN_TELEMETRY__SPAN_QUEUE__DELAY", "10ms");
    });
    let on = look(worker, || collector.wait_until(|received| !received.spans().is_empty()));
    assert!(on.threads.is_superset(&none.threads) && on.threads != none.threads, "{on:?} {none:?}");
    assert!(on.tcp_sockets > 0, "{on:?}");

    assert_eq!(none.tcp_sockets, 0);
    assert_eq!(off, none);
    assert_eq!(undecided, none);
}
