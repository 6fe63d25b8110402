//! What the runtime counts of flows and tasks besides their spans, to the last event.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    sync::{Mutex, mpsc},
    time::Duration,
};

use async_trait::async_trait;
use flowgen::{
    event::{Event, EventId, Payload},
    plan::Plan,
    shutdown::Stop,
    task::{Emitter, Source, Task, TaskError},
    tasks::registry,
};
use rustix::process::Signal;
use tokio::runtime::Runtime;

use super::{Observed, flushed, keep_only, number, observe, start, start_with};
use crate::support::{
    collector::{Answer, Collector, Metrics, Number, Received, Signal as Of},
    graph::{flow, node, plan},
    http::{self, Reply, Server, response},
    own_process,
    tasks::slow,
};

/// The outcomes that an event may have.
const OUTCOMES: [&str; 7] =
    ["completed", "filtered", "dropped", "dead_lettered", "expired", "cancelled", "failed"];

const STATES: [&str; 6] = ["starting", "running", "draining", "restarting", "failed", "done"];

/// What a metric says of the series of one flow or task that have these attributes, added up; nothing where there are
/// none.
fn value(metrics: &Metrics, name: &str, of: &[(&str, &str)]) -> i64 {
    let has = |labels: &BTreeMap<String, String>| {
        of.iter().all(|(key, value)| labels.get(*key).is_some_and(|known| known == value))
    };
    let series = metrics.get(name).into_iter().flatten().filter(|(labels, _)| has(labels));
    series
        .map(|(_, point)| match point.number {
            Number::Counter(count) | Number::Histogram { count, .. } => i64::try_from(count).unwrap(),
            Number::UpDown(value) => value,
            Number::Gauge(value) => value as i64,
            Number::CounterOfSeconds(_) => panic!("`{name}` counts no whole numbers"),
        })
        .sum()
}

/// Returns the values of the series of a flow or task by one of their attributes, without those that are zero.
fn by<'a>(metrics: &'a Metrics, name: &str, of: &[(&str, &str)], key: &str) -> BTreeMap<&'a str, i64> {
    let Some(series) = metrics.get(name) else { return BTreeMap::new() };
    let values: BTreeSet<&str> =
        series.keys().filter_map(|labels| labels.get(key)).map(String::as_str).collect();
    let value_of = |found| (found, value(metrics, name, &[of, &[(key, found)]].concat()));
    values.into_iter().map(value_of).filter(|(_, value)| *value != 0).collect()
}

/// Returns the only state that a flow is in.
fn state<'a>(metrics: &'a Metrics, flow: &str) -> &'a str {
    let states = by(metrics, "flowgen.flow.state", &[("flow", flow)], "state");
    let [(state, 1)] = states.iter().collect::<Vec<_>>()[..] else { panic!("{states:?}") };
    state
}

/// Scenario: a flow in which events are filtered, fail, are tried again and dropped. Guarantee: every number is what
/// happened, and at the end nothing is left.
#[test]
fn every_number_of_a_flow_is_what_happened() {
    let attempts = Mutex::new(BTreeSet::<String>::new());
    let server = Server::start(move |_, request| {
        let is_first = attempts.lock().unwrap().insert(request.line.clone());
        match request.line.chars().last() {
            Some('4') if is_first => response("503 Down", ""),
            Some('6') => response("404 Gone", ""),
            _ => http::json(1),
        }
    });
    let yaml = format!(
        "
channel_capacity: 7
retry: {{initial_backoff: 1ms}}
flow:
  name: mixed
  tasks:
    - generate: {{name: numbers, count: 100}}
    - filter: {{name: even, condition: 'parse_int(event.id) % 2 == 0'}}
    - script: {{name: picky, code: 'if event.id.ends_with(\"0\") {{ throw \"no tens\" }} event'}}
    - http_request: {{name: call, endpoint: 'http://{}/{{{{ event.id }}}}', on_error: drop}}
    - drop: {{name: nowhere}}
",
        server.address
    );
    let observed = observe(&yaml, &[]);
    let metrics = &observed.metrics;
    let flow = [("flow", "mixed")];
    assert_eq!(by(metrics, "flowgen.flow.entered", &flow, "origin"), [("source", 100)].into());
    let outcomes = BTreeMap::from([("completed", 30), ("filtered", 50), ("dropped", 10), ("failed", 10)]);
    assert_eq!(by(metrics, "flowgen.flow.events", &flow, "outcome"), outcomes);
    assert_eq!(by(metrics, "flowgen.flow.event.duration", &flow, "outcome"), outcomes);
    assert_eq!(value(metrics, "flowgen.flow.inflight", &flow), 0);
    assert_eq!(state(metrics, "mixed"), "done");
    assert_eq!(by(metrics, "flowgen.flow.cancellations", &flow, "phase"), [].into());

    let waits = BTreeMap::from([("even", 100), ("picky", 50), ("call", 40), ("nowhere", 30)]);
    assert_eq!(by(metrics, "flowgen.task.queue.duration", &flow, "task"), waits);
    for task in waits.keys() {
        let of = [("flow", "mixed"), ("task", *task)];
        assert_eq!(value(metrics, "flowgen.task.queue.capacity", &of), 7, "{task}");
        assert_eq!(value(metrics, "flowgen.task.queue.depth", &of), 0, "{task}");
        assert_eq!(value(metrics, "flowgen.task.inflight", &of), 0, "{task}");
    }
    let failed =
        |task| by(metrics, "flowgen.task.attempt.errors", &[("flow", "mixed"), ("task", task)], "error.type");
    assert_eq!(failed("picky"), [("script", 10)].into());
    assert_eq!(failed("call"), [("503", 10), ("404", 10)].into());
    assert_eq!(value(metrics, "flowgen.task.attempt.errors", &flow), 30);
    for name in ["flowgen.task.retries", "flowgen.task.retry.delay"] {
        assert_eq!(by(metrics, name, &flow, "task"), [("call", 10)].into(), "{name}");
        assert_eq!(by(metrics, name, &flow, "error.type"), [("503", 10)].into(), "{name}");
    }
    assert_eq!(value(metrics, "flowgen.task.timeouts", &flow), 0);
    for task in ["numbers", "even", "picky", "call", "nowhere"] {
        let of = [("flow", "mixed"), ("task", task)];
        assert_eq!(value(metrics, "flowgen.task.starts", &of), 1, "{task}");
        assert_eq!(by(metrics, "flowgen.task.stops", &of, "reason"), [("completed", 1)].into(), "{task}");
        assert_eq!(value(metrics, "flowgen.task.active", &of), 0, "{task}");
    }
}

/// Scenario: a server answers no attempt in time. Guarantee: each of them is a timeout, an error, and all but the last
/// one are tried again.
#[test]
fn timeouts_and_the_attempts_after_them_are_counted() {
    let server = Server::start(|_, _| Reply::Hang(Vec::new()));
    let yaml = format!(
        "
retry: {{initial_backoff: 1ms, max_backoff: 1ms, max_attempts: 3}}
flow:
  name: calls
  tasks:
    - generate: {{name: numbers, count: 2}}
    - http_request: {{name: call, endpoint: 'http://{}', timeout: 30ms, on_error: drop}}
",
        server.address
    );
    let observed = observe(&yaml, &[]);
    let of = [("flow", "calls"), ("task", "call")];
    for (name, count) in [
        ("flowgen.task.timeouts", 6),
        ("flowgen.task.attempt.errors", 6),
        ("flowgen.task.retries", 4),
        ("flowgen.task.retry.delay", 4),
    ] {
        assert_eq!(value(&observed.metrics, name, &of), count, "{name}");
        if name != "flowgen.task.timeouts" {
            assert_eq!(by(&observed.metrics, name, &of, "error.type"), [("timeout", count)].into(), "{name}");
        }
    }
    assert_eq!(by(&observed.metrics, "flowgen.flow.events", &[], "outcome"), [("dropped", 2)].into());
}

/// Scenario: a worker waits for its first event. Guarantee: there is a zero for all that could happen in the very first
/// export, and what is already so is told.
#[test]
fn the_first_export_has_a_zero_for_all_that_may_come() {
    let server = Server::start(|_, _| http::json(1));
    let yaml = format!(
        "
flow:
  name: idle
  tasks:
    - stdin: {{name: lines}}
    - http_request: {{name: call, endpoint: 'http://{}'}}
    - script: {{name: same, code: event}}
    - stdout: {{name: out}}
",
        server.address
    );
    let collector = Collector::start();
    let worker = start(&collector, &yaml, &[]);
    collector.wait_until(|received| !received.collections().is_empty());
    let first = collector.received().collections().remove(0);
    let is_there = |name: &str, of: &[(&str, &str)], expected: i64| {
        let of = [&[("flow", "idle")], of].concat();
        let there = first.select(name, &of).len();
        assert_eq!((there, value(&first, name, &of)), (1, expected), "`{name}` {of:?}");
    };
    is_there("flowgen.flow.entered", &[("origin", "source")], 0);
    is_there("flowgen.flow.inflight", &[], 0);
    OUTCOMES.iter().for_each(|outcome| is_there("flowgen.flow.events", &[("outcome", outcome)], 0));
    STATES.iter().for_each(|state| {
        is_there("flowgen.flow.state", &[("state", state)], i64::from(*state == "running"))
    });
    ["start", "finish"]
        .iter()
        .for_each(|phase| is_there("flowgen.flow.cancellations", &[("phase", phase)], 0));
    for (task, kind) in [("lines", "stdin"), ("call", "http_request"), ("same", "script"), ("out", "stdout")]
    {
        let of = ("task", task);
        is_there("flowgen.task.active", &[of], 1);
        is_there("flowgen.task.starts", &[of], 1);
        for reason in ["completed", "failed", "panic", "cancelled"] {
            is_there("flowgen.task.stops", &[of, ("reason", reason)], 0);
        }
        assert_eq!(first.select("flowgen.task.blocked", &[of])[0].1.number, Number::CounterOfSeconds(0.0));
        let registry = registry();
        let kind = registry.kinds().iter().find(|known| known.name == kind).unwrap();
        let error_types: BTreeSet<&str> =
            kind.error_types.iter().copied().chain(["panic", "timeout", "_OTHER"]).collect();
        for error_type in &error_types {
            is_there("flowgen.task.attempt.errors", &[of, ("error.type", error_type)], 0);
        }
        if task == "lines" {
            is_there("flowgen.source.redeliveries", &[of], 0);
            continue;
        }
        is_there("flowgen.task.queue.duration", &[of], 0);
        is_there("flowgen.task.queue.depth", &[of], 0);
        is_there("flowgen.task.queue.capacity", &[of], 1024);
        is_there("flowgen.task.inflight", &[of], 0);
        is_there("flowgen.task.deadline_skips", &[of], 0);
        if task != "same" {
            is_there("flowgen.task.timeouts", &[of], 0);
            for error_type in error_types {
                is_there("flowgen.task.retries", &[of, ("error.type", error_type)], 0);
            }
        }
    }
    Observed::of(worker, &collector);
}

/// Scenario: a server answers nothing for a while. Guarantee: meanwhile it shows where events are and that the source
/// cannot go on, and for how long; at the end nothing is left of it but that time.
#[test]
fn a_full_channel_shows_while_it_is_full() {
    let (release, released) = mpsc::channel::<()>();
    let server = Server::start(move |_, _| {
        // The other side is gone from the first answer on.
        let _ = released.recv();
        http::json(1)
    });
    let yaml = format!(
        "
channel_capacity: 3
flow:
  name: stuck
  tasks:
    - generate: {{name: numbers, count: 200}}
    - http_request: {{name: call, endpoint: 'http://{}'}}
",
        server.address
    );
    let collector = Collector::start();
    let worker = start_with(&collector, &yaml, &[], |command| {
        command.env("FLOWGEN_TELEMETRY__METRICS_EXPORT_INTERVAL", "20ms");
    });
    let blocked = |metrics: &Metrics, task: &str| match metrics
        .select("flowgen.task.blocked", &[("task", task)])[0]
        .1
        .number
    {
        Number::CounterOfSeconds(seconds) => seconds,
        _ => panic!("seconds are doubles"),
    };
    let call = [("task", "call")];
    let stuck = |received: &Received| {
        let collections = received.collections();
        collections.into_iter().rfind(|metrics| {
            let depth = value(metrics, "flowgen.task.queue.depth", &call);
            depth == 3
                && value(metrics, "flowgen.task.inflight", &call) > 0
                && blocked(metrics, "numbers") > 0.0
        })
    };
    collector.wait_until(|received| stuck(received).is_some());
    let during = stuck(&collector.received()).unwrap();
    assert_eq!(value(&during, "flowgen.task.queue.capacity", &call), 3);
    assert!(value(&during, "flowgen.flow.inflight", &[]) >= 4);
    assert_eq!(value(&during, "flowgen.flow.events", &[]), 0);
    assert_eq!(state(&during, "stuck"), "running");
    let since = blocked(&during, "numbers");
    collector.wait_until(|received| stuck(received).is_some_and(|later| blocked(&later, "numbers") > since));
    drop(release);
    let observed = Observed::of(worker, &collector);
    let metrics = &observed.metrics;
    assert!(blocked(metrics, "numbers") > since);
    assert_eq!(blocked(metrics, "call"), 0.0);
    for name in ["flowgen.task.queue.depth", "flowgen.task.inflight", "flowgen.flow.inflight"] {
        assert_eq!(value(metrics, name, &[]), 0, "{name}");
    }
}

/// Scenario: metrics are exported all the time while events pass. Guarantee: every single export adds up (the audit
/// checks it), also those in which events are on their way.
#[test]
fn every_export_adds_up() {
    let yaml = "
flow:
  tasks:
    - stdin: {name: lines}
    - script: {name: picky, code: 'if event.data % 7 == 0 { throw \"no sevens\" } event'}
    - filter: {name: even, condition: 'event.data % 2 == 0'}
    - drop: {name: nowhere}
";
    let collector = Collector::start();
    let mut worker = start_with(&collector, yaml, &[], |command| {
        keep_only(command);
        command.env("FLOWGEN_TELEMETRY__METRICS_EXPORT_INTERVAL", "5ms");
    });
    let mut stdin = worker.stdin();
    let rows: Vec<u8> = (0..1000).flat_map(|n| format!("{n}\n").into_bytes()).collect();
    let has_seen_events_on_their_way = |received: &Received| {
        let collections = received.collections();
        collections.iter().filter(|metrics| value(metrics, "flowgen.flow.inflight", &[]) > 0).count() >= 5
    };
    let mut entered = 0;
    while !has_seen_events_on_their_way(&collector.received()) {
        stdin.write_all(&rows).unwrap();
        entered += 1000;
    }
    drop(stdin);
    let observed = Observed::of_some(worker, &collector);
    assert_eq!(value(&observed.metrics, "flowgen.flow.entered", &[]), entered);
    assert_eq!(value(&observed.metrics, "flowgen.flow.events", &[]), entered);
}

/// Scenario: what is in flight at the deadline is cut off. Guarantee: it is told that and when the flow was cancelled,
/// and how its tasks stopped.
#[test]
fn what_is_cut_off_is_told() {
    let yaml = "
shutdown_timeout: 2s
channel_capacity: 16
flow: {name: cut, tasks: [{stdin: {name: lines}}, {stdout: {name: out}}]}
";
    let collector = Collector::start();
    let mut worker = start(&collector, yaml, &[]);
    let stdout = worker.stdout();
    let mut stdin = worker.stdin();
    rustix::pipe::fcntl_setpipe_size(&stdout, 4096).unwrap();
    let row = [b"\"".to_vec(), b"x".repeat(8192), b"\"\n".to_vec()].concat();
    stdin.write_all(&row).unwrap();
    while rustix::io::ioctl_fionread(&stdout).unwrap() == 0 {
        std::thread::yield_now();
    }
    worker.signal(Signal::TERM);
    let observed = Observed::after(worker.wait(String::new()), &collector);
    observed.audit_flush();
    let metrics = &observed.metrics;
    assert_eq!(by(metrics, "flowgen.flow.events", &[], "outcome"), [("cancelled", 1)].into());
    assert_eq!(by(metrics, "flowgen.flow.cancellations", &[], "phase"), [("finish", 1), ("start", 1)].into());
    assert_eq!(by(metrics, "flowgen.task.stops", &[("task", "out")], "reason"), [("cancelled", 1)].into());
    assert_eq!(value(metrics, "flowgen.task.active", &[]), 0);
    assert_eq!(value(metrics, "flowgen.flow.inflight", &[]), 0);
    assert_eq!(value(metrics, "flowgen.task.inflight", &[]), 0);
    assert_eq!(state(metrics, "cut"), "done");
    drop((stdin, stdout));
}

/// A source that fails after three events.
struct Failing;

#[async_trait]
impl Source for Failing {
    async fn run(self: Box<Self>, emitter: &mut Emitter, _: Stop) -> Result<(), TaskError> {
        for n in 0..3 {
            emitter.emit(EventId::Sequence(n), Payload::default()).await?;
        }
        Err(TaskError::permanent("test", "as the test wants it"))
    }
}

fn ill_flows() -> Plan {
    let panics = |event: &Event| {
        assert_ne!(event.id, EventId::Sequence(2), "as the test wants it");
        Ok(())
    };
    let failing = || node("source", vec![1], || Task::Source(Box::new(Failing)));
    let sink = || node("sink", vec![], || slow(Duration::ZERO, |_| Ok(())));
    let fragile = node("sink", vec![], move || slow(Duration::ZERO, panics));
    plan(vec![flow("failing", vec![failing(), sink()]), flow("panicking", vec![failing(), fragile])], 16)
}

/// Scenario: a source fails, and a task panics. Guarantee: that is why they stopped, the others did what they had to,
/// and the flow has failed.
#[test]
fn why_a_task_stopped_is_told() {
    if let Some(settings) = own_process::settings() {
        let telemetry = own_process::start(&settings);
        Runtime::new().unwrap().block_on(own_process::run(ill_flows(), &telemetry));
        return own_process::flush(telemetry);
    }
    let collector = own_process::run_again("telemetry::runtime_metrics::why_a_task_stopped_is_told");
    let metrics = collector.metrics();
    let stops = |flow, task| by(&metrics, "flowgen.task.stops", &[("flow", flow), ("task", task)], "reason");
    for flow in ["failing", "panicking"] {
        assert_eq!(stops(flow, "source"), [("failed", 1)].into());
        assert_eq!(state(&metrics, flow), "failed");
    }
    assert_eq!(stops("failing", "sink"), [("completed", 1)].into());
    assert_eq!(stops("panicking", "sink"), [("panic", 1)].into());
    assert_eq!(value(&metrics, "flowgen.task.active", &[]), 0);
    assert_eq!(value(&metrics, "flowgen.task.inflight", &[]), 0);
    let errors = by(&metrics, "flowgen.task.attempt.errors", &[("flow", "panicking")], "error.type");
    assert_eq!(errors, [("panic", 1)].into());
    let events = |flow| by(&metrics, "flowgen.flow.events", &[("flow", flow)], "outcome");
    assert_eq!(events("failing"), [("completed", 3)].into());
    assert_eq!(events("panicking"), [("completed", 2), ("failed", 1)].into());
}

/// Scenario: the collector takes one call only in part, refuses another one, and takes the rest. Guarantee: what
/// telemetry says of itself is what the collector saw and what the last line of the log says. The last export of
/// metrics cannot tell what became of itself.
#[test]
fn what_telemetry_says_of_itself_is_what_the_collector_saw() {
    let collector = Collector::scripted(|call| match (call.signal, call.number) {
        (Of::Traces, 0) => Answer::RejectSome(3),
        (Of::Traces, 1) => Answer::Refuse(tonic::Code::InvalidArgument),
        _ => Answer::Accept,
    });
    let yaml = "flow: {tasks: [{generate: {name: numbers, count: 100}}, {drop: {name: nowhere}}]}";
    let worker = start_with(&collector, yaml, &[], |command| {
        command
            .env("FLOWGEN_TELEMETRY__SPAN_QUEUE__BATCH", "10")
            .env("FLOWGEN_TELEMETRY__SPAN_QUEUE__SIZE", "5000");
    });
    let observed = Observed::after(worker.end(), &collector);
    let (metrics, line) = (&observed.metrics, flushed(&observed.ended));
    let spans = ("otel.component.type", "otlp_grpc_span_exporter");
    let points = ("otel.component.type", "otlp_grpc_metric_exporter");
    let total = |name: &str, of: &[(&str, &str)]| u64::try_from(value(metrics, name, of)).unwrap();
    let dropped = by(metrics, "otel.sdk.exporter.span.exported", &[spans], "error.type");
    // A call holds no more than a batch; what is there when the worker ends may be less.
    let refused = dropped["invalid_argument"];
    assert!((1..=10).contains(&refused), "{dropped:?}");
    assert_eq!(dropped, [("invalid_argument", refused), ("rejected", 3)].into());
    assert_eq!(number(&line, "spans_dropped"), refused.unsigned_abs() + 3);
    assert_eq!(total("otel.sdk.exporter.span.exported", &[spans]), number(&line, "spans_created"));
    assert_eq!(total("otel.sdk.processor.span.processed", &[]), number(&line, "spans_created"));
    let started = by(metrics, "otel.sdk.span.started", &[], "otel.span.sampling_result");
    assert_eq!(
        started,
        [("RECORD_AND_SAMPLE", i64::try_from(number(&line, "spans_created")).unwrap())].into()
    );
    let calls = |signal| observed.calls.iter().filter(|call| call.signal == signal).count() as u64;
    let timed = "otel.sdk.exporter.operation.duration";
    assert_eq!(total(timed, &[spans]), calls(Of::Traces));
    assert_eq!(by(metrics, timed, &[spans], "error.type"), [("invalid_argument", 1)].into());
    assert_eq!(total(timed, &[points]) + 1, calls(Of::Metrics), "all but the last call");
    assert_eq!(total("otel.sdk.processor.span.queue.size", &[]), 0);
    assert_eq!(total("otel.sdk.processor.span.queue.capacity", &[]), 5000);
    let last = observed.collections.last().unwrap().points;
    let exported = total("otel.sdk.exporter.metric_data_point.exported", &[points]);
    assert_eq!(exported + last, number(&line, "points_exported"));
    assert_eq!(total("flowgen.traces.shed", &[]), number(&line, "traces_shed"));
}

/// Scenario: a flow looks into the cache with tasks and with scripts, another one shares it, and a third does not use it.
/// Guarantee: the lookups of each flow are counted by what they found, and nothing is said of the third.
#[test]
fn lookups_are_counted_for_the_flow_that_makes_them() {
    let yaml = "
flows:
  - name: keeps
    tasks:
      - generate: {name: numbers, count: 30}
      - cache: {name: put, operation: put, key: 'k/{{ event.id }}'}
      - cache: {name: known, operation: get, key: 'k/{{ event.id }}'}
      - cache: {name: unknown, operation: get, key: 'none/{{ event.id }}', to: none}
      - script: {name: asks, code: 'ctx.cache.get(\"k/\" + event.id); ctx.cache.list_keys(\"\"); event'}
      - cache: {name: forgets, operation: delete, key: 'k/{{ event.id }}'}
  - name: asks
    tasks:
      - generate: {name: numbers, count: 5}
      - script: {name: asks, code: '[\"a\", \"b\"].map(|key| ctx.cache.get(key)); event'}
  - name: other
    tasks:
      - generate: {name: numbers, count: 5}
      - drop: {name: nowhere}
";
    let observed = observe(yaml, &[]);
    let lookups = |flow| by(&observed.metrics, "flowgen.cache.lookups", &[("flow", flow)], "result");
    assert_eq!(lookups("keeps"), [("hit", 60), ("miss", 30)].into());
    assert_eq!(lookups("asks"), [("miss", 10)].into());
    assert_eq!(lookups("other"), [].into());
}
