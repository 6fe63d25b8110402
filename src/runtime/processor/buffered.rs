//! The loop of a processor that collects events and then flushes them.
//!
//! Nothing of a batch leaves before the flush, also what is not flushed: it would overtake what came before it. When the
//! processor panics at one event, the next one goes on with the batch.

use std::collections::BTreeMap;

use super::{
    super::{
        hop::{Hop, TaskSpans},
        inbox::Inbox,
        supervisor::panic_message,
    },
    attempts::{Attempts, End, catch, end, limited},
    held::Held,
    job::Job,
    retries::{Retries, Verdict},
};
use crate::{
    task::{ErrorClass, FlushError, Processor, TaskError},
    telemetry::{MAX_LINKS, OpenSpan, PANIC, SpanOutcome, Spans},
    trace::TraceContext,
};

/// Events that are taken at once: a flush costs system calls and a change of threads, so it pays to share one among more
/// events than fit a cache.
const BATCH: usize = 256;

/// Handles events until no one upstream is left. The error is what the processor panicked with; what is left of `held` is
/// for the next one.
pub(super) async fn run(
    inbox: &mut Inbox,
    hop: &mut Hop,
    attempts: &Attempts,
    held: &mut Held,
    processor: &dyn Processor,
) -> Result<(), String> {
    held.resume();
    let mut taken = Vec::with_capacity(BATCH);
    while !held.is_empty() || inbox.recv_many(&mut taken, BATCH).await > 0 {
        held.take(taken.drain(..));
        while let Some(Job { handling, output, tried }) = held.begin(hop) {
            let end = attempts.make(processor, handling, output, tried, None).await;
            held.end(end)?;
        }
        let flushed = flush_held(hop, attempts, held, processor).await;
        hop.flush().await;
        flushed?;
    }
    Ok(())
}

/// Flushes what is collected, and lets the batch leave.
async fn flush_held(
    hop: &mut Hop,
    attempts: &Attempts,
    held: &mut Held,
    processor: &dyn Processor,
) -> Result<(), String> {
    let count = held.collected().count();
    let mut failures = Failures::new();
    if count > 0 {
        let span = flush_span(held, &hop.spans.flush);
        failures = match catch(flush(attempts, processor, count)).await {
            Ok(failures) => failures,
            Err(panic) => {
                let message = panic_message(&*panic);
                fail_flush(held, &hop.spans, span, PANIC);
                held.conclude(hop, |_| End::Panicked(message.clone()));
                return Err(message);
            }
        };
        // It failed if it did for any event; that nobody reads any more is no failure.
        let is_failure = |error: &&TaskError| error.class() != ErrorClass::Closed;
        let error = failures.values().find(is_failure).or_else(|| failures.values().next());
        match error.filter(is_failure) {
            Some(error) => fail_flush(held, &hop.spans, span, error.error_type()),
            None => drop(end(span, error)),
        }
        if !failures.is_empty() {
            processor.forget();
        }
    }
    held.conclude(hop, |place| End::Handled(failures.remove(&place).map_or(Ok(()), Err)));
    Ok(())
}

/// The events of a batch that failed for good, by their place in it.
type Failures = BTreeMap<usize, TaskError>;

/// Flushes a batch of `count` events until each is done or has failed for good.
async fn flush(attempts: &Attempts, processor: &dyn Processor, count: usize) -> Failures {
    let Attempts { retrying, timeout, .. } = attempts;
    let mut failures = Failures::new();
    let mut retries = Retries::default();
    let mut waiting: Option<Vec<usize>> = None;
    loop {
        let failed = match limited(*timeout, processor.flush()).await {
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
            retrying.meters.attempt_failed(error);
        }
        failures.extend(lasting);
        let Some((_, error)) = transient.first() else { return failures };
        if retrying.follow(&mut retries, error, None) != Verdict::Again {
            failures.extend(transient);
            return failures;
        }
        retrying.wait(&mut retries, None).await;
        waiting = Some(transient.into_iter().map(|(place, _)| place).collect());
    }
}

/// Starts the span of a flush: below the last event's, if that is exported or none is, and linked to the others.
fn flush_span(held: &Held, spans: &Spans) -> OpenSpan {
    let contexts = || held.collected().rev().map(|job| job.handling.event.trace);
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
fn fail_flush(held: &mut Held, spans: &TaskSpans, mut span: OpenSpan, error_type: &'static str) {
    let kept = if spans.flush.keeps_failed() { keep(held, spans) } else { Vec::new() };
    if let Some(record) = span.record() {
        let unsampled = kept.iter().filter(|context| !context.is_sampled());
        unsampled.for_each(|context| record.link(*context));
        span.end(SpanOutcome::Failed, Some(error_type));
        return;
    }
    let flush = span.end(SpanOutcome::Failed, Some(error_type));
    let above = held.collected().rev().map(|job| &job.handling).find(|handling| handling.is_kept());
    if let Some(above) = above {
        let links = kept.into_iter().filter(|context| *context != above.event.trace).collect();
        spans.flush.keep_flush(&above.event, flush, error_type, links);
    }
}

/// Exports the way of as many events as a span has links, and of one above it, the last ones. Returns where they
/// stand, the last one first, and then the others, to which there is no link.
fn keep(held: &mut Held, spans: &TaskSpans) -> Vec<TraceContext> {
    let mut contexts = Vec::new();
    for Job { handling, .. } in held.collected_mut().rev() {
        let is_linked = contexts.len() <= MAX_LINKS;
        contexts.extend(if is_linked { handling.keep(spans) } else { Some(handling.event.trace) });
    }
    contexts
}

#[cfg(test)]
mod tests;
