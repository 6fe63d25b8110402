//! Whatever is wrong with the collector, no flow notices, and every loss is counted.
//!
//! One test for each row of a table; what holds in all of them is in one place, [`Scene::end`].

mod queue;

use std::{
    io::Write,
    net::TcpListener,
    process::ChildStdin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tonic::Code;

use super::{Observed, flushed, number};
use crate::support::{
    collector::{Answer, Call, Collector, Port, Signal},
    worker::Worker,
};

const FLOW: &str = "
flow:
  tasks:
    - stdin: {name: lines}
    - script: {name: marks, code: 'if \"mark\" in event.data { print(`mark ${event.data.mark}`) } event'}
    - drop: {name: nowhere}
";

/// Enough that their spans would take more than [`MEMORY`] if the queue did not bound them.
const EVENTS: u64 = 100_000;

/// The most memory that a worker may ever have, in KiB: three times what it takes here.
const MEMORY: u64 = 96 * 1024;

/// What the log says of the collector, besides nothing at all.
#[derive(Clone, Copy)]
enum Told {
    /// Nothing.
    Nothing,
    /// That it is gone, for this `error.type`.
    Gone(&'static str),
    /// The same, and that it is back.
    Back(&'static str),
}

/// A worker whose collector is in trouble.
struct Scene {
    worker: Worker,
    stdin: ChildStdin,
    endpoint: String,
    shutdown_timeout: Duration,
    marks: u64,
    fed: u64,
}

impl Scene {
    /// Starts one that has a second for the flush.
    fn start(endpoint: &str) -> Self {
        Self::start_with(endpoint, Duration::from_secs(5))
    }

    /// Starts one that has a fifth of the timeout for the flush.
    fn start_with(endpoint: &str, shutdown_timeout: Duration) -> Self {
        let yaml = format!("shutdown_timeout: {}s\n{FLOW}", shutdown_timeout.as_secs());
        let mut worker = Worker::start_with(&yaml, &[], |command| {
            command
                .env("FLOWGEN_TELEMETRY__ENABLED", "true")
                .env("FLOWGEN_TELEMETRY__OTLP_ENDPOINT", endpoint)
                .env("FLOWGEN_TELEMETRY__METRICS_EXPORT_INTERVAL", "100ms")
                .env("FLOWGEN_TELEMETRY__SPAN_QUEUE__SIZE", "2048")
                .env("FLOWGEN_TELEMETRY__SPAN_QUEUE__BATCH", "256");
        });
        let stdin = worker.stdin();
        Self { worker, stdin, endpoint: endpoint.to_owned(), shutdown_timeout, marks: 0, fed: 0 }
    }

    /// Feeds events, and waits until the flow has handled them.
    fn feed(&mut self, count: u64) {
        self.marks += 1;
        let mark = format!("{{\"mark\": \"{}.\"}}\n", self.marks);
        let lines = "{}\n".repeat(usize::try_from(count).unwrap() - 1) + mark.as_str();
        self.stdin.write_all(lines.as_bytes()).unwrap();
        self.fed += count;
        self.worker.until_logged(&format!("\"mark {}.\"", self.marks));
    }

    fn until_gone(&self) {
        self.worker.until_logged("the collector does not take telemetry");
    }

    fn until_back(&self) {
        self.worker.until_logged("the collector takes telemetry again");
    }

    /// Ends the flow, and checks what holds whatever the collector does: the flow is as if there were no
    /// telemetry, each item is exported and has arrived or is counted as dropped, the last metrics are exact if
    /// any arrive, the log tells once what is wrong, and neither memory nor time is without bounds.
    fn end(self, collector: Option<&Collector>, told: Told) -> Observed {
        let Self { worker, stdin, endpoint, shutdown_timeout, fed, .. } = self;
        let memory = worker.memory("VmHWM");
        assert!(memory < MEMORY, "{memory} KiB");
        drop(stdin);
        let ended = worker.ends_in_time();
        let observed = match collector {
            Some(collector) => Observed::after(ended, collector),
            None => Observed {
                ended,
                spans: vec![],
                metrics: Default::default(),
                calls: vec![],
                collections: vec![],
            },
        };
        assert_eq!(observed.ended.code, Some(0), "{}", observed.ended.stderr);
        assert_eq!(number(&observed.ended.drained(), "completed"), fed);
        assert_accounted(&observed, fed);
        assert_told(&observed, &endpoint, told);
        assert_in_time(&observed, shutdown_timeout);
        observed
    }
}

/// Checks that the collector has what was exported, that the rest was dropped, and that metrics are exact.
fn assert_accounted(observed: &Observed, events: u64) {
    let line = flushed(&observed.ended);
    assert_eq!(number(&line, "spans_exported"), observed.spans.len() as u64, "{line}");
    assert_eq!(number(&line, "points_exported"), observed.metrics.points, "{line}");
    if observed.metrics.points > 0 {
        // That is known when all else has ended: the last collection has arrived.
        assert_eq!(observed.metrics.counter("task_manager.shutdown.count", &[("outcome", "completed")]), 1);
        for task in ["lines", "marks", "nowhere"] {
            assert_eq!(observed.count(task, "completed"), events, "{task}");
        }
    }
}

/// Checks what the log says of the collector, and that it says nothing else but which spans are left out.
fn assert_told(observed: &Observed, endpoint: &str, told: Told) {
    let (warning, recoveries) = match told {
        Told::Nothing => (None, 0),
        Told::Gone(error_type) => (Some(error_type), 0),
        Told::Back(error_type) => (Some(error_type), 1),
    };
    let stderr = &observed.ended.stderr;
    let is_loud = |line: &Value| line["level"] == "WARN" || line["level"] == "ERROR";
    let loud = observed.ended.logs().into_iter().filter(is_loud);
    let (shed, warnings): (Vec<_>, Vec<_>) = loud.partition(|line| line["traces_shed"].is_u64());
    // One a minute at most, but for the last, which tells the rest.
    let regular = &shed[..shed.len().saturating_sub(1)];
    let minute = SignedDuration::from_mins(1);
    assert!(regular.windows(2).all(|two| time(&two[1]).duration_since(time(&two[0])) >= minute), "{stderr}");
    assert_eq!(
        queue::warned(&observed.ended, "traces_shed"),
        self::told(observed, "traces_shed"),
        "{stderr}"
    );
    let types: Vec<_> = warnings.iter().map(|line| line["error.type"].as_str().unwrap()).collect();
    assert_eq!(types, warning.into_iter().collect::<Vec<_>>(), "{stderr}");
    assert!(warnings.iter().all(|line| line["endpoint"] == endpoint), "{stderr}");
    assert!(warnings.iter().all(|line| line["error.message"] != ""), "{stderr}");
    assert_eq!(observed.ended.logged("the collector takes telemetry again").len(), recoveries, "{stderr}");
}

/// Checks that the flush took no longer than the end of the worker may take, by the worker's own clock.
fn assert_in_time(observed: &Observed, shutdown_timeout: Duration) {
    let (drained, flushed) = (observed.ended.drained(), flushed(&observed.ended));
    let took = Duration::try_from(time(&flushed).duration_since(time(&drained))).unwrap();
    assert!(took <= shutdown_timeout, "it took {took:?}");
}

/// Returns when a line was written.
fn time(line: &Value) -> Timestamp {
    line["timestamp"].as_str().unwrap().parse().unwrap()
}

/// Returns the number of a `telemetry flushed` line.
fn told(observed: &Observed, key: &str) -> u64 {
    number(&flushed(&observed.ended), key)
}

/// Checks that nothing arrived, and that all of it counts as dropped.
fn assert_all_dropped(observed: &Observed) {
    assert_eq!((told(observed, "spans_exported"), told(observed, "points_exported")), (0, 0));
    assert!(told(observed, "spans_dropped") > 0 && told(observed, "points_dropped") > 0);
}

/// Refuses every call as `refuse` says until the switch is on.
fn refusing_until(is_well: &Arc<AtomicBool>, refuse: Answer) -> impl FnMut(&Call) -> Answer + use<> {
    let is_well = Arc::clone(is_well);
    move |_| if is_well.load(Ordering::SeqCst) { Answer::Accept } else { refuse }
}

#[test]
fn a_collector_that_is_not_there_disturbs_nobody() {
    let port = Port::reserve();
    let mut scene = Scene::start(&port.endpoint());
    scene.feed(EVENTS);
    assert_all_dropped(&scene.end(None, Told::Gone("connection")));
}

#[test]
fn a_name_that_nobody_knows_disturbs_nobody() {
    let mut scene = Scene::start("http://collector.invalid:4317");
    scene.feed(EVENTS);
    scene.until_gone();
    assert_all_dropped(&scene.end(None, Told::Gone("dns")));
}

/// Scenario: something accepts connections, and says nothing.
#[test]
fn a_black_hole_disturbs_nobody() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut scene = Scene::start(&format!("http://{}", listener.local_addr().unwrap()));
    std::thread::spawn(move || listener.incoming().map_while(Result::ok).collect::<Vec<_>>());
    scene.feed(EVENTS);
    assert_all_dropped(&scene.end(None, Told::Gone("timeout")));
}

/// Scenario: the connection is well, and no call is ever answered.
#[test]
fn a_collector_that_never_answers_disturbs_nobody() {
    let collector = Collector::scripted(|_| Answer::Never);
    let mut scene = Scene::start(&collector.endpoint());
    scene.feed(EVENTS);
    assert_all_dropped(&scene.end(Some(&collector), Told::Gone("timeout")));
}

/// Scenario: the first calls are answered when the flow has handled all its events, and those of the flush, of
/// which there are more than it has the time for, after 2 s. Guarantee: the metrics that come last arrive.
#[test]
fn a_slow_collector_disturbs_nobody() {
    let collector = Collector::scripted(|_| Answer::Hold);
    let mut scene = Scene::start_with(&collector.endpoint(), Duration::from_secs(25));
    scene.feed(EVENTS);
    collector.follow(|_| Answer::Late(Duration::from_secs(2)));
    collector.release();
    let observed = scene.end(Some(&collector), Told::Gone("timeout"));
    assert!(told(&observed, "spans_exported") > 0);
    assert_eq!(told(&observed, "points_dropped"), 0);
}

#[test]
fn a_collector_that_is_unavailable_for_a_while_gets_what_waited() {
    let is_well = Arc::default();
    let collector = Collector::scripted(refusing_until(&is_well, Answer::Refuse(Code::Unavailable)));
    let mut scene = Scene::start(&collector.endpoint());
    scene.feed(EVENTS);
    scene.until_gone();
    is_well.store(true, Ordering::SeqCst);
    scene.until_back();
    scene.feed(EVENTS);
    let observed = scene.end(Some(&collector), Told::Back("unavailable"));
    assert_eq!(told(&observed, "spans_dropped"), 0);
    observed.assert_shapes(&[("lines(marks(nowhere))", observed.traces().len())]);
}

#[test]
fn an_exhausted_collector_that_says_when_gets_what_waited() {
    let is_well = Arc::default();
    let throttle = Answer::Throttle(Duration::from_millis(20));
    let collector = Collector::scripted(refusing_until(&is_well, throttle));
    let mut scene = Scene::start(&collector.endpoint());
    scene.feed(EVENTS);
    scene.until_gone();
    is_well.store(true, Ordering::SeqCst);
    scene.until_back();
    let observed = scene.end(Some(&collector), Told::Back("resource_exhausted"));
    assert_eq!(told(&observed, "spans_dropped"), 0);
    observed.assert_shapes(&[("lines(marks(nowhere))", observed.traces().len())]);
}

/// Scenario: the collector refuses what it gets for a while, and OTLP forbids to send it again.
#[test]
fn an_exhausted_collector_that_does_not_say_when_loses_what_it_refuses() {
    let is_well = Arc::default();
    let refuse = Answer::Refuse(Code::ResourceExhausted);
    let collector = Collector::scripted(refusing_until(&is_well, refuse));
    let mut scene = Scene::start(&collector.endpoint());
    scene.feed(EVENTS);
    scene.until_gone();
    collector.wait_until(|received| {
        [Signal::Traces, Signal::Metrics]
            .iter()
            .all(|signal| received.calls.iter().any(|call| call.signal == *signal))
    });
    is_well.store(true, Ordering::SeqCst);
    scene.feed(EVENTS);
    let observed = scene.end(Some(&collector), Told::Back("resource_exhausted"));
    assert!(told(&observed, "spans_dropped") > 0 && told(&observed, "points_dropped") > 0);
    assert!(told(&observed, "spans_exported") > 0);
}

#[test]
fn a_collector_that_permits_nothing_disturbs_nobody() {
    let collector = Collector::scripted(|_| Answer::Refuse(Code::PermissionDenied));
    let mut scene = Scene::start(&collector.endpoint());
    scene.feed(EVENTS);
    assert_all_dropped(&scene.end(Some(&collector), Told::Gone("permission_denied")));
}

/// Scenario: the collector takes far shorter calls than it should. Guarantee: all arrives, in such calls.
#[test]
fn a_collector_that_takes_short_calls_only_gets_all() {
    let limit = |signal| if signal == Signal::Traces { 32 * 1024 } else { 2 * 1024 };
    let collector = Collector::scripted(move |call| Answer::UpTo(limit(call.signal)));
    let mut scene = Scene::start_with(&collector.endpoint(), Duration::from_secs(25));
    scene.feed(EVENTS);
    let observed = scene.end(Some(&collector), Told::Nothing);
    for signal in [Signal::Traces, Signal::Metrics] {
        let is_long = |call: &&Call| call.size > limit(signal);
        let (long, short): (Vec<_>, Vec<_>) =
            observed.calls.iter().filter(|call| call.signal == signal).partition(is_long);
        assert!(!long.is_empty() && !short.is_empty(), "{signal:?}");
    }
    assert_eq!((told(&observed, "spans_dropped"), told(&observed, "points_dropped")), (0, 0));
}

/// Scenario: no span and no point is short enough for the collector by itself.
#[test]
fn a_collector_that_takes_no_call_is_told_of_once() {
    let collector = Collector::scripted(|_| Answer::UpTo(100));
    let mut scene = Scene::start(&collector.endpoint());
    scene.feed(EVENTS);
    assert_all_dropped(&scene.end(Some(&collector), Told::Gone("resource_exhausted")));
}

/// Scenario: calls are under way when the collector hangs up, it is away while events go on, and comes back at
/// the same port. Guarantee: what was under way arrives then.
#[test]
fn a_collector_that_is_restarted_gets_what_waited() {
    let mut collector = Collector::start();
    let mut scene = Scene::start(&collector.endpoint());
    scene.feed(EVENTS / 2);
    collector.follow(|_| Answer::Never);
    let earlier = collector.calls().len();
    scene.feed(EVENTS / 2);
    collector.wait_until(|received| received.calls.len() > earlier);
    collector.close();
    scene.until_gone();
    scene.feed(EVENTS);
    collector.follow(|_| Answer::Accept);
    collector.listen();
    scene.until_back();
    scene.feed(EVENTS);
    let observed = scene.end(Some(&collector), Told::Back("connection"));
    assert_eq!(told(&observed, "spans_dropped"), 0);
    observed.assert_shapes(&[("lines(marks(nowhere))", observed.traces().len())]);
}
