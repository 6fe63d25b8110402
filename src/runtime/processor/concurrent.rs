//! The loop of a processor that handles several events at a time, all in one task: they wait for I/O, not for each other.
//!
//! Where a channel downstream is full, nothing more is begun, and what is begun goes on.
//!
//! When the processor panics at one event, the attempts that are running are given [`PATIENCE`] to end, and none is begun.
//! Each event that is not done by then waits for the next processor, which goes on with its attempts.

use std::{
    future::poll_fn,
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio_util::sync::CancellationToken;

use super::{
    super::{hop::Hop, inbox::Inbox},
    attempts::{Attempts, End},
    job::Job,
    line::{Line, Placed},
};
use crate::task::Processor;

/// How long attempts may go on after another one panicked. What does them may be broken too.
const PATIENCE: Duration = Duration::from_secs(10);

/// Handles events until no one upstream is left. The error is what the processor panicked with; what is left of `line` is
/// for the next one.
pub(super) async fn run(
    inbox: &mut Inbox,
    hop: &mut Hop,
    attempts: &Attempts,
    line: &mut Line,
    processor: &dyn Processor,
) -> Result<(), String> {
    let recall = CancellationToken::new();
    let mut flight = Flight { jobs: FuturesUnordered::new(), recall: &recall, panic: None };
    let attempt = |placed| attempt(attempts, processor, placed, &recall);
    flight.jobs.extend(line.resume().into_iter().map(attempt));
    let mut taken = Vec::new();
    let mut is_open = true;
    loop {
        while flight.panic.is_none()
            && let Some(placed) = line.begin(hop)
        {
            flight.jobs.push(attempt(placed));
        }
        if line.conclude(hop) {
            flight.outlast(hop.flush(), line).await;
            continue;
        }
        if flight.jobs.is_empty() {
            match flight.panic {
                Some(panic) => return Err(panic),
                None if !is_open && line.is_empty() => return Ok(()),
                None => {}
            }
        }
        let room = if is_open && flight.panic.is_none() { line.room() } else { 0 };
        {
            let mut received = pin!(inbox.recv_many(&mut taken, room));
            poll_fn(|context| {
                let mut is_news = flight.land(line, context);
                if room > 0
                    && let Poll::Ready(count) = received.as_mut().poll(context)
                {
                    is_open = count > 0;
                    is_news = true;
                }
                if is_news { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        }
        line.take(taken.drain(..));
    }
}

/// Attempts one event, for as long as it takes or until it is recalled.
async fn attempt(
    attempts: &Attempts,
    processor: &dyn Processor,
    mut placed: Placed,
    recall: &CancellationToken,
) -> (Placed, End) {
    let Job { handling, output, tried } = &mut placed.job;
    let recalled = async {
        recall.cancelled().await;
        tokio::time::sleep(PATIENCE).await;
    };
    let end = tokio::select! {
        biased;
        end = attempts.make(processor, handling, output, tried, Some(recall)) => end,
        () = recalled => End::Recalled,
    };
    (placed, end)
}

/// The events that are being handled.
struct Flight<'a, F> {
    jobs: FuturesUnordered<F>,
    /// Cancelled when the processor panics.
    recall: &'a CancellationToken,
    /// What it panicked with first.
    panic: Option<String>,
}

impl<F: Future<Output = (Placed, End)>> Flight<'_, F> {
    /// Lets all go on that can. Returns whether any ended.
    fn land(&mut self, line: &mut Line, context: &mut Context<'_>) -> bool {
        let mut is_any = false;
        while let Poll::Ready(Some((placed, end))) = self.jobs.poll_next_unpin(context) {
            if let End::Panicked(message) = &end {
                self.panic.get_or_insert_with(|| message.clone());
                self.recall.cancel();
            }
            line.end(placed, end);
            is_any = true;
        }
        is_any
    }

    /// Lets them go on until `future` is done, which is not dropped before.
    async fn outlast(&mut self, future: impl Future<Output = ()>, line: &mut Line) {
        let mut future = pin!(future);
        poll_fn(|context| {
            let is_done = future.as_mut().poll(context).is_ready();
            if is_done {
                return Poll::Ready(());
            }
            self.land(line, context);
            Poll::Pending
        })
        .await;
    }
}
