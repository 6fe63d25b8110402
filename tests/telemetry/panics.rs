//! Tasks that panic. No task of flowgen's own does, so this runs tasks of the test.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use flowgen::{
    event::{Event, EventId},
    plan::Plan,
    task::{FlushError, Output, Processor, Task, TaskError},
    telemetry::Settings,
};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::support::{
    collector::{Span, traces},
    graph::{flow, node, plan},
    own_process,
    tasks::{Apply, numbers, slow},
};

fn panics_at_two(event: &Event) {
    assert_ne!(event.id, EventId::Sequence(2), "as the test wants it");
}

/// Panics in the flush after the third event.
#[derive(Default)]
struct PanicsInFlush(AtomicBool);

#[async_trait]
impl Processor for PanicsInFlush {
    async fn handle(&self, event: &Event, output: &mut Output) -> Result<(), TaskError> {
        self.0.fetch_or(event.id == EventId::Sequence(2), Ordering::Relaxed);
        output.forward();
        Ok(())
    }

    fn is_buffered(&self) -> bool {
        true
    }

    async fn flush(&self) -> Result<(), FlushError> {
        assert!(!self.0.load(Ordering::Relaxed), "as the test wants it");
        Ok(())
    }
}

/// A processor that panics at the second attempt at the third event.
fn panicking_at_a_retry() -> Task {
    let has_failed = AtomicBool::new(false);
    slow(Duration::ZERO, move |event| {
        if event.id == EventId::Sequence(2) && !has_failed.fetch_or(true, Ordering::Relaxed) {
            return Err(TaskError::transient("test", "busy"));
        }
        panics_at_two(event);
        Ok(())
    })
}

/// Two flows whose tasks panic at the third event after they have begun something else.
fn panicking_later() -> Plan {
    let source = || node("numbers", vec![1], || numbers(3));
    let mut retried = node("fragile", vec![], panicking_at_a_retry);
    retried.policy.retry.initial_backoff = Duration::ZERO;
    let buffered = || Task::Processor(Box::new(PanicsInFlush::default()));
    let flows = vec![
        flow("retry", vec![source(), retried]),
        flow("flush", vec![source(), node("fragile", vec![], buffered)]),
    ];
    plan(flows, 16)
}

/// Two flows that each see two events through, and panic at the third one.
fn panicking() -> Plan {
    let transform = || {
        Task::Transform(Box::new(Apply(|event: &mut Event, output: &mut Output| {
            panics_at_two(event);
            output.forward();
            Ok(())
        })))
    };
    let processor = || {
        slow(Duration::ZERO, |event| {
            panics_at_two(event);
            Ok(())
        })
    };
    let source = || node("numbers", vec![1], || numbers(3));
    let flows = vec![
        flow("transform", vec![source(), node("fragile", vec![], transform)]),
        flow("processor", vec![source(), node("fragile", vec![], processor)]),
    ];
    plan(flows, 16)
}

/// Runs flows that panic with telemetry on. At the end the flight recorder tells what it did not yet, and then all that
/// it is asked for.
fn run(plan: Plan, settings: &Settings) {
    let telemetry = own_process::start(settings);
    let report = Runtime::new().unwrap().block_on(own_process::run(plan, &telemetry));
    assert!(report.flows.iter().all(|flow| flow.failure.is_some()), "{report:?}");
    let flight = telemetry.tracer().flight_recorder();
    flight.tell_end();
    flight.tell_all("SIGUSR1");
    own_process::flush(telemetry);
}

/// Scenario: a transform and a processor panic at an event. Guarantee: the spans of that event and of the task's run
/// are exported and counted as failures for that reason, and no other is.
#[test]
fn a_panic_fails_the_event_at_hand_and_the_run_of_its_task() {
    if let Some(settings) = own_process::settings() {
        return run(panicking(), &settings);
    }
    let collector =
        own_process::run_again("telemetry::panics::a_panic_fails_the_event_at_hand_and_the_run_of_its_task");
    let (spans, metrics) = (collector.spans(), collector.metrics());
    for flow in ["transform", "processor"] {
        let outcomes = |name: &str, task: &str| -> Vec<(&str, &str)> {
            let spans = spans.iter().filter(|span| span.name == name);
            let spans = spans.filter(|span| span.has(&[("flow", flow), ("task", task)]));
            let mut outcomes: Vec<_> =
                spans.map(|span| (span.text("outcome"), span.text("error.type"))).collect();
            outcomes.sort_unstable();
            outcomes
        };
        let (completed, panicked) = (("completed", ""), ("failed", "panic"));
        assert_eq!(outcomes("task.handle", "numbers"), [completed; 3]);
        assert_eq!(outcomes("task.handle", "fragile"), [completed, completed, panicked]);
        assert_eq!(outcomes("task.run", "numbers"), [completed]);
        assert_eq!(outcomes("task.run", "fragile"), [panicked]);
        for name in ["task.handle", "task.run"] {
            let of = |instrument: &str, key, value| {
                let task = [("flow", flow), ("task", "fragile"), (key, value)];
                metrics.counter(&format!("{name}.{instrument}"), &task)
            };
            assert_eq!(of("count", "outcome", "failed"), 1, "{flow} {name}");
            assert_eq!(of("errors", "error.type", "panic"), 1, "{flow} {name}");
        }
    }
}

/// Runs flows that panic in a process of its own, where no trace is sampled. Returns the traces of events, by flow.
fn kept_of(test: &str) -> BTreeMap<String, Vec<String>> {
    let collector = own_process::run_again(test);
    let spans: Vec<Span> = collector.spans();
    let label = |span: &Span| match span.text("error.type") {
        "" => format!("{}:{}", span.name, span.text("outcome")),
        error_type => format!("{}:{error_type}", span.name),
    };
    let mut found = BTreeMap::<String, Vec<String>>::new();
    for trace in traces(spans).iter().filter(|trace| trace.root().name == "task.handle") {
        assert!(trace.spans().iter().all(|span| span["flowgen.kept"] == "error"), "{trace:#?}");
        found.entry(trace.root().text("flow").to_owned()).or_default().push(trace.shape(label));
    }
    found
}

/// Guarantee: of the events of these flows the one that panicked is traced, from its source on.
#[test]
fn the_trace_of_a_panic_is_kept() {
    if let Some(settings) = own_process::settings() {
        return run(panicking(), &Settings { trace_sample_rate: 0.0, ..settings });
    }
    let kept = kept_of("telemetry::panics::the_trace_of_a_panic_is_kept");
    let trace = vec!["task.handle:completed(task.handle:panic)".to_owned()];
    assert_eq!(
        kept,
        BTreeMap::from([("transform".to_owned(), trace.clone()), ("processor".to_owned(), trace)])
    );
}

/// Scenario: a panic in a second attempt, and in a flush. Guarantee: these are in the trace too.
#[test]
fn what_panicked_is_in_the_trace() {
    if let Some(settings) = own_process::settings() {
        return run(panicking_later(), &Settings { trace_sample_rate: 0.0, ..settings });
    }
    let kept = kept_of("telemetry::panics::what_panicked_is_in_the_trace");
    assert_eq!(kept["retry"], ["task.handle:completed(task.handle:panic(task.retry:panic))"]);
    let (last, others) = kept["flush"].split_last().unwrap();
    assert_eq!(last, "task.handle:completed(task.handle:panic(task.flush:panic))");
    // Those that were in the same batch.
    assert!(others.iter().all(|trace| trace == "task.handle:completed(task.handle:panic)"), "{others:?}");
}

/// What the flight recorder tells in a process of its own: each line above, and the entries below it.
fn told_of(test: &str) -> Vec<(Value, Vec<Value>)> {
    let (_, stderr) = own_process::run_again_logged(test);
    let mut told: Vec<(Value, Vec<Value>)> = Vec::new();
    for line in stderr.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        if line["message"] == "flight recorder" {
            told.push((line, Vec::new()));
        } else if line["message"] == "flight record" {
            told.last_mut().unwrap().1.push(line);
        }
    }
    told
}

/// Checks that this is the third event, which panicked, and returns its way.
fn panicked(entry: &Value, flow: &str) -> Vec<Value> {
    let expected =
        [("flow", flow), ("task", "fragile"), ("event_id", "2"), ("reason", "panic"), ("outcome", "failed")];
    for (key, value) in expected {
        assert_eq!(entry[key], value, "{entry}");
    }
    assert_eq!(entry["error.type"], "panic", "{entry}");
    assert!(entry["error.message"].as_str().unwrap().contains("as the test wants it"), "{entry}");
    let path = entry["path"].as_array().unwrap();
    assert_eq!(path.iter().map(|step| &step["task"]).collect::<Vec<_>>(), ["numbers", "fragile"], "{entry}");
    path.clone()
}

/// Scenario: as above. Guarantee: as soon as it is seen that a task has panicked, what happened in its flow is told, and
/// not a second time at the end, but for who asks.
#[test]
fn a_panic_tells_what_happened_in_its_flow() {
    if let Some(settings) = own_process::settings() {
        return run(panicking(), &settings);
    }
    let mut told = told_of("telemetry::panics::a_panic_tells_what_happened_in_its_flow");
    let (asked, entries) = told.pop().unwrap();
    assert_eq!((&asked["cause"], &asked["recorded"], entries.len()), (&"SIGUSR1".into(), &2.into(), 2));
    told.sort_by_key(|(head, _)| head["flow"].to_string());
    assert_eq!(told.len(), 2, "{told:?}");
    for ((head, entries), flow) in told.iter().zip(["processor", "transform"]) {
        assert_eq!((&head["cause"], &head["flow"]), (&"panic".into(), &flow.into()));
        assert_eq!((&head["shown"], &head["recorded"], entries.len()), (&1.into(), &1.into(), 1), "{head}");
        panicked(&entries[0], flow);
    }
}

/// Scenario: a panic in a second attempt, and in a flush. Guarantee: these are told too.
#[test]
fn what_panicked_later_is_told() {
    if let Some(settings) = own_process::settings() {
        return run(panicking_later(), &settings);
    }
    let told = told_of("telemetry::panics::what_panicked_later_is_told");
    let of = |flow: &str| told.iter().find(|(head, _)| head["flow"] == flow).unwrap().1.last().unwrap();
    let path = panicked(of("retry"), "retry");
    assert_eq!(path[1]["retries"][0]["error.type"], "panic");
    panicked(of("flush"), "flush");
}
