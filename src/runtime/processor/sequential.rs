//! The loop of a processor that handles one event at a time.

use std::collections::VecDeque;

use super::{
    super::{hop::Hop, inbox::Inbox, outlets::BATCH},
    attempts::{Attempts, Tried, conclude},
};
use crate::{
    event::Event,
    task::{Output, Processor},
};

/// Handles events until no one upstream is left. The error is what the processor panicked with; the rest of `batch` is
/// for the next one.
pub(super) async fn run(
    inbox: &mut Inbox,
    hop: &mut Hop,
    attempts: &Attempts,
    batch: &mut VecDeque<Box<Event>>,
    processor: &dyn Processor,
) -> Result<(), String> {
    let mut output = Output::default();
    let mut taken = Vec::with_capacity(BATCH);
    while !batch.is_empty() || inbox.recv_many(&mut taken, BATCH).await > 0 {
        batch.extend(taken.drain(..));
        let inflight = hop.meters.inflight.hold(batch.len());
        while let Some(event) = batch.pop_front() {
            let Some(handling) = hop.begin(event, &mut output) else {
                // The next one may take its time.
                hop.flush().await;
                continue;
            };
            let mut tried = Tried::default();
            let end = attempts.make(processor, &handling, &mut output, &mut tried, None).await;
            let panic = conclude(hop, handling, &mut output, tried, end);
            hop.flush().await;
            if let Some(panic) = panic {
                return Err(panic);
            }
        }
        drop(inflight);
    }
    Ok(())
}
