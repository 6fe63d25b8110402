//! The loop of a processor that collects events and then flushes them.

use std::collections::{BTreeMap, VecDeque};

use super::{
    super::{
        hop::{Handling, Hop, TaskSpans},
        inbox::Inbox,
        supervisor::panic_message,
    },
    attempts::{Attempts, End, Tried, catch, conclude, end, limited},
    retries::{Retries, Verdict},
};
use crate::{
    event::Event,
    task::{Emission, ErrorClass, FlushError, Output, Processor, Route, TaskError},
    telemetry::{MAX_LINKS, OpenSpan, PANIC, SpanOutcome, Spans},
    trace::TraceContext,
};

/// Events that are taken at once: a flush costs system calls and a change of threads, so it pays to share one among more
/// events than fit a cache.
const BATCH: usize = 256;

/// Handles events until no one upstream is left. The error is what the processor panicked with; the rest of `batch` is
/// for the next one.
pub(super) async fn run(
    inbox: &mut Inbox,
    hop: &mut Hop,
    attempts: &Attempts,
    batch: &mut VecDeque<Box<Event>>,
    processor: &dyn Processor,
) -> Result<(), String> {
    let mut held = Held::default();
    let mut taken = Vec::with_capacity(BATCH);
    while !batch.is_empty() || inbox.recv_many(&mut taken, BATCH).await > 0 {
        batch.extend(taken.drain(..));
        let inflight = hop.meters.inflight.hold(batch.len());
        while let Some(event) = batch.pop_front() {
            collect(hop, attempts, event, &mut held, processor).await?;
        }
        if !held.events.is_empty() {
            flush_held(hop, attempts, &mut held, processor).await?;
        }
        drop(inflight);
        hop.flush().await;
    }
    Ok(())
}

/// Lets the processor collect one event.
async fn collect(
    hop: &mut Hop,
    attempts: &Attempts,
    event: Box<Event>,
    held: &mut Held,
    processor: &dyn Processor,
) -> Result<(), String> {
    let mut output = std::mem::take(&mut held.output);
    if let Some(handling) = hop.begin(event, &mut output) {
        let mut tried = Tried::default();
        match attempts.make(processor, &handling, &mut output, &mut tried, None).await {
            End::Handled(Ok(())) => held.hold(handling, tried, &mut output),
            end => {
                if let End::Panicked(_) = end {
                    held.give_back();
                }
                let panic = conclude(hop, handling, &mut output, tried, end);
                hop.flush().await;
                panic.map_or(Ok(()), Err)?;
            }
        }
    }
    held.output = output;
    Ok(())
}

/// Flushes what is held, and concludes it.
async fn flush_held(
    hop: &mut Hop,
    attempts: &Attempts,
    held: &mut Held,
    processor: &dyn Processor,
) -> Result<(), String> {
    let span = held.flush_span(&hop.spans.flush);
    let failures = match catch(flush(attempts, processor, held.events.len())).await {
        Ok(failures) => failures,
        Err(panic) => {
            let message = panic_message(&*panic);
            held.fail_flush(&hop.spans, span, PANIC);
            held.panicked(hop, &message);
            hop.flush().await;
            return Err(message);
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

    fn hold(&mut self, mut handling: Handling, tried: Tried, output: &mut Output) {
        tried.tell(&mut handling.event);
        handling.take_over(output, true);
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
