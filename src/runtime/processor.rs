//! The loop of a processor: attempts, timeouts, retries, and the flush of buffered ones.

use std::time::Duration;

use tokio::{sync::mpsc, time::Instant};

use super::{
    hop::{Handling, Hop},
    outlets::BATCH,
};
use crate::{
    event::Event,
    plan::Policy,
    retry::RetryPolicy,
    task::{Emission, ErrorClass, Output, Processor, Route, TaskError},
    telemetry::{FailureLog, error_chain},
};

/// Events that a buffered processor takes at once: a flush costs system calls and a change of threads,
/// so it pays to share one among more events than fit a cache.
const BUFFERED_BATCH: usize = 256;

/// Handles events until no one upstream is left, then closes the processor.
pub(super) async fn run(processor: Box<dyn Processor>, mut inbox: mpsc::Receiver<Event>, mut hop: Hop) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut held = Held::default();
    let mut log = FailureLog::default();
    let limit = if processor.is_buffered() { BUFFERED_BATCH } else { BATCH };
    while inbox.recv_many(&mut batch, limit).await > 0 {
        for event in batch.drain(..) {
            let mut output = std::mem::take(&mut held.output);
            let handling = hop.begin(event);
            let result = attempts(&mut log, hop.policy, &handling.event, &*processor, &mut output).await;
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
            let flush = || limited(hop.policy.timeout, processor.flush());
            let result = retried(&mut log, hop.policy.retry, flush).await;
            if result.is_err() {
                processor.forget();
            }
            held.conclude(&mut hop, &result);
        }
        hop.flush().await;
    }
    if let Err(error) = processor.close().await {
        tracing::error!(error.type = error.error_type(), error.message = error_chain(&error), "closing failed");
    }
    hop.finish().await;
}

/// Handles one event, as often as its policy allows. A failed attempt's output is discarded.
async fn attempts(
    log: &mut FailureLog,
    policy: Policy,
    event: &Event,
    processor: &dyn Processor,
    output: &mut Output,
) -> Result<(), TaskError> {
    let mut retries = Retries::new(log, policy.retry);
    loop {
        output.clear();
        let result = limited(policy.timeout, processor.handle(event, output)).await;
        match retries.after(result).await {
            Some(result) => return result,
            None => continue,
        }
    }
}

/// Makes attempts until one succeeds, fails for good, or was the last.
async fn retried<F>(
    log: &mut FailureLog,
    policy: RetryPolicy,
    mut attempt: impl FnMut() -> F,
) -> Result<(), TaskError>
where
    F: Future<Output = Result<(), TaskError>>,
{
    let mut retries = Retries::new(log, policy);
    loop {
        let result = attempt().await;
        if let Some(result) = retries.after(result).await {
            return result;
        }
    }
}

/// Gives an attempt no more than its time.
async fn limited(
    timeout: Option<Duration>,
    attempt: impl Future<Output = Result<(), TaskError>>,
) -> Result<(), TaskError> {
    let Some(limit) = timeout else { return attempt.await };
    match tokio::time::timeout(limit, attempt).await {
        Ok(result) => result,
        Err(_) => {
            let limit = humantime::format_duration(limit);
            Err(TaskError::transient("timeout", format!("the attempt took longer than {limit}")))
        }
    }
}

/// The attempts at one piece of work.
struct Retries<'a> {
    log: &'a mut FailureLog,
    policy: RetryPolicy,
    attempts: u32,
    /// When the first attempt failed; a success never reads the clock.
    first_failure: Option<Instant>,
}

impl<'a> Retries<'a> {
    fn new(log: &'a mut FailureLog, policy: RetryPolicy) -> Self {
        Self { log, policy, attempts: 0, first_failure: None }
    }

    /// Takes the result of an attempt. Returns it if it is the last; else waits until the next is due.
    async fn after(&mut self, result: Result<(), TaskError>) -> Option<Result<(), TaskError>> {
        let error = match result {
            Err(error) if error.class() == ErrorClass::Transient => error,
            result => return Some(result),
        };
        self.attempts += 1;
        let elapsed = self.first_failure.get_or_insert_with(Instant::now).elapsed();
        let Some(delay) = self.policy.delay(self.attempts, elapsed, error.retry_after()) else {
            return Some(Err(error));
        };
        if let Some(suppressed) = self.log.admit(error.error_type()) {
            tracing::warn!(
                attempt = self.attempts,
                max_attempts = self.policy.max_attempts,
                delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
                error.type = error.error_type(),
                error.message = error_chain(&error),
                suppressed = (suppressed > 0).then_some(suppressed),
                "attempt failed, trying again"
            );
        }
        tokio::time::sleep(delay).await;
        None
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
    fn hold(&mut self, handling: Handling, output: &mut Output) {
        self.events.push((handling, output.len()));
        self.emissions.extend(output.drain());
    }

    fn conclude(&mut self, hop: &mut Hop, result: &Result<(), TaskError>) {
        let mut emissions = self.emissions.drain(..);
        for (handling, count) in self.events.drain(..) {
            hop.conclude(handling, Taken { emissions: &mut emissions, count }, result.clone());
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
