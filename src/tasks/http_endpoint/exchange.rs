//! What connects a request with its event: who waits for the answer, and what the event has come to.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{
    kept::{Kept, Output, TooLarge},
    stream::Streaming,
};
use crate::{
    ack::{Outcome, Receipt, Settled, Verdict, after_batch},
    event::Event,
    task::http::Share,
};

/// What became of an event.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) outcome: Outcome,
    pub(super) is_transient: bool,
    /// In order; none if nobody wants them.
    pub(super) outputs: Result<Vec<Output>, TooLarge>,
}

/// A place among the events in flight.
pub(super) type Place = OwnedSemaphorePermit;

/// What is done with the outputs of an event.
pub(super) enum Outputs {
    /// Nothing.
    Ignored,
    /// They are kept until the end.
    Kept(Mutex<Kept>),
    /// They are sent as they come.
    Sent(Arc<Streaming>),
}

/// Tells a request what became of its event.
pub(super) struct Slip {
    pub(super) done: oneshot::Sender<(Done, Place)>,
    pub(super) outputs: Outputs,
    /// The event's place, and then the answer's.
    pub(super) place: Place,
    /// The memory that its data takes.
    pub(super) _memory: Share,
}

impl Receipt for Slip {
    fn settled(self: Box<Self>, settled: &Settled) -> Verdict {
        let Self { done, outputs, place, _memory } = *self;
        let outputs = match outputs {
            Outputs::Ignored => Ok(Vec::new()),
            Outputs::Kept(kept) => kept.into_inner().unwrap_or_else(PoisonError::into_inner).take(),
            Outputs::Sent(streaming) => {
                streaming.settled(settled.outcome);
                Ok(Vec::new())
            }
        };
        let Settled { outcome, is_transient, .. } = *settled;
        // Nobody may wait any more.
        after_batch(move || drop(done.send((Done { outcome, is_transient, outputs }, place))));
        Verdict::Counted
    }

    fn reached(&self, task: usize, event: &dyn std::any::Any) {
        let Some(event) = event.downcast_ref::<Event>() else { return };
        match &self.outputs {
            Outputs::Ignored => {}
            Outputs::Kept(kept) => kept.lock().unwrap_or_else(PoisonError::into_inner).push(task, event),
            Outputs::Sent(streaming) => streaming.output(event),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::{
        ack::{Ack, Ledger},
        event::EventId,
        task::http::Budget,
        tasks::http_endpoint::kept::Data,
    };

    fn json(output: &Output) -> serde_json::Value {
        match &output.data {
            Data::Json(text) => serde_json::from_slice(text).unwrap(),
            Data::Other(data) => data.json().unwrap().clone(),
        }
    }

    fn slip() -> (Box<Slip>, oneshot::Receiver<(Done, Place)>) {
        let (done, told) = oneshot::channel();
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let _memory = Budget::new(0).share();
        (
            Box::new(Slip { done, outputs: Outputs::Kept(Mutex::new(Kept::new(1 << 20))), place, _memory }),
            told,
        )
    }

    #[test]
    fn outputs_are_in_the_order_of_their_ids_and_tasks_whenever_they_came() {
        let (slip, mut told) = slip();
        let ledger = Arc::<Ledger>::default();
        let entry = crate::ack::Entry { receipt: Some(slip), ..Default::default() };
        let ack = Ack::enter(&ledger, entry);
        let root = EventId::Sequence(1);
        let second = root.child(1);
        for (task, id, n) in [
            (3, second.child(1), 4),
            (2, second.child(0), 3),
            (3, root.child(0), 2),
            (2, root.child(0), 1),
            (3, root, 0),
        ] {
            let event = Event::new(id, "in".into(), json!(n).into());
            ack.reached(task, &event);
        }
        ack.settle(Outcome::Completed, Default::default());
        let outputs = told.try_recv().unwrap().0.outputs.unwrap();
        let data: Vec<_> = outputs.iter().map(|output| json(output).as_u64().unwrap()).collect();
        assert_eq!(data, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn who_brought_in_a_part_of_a_batch_learns_what_the_batch_became() {
        let ledger = Arc::<Ledger>::default();
        let (acks, told): (Vec<_>, Vec<_>) = (0..3)
            .map(|_| {
                let (slip, told) = slip();
                (Ack::enter(&ledger, crate::ack::Entry { receipt: Some(slip), ..Default::default() }), told)
            })
            .unzip();
        let batch = Ack::join(acks);
        batch.reached(1, &Event::new(EventId::Sequence(1), "in".into(), json!("all").into()));
        batch.settle(Outcome::Completed, Default::default());
        for mut told in told {
            let outputs = told.try_recv().unwrap().0.outputs.unwrap();
            assert_eq!(outputs.len(), 1);
            assert_eq!(json(&outputs[0]), json!("all"));
        }
    }
}
