//! The loop of a source, and the flow's side of its emitter.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::Instant;

use super::{
    Failure, RunEnd,
    ailments::{Ailment, Spell},
    flow::FlowHandle,
    hop::Hop,
    meters::SourceMeters,
    processor::catch,
    progress::{Reading, Step},
    reached::Reached,
    redelivery::Redelivery,
    supervisor::panic_message,
    turn::Turn,
    upkeep::Upkeep,
};
use crate::{
    ack::{Ack, Entry, Receipt},
    event::{Event, Payload, Trail},
    task::{
        Closed, Decode, Emitter, ErrorClass, Incoming, Output, Port, Position, Resumption, Source, Trigger,
    },
    telemetry::{Propagators, Tracer, error_chain},
};

/// What a source brings events into, and what is left of it when one panics.
pub(super) struct SourceWork {
    emitter: Emitter,
    flow: FlowHandle,
    upkeep: Upkeep,
}

impl SourceWork {
    /// Makes the work of a source, which had read up to `saved` before. Where it `is_queued`, what it emits is accepted
    /// by a queue, and enters the flow behind that.
    pub(super) fn new(
        hop: Hop,
        tracer: &Tracer,
        upkeep: Upkeep,
        saved: Vec<Position>,
        is_queued: bool,
    ) -> Self {
        let flow = hop.flow.clone();
        let progress = upkeep.checkpoints().map(|checkpoints| Arc::clone(checkpoints.progress()));
        let port = SourcePort {
            meters: SourceMeters::new(tracer.meter(), Arc::clone(&hop.identity)),
            propagators: tracer.propagators(),
            redelivery: upkeep.redelivery(),
            is_queued,
            hop,
            turn: Turn::new(),
            is_turn_over: false,
            reached: Reached::at(saved),
            reading: progress.map(Reading::new),
            disconnected: None,
        };
        Self { emitter: Emitter::new(Box::new(port)), flow, upkeep }
    }

    /// Runs a source until its end, until its flow stops, or until it panics.
    pub(super) async fn run(&mut self, source: Box<dyn Source>) -> RunEnd {
        let Self { emitter, flow, upkeep } = self;
        let result = upkeep.beside(catch(source.run(emitter, flow.stop().child()))).await;
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
    pub(super) async fn finish(self) {
        let Self { emitter, mut upkeep, .. } = self;
        // A queue waits for it: what is behind that comes to no end before.
        drop(emitter);
        upkeep.finish().await;
    }
}

/// Lets the events of a source into its flow.
struct SourcePort {
    hop: Hop,
    meters: SourceMeters,
    propagators: Propagators,
    redelivery: Option<Arc<Redelivery>>,
    /// Whether a queue accepts its events.
    is_queued: bool,
    turn: Turn,
    is_turn_over: bool,
    reached: Reached,
    /// What tells when its events are done, if anybody keeps that.
    reading: Option<Reading>,
    /// There while the source has no connection.
    disconnected: Option<Spell>,
}

#[async_trait]
impl Port for SourcePort {
    fn admit(&mut self, incoming: Incoming, decode: Decode<'_>) {
        let Incoming { id, remote, receipt, answering } = incoming;
        let mut event = Box::new(Event::new(id, Arc::clone(&self.hop.identity.task), Payload::default()));
        if let Some(remote) = remote.and_then(|remote| self.propagators.receive(*remote)) {
            if remote.is_parent {
                event.trace = remote.context;
            }
            event.trail = Trail::from_outside(remote);
        }
        let redelivery = self.redelivery.as_ref();
        let reading = self.reading.as_mut();
        self.reached.let_in();
        let (is_queued, diverts) = (self.is_queued, self.hop.outlets.diverts());
        let enter = |flow: &FlowHandle, event: &Event, at, is_decoded| {
            let receipt = receipt.or_else(|| {
                let pending = reading.map(Reading::pending);
                match redelivery.filter(|_| is_decoded) {
                    Some(redelivery) => Some(redelivery.original(event, pending)),
                    None => pending.map(|pending| Box::new(pending) as Box<dyn Receipt>),
                }
            });
            if is_queued && (is_decoded || diverts) {
                return Ack::accept(flow.ledger(), Entry { at, receipt, ..Entry::default() });
            }
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
        self.hop.admit(event, answering, handle, enter);
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
        self.disconnected = None;
        self.hop.finish().await;
    }

    fn connected(&mut self, is_connected: bool) {
        if is_connected {
            self.disconnected = None;
        } else if self.disconnected.is_none() {
            let Hop { flow, identity, .. } = &self.hop;
            self.disconnected = Some(flow.ails(&identity.task, Ailment::Disconnected));
        }
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
