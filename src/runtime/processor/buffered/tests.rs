use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::{super::retries::Retrying, *};
use crate::{
    event::Event,
    plan::{OnError, Policy},
    retry::RetryPolicy,
    task::Output,
};

/// Answers each flush with the next of these.
struct Scripted(Mutex<Vec<Result<(), FlushError>>>);

#[async_trait]
impl Processor for Scripted {
    async fn handle(&self, _: &Event, _: &mut Output) -> Result<(), TaskError> {
        Ok(())
    }

    async fn flush(&self) -> Result<(), FlushError> {
        self.0.lock().unwrap().remove(0)
    }
}

/// Returns which of four events failed, and with what.
async fn failures(mut answers: Vec<Result<(), FlushError>>) -> Vec<(usize, &'static str)> {
    let policy = Policy {
        on_error: OnError::Fail,
        timeout: None,
        retry: RetryPolicy { max_attempts: 3, ..RetryPolicy::default() },
    };
    answers.push(Ok(()));
    let processor = Scripted(Mutex::new(answers));
    let retrying = Retrying::new(policy.retry, Arc::default(), Arc::default());
    let failures = flush(&Attempts::of(policy, Spans::default(), retrying), &processor, 4).await;
    assert!(processor.0.lock().unwrap().len() <= 1, "it stopped early");
    failures.into_iter().map(|(place, error)| (place, error.error_type())).collect()
}

fn busy() -> TaskError {
    TaskError::transient("busy", "")
}

fn wrong() -> TaskError {
    TaskError::permanent("wrong", "")
}

#[tokio::test(start_paused = true)]
async fn only_the_events_that_a_flush_names_fail() {
    let some = FlushError::Events(vec![(1, wrong()), (3, wrong())]);
    assert_eq!(failures(vec![Err(some)]).await, [(1, "wrong"), (3, "wrong")]);
    let all = [(0, "wrong"), (1, "wrong"), (2, "wrong"), (3, "wrong")];
    assert_eq!(failures(vec![Err(wrong().into())]).await, all);
}

#[tokio::test(start_paused = true)]
async fn what_fails_for_good_stays_so_while_the_rest_is_tried_again() {
    let some = || Err(FlushError::Events(vec![(0, wrong()), (2, busy())]));
    assert_eq!(failures(vec![some()]).await, [(0, "wrong")]);
    let rest = || Err(FlushError::Events(vec![(2, busy())]));
    assert_eq!(failures(vec![some(), rest(), rest()]).await, [(0, "wrong"), (2, "busy")]);
}

/// Scenario: the attempt at the rest fails as a whole, as a timeout does. Guarantee: what was done stays so.
#[tokio::test(start_paused = true)]
async fn a_failure_of_all_is_that_of_those_that_still_wait() {
    let some = Err(FlushError::Events(vec![(1, busy()), (2, busy())]));
    assert_eq!(
        failures(vec![some, Err(busy().into()), Err(wrong().into())]).await,
        [(1, "wrong"), (2, "wrong")]
    );
}
