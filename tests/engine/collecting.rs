//! Processors that collect events and then flush them: all of a batch leave in order, also when one of them panics.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use flowgen::{
    ack::Outcome,
    event::{Event, EventId},
    plan::{Flow, Node, OnError, OnTaskPanic, Policy},
    retry::RetryPolicy,
    script::Condition,
    task::{FlushError, Output, Processor, Task, TaskError},
};

use super::supervision::{Seen, all_but, restarting, run};
use crate::support::{
    graph::{flow, node, outcomes, plan},
    tasks::{counting, numbers},
};

/// What a processor does with the event of this number, which was tried so often before.
type Judge = fn(u64, u32) -> Result<(), TaskError>;

/// A processor that collects events.
#[derive(Clone)]
struct Collecting {
    judge: Judge,
    /// How often each event was tried, by all that were built.
    tries: Arc<Mutex<BTreeMap<u64, u32>>>,
    flushed: Seen,
    flushes_to_panic_in: Arc<AtomicU32>,
}

/// One that was built, with what it has collected.
struct Built {
    collecting: Collecting,
    batch: Mutex<Vec<String>>,
}

impl Collecting {
    fn new(judge: Judge) -> Self {
        Self { judge, tries: Arc::default(), flushed: Seen::default(), flushes_to_panic_in: Arc::default() }
    }

    fn node(&self, downstream: Vec<usize>, policy: Policy) -> Node {
        let collecting = self.clone();
        let build = move || {
            let built = Built { collecting: collecting.clone(), batch: Mutex::default() };
            Task::Processor(Box::new(built) as Box<dyn Processor>)
        };
        Node { policy, ..node("collecting", downstream, build) }
    }

    fn tries(&self, n: u64) -> u32 {
        self.tries.lock().unwrap().get(&n).copied().unwrap_or_default()
    }
}

#[async_trait]
impl Processor for Built {
    async fn handle(&self, event: &Event, output: &mut Output) -> Result<(), TaskError> {
        let EventId::Sequence(n) = event.id else { unreachable!("the source counts") };
        let earlier = {
            let mut tries = self.collecting.tries.lock().unwrap();
            let tries = tries.entry(n).or_default();
            *tries += 1;
            *tries - 1
        };
        (self.collecting.judge)(n, earlier)?;
        self.batch.lock().unwrap().push(n.to_string());
        output.forward();
        Ok(())
    }

    fn is_buffered(&self) -> bool {
        true
    }

    async fn flush(&self) -> Result<(), FlushError> {
        let left = &self.collecting.flushes_to_panic_in;
        let panics =
            left.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        assert!(!panics, "as the test wants it");
        self.collecting.flushed.0.lock().unwrap().append(&mut self.batch.lock().unwrap());
        Ok(())
    }
}

fn with(on_error: OnError) -> Policy {
    Policy { on_error, ..Policy::default() }
}

/// A source of so many events.
fn source(count: u64) -> Node {
    node("source", vec![1], move || numbers(count))
}

/// Scenario: a processor panics at one event of a batch, of which it had collected some. Guarantee: only that one has failed;
/// the next one collects the others again, and all is flushed once, in order.
#[tokio::test(start_paused = true)]
async fn what_a_panic_takes_along_is_collected_again_in_its_place() {
    for on_error in [OnError::Fail, OnError::Drop] {
        let collecting = Collecting::new(|n, _| {
            assert_ne!(n, 40, "as the test wants it");
            Ok(())
        });
        let tasks = vec![source(100), collecting.node(vec![], with(on_error))];
        let report = run(plan(vec![restarting(tasks)], 64)).await;
        let disposed = if on_error == OnError::Fail { Outcome::Failed } else { Outcome::Dropped };
        assert_eq!(outcomes(&report.flows[0].summary), [(Outcome::Completed, 99), (disposed, 1)].into());
        assert_eq!(collecting.flushed.ids(), all_but(100, &[40]));
        assert_eq!([39, 40, 41].map(|n| collecting.tries(n)), [2, 1, 1]);
    }
}

/// Scenario: the processors that are built in its place panic too, at events that the ones before had collected. Guarantee:
/// each panic fails the event at hand and no other, and there is an end to it.
#[tokio::test(start_paused = true)]
async fn a_panic_while_events_are_collected_again_fails_only_the_one_at_hand() {
    let collecting = Collecting::new(|n, earlier| {
        assert!(![(30, 0), (10, 1), (20, 1), (5, 3)].contains(&(n, earlier)), "as the test wants it");
        Ok(())
    });
    let tasks = vec![source(50), collecting.node(vec![], with(OnError::Fail))];
    let report = run(plan(vec![restarting(tasks)], 64)).await;
    assert_eq!(outcomes(&report.flows[0].summary), [(Outcome::Completed, 46), (Outcome::Failed, 4)].into());
    assert_eq!(collecting.flushed.ids(), all_but(50, &[5, 10, 20, 30]));
}

/// Scenario: two parts of an event are in one batch, and the processor panics at the second one whenever it comes. Guarantee:
/// the event has failed, and does not come again for the sake of the first one.
#[tokio::test(start_paused = true)]
async fn a_part_that_always_panics_brings_back_no_other() {
    let collecting = Collecting::new(|n, earlier| {
        assert!(n != 3 || earlier % 2 == 0, "as the test wants it");
        Ok(())
    });
    let branch = |name| node(name, vec![3], || counting(&Arc::default()));
    let tasks = vec![
        node("source", vec![1, 2], || numbers(10)),
        branch("left"),
        branch("right"),
        collecting.node(vec![], with(OnError::Fail)),
    ];
    let day = Duration::from_secs(24 * 3600);
    let report = tokio::time::timeout(day, run(plan(vec![restarting(tasks)], 64))).await;
    let report = report.expect("it comes to an end");
    assert_eq!(outcomes(&report.flows[0].summary), [(Outcome::Completed, 9), (Outcome::Failed, 1)].into());
    assert_eq!([2, 3, 4].map(|n| collecting.tries(n)), [4, 3, 3]);
}

/// Scenario: events of a batch fail, panic, or pass by, and go on. Guarantee: they come to the next task in their turn.
#[tokio::test(start_paused = true)]
async fn what_is_not_collected_overtakes_nothing() {
    let seen = Seen::default();
    let collecting = Collecting::new(|n, _| match n % 10 {
        3 => Err(TaskError::permanent("test", "no use")),
        5 => panic!("as the test wants it"),
        _ => Ok(()),
    });
    let passes_by = Condition::compile("event.id != \"8\" && event.id != \"26\"").unwrap();
    let tasks = vec![
        source(40),
        Node { when: Some(Arc::new(passes_by)), ..collecting.node(vec![2], with(OnError::Continue)) },
        node("sink", vec![], seen.sink()),
    ];
    let report = run(plan(vec![restarting(tasks)], 64)).await;
    assert_eq!(outcomes(&report.flows[0].summary), [(Outcome::Completed, 40)].into());
    assert_eq!(seen.ids(), all_but(40, &[]));
    assert_eq!(collecting.flushed.ids(), all_but(40, &[3, 5, 8, 13, 15, 23, 25, 26, 33, 35]));
}

/// Scenario: an event is collected at the third attempt, of three, and has to be again, which fails. Guarantee: that was
/// enough.
#[tokio::test(start_paused = true)]
async fn attempts_that_failed_before_a_panic_count() {
    let collecting = Collecting::new(|n, earlier| match (n, earlier) {
        (1, 0 | 1 | 3) => Err(TaskError::transient("test", "busy")),
        (2, _) => panic!("as the test wants it"),
        _ => Ok(()),
    });
    let retry = RetryPolicy { max_attempts: 3, ..RetryPolicy::default() };
    let tasks = vec![source(4), collecting.node(vec![], Policy { retry, ..with(OnError::Drop) })];
    let report = run(plan(vec![restarting(tasks)], 64)).await;
    assert_eq!(outcomes(&report.flows[0].summary), [(Outcome::Completed, 2), (Outcome::Dropped, 2)].into());
    assert_eq!([0, 1, 2, 3].map(|n| collecting.tries(n)), [2, 4, 1, 1]);
}

/// Scenario: it takes long until another processor is there. Guarantee: what has become too old by then is not collected
/// again, and what had its end before keeps it.
#[tokio::test(start_paused = true)]
async fn what_becomes_too_old_until_the_next_processor_has_expired() {
    let collecting = Collecting::new(|n, _| match n {
        1 => Err(TaskError::permanent("test", "no use")),
        3 => panic!("as the test wants it"),
        _ => Ok(()),
    });
    let retry = RetryPolicy { initial_backoff: Duration::from_secs(3600), ..RetryPolicy::default() };
    let retry = RetryPolicy { max_backoff: retry.initial_backoff, ..retry };
    let tasks = vec![source(6), collecting.node(vec![], Policy { retry, ..with(OnError::Drop) })];
    let flow = Flow { deadline: Some(Duration::from_millis(1)), ..restarting(tasks) };
    let report = run(plan(vec![flow], 64)).await;
    assert_eq!(outcomes(&report.flows[0].summary), [(Outcome::Expired, 4), (Outcome::Dropped, 2)].into());
    assert_eq!([0, 1, 2, 3].map(|n| collecting.tries(n)), [1; 4]);
}

/// Scenario: no other processor is built. Guarantee: what was collected counts as failed, since nobody flushes it, and what
/// had its end before the panic keeps it.
#[tokio::test(start_paused = true)]
async fn where_the_flow_stops_what_was_collected_has_failed() {
    let collecting = Collecting::new(|n, _| match n {
        1 => Err(TaskError::permanent("test", "no use")),
        3 => panic!("as the test wants it"),
        _ => Ok(()),
    });
    let tasks = vec![source(6), collecting.node(vec![], with(OnError::Drop))];
    let stopping = Flow { on_task_panic: OnTaskPanic::Stop, ..flow("stopping", tasks) };
    let report = run(plan(vec![stopping], 64)).await;
    assert!(report.flows[0].failure.is_some(), "{report:?}");
    // On a busy machine the flow may stop before its source has come to its end.
    let summary = &report.flows[0].summary;
    assert!((4..=6).contains(&summary.entered), "{summary:?}");
    let failed = summary.entered - 2;
    assert_eq!(outcomes(summary), [(Outcome::Failed, failed), (Outcome::Dropped, 2)].into());
    assert_eq!(collecting.flushed.ids(), all_but(0, &[]));
}

/// Scenario: it panics in the flush. Guarantee: the batch has failed, which is counted, and the rest arrives.
#[tokio::test(start_paused = true)]
async fn a_panic_in_a_flush_fails_the_batch_and_nothing_else() {
    let collecting = Collecting::new(|_, _| Ok(()));
    collecting.flushes_to_panic_in.store(1, Ordering::Relaxed);
    let tasks = vec![source(1000), collecting.node(vec![], with(OnError::Fail))];
    let report = run(plan(vec![restarting(tasks)], 8)).await;
    let summary = &report.flows[0].summary;
    assert_eq!(summary.count(Outcome::Completed) + summary.count(Outcome::Failed), 1000);
    assert_eq!(collecting.flushed.ids().len() as u64, summary.count(Outcome::Completed));
    assert!((1..=256).contains(&summary.count(Outcome::Failed)), "{summary:?}");
}
