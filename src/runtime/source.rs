//! The loop of a source, and the flow's side of its emitter.

use std::sync::Arc;

use async_trait::async_trait;

use super::{RunEnd, hop::Hop, meters::SourceMeters, turn::Turn};
use crate::{
    event::{Event, Payload, Trail},
    task::{Closed, Decode, Emitter, ErrorClass, Incoming, Port, Source, Trigger},
    telemetry::{Propagators, Tracer, error_chain},
};

/// Runs a source to its end, or until its flow stops.
pub(super) async fn run(source: Box<dyn Source>, hop: Hop, tracer: Tracer) -> RunEnd {
    let flow = hop.flow.clone();
    let task = Arc::clone(&hop.identity.task);
    let mut emitter = Emitter::new(Box::new(SourcePort {
        meters: SourceMeters::new(tracer.meter(), Arc::clone(&hop.identity)),
        propagators: tracer.propagators(),
        hop,
        turn: Turn::new(),
        is_turn_over: false,
    }));
    let result = source.run(&mut emitter, flow.stop().child()).await;
    emitter.finish().await;
    match result {
        Err(error) if error.class() != ErrorClass::Closed => {
            let message = error_chain(&error);
            tracing::error!(error.type = error.error_type(), error.message = message, "source failed");
            flow.fail(format!("source `{task}` failed: {message}"));
            Err(error.error_type())
        }
        _ => Ok(()),
    }
}

/// Lets the events of a source into its flow.
struct SourcePort {
    hop: Hop,
    meters: SourceMeters,
    propagators: Propagators,
    turn: Turn,
    is_turn_over: bool,
}

#[async_trait]
impl Port for SourcePort {
    fn admit(&mut self, incoming: Incoming, decode: Decode<'_>) {
        let Incoming { id, remote } = incoming;
        let mut event = Box::new(Event::new(id, Arc::clone(&self.hop.identity.task), Payload::default()));
        if let Some(remote) = remote.and_then(|remote| self.propagators.receive(remote)) {
            if remote.is_parent {
                event.trace = remote.context;
            }
            event.trail = Trail::from_outside(remote);
        }
        self.hop.admit(event, |event, output| {
            let record = decode(output.span())?;
            event.data = record.data;
            event.meta = record.meta;
            if let Some(timestamp) = record.timestamp {
                event.timestamp = timestamp;
            }
            output.forward();
            Ok(())
        });
        self.is_turn_over |= self.turn.is_over();
    }

    fn is_full(&self) -> bool {
        self.is_turn_over || self.hop.is_full()
    }

    async fn flush(&mut self) -> Result<(), Closed> {
        self.hop.flush().await;
        if std::mem::take(&mut self.is_turn_over) {
            self.turn.pass().await;
        }
        if self.hop.is_closed() { Err(Closed) } else { Ok(()) }
    }

    async fn finish(&mut self) {
        self.hop.finish().await;
    }

    fn advance(&mut self, bytes: u64) {
        self.hop.flow.advance(bytes);
    }

    fn trigger(&mut self, outcome: Trigger, count: u64) {
        self.meters.trigger(outcome, count);
    }
}
