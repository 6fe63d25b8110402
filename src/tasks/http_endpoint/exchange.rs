//! What connects a request with its event: who waits for the answer, and what the event has come to.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::stream::Streaming;
use crate::{
    ack::{Outcome, Receipt, Settled, Verdict},
    event::{Event, EventId, Meta, Payload},
    task::http::Share,
};

/// The most outputs that one answer is made of.
const MOST_OUTPUTS: usize = 100_000;

/// What an event has become at a leaf.
#[derive(Debug)]
pub(super) struct Output {
    task: usize,
    id: EventId,
    pub(super) data: Payload,
    pub(super) meta: Meta,
}

/// What became of an event.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) outcome: Outcome,
    pub(super) is_transient: bool,
    /// In order; none if there were too many, or nobody wants them.
    pub(super) outputs: Vec<Output>,
    pub(super) has_too_many: bool,
}

/// A place among the events in flight.
pub(super) type Place = OwnedSemaphorePermit;

/// What is done with the outputs of an event.
pub(super) enum Outputs {
    /// Nothing.
    Ignored,
    /// They are kept until the end.
    Kept(Mutex<Vec<Output>>),
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
        let mut outputs = match outputs {
            Outputs::Ignored => Vec::new(),
            Outputs::Kept(outputs) => outputs.into_inner().unwrap_or_else(PoisonError::into_inner),
            Outputs::Sent(streaming) => {
                streaming.settled(settled.outcome);
                Vec::new()
            }
        };
        let has_too_many = outputs.len() > MOST_OUTPUTS;
        if outputs.len() > 1 {
            outputs.sort_by_cached_key(|output| (lineage(&output.id), output.task));
        }
        let Settled { outcome, is_transient, .. } = *settled;
        // Nobody may wait any more.
        let _ = done.send((Done { outcome, is_transient, outputs, has_too_many }, place));
        Verdict::Counted
    }

    fn reached(&self, task: usize, event: &dyn std::any::Any) {
        let Some(event) = event.downcast_ref::<Event>() else { return };
        match &self.outputs {
            Outputs::Ignored => {}
            Outputs::Kept(outputs) => {
                let mut outputs = outputs.lock().unwrap_or_else(PoisonError::into_inner);
                if outputs.len() <= MOST_OUTPUTS {
                    let (id, data, meta) = (event.id.clone(), event.data.clone(), event.meta.clone());
                    outputs.push(Output { task, id, data, meta });
                }
            }
            Outputs::Sent(streaming) => streaming.output(event),
        }
    }
}

/// Returns from which output of which output an event was derived, the first one first.
fn lineage(id: &EventId) -> Vec<usize> {
    let mut lineage = Vec::new();
    let mut id = id;
    while let EventId::Child(child) = id {
        lineage.push(child.1);
        id = &child.0;
    }
    lineage.reverse();
    lineage
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::{
        ack::{Ack, Ledger},
        task::http::Budget,
    };

    fn slip() -> (Box<Slip>, oneshot::Receiver<(Done, Place)>) {
        let (done, told) = oneshot::channel();
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let _memory = Budget::new(0).share();
        (Box::new(Slip { done, outputs: Outputs::Kept(Mutex::default()), place, _memory }), told)
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
        let outputs = told.try_recv().unwrap().0.outputs;
        let data: Vec<_> =
            outputs.iter().map(|output| output.data.json().unwrap().as_u64().unwrap()).collect();
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
            let outputs = told.try_recv().unwrap().0.outputs;
            assert_eq!(outputs.len(), 1);
            assert_eq!(outputs[0].data.json(), Some(&json!("all")));
        }
    }
}
