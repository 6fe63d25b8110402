//! What the engine does when a task panics or a source cannot go on, and the policy is to build it again.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use flowgen::{
    ack::Outcome,
    event::{Event, EventId, Payload},
    plan::{Flow, Node, OnError, OnTaskPanic, Plan, Policy},
    registry::Prepared,
    runtime::{Report, TaskManager},
    shutdown::Stop,
    task::{
        BuildContext, BuildError, Emitter, Output, Position, Resumption, Source, Target, Task, TaskError,
    },
};
use tokio::time::Instant;

use crate::support::{
    graph::{flow, node, outcomes, plan},
    tasks::{Apply, counting, numbers, slow},
};

pub(super) async fn run(plan: Plan) -> Report {
    TaskManager::start(plan, None).await.expect("test tasks always build").run().await
}

/// A flow whose tasks are built again when they panic.
pub(super) fn restarting(tasks: Vec<Node>) -> Flow {
    Flow { on_task_panic: OnTaskPanic::Restart, ..flow("restarting", tasks) }
}

/// The ids that reached the end, in order.
#[derive(Clone, Default)]
pub(super) struct Seen(pub(super) Arc<Mutex<Vec<String>>>);

impl Seen {
    pub(super) fn sink(&self) -> impl Fn() -> Task + Send + Sync + 'static {
        let seen = self.clone();
        move || {
            let seen = seen.clone();
            Task::Transform(Box::new(Apply(move |event: &mut Event, output: &mut Output| {
                seen.0.lock().unwrap().push(event.id.to_string());
                output.forward();
                Ok(())
            })))
        }
    }

    pub(super) fn ids(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

pub(super) fn all_but(count: u64, missing: &[u64]) -> Vec<String> {
    (0..count).filter(|n| !missing.contains(n)).map(|n| n.to_string()).collect()
}

fn panics_at(poison: &'static [u64]) -> Task {
    Task::Transform(Box::new(Apply(move |event: &mut Event, output: &mut Output| {
        assert!(!poison.iter().any(|n| event.id == EventId::Sequence(*n)), "as the test wants it");
        output.forward();
        Ok(())
    })))
}

/// Scenario: a transform panics at a few of many events. Guarantee: these have failed, all others arrive, each once and
/// in order, and the flow ends as if nothing had happened.
#[tokio::test(start_paused = true)]
async fn a_transform_that_panics_is_built_again_and_goes_on_with_what_waits() {
    let seen = Seen::default();
    let builds = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&builds);
    let fragile = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        panics_at(&[0, 77, 78, 499])
    };
    let tasks = vec![
        node("source", vec![1], || numbers(500)),
        node("fragile", vec![2], fragile),
        node("sink", vec![], seen.sink()),
    ];
    let report = run(plan(vec![restarting(tasks)], 16)).await;
    assert_eq!(outcomes(&report.flows[0].summary), [(Outcome::Completed, 496), (Outcome::Failed, 4)].into());
    assert_eq!(seen.ids(), all_but(500, &[0, 77, 78, 499]));
    assert_eq!(report.flows[0].failure, None);
    assert_eq!(builds.load(Ordering::Relaxed), 5);
}

/// Scenario: the same of a processor, whose task says what becomes of events that fail. Guarantee: a panic is a failure
/// like any other.
#[tokio::test(start_paused = true)]
async fn what_a_task_says_of_failures_holds_for_a_panic_too() {
    let seen = Seen::default();
    let fragile = || {
        slow(Duration::ZERO, |event| {
            assert_ne!(event.id, EventId::Sequence(3), "as the test wants it");
            Ok(())
        })
    };
    let routed = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&routed);
    let tasks = vec![
        node("source", vec![1], || numbers(10)),
        Node {
            policy: Policy { on_error: OnError::Route(3), ..Policy::default() },
            ..node("fragile", vec![2], fragile)
        },
        node("sink", vec![], seen.sink()),
        node("broken", vec![], move || counting(&counted)),
    ];
    let report = run(plan(vec![restarting(tasks)], 16)).await;
    assert_eq!(outcomes(&report.flows[0].summary), [(Outcome::Completed, 10)].into());
    assert_eq!(seen.ids(), all_but(10, &[3]));
    assert_eq!(routed.load(Ordering::Relaxed), 1);
}

/// Builds what it is told to, and fails to when it is told that.
struct Builds(Box<dyn Fn(u32) -> Result<Task, BuildError> + Send + Sync>, AtomicU32);

#[async_trait]
impl Prepared for Builds {
    fn targets(&self) -> Vec<Target> {
        Vec::new()
    }

    async fn build(&self, _: &BuildContext) -> Result<Task, BuildError> {
        (self.0)(self.1.fetch_add(1, Ordering::Relaxed))
    }
}

/// Makes a node whose builds are told their number, from 0.
fn built(
    name: &str,
    downstream: Vec<usize>,
    build: impl Fn(u32) -> Result<Task, BuildError> + Send + Sync + 'static,
) -> Node {
    Node {
        prepared: Arc::new(Builds(Box::new(build), AtomicU32::new(0))),
        ..node(name, downstream, || unreachable!())
    }
}

/// Scenario: a task that panicked cannot be built again for a while. Guarantee: it is tried until it can, and nothing
/// that waits for it is lost.
#[tokio::test(start_paused = true)]
async fn a_task_that_cannot_be_built_again_is_tried_until_it_can() {
    let seen = Seen::default();
    let tasks = vec![
        node("source", vec![1], || numbers(100)),
        built("fragile", vec![2], |build| match build {
            1..=20 => Err(BuildError::new("not yet")),
            _ => Ok(panics_at(&[5])),
        }),
        node("sink", vec![], seen.sink()),
    ];
    let began = Instant::now();
    let report = run(plan(vec![restarting(tasks)], 4)).await;
    assert_eq!(seen.ids(), all_but(100, &[5]));
    assert_eq!(report.flows[0].failure, None);
    // Twenty-one pauses, of up to thirty seconds each from the sixth on.
    assert!(began.elapsed() > Duration::from_secs(30), "{:?}", began.elapsed());
}

/// Scenario: another task of the flow stops it for good while one waits to be built again. Guarantee: the flow ends.
#[tokio::test(start_paused = true)]
async fn a_flow_that_is_stopped_does_not_wait_for_a_task_to_be_built() {
    let tasks = vec![
        node("source", vec![1], || numbers(100)),
        built("fragile", vec![], |build| match build {
            0 => Ok(panics_at(&[5])),
            _ => Err(BuildError::new("never")),
        }),
    ];
    let manager = TaskManager::start(plan(vec![restarting(tasks)], 4), None).await.unwrap();
    let stop = manager.stop();
    let (report, ()) = tokio::join!(manager.run(), async {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        stop.stop();
    });
    assert!(report.is_cut_short);
    let summary = report.flows[0].summary;
    assert_eq!((summary.count(Outcome::Completed), summary.count(Outcome::Failed)), (5, 1));
    assert_eq!(summary.inflight(), 0);
    assert!(summary.count(Outcome::Cancelled) > 0);
}

/// What happens to a source.
type Fault = fn() -> Result<(), TaskError>;

/// A source that goes on where the one before it ended, and has a fault after some events.
struct Resuming {
    count: u64,
    fault: Option<(u64, Fault)>,
}

#[async_trait]
impl Source for Resuming {
    async fn run(self: Box<Self>, emitter: &mut Emitter, _: Stop) -> Result<(), TaskError> {
        let resumed = emitter.resumptions().pop();
        let first =
            resumed.map_or(0, |Resumption { position, events }| position.at.as_u64().unwrap() + events);
        for n in first..self.count {
            if n == first || n % 10 == 0 {
                emitter.reach(Position { part: "".into(), at: n.into() });
            }
            if let Some((_, fault)) = self.fault.filter(|(at, _)| *at == n) {
                fault()?;
            }
            if n % 7 == 3 {
                emitter.reject(EventId::Sequence(n), TaskError::permanent("test", "cannot be read")).await?;
            } else {
                emitter.stage(EventId::Sequence(n), |_| Ok(Payload::default().into())).await?;
            }
        }
        Ok(())
    }

    fn can_resume(&self) -> bool {
        true
    }
}

async fn resumed(fault: Fault) -> (Report, Seen) {
    let seen = Seen::default();
    let tasks = vec![
        built("source", vec![1], move |build| {
            // Once in the middle of what is staged, once right behind a record that could not be read.
            let fault = [Some((50, fault)), Some((88, fault)), None][usize::try_from(build).unwrap().min(2)];
            Ok(Task::Source(Box::new(Resuming { count: 200, fault })))
        }),
        node("sink", vec![], seen.sink()),
    ];
    (run(plan(vec![restarting(tasks)], 16)).await, seen)
}

fn unreadable() -> Vec<u64> {
    (0..200).filter(|n| n % 7 == 3).collect()
}

/// Scenario: a source panics in the middle, or says that it cannot go on for now. Guarantee: another one goes on behind
/// the last event, so that each enters once.
#[tokio::test(start_paused = true)]
async fn a_source_goes_on_where_it_ended() {
    for fault in [|| panic!("as the test wants it"), || Err(TaskError::transient("test", "not now"))] {
        let (report, seen) = resumed(fault).await;
        assert_eq!(seen.ids(), all_but(200, &unreadable()));
        assert_eq!(report.flows[0].summary.entered, 200);
        assert_eq!(report.flows[0].failure, None);
    }
}

/// Scenario: the same, and no task depends on the source. Guarantee: the same.
#[tokio::test(start_paused = true)]
async fn a_source_alone_goes_on_where_it_ended() {
    let alone = built("source", vec![], |build| {
        let fault: Option<(u64, Fault)> = (build == 0).then_some((50, || panic!("as the test wants it")));
        Ok(Task::Source(Box::new(Resuming { count: 100, fault })))
    });
    let report = run(plan(vec![restarting(vec![alone])], 16)).await;
    assert_eq!(report.flows[0].summary.entered, 100);
}

/// Scenario: a source says that it can never go on. Guarantee: that is the failure of its flow, and what it brought in is
/// seen through.
#[tokio::test(start_paused = true)]
async fn a_source_that_can_never_go_on_ends_its_flow() {
    let (report, seen) = resumed(|| Err(TaskError::permanent("test", "never"))).await;
    assert_eq!(seen.ids(), all_but(50, &unreadable()));
    assert_eq!(report.flows[0].failure.as_deref(), Some("source `source` failed: never"));
}
