//! A source that cannot be answered brings in again what failed for now: in order, and before anything new.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use flowgen::{
    ack::Outcome,
    event::{EventId, Payload},
    plan::{Node, Policy},
    retry::RetryPolicy,
    runtime::FlowReport,
    shutdown::Stop,
    task::{Emitter, Source, Task, TaskError},
};
use tokio::time::Instant;

use super::{CAPACITY, assert_outcomes, number, run};
use crate::support::{graph::node, tasks::slow};

const SECOND: Duration = Duration::from_secs(1);

/// What happened, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The source brought it in, for the first time.
    Entered(u64),
    /// An attempt at it failed.
    Refused(u64),
    Arrived(u64),
}

type Steps = Arc<Mutex<Vec<Step>>>;

/// A source of `count` events, one each `interval`, that notes each.
struct Noting {
    count: u64,
    interval: Duration,
    steps: Steps,
}

#[async_trait]
impl Source for Noting {
    async fn run(self: Box<Self>, emitter: &mut Emitter, _: Stop) -> Result<(), TaskError> {
        for n in 0..self.count {
            let note = |_: Option<&mut _>| {
                self.steps.lock().unwrap().push(Step::Entered(n));
                Ok(Payload::default().into())
            };
            emitter.stage(EventId::Sequence(n), note).await?;
            if !self.interval.is_zero() {
                emitter.flush().await?;
                tokio::time::sleep(self.interval).await;
            }
        }
        Ok(())
    }
}

/// A target that refuses everything while `is_down` says so, at so many seconds since the start.
fn target(steps: &Steps, is_down: impl Fn(Duration, u64) -> bool + Clone + Send + Sync + 'static) -> Node {
    let steps = Arc::clone(steps);
    let began = Instant::now();
    let mut node = node("target", vec![], move || {
        let (steps, is_down) = (Arc::clone(&steps), is_down.clone());
        slow(Duration::from_millis(10), move |event| {
            let event = number(event);
            if is_down(began.elapsed(), event) {
                steps.lock().unwrap().push(Step::Refused(event));
                return Err(TaskError::transient("test", "down"));
            }
            steps.lock().unwrap().push(Step::Arrived(event));
            Ok(())
        })
    });
    let retry = RetryPolicy { max_attempts: 2, max_backoff: 5 * SECOND, ..RetryPolicy::default() };
    node.policy = Policy { retry, ..Policy::default() };
    node
}

/// Runs `count` events through a target that is down at times, and returns what happened.
async fn run_through(
    count: u64,
    interval: Duration,
    is_down: impl Fn(Duration, u64) -> bool + Clone + Send + Sync + 'static,
) -> (FlowReport, Vec<Step>) {
    let steps = Steps::default();
    let noted = Arc::clone(&steps);
    let source = move || Task::Source(Box::new(Noting { count, interval, steps: Arc::clone(&noted) }));
    let report = run(vec![node("source", vec![1], source), target(&steps, is_down)]).await;
    let steps = steps.lock().unwrap().clone();
    (report, steps)
}

fn arrived(steps: &[Step]) -> Vec<u64> {
    let arrived = |step: &Step| if let Step::Arrived(event) = step { Some(*event) } else { None };
    steps.iter().filter_map(arrived).collect()
}

/// Returns the events both attempts at which were refused, once or more often, and where in the steps the first was.
fn failed(steps: &[Step]) -> (BTreeSet<u64>, usize) {
    let mut failed = BTreeSet::new();
    let mut first = None;
    let mut refused = None;
    for (place, step) in steps.iter().enumerate() {
        match step {
            Step::Refused(event) if refused == Some(event) => {
                failed.insert(*event);
                first.get_or_insert(place);
                refused = None;
            }
            Step::Refused(event) => refused = Some(event),
            Step::Arrived(_) => refused = None,
            Step::Entered(_) => {}
        }
    }
    (failed, first.expect("nothing failed"))
}

/// Checks that nothing is lost, and that what failed arrives in the order of the source, and before anything new.
fn assert_brought_in_again(report: &FlowReport, steps: &[Step], count: u64) -> BTreeSet<u64> {
    assert_outcomes(report, [(Outcome::Completed, count)]);
    assert_eq!(report.summary.entered, count, "nothing enters twice");
    let all = arrived(steps);
    assert_eq!(all.iter().copied().collect::<BTreeSet<_>>(), (0..count).collect());
    assert_eq!(all.len() as u64, count, "nothing arrives twice");
    let (failed, first) = failed(steps);
    let again: Vec<u64> = all.into_iter().filter(|event| failed.contains(event)).collect();
    assert_eq!(again, failed.iter().copied().collect::<Vec<_>>());
    let last = steps.iter().position(|step| *step == Step::Arrived(*failed.last().unwrap())).unwrap();
    let new: Vec<_> = steps[first..last].iter().filter(|step| matches!(step, Step::Entered(_))).collect();
    assert!(new.is_empty(), "{new:?} came in between");
    failed
}

/// Scenario: a target is down for two minutes, in the middle of what a fast source has to bring in. Guarantee: nothing is
/// lost, what failed comes in again in its order, and nothing new before it.
#[tokio::test(start_paused = true)]
async fn an_outage_of_two_minutes_loses_nothing_and_keeps_the_order_of_what_failed() {
    const EVENTS: u64 = 2000;
    let is_down = |at: Duration, _| (5 * SECOND..125 * SECOND).contains(&at);
    let (report, steps) = run_through(EVENTS, Duration::ZERO, is_down).await;
    let failed = assert_brought_in_again(&report, &steps, EVENTS);
    assert!(failed.len() as u64 > CAPACITY, "{failed:?}");
    assert!(report.elapsed >= 125 * SECOND, "{:?}", report.elapsed);
}

/// Scenario: as above, of a source that brings in an event now and then. Guarantee: the same, and what would have come in
/// meanwhile comes after it.
#[tokio::test(start_paused = true)]
async fn while_it_lasts_the_source_is_stopped() {
    const EVENTS: u64 = 300;
    let is_down = |at: Duration, _| (5 * SECOND..125 * SECOND).contains(&at);
    let (report, steps) = run_through(EVENTS, SECOND / 10, is_down).await;
    let failed = assert_brought_in_again(&report, &steps, EVENTS);
    assert!(failed.len() < 50, "far more than came in before it was stopped: {failed:?}");
    let beyond = steps.iter().position(|step| *step == Step::Entered(failed.last().unwrap() + 2)).unwrap();
    let before = &steps[..beyond];
    assert!(before.contains(&Step::Arrived(*failed.last().unwrap())), "the source was not stopped");
    // All of them arrive in order, for nothing was under way that could have overtaken what failed.
    assert!(arrived(&steps).is_sorted());
}

/// Scenario: a target takes everything but one event, for a minute. Guarantee: that event is brought in again until it is
/// taken, and no other one is.
#[tokio::test(start_paused = true)]
async fn what_did_not_fail_is_not_brought_in_again() {
    const EVENTS: u64 = 500;
    let is_down = |at, event| event == 33 && at < 60 * SECOND;
    let (report, steps) = run_through(EVENTS, Duration::ZERO, is_down).await;
    assert_eq!(assert_brought_in_again(&report, &steps, EVENTS), [33].into());
}

/// Scenario: the source has come to its end when its last events fail. Guarantee: its flow goes on until they have
/// arrived.
#[tokio::test(start_paused = true)]
async fn a_flow_does_not_end_before_what_failed_has_arrived() {
    let (report, steps) = run_through(3, Duration::ZERO, |at, _| at < 600 * SECOND).await;
    let failed = assert_brought_in_again(&report, &steps, 3);
    assert_eq!(failed, [0, 1, 2].into());
    assert!(report.elapsed >= 600 * SECOND, "{:?}", report.elapsed);
}

/// Scenario: the source comes to its end while what it brought in waits to be brought in again. Guarantee: the same.
#[tokio::test(start_paused = true)]
async fn what_waits_to_be_brought_in_again_outlives_the_end_of_its_source() {
    const EVENTS: u64 = 10;
    for minutes in [1, 2, 3, 4, 5] {
        let steps = Steps::default();
        let noted = Arc::clone(&steps);
        let source = move || {
            let noting = Noting { count: EVENTS, interval: Duration::ZERO, steps: Arc::clone(&noted) };
            Task::Source(Box::new(Lingering { noting, time: 60 * minutes * SECOND }))
        };
        let target = target(&steps, |at, _| at < 600 * SECOND);
        let report = run(vec![node("source", vec![1], source), target]).await;
        let steps = steps.lock().unwrap().clone();
        assert_eq!(assert_brought_in_again(&report, &steps, EVENTS), (0..EVENTS).collect());
    }
}

/// A source that waits for more for a while, of which none comes.
struct Lingering {
    noting: Noting,
    time: Duration,
}

#[async_trait]
impl Source for Lingering {
    async fn run(self: Box<Self>, emitter: &mut Emitter, stop: Stop) -> Result<(), TaskError> {
        let Self { noting, time } = *self;
        Box::new(noting).run(emitter, stop).await?;
        emitter.flush().await?;
        tokio::time::sleep(time).await;
        Ok(())
    }
}

/// Scenario: an event fails for now, and for good when it is brought in again. Guarantee: that is its end, and the others
/// are not kept waiting.
#[tokio::test(start_paused = true)]
async fn what_fails_for_good_is_not_brought_in_any_more() {
    let handled = Arc::<Mutex<Vec<u64>>>::default();
    let noted = Arc::clone(&handled);
    let sink = move || {
        let noted = Arc::clone(&noted);
        slow(Duration::ZERO, move |event| {
            let mut noted = noted.lock().unwrap();
            noted.push(number(event));
            let times = noted.iter().filter(|other| **other == number(event)).count();
            match number(event) {
                7 if times <= 2 => Err(TaskError::transient("test", "down")),
                7 => Err(TaskError::permanent("test", "gone")),
                _ => Ok(()),
            }
        })
    };
    let mut sink = node("sink", vec![], sink);
    sink.policy.retry.max_attempts = 1;
    let report = run(vec![node("source", vec![1], || crate::support::tasks::numbers(50)), sink]).await;
    assert_outcomes(&report, [(Outcome::Completed, 49), (Outcome::Failed, 1)]);
    assert_eq!(handled.lock().unwrap().len(), 52);
}
