//! The source of a case, and the receipts of its events.

use std::{panic::resume_unwind, sync::Arc, time::Duration};

use async_trait::async_trait;
use flowgen::{
    ack::{Receipt, Settled, Verdict},
    event::{EventId, Payload},
    shutdown::Stop,
    task::{Emitter, Incoming, Position, Resumption, Source, TaskError},
};
use serde_json::json;

use super::{
    case::Reading,
    deed::Decoding,
    tasks::{ERROR, Made},
    world::{Note, World},
};

/// Reads the records of a case.
pub(crate) struct Reader {
    pub(crate) made: Made,
    pub(crate) reading: Reading,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.made.world.note(Note::Ended { source: self.made.task });
    }
}

#[async_trait]
impl Source for Reader {
    async fn run(self: Box<Self>, emitter: &mut Emitter, stop: Stop) -> Result<(), TaskError> {
        let Self { made: Made { world, task: source }, reading } = &*self;
        let case = &world.case;
        let resumed = emitter.resumptions().pop();
        let first =
            resumed.map_or(0, |Resumption { position, events }| position.at.as_u64().unwrap() + events);
        for n in first..reading.events {
            let hash = case.hash(("read", source, n));
            if n == first || (hash >> 16).is_multiple_of(5) {
                emitter.reach(Position { part: "".into(), at: n.into() });
            }
            if hash.is_multiple_of(7) {
                emitter.flush().await?;
                tokio::time::sleep(Duration::from_millis(hash % 40)).await;
            }
            if stop.is_stopped() {
                break;
            }
            if reading.panics_at == Some(n) && world.panics_now(*source) {
                resume_unwind(Box::new("as the case wants it"));
            }
            let text = format!("{source}:{n}");
            let id = EventId::Text(text.as_str().into());
            let data = Payload::from(json!({"n": n, "k": case.key(*source, n)}));
            let decoding = case.decoding(*source, n);
            if decoding == Decoding::Good && !reading.is_answering && (hash >> 8).is_multiple_of(4) {
                emitter.emit(id, data).await?;
                world.note(Note::Entered { source: *source, n, is_exact: false });
                continue;
            }
            let receipt =
                reading.is_answering.then(|| Box::new(Told { world: Arc::clone(world), id: text }) as _);
            let decode = |_: Option<&mut _>| {
                world.note(Note::Entered { source: *source, n, is_exact: true });
                match decoding {
                    Decoding::Good => Ok(data.clone().into()),
                    Decoding::Bad => {
                        Err(TaskError::permanent(ERROR, "not readable").with_record(data.clone()))
                    }
                }
            };
            emitter.stage(Incoming { receipt, ..Incoming::from(id) }, decode).await?;
        }
        Ok(())
    }

    fn can_resume(&self) -> bool {
        true
    }
}

/// A receipt that notes what it is told.
struct Told {
    world: Arc<World>,
    id: String,
}

impl Receipt for Told {
    fn settled(self: Box<Self>, settled: &Settled) -> Verdict {
        let Self { world, id } = *self;
        world.note(Note::Told { id, outcome: settled.outcome, is_transient: settled.is_transient });
        Verdict::Counted
    }
}
