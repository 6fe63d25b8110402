//! Whatever comes of an event shares its acknowledgement, and its source learns the worst of it, once and last.

use std::{sync::Arc, time::Duration};

use flowgen::{
    ack::Outcome,
    event::{Event, Payload},
    plan::{OnError, Policy},
    task::{Output, Task, TaskError},
};
use tokio::sync::Semaphore;

use super::{
    answers::{Answer, Answers, answered, leaf},
    assert_outcomes, hours, number, run, run_until, transform,
};
use crate::support::{graph::node, tasks::slow};

const EVENTS: u64 = 100;
const SECOND: Duration = Duration::from_secs(1);

/// A transform that takes an event apart, in as many pieces as `pieces` says.
fn apart(pieces: impl Fn(u64) -> usize + Send + 'static) -> Task {
    transform(move |event: &mut Event, output: &mut Output| {
        (0..pieces(number(event))).for_each(|n| output.emit(event.derive(n, Payload::default())));
        Ok(())
    })
}

/// What is derived from an event shares its acknowledgement: the source hears of it when all of it is done.
#[tokio::test(start_paused = true)]
async fn what_is_derived_from_an_event_shares_its_acknowledgement() {
    let answers = Arc::<Answers>::default();
    let (source, sink) = (Arc::clone(&answers), Arc::clone(&answers));
    let report = run(vec![
        node("source", vec![1], move || answered(EVENTS, &source)),
        node("apart", vec![2], || apart(|_| 3)),
        node("sink", vec![], move || leaf(SECOND, &sink)),
    ])
    .await;
    assert_outcomes(&report, [(Outcome::Completed, EVENTS)]);
    answers.assert_told(EVENTS, |_| (Outcome::Completed, 3));
}

/// All branches of a fan-out share the acknowledgement, however much slower one of them is.
#[tokio::test(start_paused = true)]
async fn the_branches_of_a_fan_out_share_an_acknowledgement() {
    let answers = Arc::<Answers>::default();
    let [source, fast, slow, other] = [(); 4].map(|()| Arc::clone(&answers));
    let report = run(vec![
        node("source", vec![1, 2, 3], move || answered(EVENTS, &source)),
        node("fast", vec![], move || leaf(Duration::ZERO, &fast)),
        node("slow", vec![], move || leaf(60 * SECOND, &slow)),
        node("other", vec![], move || leaf(SECOND, &other)),
    ])
    .await;
    assert_outcomes(&report, [(Outcome::Completed, EVENTS)]);
    answers.assert_told(EVENTS, |_| (Outcome::Completed, 3));
}

/// A branch that fails the events that `fails` names, and does with them what `on_error` says.
fn failing(name: &str, on_error: OnError, fails: fn(u64) -> bool) -> flowgen::plan::Node {
    let mut node = node(name, vec![], move || {
        transform(move |event, output| {
            output.forward();
            if fails(number(event)) { Err(TaskError::permanent("test", "not this one")) } else { Ok(()) }
        })
    });
    node.policy = Policy { on_error, ..Policy::default() };
    node
}

/// The source is told once of each event, and what it is told is the worst that became of any part of it.
#[tokio::test(start_paused = true)]
async fn the_source_is_told_once_and_the_worst() {
    let answers = Arc::<Answers>::default();
    let (source, sink) = (Arc::clone(&answers), Arc::clone(&answers));
    let report = run(vec![
        node("source", vec![1, 2, 3, 4], move || answered(EVENTS, &source)),
        failing("failing", OnError::Fail, |n| n % 4 >= 2),
        failing("dropping", OnError::Drop, |n| n % 2 == 1),
        node("filter", vec![], || apart(|_| 0)),
        node("sink", vec![], move || leaf(SECOND, &sink)),
    ])
    .await;
    let quarter = EVENTS / 4;
    let expected =
        [(Outcome::Completed, quarter), (Outcome::Dropped, quarter), (Outcome::Failed, 2 * quarter)];
    assert_outcomes(&report, expected);
    answers.assert_told(EVENTS, |n| match n % 4 {
        0 => (Outcome::Completed, 1),
        1 => (Outcome::Dropped, 1),
        _ => (Outcome::Failed, 1),
    });
    assert!(answers.told().iter().all(|answer| !answer.is_transient), "nothing would help");
}

/// A share that nobody settles is a failure: a task dies for good with most events waiting for it, and none of them is
/// acknowledged.
#[tokio::test(start_paused = true)]
async fn a_share_that_nobody_settles_is_never_an_acknowledgement() {
    const LAST: u64 = 5;
    let answers = Arc::<Answers>::default();
    let (source, sink) = (Arc::clone(&answers), Arc::clone(&answers));
    let report = run(vec![
        node("source", vec![1], move || answered(EVENTS, &source)),
        node("fragile", vec![2], || {
            transform(|event, output| {
                assert_ne!(number(event), LAST, "as the test wants it");
                output.forward();
                Ok(())
            })
        }),
        node("sink", vec![], move || leaf(SECOND, &sink)),
    ])
    .await;
    assert!(report.failure.is_some(), "it was to be the end of the flow");
    let told = answers.told();
    assert_eq!(told.len() as u64, report.summary.entered);
    assert!(told.len() as u64 > LAST + 1, "nothing was waiting: {told:?}");
    for Answer { event, outcome, is_transient, arrived } in told {
        let expected = if event < LAST { (Outcome::Completed, 1) } else { (Outcome::Failed, 0) };
        assert_eq!((outcome, arrived), expected, "{event}");
        // What was waiting may be handled by another worker; what the task died of would kill that one too.
        assert_eq!(is_transient, event > LAST, "{event}");
    }
}

/// Diamonds, arrays and filters need no counting: each event is told of when all that came of it has come to an end.
#[tokio::test(start_paused = true)]
async fn a_diamond_of_arrays_and_filters_ends_where_all_of_it_does() {
    let answers = Arc::<Answers>::default();
    let (source, sink) = (Arc::clone(&answers), Arc::clone(&answers));
    let even =
        |event: &Event| event.id.to_string().split('-').nth(1).unwrap().parse::<u64>().unwrap() % 2 == 0;
    let report = run(vec![
        node("source", vec![1], move || answered(EVENTS, &source)),
        node("apart", vec![2, 3], || apart(|n| usize::try_from(n % 4).unwrap())),
        node("left", vec![4], || slow(SECOND, |_| Ok(()))),
        node("right", vec![4], move || {
            transform(move |event, output| {
                if even(event) {
                    output.forward();
                }
                Ok(())
            })
        }),
        node("joint", vec![], move || leaf(SECOND, &sink)),
    ])
    .await;
    assert_outcomes(&report, [(Outcome::Filtered, EVENTS / 4), (Outcome::Completed, EVENTS * 3 / 4)]);
    answers.assert_told(EVENTS, |n| match usize::try_from(n % 4).unwrap() {
        0 => (Outcome::Filtered, 0),
        pieces => (Outcome::Completed, pieces + pieces.div_ceil(2)),
    });
}

/// A source acknowledges an event only after its last share has settled: as long as one leaf is not done, be it for
/// hours, it is not told of the event.
#[tokio::test(start_paused = true)]
async fn the_source_is_not_told_before_the_last_leaf_is_done() {
    const COUNT: u64 = 10;
    let answers = Arc::<Answers>::default();
    let [source, open, shut, watched] = [(); 4].map(|()| Arc::clone(&answers));
    let gate = Arc::new(Semaphore::new(0));
    let shutter = Arc::clone(&gate);
    let tasks = vec![
        node("source", vec![1, 2], move || answered(COUNT, &source)),
        node("open", vec![], move || leaf(Duration::ZERO, &open)),
        node("shut", vec![], move || {
            Task::Processor(Box::new(Shut { gate: Arc::clone(&shutter), answers: Arc::clone(&shut) }))
        }),
    ];
    let report = run_until(tasks, |_| async move {
        hours(1).await;
        assert_eq!((watched.arrived(), watched.told()), (usize::try_from(COUNT).unwrap(), vec![]));
        for done in 1..=COUNT {
            gate.add_permits(1);
            hours(1).await;
            assert_eq!(watched.order(), (0..done).collect::<Vec<_>>());
        }
    })
    .await;
    assert_outcomes(&report.flows[0], [(Outcome::Completed, COUNT)]);
    answers.assert_told(COUNT, |_| (Outcome::Completed, 2));
}

/// A leaf that handles an event for each permit.
struct Shut {
    gate: Arc<Semaphore>,
    answers: Arc<Answers>,
}

#[async_trait::async_trait]
impl flowgen::task::Processor for Shut {
    async fn handle(&self, event: &Event, output: &mut Output) -> Result<(), TaskError> {
        self.gate.acquire().await.unwrap().forget();
        self.answers.arrive(number(event));
        output.forward();
        Ok(())
    }
}
