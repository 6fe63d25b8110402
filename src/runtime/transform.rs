//! The loop of a transform.

use std::collections::VecDeque;

use tokio::sync::mpsc;

use super::{RunEnd, hop::Hop, outlets::BATCH, turn::Turn};
use crate::{event::Event, task::Transform};

/// What a transform works on, and what is left of it when one panics.
pub(super) struct TransformWork {
    inbox: mpsc::Receiver<Box<Event>>,
    hop: Hop,
    /// What was taken from the inbox and not handled yet.
    batch: VecDeque<Box<Event>>,
}

impl TransformWork {
    pub(super) fn new(inbox: mpsc::Receiver<Box<Event>>, hop: Hop) -> Self {
        Self { inbox, hop, batch: VecDeque::with_capacity(BATCH) }
    }

    /// Handles events until no one upstream is left, or until the task panics.
    pub(super) async fn run(&mut self, mut transform: Box<dyn Transform>) -> RunEnd {
        let Self { inbox, hop, batch } = self;
        let mut turn = Turn::new();
        let mut taken = Vec::with_capacity(BATCH);
        while !batch.is_empty() || inbox.recv_many(&mut taken, BATCH).await > 0 {
            batch.extend(taken.drain(..));
            let inflight = hop.meters.inflight.hold(batch.len());
            while let Some(event) = batch.pop_front() {
                if let Err(panic) = hop.handle(event, |event, output| transform.apply(event, output)) {
                    hop.flush().await;
                    return RunEnd::Panicked(panic);
                }
                // An event may emit many; without this a batch of arrays would pile up.
                if hop.is_full() {
                    hop.flush().await;
                }
                if turn.is_over() {
                    turn.pass().await;
                }
            }
            drop(inflight);
            hop.flush().await;
        }
        RunEnd::Completed
    }

    /// Ends the work for good.
    pub(super) async fn finish(&mut self) {
        self.hop.finish().await;
    }
}
