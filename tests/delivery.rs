//! What flowgen promises of delivery, one test a promise: through the engine with tasks of our own on paused time, and
//! through the real binary with real files and a real server.
//!
//! Not here, because no code is there for it yet: batches that hold many acknowledgements, several events of a task at
//! once, sources that commit a position, the slot for a reply, and queues on disk.

mod answers;
mod bounds;
mod errors;
mod outages;
mod panics;
mod redelivery;
mod shares;
mod shutdown;

use std::time::Duration;

use flowgen::{
    ack::Outcome,
    event::{Event, EventId},
    plan::{Flow, Node, Plan},
    runtime::{FlowHandle, FlowReport, Report, TaskManager},
    task::{Output, Task, TaskError},
};

use crate::support::{
    graph::{flow, outcomes, plan},
    tasks::Apply,
};

/// How many events a channel of these flows holds.
const CAPACITY: u64 = 16;
/// How many events a task takes at once.
const BATCH: u64 = 64;

/// Runs flows to their end.
async fn run_all(flows: Vec<Flow>) -> Report {
    TaskManager::start(plan_of(flows), None).await.expect("test tasks always build").run().await
}

/// Runs a flow of these tasks to its end, after which nothing of it is left.
async fn run(tasks: Vec<Node>) -> FlowReport {
    let mut report = run_all(vec![flow("delivery", tasks)]).await;
    let report = report.flows.remove(0);
    assert_eq!(report.summary.inflight(), 0, "{report:?}");
    report
}

fn plan_of(flows: Vec<Flow>) -> Plan {
    plan(flows, usize::try_from(CAPACITY).unwrap())
}

/// Runs a flow of these tasks until `watch` comes to its end, and then stops it.
async fn run_until<F: Future<Output = ()>>(tasks: Vec<Node>, watch: impl FnOnce(FlowHandle) -> F) -> Report {
    let manager = TaskManager::start(plan_of(vec![flow("delivery", tasks)]), None).await.unwrap();
    let (stop, watched) = (manager.stop(), watch(manager.flows().remove(0)));
    let (report, ()) = tokio::join!(manager.run(), async {
        watched.await;
        stop.stop();
    });
    report
}

/// Checks that a flow went on to its end, and that these are the outcomes of its events.
fn assert_outcomes<const N: usize>(report: &FlowReport, expected: [(Outcome, u64); N]) {
    assert_eq!(report.failure, None, "{report:?}");
    assert_eq!(outcomes(&report.summary), expected.into(), "{report:?}");
}

/// A transform that does this with each event.
fn transform(apply: impl FnMut(&mut Event, &mut Output) -> Result<(), TaskError> + Send + 'static) -> Task {
    Task::Transform(Box::new(Apply(apply)))
}

/// Returns the number that a source gave the event, or the one that this event was derived from.
fn number(event: &Event) -> u64 {
    match &event.id {
        EventId::Sequence(n) => *n,
        id => id.to_string().split('-').next().unwrap().parse().unwrap(),
    }
}

/// Waits on the clock of the test.
async fn hours(count: u64) {
    tokio::time::sleep(Duration::from_secs(count * 3600)).await;
}
