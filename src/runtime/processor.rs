//! The work of a processor: what outlives each of its tenures, and which loop does it.
//!
//! Most handle one event at a time, some collect many before a flush, and some have several in flight.

mod attempts;
mod buffered;
mod concurrent;
mod held;
mod job;
mod keys;
mod line;
mod retries;
mod sequential;

use std::{collections::VecDeque, sync::Arc};

pub(super) use self::attempts::catch;
use self::{attempts::Attempts, held::Held, line::Line};
use super::{Failure, RunEnd, hop::Hop, inbox::Inbox, outlets::BATCH};
use crate::{event::Event, plan::Concurrency, task::Processor, telemetry::error_chain};

/// What a processor works on, and what is left of it when one panics.
pub(super) struct ProcessorWork {
    inbox: Inbox,
    hop: Hop,
    attempts: Attempts,
    taken: Taken,
}

/// What was taken from the inbox and has not left, by how it is handled.
enum Taken {
    /// One event after the other.
    Batch(VecDeque<Box<Event>>),
    /// Collected, and then flushed.
    Held(Box<Held>),
    /// Several at a time.
    Line(Box<Line>),
}

impl ProcessorWork {
    /// Makes the work of the first of these processors, and of all that are built in its place.
    pub(super) fn new(inbox: Inbox, hop: Hop, concurrency: &Concurrency, processor: &dyn Processor) -> Self {
        let attempts = Attempts::new(&hop);
        let inflight = &hop.meters.inflight;
        let taken = match concurrency.limit {
            _ if processor.is_buffered() => Taken::Held(Box::new(Held::new(inflight))),
            ..=1 => Taken::Batch(VecDeque::with_capacity(BATCH)),
            _ => Taken::Line(Box::new(Line::new(concurrency, inflight))),
        };
        Self { inbox, hop, attempts, taken }
    }

    /// Handles events until no one upstream is left and then closes the processor, or until it panics.
    pub(super) async fn run(&mut self, processor: Box<dyn Processor>) -> RunEnd {
        let Self { inbox, hop, attempts, taken } = self;
        let processor: Arc<dyn Processor> = processor.into();
        hop.flow.sinks().add(&processor);
        let ended = match taken {
            Taken::Batch(batch) => sequential::run(inbox, hop, attempts, batch, &*processor).await,
            Taken::Held(held) => buffered::run(inbox, hop, attempts, held, &*processor).await,
            Taken::Line(line) => concurrent::run(inbox, hop, attempts, line, &*processor).await,
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
        match &mut self.taken {
            Taken::Batch(_) => {}
            Taken::Held(held) => held.give_up(&mut self.hop),
            Taken::Line(line) => line.give_up(&mut self.hop),
        }
        self.hop.finish().await;
    }
}
