//! Tasks that panic. No task of flowgen's own does, so this runs tasks of the test, in a process of its own: that
//! of the tests has no telemetry.

use std::{
    collections::BTreeMap,
    env,
    process::Command,
    time::{Duration, Instant},
};

use flowgen::{
    event::{Event, EventId},
    plan::Plan,
    runtime::TaskManager,
    task::{Output, Task},
    telemetry::{self, Compression, Export, LoggingConfig, Pipeline, Settings, Telemetry, TlsConfig},
    trace::Ticks,
};
use tokio::runtime::{Handle, Runtime};

use crate::support::{
    collector::Collector,
    graph::{flow, node, plan},
    tasks::{Apply, numbers, slow},
};

/// Where the second process sends its telemetry.
const ENDPOINT: &str = "FLOWGEN_TEST_ENDPOINT";

const LIMIT: Duration = Duration::from_secs(60);

fn panics_at_two(event: &Event) {
    assert_ne!(event.id, EventId::Sequence(2), "as the test wants it");
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

/// Runs [`panicking`] with telemetry on.
fn run(endpoint: &str) {
    let export = Export {
        endpoint: endpoint.into(),
        headers: BTreeMap::new(),
        compression: Compression::None,
        timeout: LIMIT,
        tls: TlsConfig::default(),
    };
    let settings = Settings {
        enabled: true,
        traces: Some(export.clone()),
        metrics: Some(export),
        ..Settings::default()
    };
    let pipeline = Pipeline::new(&settings);
    telemetry::init(&LoggingConfig::default(), None, "test", false, &pipeline);
    let telemetry = Telemetry::start(&settings, pipeline).unwrap();
    let report = Runtime::new().unwrap().block_on(async {
        let built = TaskManager::build(panicking(), None, telemetry.tracer().clone(), Ticks::now()).await;
        built.unwrap().start(Handle::current()).run().await
    });
    assert!(report.flows.iter().all(|flow| flow.failure.is_some()), "{report:?}");
    telemetry.shutdown(Instant::now() + LIMIT);
}

#[expect(clippy::disallowed_methods, reason = "a setting of this test, not of flowgen")]
fn endpoint() -> Option<String> {
    env::var(ENDPOINT).ok()
}

/// Scenario: a transform and a processor panic at an event. Guarantee: the spans of that event and of the task's run
/// are exported and counted as failures for that reason, and no other is.
#[test]
fn a_panic_fails_the_event_at_hand_and_the_run_of_its_task() {
    if let Some(endpoint) = endpoint() {
        return run(&endpoint);
    }
    let collector = Collector::start();
    let this = "telemetry::panics::a_panic_fails_the_event_at_hand_and_the_run_of_its_task";
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", this])
        .env(ENDPOINT, collector.endpoint())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
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
