//! The loop of a processor: attempts, timeouts, retries, and the flush of buffered ones.

use std::{
    any::Any,
    collections::{BTreeMap, VecDeque},
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::Poll,
    thread,
    time::Duration,
};

use tokio::{sync::mpsc, time::Instant};

use super::{
    Failure, RunEnd,
    hop::{Handling, Hop, TaskSpans},
    meters::TaskMeters,
    outlets::BATCH,
    supervisor::panic_message,
};
use crate::{
    event::{Event, MAX_ATTEMPTS, Step},
    plan::Policy,
    retry::RetryPolicy,
    task::{Emission, ErrorClass, FlushError, Output, Processor, Route, TaskError},
    telemetry::{
        FailureLog, MAX_LINKS, OpenSpan, PANIC, SpanOutcome, Spans, TIMEOUT, error_chain, inside_async,
    },
    trace::{Ticks, TraceContext},
};

/// Events that a buffered processor takes at once: a flush costs system calls and a change of threads,
/// so it pays to share one among more events than fit a cache.
const BUFFERED_BATCH: usize = 256;

/// What a processor works on, and what is left of it when one panics.
pub(super) struct ProcessorWork {
    inbox: mpsc::Receiver<Box<Event>>,
    hop: Hop,
    /// What was taken from the inbox and not handled yet.
    batch: VecDeque<Box<Event>>,
    log: FailureLog,
}

impl ProcessorWork {
    pub(super) fn new(inbox: mpsc::Receiver<Box<Event>>, hop: Hop) -> Self {
        Self { inbox, hop, batch: VecDeque::with_capacity(BATCH), log: FailureLog::default() }
    }

    /// Handles events until no one upstream is left and then closes the processor, or until it panics.
    pub(super) async fn run(&mut self, processor: Box<dyn Processor>) -> RunEnd {
        let Self { inbox, hop, batch, log } = self;
        let mut held = Held::default();
        let limit = if processor.is_buffered() { BUFFERED_BATCH } else { BATCH };
        let mut taken = Vec::with_capacity(limit);
        while !batch.is_empty() || inbox.recv_many(&mut taken, limit).await > 0 {
            batch.extend(taken.drain(..));
            let inflight = hop.meters.inflight.hold(batch.len());
            while let Some(event) = batch.pop_front() {
                let mut output = std::mem::take(&mut held.output);
                let Some(mut handling) = hop.begin(event, &mut output) else {
                    held.output = output;
                    continue;
                };
                let mut retried = Vec::new();
                let attempts = attempts(log, hop, &handling.event, &*processor, &mut output, &mut retried);
                let result = catch(inside_async(&handling.event, attempts)).await;
                handling.event.trail.attempt(retried);
                let result = match result {
                    Ok(result) => result,
                    Err(panic) => {
                        let message = panic_message(&*panic);
                        held.give_back();
                        hop.panicked(handling, &message);
                        hop.flush().await;
                        return RunEnd::Panicked(message);
                    }
                };
                handling.take_over(&mut output, result.is_ok());
                match result {
                    Ok(()) if processor.is_buffered() => held.hold(handling, &mut output),
                    result => {
                        hop.conclude(handling, output.drain(), result);
                        hop.flush().await;
                    }
                }
                held.output = output;
            }
            if !held.events.is_empty() {
                let span = held.flush_span(&hop.spans.flush);
                let flushed =
                    catch(flush(log, hop.policy, &hop.meters, &*processor, held.events.len())).await;
                let failures = match flushed {
                    Ok(failures) => failures,
                    Err(panic) => {
                        let message = panic_message(&*panic);
                        held.fail_flush(&hop.spans, span, PANIC);
                        held.panicked(hop, &message);
                        hop.flush().await;
                        return RunEnd::Panicked(message);
                    }
                };
                // It failed if it did for any event; that nobody reads any more is no failure.
                let is_failure = |error: &&TaskError| error.class() != ErrorClass::Closed;
                let error = failures.values().find(is_failure).or_else(|| failures.values().next());
                match error.filter(is_failure) {
                    Some(error) => held.fail_flush(&hop.spans, span, error.error_type()),
                    None => drop(end(span, error)),
                }
                if !failures.is_empty() {
                    processor.forget();
                }
                held.conclude(hop, failures);
            }
            drop(inflight);
            hop.flush().await;
        }
        match processor.close().await {
            Ok(()) => RunEnd::Completed,
            Err(error) => {
                let (error_type, message) = (error.error_type(), error_chain(&error));
                tracing::error!(error.type = error_type, error.message = message, "closing failed");
                RunEnd::Failed(Failure { error_type, message, is_transient: false })
            }
        }
    }

    /// Ends the work for good.
    pub(super) async fn finish(&mut self) {
        self.hop.finish().await;
    }
}

/// Handles one event, as often as its policy allows. A failed attempt's output is discarded. What became of the second
/// and later attempts is added to `retried`.
async fn attempts(
    log: &mut FailureLog,
    hop: &Hop,
    event: &Event,
    processor: &dyn Processor,
    output: &mut Output,
    retried: &mut Vec<(Step, Option<&'static str>)>,
) -> Result<(), TaskError> {
    let mut retries = Retries::new(log, hop.policy.retry, &hop.meters);
    let mut retry = Retry { span: None, retried };
    loop {
        output.clear();
        let result = limited(hop.policy.timeout, processor.handle(event, output)).await;
        retry.end(result.as_ref().err());
        if let Some(result) = retries.after(result).await {
            return result;
        }
        retry.span = Some(hop.spans.retry.child(event.trace));
    }
}

/// A further attempt, which is remembered however it ends.
struct Retry<'a> {
    span: Option<OpenSpan>,
    retried: &'a mut Vec<(Step, Option<&'static str>)>,
}

impl Retry<'_> {
    /// An outage may take any number of attempts; the first ones tell enough.
    fn remember(&mut self, step: Step, error_type: Option<&'static str>) {
        if step.start.is_set() && self.retried.len() < MAX_ATTEMPTS {
            self.retried.push((step, error_type));
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
pub(super) async fn catch<F: Future>(future: F) -> Result<F::Output, Box<dyn Any + Send>> {
    let mut future = pin!(future);
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

/// Ends a span whose work is done or failed with `error`.
fn end(span: OpenSpan, error: Option<&TaskError>) -> Step {
    match error {
        None => span.end(SpanOutcome::Completed, None),
        Some(error) if error.class() == ErrorClass::Closed => span.end(SpanOutcome::Cancelled, None),
        Some(error) => span.end(SpanOutcome::Failed, Some(error.error_type())),
    }
}

/// The events of a batch that failed for good, by their place in it.
type Failures = BTreeMap<usize, TaskError>;

/// Flushes a batch of `count` events until each is done or has failed for good.
async fn flush(
    log: &mut FailureLog,
    policy: Policy,
    meters: &TaskMeters,
    processor: &dyn Processor,
    count: usize,
) -> Failures {
    let mut failures = Failures::new();
    let mut retries = Retries::new(log, policy.retry, meters);
    let mut waiting: Option<Vec<usize>> = None;
    loop {
        let failed = match limited(policy.timeout, processor.flush()).await {
            Ok(()) => return failures,
            Err(FlushError::All(error)) => {
                let waiting = waiting.take().unwrap_or_else(|| (0..count).collect());
                waiting.into_iter().map(|place| (place, error.clone())).collect()
            }
            Err(FlushError::Events(failed)) => failed,
        };
        let (transient, lasting): (Vec<_>, Vec<_>) =
            failed.into_iter().partition(|(_, error)| error.class() == ErrorClass::Transient);
        if let Some((_, error)) = transient.first().or_else(|| lasting.first()) {
            meters.attempt_failed(error);
        }
        failures.extend(lasting);
        let Some((_, error)) = transient.first() else { return failures };
        if retries.again(error).await.is_none() {
            failures.extend(transient);
            return failures;
        }
        waiting = Some(transient.into_iter().map(|(place, _)| place).collect());
    }
}

/// Gives an attempt no more than its time.
async fn limited<E: From<TaskError>>(
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

/// The attempts at one piece of work.
struct Retries<'a> {
    log: &'a mut FailureLog,
    policy: RetryPolicy,
    meters: &'a TaskMeters,
    attempts: u32,
    /// When the first attempt failed; a success never reads the clock.
    first_failure: Option<Instant>,
}

impl<'a> Retries<'a> {
    fn new(log: &'a mut FailureLog, policy: RetryPolicy, meters: &'a TaskMeters) -> Self {
        Self { log, policy, meters, attempts: 0, first_failure: None }
    }

    /// Takes the result of an attempt. Returns it if it is the last; else waits until the next is due.
    async fn after(&mut self, result: Result<(), TaskError>) -> Option<Result<(), TaskError>> {
        let Err(error) = result else { return Some(result) };
        self.meters.attempt_failed(&error);
        if error.class() != ErrorClass::Transient {
            return Some(Err(error));
        }
        match self.again(&error).await {
            Some(()) => None,
            None => Some(Err(error)),
        }
    }

    /// Waits until the next attempt is due after one that failed; `None` if there is to be none.
    async fn again(&mut self, error: &TaskError) -> Option<()> {
        let policy = self.policy;
        self.attempts += 1;
        let elapsed = self.first_failure.get_or_insert_with(Instant::now).elapsed();
        let delay = policy.delay(self.attempts, elapsed, error.retry_after())?;
        if let Some(suppressed) = self.log.admit(error.error_type()) {
            tracing::warn!(
                attempt = self.attempts,
                max_attempts = policy.max_attempts,
                delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
                error.type = error.error_type(),
                error.message = error_chain(error),
                suppressed = (suppressed > 0).then_some(suppressed),
                "attempt failed, trying again"
            );
        }
        let since = Ticks::now();
        tokio::time::sleep(delay).await;
        self.meters.retry(error, Ticks::now().since(since));
        Some(())
    }
}

/// Events that a buffered processor has handled and not yet flushed, with what each emitted.
#[derive(Default)]
struct Held {
    events: Vec<(Handling, usize)>,
    emissions: Vec<(Route, Emission)>,
    /// Kept between events for its allocation only.
    output: Output,
}

impl Held {
    /// Starts the span of a flush: below the last event's, if that is exported or none is, and linked to the others.
    fn flush_span(&self, spans: &Spans) -> OpenSpan {
        let contexts = || self.events.iter().rev().map(|(handling, _)| handling.event.trace);
        let sampled = || contexts().filter(|context| context.is_sampled());
        let parent = sampled().next().or_else(|| contexts().next()).unwrap_or_default();
        let mut span = spans.child(parent);
        if let Some(record) = span.record() {
            sampled().skip(1).for_each(|context| record.link(context));
        }
        span
    }

    /// Ends the span of a flush that failed. It is exported if such traces are kept, and so is the way of every event
    /// that it is linked to.
    fn fail_flush(&mut self, spans: &TaskSpans, mut span: OpenSpan, error_type: &'static str) {
        let kept = if spans.flush.keeps_failed() { self.keep(spans) } else { Vec::new() };
        if let Some(record) = span.record() {
            let unsampled = kept.iter().filter(|context| !context.is_sampled());
            unsampled.for_each(|context| record.link(*context));
            span.end(SpanOutcome::Failed, Some(error_type));
            return;
        }
        let flush = span.end(SpanOutcome::Failed, Some(error_type));
        let above = self.events.iter().rev().find(|(handling, _)| handling.is_kept());
        if let Some((above, _)) = above {
            let links = kept.into_iter().filter(|context| *context != above.event.trace).collect();
            spans.flush.keep_flush(&above.event, flush, error_type, links);
        }
    }

    /// Exports the way of as many events as a span has links, and of one above it, the last ones. Returns where they
    /// stand, the last one first, and then the others, to which there is no link.
    fn keep(&mut self, spans: &TaskSpans) -> Vec<TraceContext> {
        let mut contexts = Vec::with_capacity(self.events.len());
        for (handling, _) in self.events.iter_mut().rev() {
            let is_linked = contexts.len() <= MAX_LINKS;
            contexts.extend(if is_linked { handling.keep(spans) } else { Some(handling.event.trace) });
        }
        contexts
    }

    /// Ends every event of a batch in whose flush the processor panicked with this message.
    fn panicked(&mut self, hop: &mut Hop, message: &str) {
        self.events.drain(..).for_each(|(handling, _)| hop.panicked(handling, message));
    }

    /// Gives back every event of a batch that was not flushed, because the processor panicked at another one.
    fn give_back(&mut self) {
        self.events.drain(..).for_each(|(handling, _)| handling.give_back());
    }

    fn hold(&mut self, handling: Handling, output: &mut Output) {
        self.events.push((handling, output.len()));
        self.emissions.extend(output.drain());
    }

    fn conclude(&mut self, hop: &mut Hop, mut failures: Failures) {
        let mut emissions = self.emissions.drain(..);
        for (place, (handling, count)) in self.events.drain(..).enumerate() {
            let result = failures.remove(&place).map_or(Ok(()), Err);
            hop.conclude(handling, Taken { emissions: &mut emissions, count }, result);
        }
    }
}

/// The next `count` emissions. What is not taken of them is discarded.
struct Taken<'a, I: Iterator<Item = (Route, Emission)>> {
    emissions: &'a mut I,
    count: usize,
}

impl<I: Iterator<Item = (Route, Emission)>> Iterator for Taken<'_, I> {
    type Item = (Route, Emission);

    fn next(&mut self) -> Option<Self::Item> {
        self.count = self.count.checked_sub(1)?;
        self.emissions.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count, Some(self.count))
    }
}

impl<I: Iterator<Item = (Route, Emission)>> ExactSizeIterator for Taken<'_, I> {}

impl<I: Iterator<Item = (Route, Emission)>> Drop for Taken<'_, I> {
    fn drop(&mut self) {
        self.by_ref().for_each(drop);
    }
}

#[cfg(test)]
mod tests;
