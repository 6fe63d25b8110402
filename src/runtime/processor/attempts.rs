//! The attempts at one event: each within its time, and as many as the policy allows.

use std::{
    any::Any,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::Poll,
    thread,
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::{
    super::{
        hop::{Handling, Hop},
        supervisor::panic_message,
    },
    retries::{Retries, Retrying, Verdict},
};
use crate::{
    event::{Event, MAX_ATTEMPTS, Step},
    plan::Policy,
    task::{ErrorClass, Output, Processor, TaskError},
    telemetry::{OpenSpan, PANIC, SpanOutcome, Spans, TIMEOUT, inside_async},
};

/// How the events of one task are attempted.
pub(super) struct Attempts {
    pub(super) retrying: Retrying,
    pub(super) timeout: Option<Duration>,
    spans: Spans,
}

/// The attempts at one event so far.
#[derive(Debug, Default)]
pub(super) struct Tried {
    retries: Retries,
    /// What became of the second and later ones.
    later: Vec<(Step, Option<&'static str>)>,
}

/// How the attempts at an event ended.
#[derive(Debug)]
pub(super) enum End {
    /// With the result of the last one.
    Handled(Result<(), TaskError>),
    /// It is too old for another one.
    Expired,
    /// The processor panicked, with this message.
    Panicked(String),
    /// They have not: another processor goes on.
    Recalled,
}

impl Tried {
    /// Lets the trail of the event have them.
    pub(super) fn tell(self, event: &mut Event) {
        event.trail.attempt(self.later);
    }
}

impl Attempts {
    pub(super) fn new(hop: &Hop) -> Self {
        Self::of(
            hop.policy,
            hop.spans.retry.clone(),
            Retrying::new(hop.policy.retry, Arc::clone(&hop.meters), Arc::clone(hop.passing())),
        )
    }

    pub(super) fn of(policy: Policy, spans: Spans, retrying: Retrying) -> Self {
        Self { retrying, timeout: policy.timeout, spans }
    }

    /// Attempts an event until it is done, or is not to be tried again. A failed attempt's output is discarded. No
    /// attempt follows after `recall`.
    pub(super) async fn make(
        &self,
        processor: &dyn Processor,
        handling: &Handling,
        output: &mut Output,
        tried: &mut Tried,
        recall: Option<&CancellationToken>,
    ) -> End {
        let attempts = self.until_done(processor, handling, output, tried, recall);
        match catch(inside_async(&handling.event, attempts)).await {
            Ok(end) => end,
            Err(panic) => End::Panicked(panic_message(&*panic)),
        }
    }

    async fn until_done(
        &self,
        processor: &dyn Processor,
        handling: &Handling,
        output: &mut Output,
        Tried { retries, later }: &mut Tried,
        recall: Option<&CancellationToken>,
    ) -> End {
        let event = &handling.event;
        let mut retry = Retry { span: None, later };
        loop {
            output.clear();
            let is_first = retries.is_fresh();
            if !is_first {
                if !self.retrying.wait(retries, recall).await {
                    return End::Recalled;
                }
                // It may have waited longer than it was meant to.
                if handling.is_expired() {
                    return End::Expired;
                }
                retry.span = Some(self.spans.child(event.trace));
            }
            let result = limited(self.timeout, processor.handle(event, output)).await;
            retry.end(result.as_ref().err());
            let Err(error) = result else { return End::Handled(Ok(())) };
            self.retrying.meters.attempt_failed(&error);
            if error.class() != ErrorClass::Transient {
                return End::Handled(Err(error));
            }
            match self.retrying.follow(retries, &error, handling.expires()) {
                Verdict::Again => {}
                Verdict::Enough => return End::Handled(Err(error)),
                Verdict::Late => return End::Expired,
            }
        }
    }
}

/// Ends the handling of an event as the attempts at it ended. Returns what the processor panicked with.
pub(super) fn conclude(
    hop: &mut Hop,
    mut handling: Handling,
    output: &mut Output,
    tried: Tried,
    end: End,
) -> Option<String> {
    handling.attempts = tried
        .retries
        .made(matches!(&end, End::Handled(Err(error)) if error.class() == ErrorClass::Transient));
    tried.tell(&mut handling.event);
    match end {
        End::Handled(result) => {
            handling.take_over(output, result.is_ok());
            hop.conclude(handling, output.drain(), result);
        }
        End::Expired => {
            handling.take_over(output, false);
            output.clear();
            hop.expire(handling);
        }
        End::Panicked(message) => {
            handling.take_over(output, false);
            *output = Output::default();
            hop.panicked(handling, &message);
            return Some(message);
        }
        End::Recalled => {
            output.clear();
            handling.give_back();
        }
    }
    None
}

/// A further attempt, which is remembered however it ends.
struct Retry<'a> {
    span: Option<OpenSpan>,
    later: &'a mut Vec<(Step, Option<&'static str>)>,
}

impl Retry<'_> {
    /// An outage may take any number of attempts; the first ones tell enough.
    fn remember(&mut self, step: Step, error_type: Option<&'static str>) {
        if step.start.is_set() && self.later.len() < MAX_ATTEMPTS {
            self.later.push((step, error_type));
        }
    }

    fn end(&mut self, error: Option<&TaskError>) {
        if let Some(span) = self.span.take() {
            self.remember(end(span, error), error.map(TaskError::error_type));
        }
    }
}

impl Drop for Retry<'_> {
    fn drop(&mut self) {
        if let Some(span) = self.span.take_if(|_| thread::panicking()) {
            self.remember(span.end(SpanOutcome::Failed, Some(PANIC)), Some(PANIC));
        }
    }
}

/// Returns what a future panics with, so that its event can be told of it.
pub(in crate::runtime) async fn catch<F: Future>(future: F) -> Result<F::Output, Box<dyn Any + Send>> {
    let mut future = pin!(future);
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

/// Ends a span whose work is done or failed with `error`.
pub(super) fn end(span: OpenSpan, error: Option<&TaskError>) -> Step {
    match error {
        None => span.end(SpanOutcome::Completed, None),
        Some(error) if error.class() == ErrorClass::Closed => span.end(SpanOutcome::Cancelled, None),
        Some(error) => span.end(SpanOutcome::Failed, Some(error.error_type())),
    }
}

/// Gives an attempt no more than its time.
pub(super) async fn limited<E: From<TaskError>>(
    timeout: Option<Duration>,
    attempt: impl Future<Output = Result<(), E>>,
) -> Result<(), E> {
    let Some(limit) = timeout else { return attempt.await };
    match tokio::time::timeout(limit, attempt).await {
        Ok(result) => result,
        Err(_) => {
            let limit = humantime::format_duration(limit);
            Err(TaskError::transient(TIMEOUT, format!("the attempt took longer than {limit}")).into())
        }
    }
}
