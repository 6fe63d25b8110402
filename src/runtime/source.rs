//! The loop of a source, and the flow's side of its emitter.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::Instant;

use super::{
    Failure, RunEnd, flow::FlowHandle, hop::Hop, meters::SourceMeters, processor::catch, reached::Reached,
    redelivery::Redelivery, supervisor::panic_message, turn::Turn,
};
use crate::{
    ack::{Ack, Entry},
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
    /// Makes the work of a source. `again` is there unless nothing that it brings in can fail for now only.
    pub(super) fn new(hop: Hop, tracer: &Tracer, again: Option<Again>) -> Self {
        let flow = hop.flow.clone();
        let port = SourcePort {
            meters: SourceMeters::new(tracer.meter(), Arc::clone(&hop.identity)),
            propagators: tracer.propagators(),
            redelivery: again.as_ref().map(|again| Arc::clone(&again.redelivery)),
            hop,
            turn: Turn::new(),
            is_turn_over: false,
            reached: Reached::default(),
        };
        Self { emitter: Emitter::new(Box::new(port)), flow, again }
    }

    /// Runs a source until its end, until its flow stops, or until it panics.
    pub(super) async fn run(&mut self, source: Box<dyn Source>) -> RunEnd {
        let Self { emitter, flow, again } = self;
        let reading = catch(source.run(emitter, flow.stop().child()));
        let result = match again {
            Some(again) => tokio::select! {
                biased;
                result = reading => result,
                () = again.run() => unreachable!("it goes on for as long as it is polled"),
            },
            None => reading.await,
        };
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
        let Self { flow, again, .. } = self;
        if let Some(again) = again {
            let redelivery = Arc::clone(&again.redelivery);
            let finished = async {
                flow.read();
                redelivery.finished().await;
            };
            tokio::select! {
                biased;
                () = finished => {}
                () = again.run() => unreachable!("it goes on for as long as it is polled"),
            }
            again.hop.finish().await;
        } else {
            flow.read();
        }
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
        self.reached.let_in();
        let enter = |flow: &FlowHandle, event: &Event, at, is_decoded| {
            let original = || redelivery.filter(|_| is_decoded).map(|redelivery| redelivery.original(event));
            let receipt = receipt.or_else(original);
            let expires = flow.deadline().map(|deadline| Instant::now() + deadline);
            Ack::enter(flow.ledger(), Entry { at, expires, receipt })
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
        self.reached.reach(position);
    }

    fn forget(&mut self, part: &str) {
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
