//! What an attempt that failed leads to: another one after a while, or `on_error`.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use flowgen::{
    ack::Outcome,
    plan::{Node, OnError, Policy},
    retry::RetryPolicy,
    runtime::FlowReport,
    task::TaskError,
};
use tokio::time::Instant;

use super::{
    answers::{Answer, Answers, answered},
    assert_outcomes, number, run,
};
use crate::support::{
    graph::node,
    tasks::{numbers, slow},
};

/// The attempts at each event, in order, with the time of each.
type Attempts = Arc<Mutex<Vec<(u64, Instant)>>>;

/// A task whose attempts are counted, each of which `answers` by how many there were at its event before.
fn target(
    policy: Policy,
    attempts: &Attempts,
    answer: impl Fn(usize) -> Result<(), TaskError> + Clone + Send + Sync + 'static,
) -> Node {
    let attempts = Arc::clone(attempts);
    let mut node = node("target", vec![], move || {
        let (attempts, answer) = (Arc::clone(&attempts), answer.clone());
        slow(Duration::ZERO, move |event| {
            let mut attempts = attempts.lock().unwrap();
            let earlier = attempts.iter().filter(|(other, _)| *other == number(event)).count();
            attempts.push((number(event), Instant::now()));
            answer(earlier)
        })
    });
    node.policy = policy;
    node
}

/// Runs `count` events of a source that cannot be answered through a target.
async fn attempt(
    count: u64,
    policy: Policy,
    answer: impl Fn(usize) -> Result<(), TaskError> + Clone + Send + Sync + 'static,
) -> (FlowReport, Vec<(u64, Instant)>) {
    let attempts = Attempts::default();
    let tasks = vec![node("source", vec![1], move || numbers(count)), target(policy, &attempts, answer)];
    let report = run(tasks).await;
    let attempts = attempts.lock().unwrap().clone();
    (report, attempts)
}

fn down() -> TaskError {
    TaskError::transient("test", "down")
}

fn policy(max_attempts: u32, on_error: OnError) -> Policy {
    let retry = RetryPolicy { max_attempts, ..RetryPolicy::default() };
    Policy { retry, timeout: None, on_error }
}

/// Returns the time between each attempt and the one before.
fn pauses(attempts: &[(u64, Instant)]) -> Vec<Duration> {
    attempts.windows(2).map(|two| two[1].1 - two[0].1).collect()
}

/// A transient error is tried again after a time that is drawn from all of an exponential backoff with a cap, of which
/// the other side knows nothing: now and then it is next to none, and on the average half of it.
#[tokio::test(start_paused = true)]
async fn a_transient_error_is_tried_again_with_exponential_backoff_and_full_jitter() {
    const RUNS: u32 = 200;
    let policy = policy(10, OnError::Fail);
    let mut drawn = vec![Vec::new(); 9];
    for _ in 0..RUNS {
        let (report, attempts) =
            attempt(1, policy, |earlier| if earlier < 9 { Err(down()) } else { Ok(()) }).await;
        assert_outcomes(&report, [(Outcome::Completed, 1)]);
        assert_eq!(attempts.len(), 10);
        drawn.iter_mut().zip(pauses(&attempts)).for_each(|(drawn, pause)| drawn.push(pause));
    }
    for (n, (drawn, ceiling)) in drawn.iter().zip([1, 2, 4, 8, 16, 30, 30, 30, 30]).enumerate() {
        // The clock of the test counts in milliseconds, and rounds up.
        let ceiling = Duration::from_secs(ceiling) + Duration::from_millis(2);
        let (least, most) = (*drawn.iter().min().unwrap(), *drawn.iter().max().unwrap());
        assert!(most <= ceiling, "{n}: {most:?}");
        assert!(most > ceiling / 2 && least < ceiling / 2, "{n}: {least:?} to {most:?} of {ceiling:?}");
    }
}

/// What the other side asks for is respected, beyond the cap too.
#[tokio::test(start_paused = true)]
async fn an_attempt_waits_for_as_long_as_the_other_side_asked() {
    const ASKED: Duration = Duration::from_secs(600);
    let (report, attempts) = attempt(3, policy(2, OnError::Fail), |earlier| {
        if earlier == 0 { Err(down().with_retry_after(ASKED)) } else { Ok(()) }
    })
    .await;
    assert_outcomes(&report, [(Outcome::Completed, 3)]);
    let waited = attempts.chunks(2).map(|two| (two[0].0, two[1].0, two[1].1 - two[0].1));
    for (n, (first, second, waited)) in (0..).zip(waited) {
        assert_eq!((first, second), (n, n));
        assert!((ASKED..ASKED + Duration::from_secs(1)).contains(&waited), "{waited:?}");
    }
}

/// A permanent error is never tried again, by the task nor by the source, whatever `on_error` says.
#[tokio::test(start_paused = true)]
async fn a_permanent_error_is_never_tried_again() {
    for (on_error, outcome) in [(OnError::Fail, Outcome::Failed), (OnError::Drop, Outcome::Dropped)] {
        let (report, attempts) =
            attempt(20, policy(10, on_error), |_| Err(TaskError::permanent("test", "no use"))).await;
        assert_outcomes(&report, [(outcome, 20)]);
        let order: Vec<u64> = attempts.iter().map(|(event, _)| *event).collect();
        assert_eq!(order, (0..20).collect::<Vec<_>>());
    }
}

/// When all attempts have failed `on_error` decides: one that is dropped has come to its end, and one that fails is
/// brought in again by a source that cannot be answered, for attempts as many as before.
#[tokio::test(start_paused = true)]
async fn after_the_last_attempt_on_error_decides() {
    let (report, attempts) = attempt(1, policy(4, OnError::Drop), |_| Err(down())).await;
    assert_outcomes(&report, [(Outcome::Dropped, 1)]);
    assert_eq!(attempts.len(), 4);
    let succeeds_at = |attempt| move |earlier| if earlier + 1 < attempt { Err(down()) } else { Ok(()) };
    let (report, attempts) = attempt(1, policy(4, OnError::Fail), succeeds_at(4 + 4 + 1)).await;
    assert_outcomes(&report, [(Outcome::Completed, 1)]);
    assert_eq!((attempts.len(), report.summary.entered), (9, 1));
}

/// A source that can answer is told of a transient failure, and that it is one; to bring the event in again is then its
/// own business.
#[tokio::test(start_paused = true)]
async fn a_source_that_can_answer_is_told_instead_of_being_asked_again() {
    let (answers, attempts) = (Arc::<Answers>::default(), Attempts::default());
    let source = Arc::clone(&answers);
    let report = run(vec![
        node("source", vec![1], move || answered(5, &source)),
        target(policy(3, OnError::Fail), &attempts, |_| Err(down())),
    ])
    .await;
    assert_outcomes(&report, [(Outcome::Failed, 5)]);
    let failed = |event| Answer { event, outcome: Outcome::Failed, is_transient: true, arrived: 0 };
    assert_eq!(answers.told(), (0..5).map(failed).collect::<Vec<_>>());
    assert_eq!(attempts.lock().unwrap().len(), 15);
}
