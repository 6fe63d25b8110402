//! Several instances of the tasks of a flow.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use flowgen::{
    ack::Outcome,
    event::{Event, EventId},
    plan::{Concurrency, Flow, Node, OnTaskPanic, Order},
    runtime::{Report, TaskManager},
    task::{Output, Processor, Task, TaskError},
    template::Template,
};
use tokio::time::Instant;

use crate::support::{
    graph::{flow, node, outcomes, plan},
    tasks::numbers,
};

/// What the instances of a task do together.
#[derive(Default)]
struct Work {
    underway: AtomicUsize,
    most: AtomicUsize,
    done: Mutex<Vec<(u64, Duration)>>,
}

/// Takes `time` over each event, and `last` over one.
struct Works {
    work: Arc<Work>,
    began: Instant,
    slowest: u64,
}

const TIME: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(3600);

#[async_trait]
impl Processor for Works {
    async fn handle(&self, event: &Event, output: &mut Output) -> Result<(), TaskError> {
        let EventId::Sequence(n) = event.id else { panic!("{}", event.id) };
        let underway = 1 + self.work.underway.fetch_add(1, Ordering::Relaxed);
        self.work.most.fetch_max(underway, Ordering::Relaxed);
        // Virtual time, which is what the work takes.
        tokio::time::sleep(if n == self.slowest { LONG } else { TIME }).await;
        self.work.underway.fetch_sub(1, Ordering::Relaxed);
        if n % 10 == 9 {
            panic!("as the test wants it");
        }
        self.work.done.lock().unwrap().push((n, self.began.elapsed()));
        output.forward();
        Ok(())
    }
}

/// Runs `count` events through so many instances, on paused time.
fn run(count: u64, instances: usize, slowest: u64, change: impl Fn(&mut Node)) -> (Report, Arc<Work>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let work = Arc::new(Work::default());
        let (shared, began) = (Arc::clone(&work), Instant::now());
        let mut works = node("works", vec![], move || {
            Task::Processor(Box::new(Works { work: Arc::clone(&shared), began, slowest }))
        });
        change(&mut works);
        let source = node("source", vec![1], move || numbers(count));
        let flow = Flow {
            durable: None,
            parallel_instances: instances,
            slo: None,
            on_task_panic: OnTaskPanic::Restart,
            ..flow("instances", vec![source, works])
        };
        let report = TaskManager::start(plan(vec![flow], 16), None).await.unwrap().run().await;
        (report, work)
    })
}

/// Scenario: four instances of a task that takes a second over each event. Guarantee: four events are under way at a
/// time, each event is handled once, and all of them take a quarter of the time.
#[test]
fn instances_share_the_events_of_their_flow() {
    let (report, work) = run(9, 4, u64::MAX, |_| {});
    assert_eq!(outcomes(&report.flows[0].summary), [(Outcome::Completed, 9)].into());
    assert_eq!(work.most.load(Ordering::Relaxed), 4);
    let done = work.done.lock().unwrap();
    let numbers: BTreeSet<u64> = done.iter().map(|(n, _)| *n).collect();
    assert_eq!((done.len(), numbers.len()), (9, 9));
    assert_eq!(done.iter().map(|(_, at)| at.as_secs()).max(), Some(3));
}

/// Scenario: one instance is stuck with an event for an hour. Guarantee: what comes after it goes to the others, but for
/// what that one had taken already, no more than its part of what was there.
#[test]
fn an_instance_that_is_stuck_holds_up_no_other() {
    let (report, work) = run(9, 2, 0, |_| {});
    assert_eq!(outcomes(&report.flows[0].summary), [(Outcome::Completed, 9)].into());
    let done = work.done.lock().unwrap();
    let early = done.iter().filter(|(_, at)| *at < LONG).count();
    assert!(early >= 4, "{done:?}");
}

/// Scenario: one of ten events panics. Guarantee: it has failed, all others are done, whichever instance had them.
#[test]
fn a_panic_in_an_instance_costs_its_event_alone() {
    let (report, work) = run(100, 3, u64::MAX, |_| {});
    assert_eq!(outcomes(&report.flows[0].summary), [(Outcome::Completed, 90), (Outcome::Failed, 10)].into());
    assert_eq!(work.done.lock().unwrap().len(), 90);
    assert_eq!(report.flows[0].failure, None);
}

/// Scenario: a task that keeps the order of each key, in a flow of several instances. Guarantee: there is one of it.
#[test]
fn what_keeps_the_order_of_keys_is_there_once() {
    let key = Arc::new(Template::compile("{{ event.id }}").unwrap());
    let (_, work) = run(9, 4, u64::MAX, |node| {
        node.concurrency = Concurrency { limit: 2, order: Order::ByKey(Arc::clone(&key)) };
    });
    assert_eq!(work.most.load(Ordering::Relaxed), 2);
}
