//! Durable flows: what the queue behind a source has accepted outlasts the worker, and is accounted for.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use flowgen::{
    event::{Event, EventId, Payload},
    state::{Accepted, Frames, Queue},
};
use jiff::Timestamp;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    collector::{Collector, Number, Received, traces},
    http::{self, Server, response},
    worker::{Ended, Worker},
};

/// Starts the worker of a flow in a folder where one ran before.
fn again(ended: Ended, yaml: &str) -> Worker {
    let folder = ended.folder;
    fs::write(folder.path().join("flow.yaml"), yaml).unwrap();
    Worker::start_in(folder, &["run", "flow.yaml"], |_: &mut Command| {})
}

fn lines(numbers: impl IntoIterator<Item = u64>) -> String {
    numbers.into_iter().map(|n| format!("{{\"n\":{n}}}\n")).collect()
}

/// Returns the numbers in a file that a flow wrote, in order.
fn numbers(folder: &Path, name: &str) -> Vec<u64> {
    let text = fs::read_to_string(folder.join(name)).unwrap_or_default();
    let number = |line: &str| serde_json::from_str::<Value>(line).unwrap()["n"].as_u64().unwrap();
    text.lines().map(number).collect()
}

fn bytes_of(directory: &Path) -> u64 {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

/// Returns the latest value of a gauge.
fn gauge(received: &Received, name: &str) -> Option<u64> {
    match received.collections().pop()?.get(name)?.values().next()?.number {
        Number::Gauge(value) => Some(value as u64),
        ref other => panic!("`{name}` is {other:?}"),
    }
}

/// Starts a server that is away until it is told that it is back.
fn away() -> (Server, Arc<AtomicBool>) {
    let is_back = Arc::new(AtomicBool::new(false));
    let answers = Arc::clone(&is_back);
    let server =
        Server::start(
            move |n, _| {
                if answers.load(Ordering::Relaxed) { http::json(n) } else { response("503 Away", "") }
            },
        );
    (server, is_back)
}

/// Scenario: a server is away, and the worker is killed while its queue holds what came in meanwhile, among it what could
/// not be decoded and is to go another way. Guarantee: the next run accounts for all of it as recovered, lets each go the
/// way that it was to go, and goes on with the traces that the first run exported.
#[test]
fn what_was_accepted_goes_on_in_its_trace_after_a_crash() {
    let (server, is_back) = away();
    let collector = Collector::start();
    let yaml = format!(
        "
state: {{path: state}}
channel_capacity: 1
telemetry: {{enabled: true, otlp_endpoint: '{}', trace_sample_rate: 1.0, metrics_export_interval: 50ms}}
flow:
  name: orders
  durable: true
  tasks:
    - stdin: {{name: in, on_error: {{route: odd}}}}
    - http_request: {{name: call, method: POST, payload: {{from_event: true}}, endpoint: 'http://{}', retry: {{max_attempts: 100000, initial_backoff: 20ms, max_backoff: 50ms}}}}
    - file_write: {{name: out, path: out}}
    - script: {{name: odd, code: 'event.data = #{{n: 1000, type: event.error.type}}; event'}}
    - file_write: {{name: other, path: other, depends_on: odd}}
",
        collector.endpoint(),
        server.address
    );
    let mut worker = Worker::start(&yaml, &[]);
    let mut stdin = worker.stdin();
    stdin.write_all(format!("{}{{no json\n{}", lines(0..50), lines(50..99)).as_bytes()).unwrap();
    let is_accepted = |received: &Received| {
        let Some(depth) = gauge(received, "flowgen.durable.depth").filter(|depth| *depth > 20) else {
            return false;
        };
        let entered = received.metrics().counter("flowgen.flow.entered", &[("origin", "source")]);
        depth + entered == 100
    };
    let sources = |received: &Received| {
        received.spans().iter().filter(|span| span.name == "task.handle" && span.text("task") == "in").count()
    };
    collector.wait_until(|received| is_accepted(received) && sources(received) == 100);
    collector
        .wait_until(|received| gauge(received, "flowgen.durable.bytes").is_some_and(|bytes| bytes > 1_000));
    worker.signal(Signal::KILL);
    drop(stdin);
    let ended = worker.end();
    is_back.store(true, Ordering::Relaxed);
    // What the second run exports goes to another one.
    let second = Collector::start();
    let ended = again(ended, &yaml.replace(&collector.endpoint(), &second.endpoint())).end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.drained()["completed"], 100, "{}", ended.stderr);
    let folder = ended.folder.path();
    let mut written: Vec<u64> = server.requests().iter().map(|request| number_of(&request.body)).collect();
    written.sort_unstable();
    written.dedup();
    assert_eq!(written, (0..99).collect::<Vec<_>>());
    assert_eq!(numbers(folder, "other"), [1000]);
    assert!(fs::read_to_string(folder.join("other")).unwrap().contains("\"parse\""));
    let metrics = second.metrics();
    for (origin, count) in [("source", 0), ("replay", 0), ("recovery", 100)] {
        assert_eq!(metrics.counter("flowgen.flow.entered", &[("origin", origin)]), count, "{origin}");
    }
    assert_eq!(metrics.counter("flow.recover.count", &[("flow", "orders"), ("outcome", "completed")]), 1);
    let mut spans = collector.spans();
    let later = second.spans();
    let recover = later.iter().find(|span| span.name == "flow.recover").unwrap();
    assert_eq!(recover.parent, None);
    spans.retain(|span| span.name == "task.handle" && span.text("task") == "in");
    spans.extend(later.into_iter().filter(|span| span.name == "task.handle"));
    let traces = traces(spans);
    assert_eq!(traces.len(), 100);
    for trace in &traces {
        let shape = trace.shape(|span| span.text("task").to_owned());
        assert!(["in(call(out))", "in(odd(other))"].contains(&&*shape), "{shape}");
    }
}

fn number_of(body: &str) -> u64 {
    serde_json::from_str::<Value>(body).unwrap()["n"].as_u64().unwrap()
}

/// Scenario: a worker is stopped in order while its queue holds more than it can handle in time. Guarantee: what waits in
/// the queue is neither cancelled nor counted, and the next run does it: every event enters once and arrives once.
#[test]
fn a_worker_that_is_stopped_leaves_its_queue_for_the_next_run() {
    let yaml = "
state: {path: state}
channel_capacity: 4
flow:
  name: slow
  durable: {fsync: interval, fsync_interval: 20ms}
  tasks:
    - stdin: {name: in}
    - throttle: {name: calm, rate: 200}
    - file_write: {name: out, path: out}
";
    let mut worker = Worker::start(yaml, &[("out", b"")]);
    let folder = worker.folder.path().to_owned();
    let mut stdin = worker.stdin();
    stdin.write_all(lines(0..500).as_bytes()).unwrap();
    while numbers(&folder, "out").len() < 20 {
        thread::yield_now();
    }
    worker.signal(Signal::TERM);
    let ended = worker.end();
    drop(stdin);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let left = ended.logged("what waits in the queue is left for the next run");
    let drained = ended.drained();
    let entered = drained["entered"].as_u64().unwrap();
    assert_eq!(left[0]["events"].as_u64().unwrap() + entered, 500, "{}", ended.stderr);
    assert_eq!(drained["completed"].as_u64(), Some(entered));
    // A run without the queue says that something is left in it.
    let ended =
        again(ended, &yaml.replace("durable: {fsync: interval, fsync_interval: 20ms}", "durable: false"))
            .end();
    assert!(ended.stderr.contains("holds events that no flow takes"), "{}", ended.stderr);
    assert_eq!(ended.drained()["entered"], 0);
    let ended = again(ended, &yaml.replace("rate: 200", "rate: 100000")).end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.drained()["completed"].as_u64(), Some(500 - entered));
    assert_eq!(numbers(&folder, "out"), (0..500).collect::<Vec<_>>());
}

/// Scenario: the target is away, and the source brings in several times what the queue may take. Guarantee: the queue
/// takes no more than that, the source waits, and all of it arrives once the target is back.
#[test]
fn a_full_queue_makes_its_source_wait() {
    const LINES: u64 = 40_000;
    let (server, is_back) = away();
    let yaml = format!(
        "
state: {{path: state}}
flow:
  name: full
  durable: {{max_bytes: 1MiB}}
  tasks:
    - stdin: {{name: in}}
    - http_request:
        name: call
        when: 'event.data.n == 0'
        endpoint: 'http://{}'
        retry: {{max_attempts: 100000, initial_backoff: 5ms, max_backoff: 20ms}}
    - file_write: {{name: out, path: out}}
",
        server.address
    );
    let mut worker = Worker::start(&yaml, &[]);
    let folder = worker.folder.path().to_owned();
    let mut stdin = worker.stdin();
    let fed = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&fed);
    let feeder = thread::spawn(move || {
        for n in 0..LINES {
            stdin.write_all(lines([n]).as_bytes()).unwrap();
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let queue = folder.join("state/queues/full/in");
    // Nearly full, and then nothing is taken from the pipe for as long as it takes to look a few thousand times.
    let (mut last, mut same) = (0, 0);
    while same < 2_000 {
        let now = fed.load(Ordering::Relaxed);
        let bytes = if queue.exists() { bytes_of(&queue) } else { 0 };
        assert!(bytes <= (1 << 20) + (16 << 10), "the queue takes {bytes} bytes");
        same = if now == last && bytes > 700 << 10 { same + 1 } else { 0 };
        last = now;
    }
    assert!(last < LINES, "all of it went into a queue that is too small for it");
    is_back.store(true, Ordering::Relaxed);
    feeder.join().unwrap();
    let ended = worker.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.drained()["completed"], LINES);
    let mut written: Vec<u64> = ended.lines("out").iter().map(|line| line.parse().unwrap_or(0)).collect();
    written.sort_unstable();
    assert_eq!(written.len() as u64, LINES);
}

/// Appends events to the queue of a worker that does not run.
fn append(folder: &Path, queue: &str, events: impl IntoIterator<Item = (Timestamp, Value)>) {
    let opened = Queue::open(&folder.join("state/queues").join(queue), 1 << 20).unwrap();
    let (mut frames, mut appender) = (Frames::default(), opened.appender);
    frames.begin(opened.queue.end(), appender.synced());
    for (at, data) in events {
        let event = Event::new(EventId::unique(), "in".into(), Payload::from(data));
        frames.push(|bytes| Accepted::write(&event, at.as_microsecond(), bytes)).unwrap();
    }
    appender.append(&frames, true).unwrap();
}

const QUICK: &str = "
state: {path: state}
flow:
  name: quick
  deadline: 1h
  durable: true
  tasks:
    - stdin: {name: in}
    - file_write: {name: out, path: out}
";

/// Scenario: a worker was down for a day, or the clock of the machine was set back since. Guarantee: an event is as old as
/// the time since it was accepted, and none is lost or too old because of the clock.
#[test]
fn the_time_in_the_queue_counts_and_a_clock_that_was_set_back_does_not() {
    let ended = Worker::start(QUICK, &[]).end();
    let now = Timestamp::now();
    let hour = jiff::SignedDuration::from_hours(1);
    let folder = ended.folder.path().to_owned();
    append(
        &folder,
        "quick/in",
        [(now - 24 * hour, json!({"n": 1})), (now, json!({"n": 2})), (now + 24 * hour, json!({"n": 3}))],
    );
    let ended = again(ended, QUICK).end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let drained = ended.drained();
    assert_eq!((&drained["completed"], &drained["expired"]), (&json!(2), &json!(1)), "{drained}");
    assert_eq!(numbers(&folder, "out"), [2, 3]);
}

/// Scenario: the queue was damaged, cut short, or is of another version. Guarantee: the flow fails and says why and what to
/// do, and the queue is left as it was.
#[test]
fn a_queue_that_is_broken_is_refused_and_left_alone() {
    let ended = Worker::start(QUICK, &[]).end();
    let folder = ended.folder.path().to_owned();
    let now = Timestamp::now();
    append(&folder, "quick/in", (0..10).map(|n| (now, json!({"n": n}))));
    append(&folder, "quick/in", (10..20).map(|n| (now, json!({"n": n}))));
    let directory = folder.join("state/queues/quick/in");
    let file = directory.join(format!("{:020}.log", 0));
    let whole = fs::read(&file).unwrap();
    let (mut flipped, mut headless) = (whole.clone(), whole.clone());
    flipped[whole.len() / 3] ^= 4;
    headless[3] = b'?';
    let mut ended = ended;
    for (broken, why) in [(flipped, "is not as it was written"), (headless, "does not begin as it should")] {
        fs::write(&file, &broken).unwrap();
        ended = again(ended, QUICK).end();
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        assert!(
            ended.stderr.contains(why) && ended.stderr.contains("restore it from a copy"),
            "{}",
            ended.stderr
        );
        assert_eq!(fs::read(&file).unwrap(), broken);
    }
    // What is behind the last whole event was never accepted.
    fs::write(&file, &whole[..whole.len() - 5]).unwrap();
    let ended = again(ended, QUICK).end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(numbers(&folder, "out"), (0..19).collect::<Vec<_>>());
    assert!(ended.stderr.contains("is cut off: it was not accepted"), "{}", ended.stderr);
}
