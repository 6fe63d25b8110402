//! The work of a processor: what outlives each of its tenures, and which loop does it.
//!
//! Most handle one event at a time, some collect many before a flush, and some have several in flight.

mod attempts;
mod buffered;
mod concurrent;
mod job;
mod keys;
mod line;
mod retries;
mod sequential;

use std::collections::VecDeque;

use tokio::sync::mpsc;

pub(super) use self::attempts::catch;
use self::{attempts::Attempts, line::Line};
use super::{Failure, RunEnd, hop::Hop, outlets::BATCH};
use crate::{event::Event, plan::Concurrency, task::Processor, telemetry::error_chain};

/// What a processor works on, and what is left of it when one panics.
pub(super) struct ProcessorWork {
    inbox: mpsc::Receiver<Box<Event>>,
    hop: Hop,
    attempts: Attempts,
    /// What was taken from the inbox and not handled yet, one event after the other.
    batch: VecDeque<Box<Event>>,
    /// What was taken from the inbox, if several events are handled at a time.
    line: Option<Box<Line>>,
}

impl ProcessorWork {
    pub(super) fn new(inbox: mpsc::Receiver<Box<Event>>, hop: Hop, concurrency: &Concurrency) -> Self {
        let attempts = Attempts::new(&hop);
        let line = (concurrency.limit > 1).then(|| Box::new(Line::new(concurrency, &hop.meters.inflight)));
        Self { inbox, hop, attempts, batch: VecDeque::with_capacity(BATCH), line }
    }

    /// Handles events until no one upstream is left and then closes the processor, or until it panics.
    pub(super) async fn run(&mut self, processor: Box<dyn Processor>) -> RunEnd {
        let Self { inbox, hop, attempts, batch, line } = self;
        let ended = match line {
            _ if processor.is_buffered() => buffered::run(inbox, hop, attempts, batch, &*processor).await,
            None => sequential::run(inbox, hop, attempts, batch, &*processor).await,
            Some(line) => concurrent::run(inbox, hop, attempts, line, &*processor).await,
        };
        if let Err(panic) = ended {
            return RunEnd::Panicked(panic);
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
        if let Some(line) = &mut self.line {
            line.give_up(&mut self.hop);
        }
        self.hop.finish().await;
    }
}
