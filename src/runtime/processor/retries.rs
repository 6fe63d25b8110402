//! When the next attempt at one piece of work is made, and whether there is one.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::meters::TaskMeters;
use crate::{
    retry::RetryPolicy,
    task::TaskError,
    telemetry::{FailureLog, error_chain},
    trace::Ticks,
};

/// What stands for a time that no clock reaches: thirty years.
const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// How the attempts of one task follow one another.
pub(super) struct Retrying {
    policy: RetryPolicy,
    pub(super) meters: Arc<TaskMeters>,
    /// One for all events that are handled at a time.
    log: Arc<Mutex<FailureLog>>,
}

/// The attempts at one piece of work so far.
#[derive(Debug, Default)]
pub(super) struct Retries {
    failed: u32,
    /// When the first attempt failed; a success never reads the clock.
    first_failure: Option<Instant>,
    next: Option<Next>,
}

/// An attempt that is to be made.
#[derive(Debug)]
struct Next {
    at: Instant,
    /// When the one before failed, and with what.
    since: Ticks,
    error: TaskError,
}

/// What follows an attempt that failed for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Another one.
    Again,
    /// None: there were enough, or they took too long.
    Enough,
    /// None: it would begin when its work is too old.
    Late,
}

impl Retries {
    /// Returns how many attempts were made, if the last one failed, and was or was not followed by a decision.
    pub(super) fn made(&self, is_decided: bool) -> u32 {
        (self.failed + u32::from(!is_decided)).max(1)
    }

    /// Returns whether no attempt has failed yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.failed == 0
    }
}

impl Retrying {
    pub(super) fn new(policy: RetryPolicy, meters: Arc<TaskMeters>, log: Arc<Mutex<FailureLog>>) -> Self {
        Self { policy, meters, log }
    }

    /// Decides what follows an attempt that failed with a transient error, at work that `expires`.
    pub(super) fn follow(
        &self,
        retries: &mut Retries,
        error: &TaskError,
        expires: Option<Instant>,
    ) -> Verdict {
        let now = Instant::now();
        retries.failed += 1;
        let elapsed = now - *retries.first_failure.get_or_insert(now);
        let Some(delay) = self.policy.delay(retries.failed, elapsed, error.retry_after()) else {
            return Verdict::Enough;
        };
        let at = now.checked_add(delay).unwrap_or(now + NEVER);
        let is_late = expires.is_some_and(|expires| expires <= at);
        self.tell(retries.failed, error, delay, is_late);
        if is_late {
            return Verdict::Late;
        }
        retries.next = Some(Next { at, since: Ticks::now(), error: error.clone() });
        Verdict::Again
    }

    /// Waits until the next attempt is due. Returns whether it is, and not put off by a recall.
    pub(super) async fn wait(&self, retries: &mut Retries, recall: Option<&CancellationToken>) -> bool {
        let Some(next) = &retries.next else { return true };
        let due = tokio::time::sleep_until(next.at);
        match recall {
            None => due.await,
            Some(recall) => tokio::select! {
                biased;
                () = recall.cancelled() => return false,
                () = due => {}
            },
        }
        self.meters.retry(&next.error, Ticks::now().since(next.since));
        retries.next = None;
        true
    }

    fn tell(&self, attempt: u32, error: &TaskError, delay: Duration, is_late: bool) {
        let admitted = self.log.lock().unwrap_or_else(PoisonError::into_inner).admit(error.error_type());
        let Some(suppressed) = admitted else { return };
        let message = if is_late {
            "attempt failed, the event expires before the next one"
        } else {
            "attempt failed, trying again"
        };
        tracing::warn!(
            attempt,
            max_attempts = self.policy.max_attempts,
            delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
            error.type = error.error_type(),
            error.message = error_chain(error),
            suppressed = (suppressed > 0).then_some(suppressed),
            "{message}"
        );
    }
}
