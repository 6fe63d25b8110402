//! What is told of a task that handles several events at a time.

use std::{io::Read as _, sync::Arc, thread, time::Duration};

use async_trait::async_trait;
use flowgen::{
    event::{Event, EventId},
    plan::{Concurrency, Order, Plan},
    task::{Output, Processor, Task, TaskError},
    telemetry::Settings,
};
use tokio::{runtime::Builder, sync::Semaphore};

use crate::support::{
    collector::{Collector, Metrics, Number},
    graph::{flow, node, plan},
    own_process,
    tasks::numbers,
};

/// What is handled at a time, what waits besides, and what is left in the channel.
const LIMIT: usize = 2;
const TAKEN: i64 = 2 + 64;
const LEFT: i64 = 5;

/// Lets an event go on when the semaphore is closed; a later one closes it, where it is to be.
struct Waits {
    until: Arc<Semaphore>,
    is_closed_by_second: bool,
}

#[async_trait]
impl Processor for Waits {
    async fn handle(&self, event: &Event, output: &mut Output) -> Result<(), TaskError> {
        output.forward();
        if self.is_closed_by_second && event.id == EventId::Sequence(1) {
            self.until.close();
        } else {
            // It has no permits: this ends when it is closed.
            self.until.acquire().await.map(drop).unwrap_or_default();
        }
        Ok(())
    }
}

fn waiting(count: u64, until: &Arc<Semaphore>, is_closed_by_second: bool) -> Plan {
    let until = Arc::clone(until);
    let mut waits = node("waits", vec![], move || {
        Task::Processor(Box::new(Waits { until: Arc::clone(&until), is_closed_by_second }))
    });
    waits.concurrency = Concurrency { limit: LIMIT, order: Order::Kept };
    plan(vec![flow("concurrent", vec![node("source", vec![1], move || numbers(count)), waits])], 1024)
}

fn run(settings: &Settings, plan: Plan) {
    let telemetry = own_process::start(settings);
    Builder::new_current_thread().enable_all().build().unwrap().block_on(own_process::run(plan, &telemetry));
    own_process::flush(telemetry);
}

/// Scenario: an event is done before the one in front of it, and leaves after it. Guarantee: its span ends when it is
/// done: to wait for one's turn is no work.
#[test]
fn a_span_does_not_cover_the_wait_for_the_events_in_front() {
    if let Some(settings) = own_process::settings() {
        let settings = Settings { trace_sample_rate: 1.0, ..settings };
        return run(&settings, waiting(2, &Arc::new(Semaphore::new(0)), true));
    }
    let collector = own_process::run_again(
        "telemetry::concurrency::a_span_does_not_cover_the_wait_for_the_events_in_front",
    );
    let spans = collector.spans();
    let end_of = |id| {
        let mut of = spans.iter().filter(|span| {
            span.name == "task.handle" && span.text("task") == "waits" && span.text("flowgen.event.id") == id
        });
        of.next().unwrap().end
    };
    assert!(end_of("1") <= end_of("0"), "{} and {}", end_of("1"), end_of("0"));
}

fn value(metrics: &Metrics, name: &str) -> i64 {
    // What is collected after the flow has ended is without it.
    if metrics.get(name).is_none() {
        return 0;
    }
    match metrics.select(name, &[("task", "waits")])[..] {
        [(_, point)] => match point.number {
            Number::UpDown(value) => value,
            Number::Gauge(value) => value as i64,
            ref other => panic!("`{name}` is {other:?}"),
        },
        _ => 0,
    }
}

/// Scenario: nothing that is handled ends for a while. Guarantee: `flowgen.task.inflight` is what was taken from the
/// channel, begun or not, which is bounded; and nothing in the end.
#[test]
fn what_is_in_flight_is_what_was_taken_and_is_not_done() {
    if let Some(settings) = own_process::settings() {
        let settings = Settings { metrics_export_interval: Duration::from_millis(20), ..settings };
        let until = Arc::new(Semaphore::new(0));
        let released = Arc::clone(&until);
        thread::spawn(move || {
            std::io::stdin().lock().read_to_end(&mut Vec::new()).unwrap();
            released.close();
        });
        return run(&settings, waiting((TAKEN + LEFT) as u64, &until, false));
    }
    let collector = Arc::new(Collector::start());
    let watched = Arc::clone(&collector);
    let this = "telemetry::concurrency::what_is_in_flight_is_what_was_taken_and_is_not_done";
    let inflight = |metrics: &Metrics| value(metrics, "flowgen.task.inflight");
    own_process::run_with(&collector, this, move |stdin| {
        let is_full = |metrics: &Metrics| {
            inflight(metrics) == TAKEN && value(metrics, "flowgen.task.queue.depth") == LEFT
        };
        watched.wait_until(|received| received.collections().iter().any(is_full));
        drop(stdin);
    });
    let collections = collector.received().collections();
    assert!(collections.iter().all(|metrics| inflight(metrics) <= TAKEN));
    assert_eq!(inflight(&collector.metrics()), 0);
}
