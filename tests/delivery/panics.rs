//! A panic is the failure of one task: its flow goes on with another one in its place or ends, and no other flow notices.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use flowgen::{
    ack::Outcome,
    event::Event,
    plan::{Flow, Node, OnError, OnTaskPanic, Policy},
    task::{Output, Processor, Task, TaskError},
};

use super::{assert_outcomes, number, run_all, transform};
use crate::support::{
    graph::{flow, node, outcomes},
    tasks::{counting, numbers, slow},
};

const EVENTS: u64 = 1000;
const POISON: u64 = 500;

/// A flow of these tasks that goes on after a panic.
fn restarting(tasks: Vec<Node>) -> Flow {
    Flow { on_task_panic: OnTaskPanic::Restart, ..flow("broken", tasks) }
}

fn fragile() -> Task {
    transform(|event, output| {
        assert_ne!(number(event), POISON, "as the test wants it");
        output.forward();
        Ok(())
    })
}

fn fragile_processor() -> Task {
    slow(Duration::from_millis(1), |event| {
        assert_ne!(number(event), POISON, "as the test wants it");
        Ok(())
    })
}

fn with(fragile: fn() -> Task) -> Vec<Node> {
    vec![
        node("source", vec![1], || numbers(EVENTS)),
        node("fragile", vec![2], fragile),
        node("sink", vec![], || counting(&Arc::default())),
    ]
}

/// A panic fails the event that was handled, for good; by default the task is built again, goes on with what waits, and
/// everything else arrives. Another flow is untouched.
#[tokio::test(start_paused = true)]
async fn after_a_panic_the_flow_goes_on_without_the_event_that_caused_it() {
    for fragile in [fragile, fragile_processor] {
        let report =
            run_all(vec![restarting(with(fragile)), flow("healthy", with(|| counting(&Arc::default())))]);
        let report = report.await;
        assert_outcomes(&report.flows[0], [(Outcome::Completed, EVENTS - 1), (Outcome::Failed, 1)]);
        assert_outcomes(&report.flows[1], [(Outcome::Completed, EVENTS)]);
    }
}

/// Where the policy is to stop, a panic names its task as the reason, ends its flow with everything accounted for, and no
/// other flow.
#[tokio::test(start_paused = true)]
async fn where_the_policy_says_so_a_panic_ends_its_flow_and_no_other() {
    for fragile in [fragile, fragile_processor] {
        let stopping = Flow { on_task_panic: OnTaskPanic::Stop, ..flow("broken", with(fragile)) };
        let report = run_all(vec![stopping, flow("healthy", with(|| counting(&Arc::default())))]).await;
        let broken = &report.flows[0];
        assert!(
            broken.failure.as_deref().is_some_and(|why| why.starts_with("task `fragile` panicked")),
            "{broken:?}"
        );
        let outcomes = outcomes(&broken.summary);
        assert_eq!(broken.summary.inflight(), 0);
        assert!(broken.summary.entered < EVENTS, "its source was to be stopped");
        assert_eq!(outcomes[&Outcome::Completed], POISON);
        assert_eq!(outcomes[&Outcome::Failed], broken.summary.entered - POISON);
        assert_outcomes(&report.flows[1], [(Outcome::Completed, EVENTS)]);
    }
}

/// What a task had taken and not finished when it panicked at another event is not lost with it: all of it arrives, in
/// order, whatever `on_error` would do with what fails.
#[tokio::test(start_paused = true)]
async fn what_waited_to_be_flushed_when_a_task_panicked_arrives_all_the_same() {
    for on_error in [OnError::Fail, OnError::Drop] {
        let written = Arc::<Mutex<Vec<u64>>>::default();
        let (file, has_panicked) = (Arc::clone(&written), Arc::new(AtomicBool::new(false)));
        let mut buffered = node("buffered", vec![], move || {
            Task::Processor(Box::new(Buffered {
                held: Mutex::default(),
                written: Arc::clone(&file),
                has_panicked: Arc::clone(&has_panicked),
            }))
        });
        buffered.policy = Policy { on_error, ..Policy::default() };
        let tasks = vec![node("source", vec![1], || numbers(EVENTS)), buffered];
        let report = run_all(vec![restarting(tasks)]).await;
        let disposed = if on_error == OnError::Fail { Outcome::Failed } else { Outcome::Dropped };
        assert_outcomes(&report.flows[0], [(Outcome::Completed, EVENTS - 1), (disposed, 1)]);
        let written = written.lock().unwrap().clone();
        assert_eq!(written, (0..EVENTS).filter(|n| *n != POISON).collect::<Vec<_>>());
    }
}

/// A processor that writes at each flush, and panics at one event.
struct Buffered {
    held: Mutex<Vec<u64>>,
    written: Arc<Mutex<Vec<u64>>>,
    has_panicked: Arc<AtomicBool>,
}

#[async_trait]
impl Processor for Buffered {
    async fn handle(&self, event: &Event, output: &mut Output) -> Result<(), TaskError> {
        if number(event) == POISON && !self.has_panicked.swap(true, Ordering::Relaxed) {
            panic!("as the test wants it");
        }
        self.held.lock().unwrap().push(number(event));
        output.forward();
        Ok(())
    }

    fn is_buffered(&self) -> bool {
        true
    }

    async fn flush(&self) -> Result<(), flowgen::task::FlushError> {
        self.written.lock().unwrap().append(&mut self.held.lock().unwrap());
        Ok(())
    }
}
