//! The loop of a source, and the flow's side of its emitter.

use std::{future::pending, sync::Arc};

use async_trait::async_trait;
use tokio::time::Instant;

use super::{
    Failure, RunEnd,
    checkpoints::Checkpoints,
    flow::FlowHandle,
    hop::Hop,
    meters::SourceMeters,
    processor::catch,
    progress::{Reading, Step},
    reached::Reached,
    redelivery::Redelivery,
    supervisor::panic_message,
    turn::Turn,
};
use crate::{
    ack::{Ack, Entry, Receipt},
    event::{Event, Payload, Trail},
    retry::RetryPolicy,
    task::{
        Closed, Decode, Emitter, ErrorClass, Incoming, Output, Port, Position, Resumption, Source, Trigger,
    },
    telemetry::{Counter, FailureLog, Propagators, Tracer, error_chain},
};

/// What a source brings events into, and what is left of it when one panics.
pub(super) struct SourceWork {
    emitter: Emitter,
    flow: FlowHandle,
    again: Option<Again>,
    checkpoints: Option<Checkpoints>,
}

/// What brings in again what failed for now.
pub(super) struct Again {
    redelivery: Arc<Redelivery>,
    /// Of the same task as the emitter's, and beside it.
    hop: Hop,
    backoff: RetryPolicy,
    redelivered: Counter,
    log: FailureLog,
}

impl Again {
    /// Makes what brings in again the events of one source.
    pub(super) fn new(hop: Hop, tracer: &Tracer) -> Self {
        let redelivered = SourceMeters::new(tracer.meter(), Arc::clone(&hop.identity)).redeliveries();
        let (redelivery, backoff) = (Redelivery::new(hop.flow.clone()), hop.policy.retry);
        Self { redelivery, hop, backoff, redelivered, log: FailureLog::default() }
    }

    async fn run(&mut self) {
        let Self { redelivery, hop, backoff, redelivered, log } = self;
        redelivery.run(hop, *backoff, redelivered, log).await;
    }
}

impl SourceWork {
    /// Makes the work of a source. `again` is there unless nothing that it brings in can fail for now only, `checkpoints` if
    /// it is kept how far it has read, which was up to `saved` before.
    pub(super) fn new(
        hop: Hop,
        tracer: &Tracer,
        again: Option<Again>,
        checkpoints: Option<Checkpoints>,
        saved: Vec<Position>,
    ) -> Self {
        let flow = hop.flow.clone();
        let progress = checkpoints.as_ref().map(|checkpoints| Arc::clone(checkpoints.progress()));
        let port = SourcePort {
            meters: SourceMeters::new(tracer.meter(), Arc::clone(&hop.identity)),
            propagators: tracer.propagators(),
            redelivery: again.as_ref().map(|again| Arc::clone(&again.redelivery)),
            hop,
            turn: Turn::new(),
            is_turn_over: false,
            reached: Reached::at(saved),
            reading: progress.map(Reading::new),
        };
        Self { emitter: Emitter::new(Box::new(port)), flow, again, checkpoints }
    }

    /// Runs a source until its end, until its flow stops, or until it panics.
    pub(super) async fn run(&mut self, source: Box<dyn Source>) -> RunEnd {
        let Self { emitter, flow, again, checkpoints } = self;
        let reading = catch(source.run(emitter, flow.stop().child()));
        let result = beside(reading, again, checkpoints).await;
        // Another one may take a while to be built.
        emitter.finish().await;
        match result {
            Err(panic) => RunEnd::Panicked(panic_message(&*panic)),
            Ok(Err(error)) if error.class() != ErrorClass::Closed => RunEnd::Failed(Failure {
                error_type: error.error_type(),
                message: error_chain(&error),
                is_transient: error.class() == ErrorClass::Transient,
            }),
            Ok(_) => RunEnd::Completed,
        }
    }

    /// Ends the work of the source for good: brings in again what fails for now, until nothing does.
    pub(super) async fn finish(&mut self) {
        let Self { flow, again, checkpoints, .. } = self;
        flow.read();
        if let Some(redelivery) = again.as_ref().map(|again| Arc::clone(&again.redelivery)) {
            beside(redelivery.finished(), again, checkpoints).await;
        }
        if let Some(checkpoints) = checkpoints {
            checkpoints.finish().await;
        }
        if let Some(again) = again {
            again.hop.finish().await;
        }
    }
}

/// Waits for `work`, and meanwhile brings in again what fails for now, and keeps how far it is done.
async fn beside<T>(
    work: impl Future<Output = T>,
    again: &mut Option<Again>,
    checkpoints: &mut Option<Checkpoints>,
) -> T {
    let again = async {
        match again {
            Some(again) => again.run().await,
            None => pending().await,
        }
    };
    let checkpoints = async {
        match checkpoints {
            Some(checkpoints) => checkpoints.run().await,
            None => pending().await,
        }
    };
    tokio::select! {
        biased;
        result = work => result,
        () = again => unreachable!("it goes on for as long as it is polled"),
        () = checkpoints => unreachable!("it goes on for as long as it is polled"),
    }
}

impl Drop for SourceWork {
    fn drop(&mut self) {
        if let Some(again) = &self.again {
            again.redelivery.abandon();
        }
    }
}

/// Lets the events of a source into its flow.
struct SourcePort {
    hop: Hop,
    meters: SourceMeters,
    propagators: Propagators,
    redelivery: Option<Arc<Redelivery>>,
    turn: Turn,
    is_turn_over: bool,
    reached: Reached,
    /// What tells when its events are done, if anybody keeps that.
    reading: Option<Reading>,
}

#[async_trait]
impl Port for SourcePort {
    fn admit(&mut self, incoming: Incoming, decode: Decode<'_>) {
        let Incoming { id, remote, receipt } = incoming;
        let mut event = Box::new(Event::new(id, Arc::clone(&self.hop.identity.task), Payload::default()));
        if let Some(remote) = remote.and_then(|remote| self.propagators.receive(*remote)) {
            if remote.is_parent {
                event.trace = remote.context;
            }
            event.trail = Trail::from_outside(remote);
        }
        let redelivery = self.redelivery.as_ref();
        let reading = self.reading.as_ref();
        self.reached.let_in();
        let enter = |flow: &FlowHandle, event: &Event, at, is_decoded| {
            let receipt = receipt.or_else(|| {
                let pending = reading.map(Reading::pending);
                match redelivery.filter(|_| is_decoded) {
                    Some(redelivery) => Some(redelivery.original(event, pending)),
                    None => pending.map(|pending| Box::new(pending) as Box<dyn Receipt>),
                }
            });
            let expires = flow.deadline().map(|deadline| Instant::now() + deadline);
            Ack::enter(flow.ledger(), Entry { at, expires, receipt, ..Entry::default() })
        };
        let handle = |event: &mut Event, output: &mut Output| {
            let record = decode(output.span())?;
            event.data = record.data;
            event.meta = record.meta;
            if let Some(timestamp) = record.timestamp {
                event.timestamp = timestamp;
            }
            output.forward();
            Ok(())
        };
        self.hop.admit(event, handle, enter);
        self.is_turn_over |= self.turn.is_over();
    }

    fn is_gated(&self) -> bool {
        self.redelivery.as_ref().is_some_and(|redelivery| redelivery.is_gated())
    }

    fn is_full(&self) -> bool {
        self.is_turn_over || self.hop.is_full()
    }

    async fn flush(&mut self) -> Result<(), Closed> {
        self.hop.flush().await;
        if let Some(redelivery) = self.redelivery.as_ref().filter(|redelivery| redelivery.is_gated()) {
            redelivery.opened().await;
        }
        if std::mem::take(&mut self.is_turn_over) {
            self.turn.pass().await;
        }
        if self.hop.is_closed() { Err(Closed) } else { Ok(()) }
    }

    async fn finish(&mut self) {
        self.hop.finish().await;
    }

    fn reach(&mut self, position: Position) {
        if let Some(reading) = &mut self.reading {
            reading.end(Step::Reached(position.clone()));
        }
        self.reached.reach(position);
    }

    fn forget(&mut self, part: &str) {
        if let Some(reading) = &mut self.reading {
            reading.end(Step::Gone(part.into()));
        }
        self.reached.forget(part);
    }

    fn resumptions(&self) -> Vec<Resumption> {
        self.reached.resumptions()
    }

    fn advance(&mut self, bytes: u64) {
        self.hop.flow.advance(bytes);
    }

    fn trigger(&mut self, outcome: Trigger, count: u64) {
        self.meters.trigger(outcome, count);
    }
}
