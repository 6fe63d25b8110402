//! The task of a case that makes one event of several.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use flowgen::{
    event::{Event, Payload},
    task::{BatchId, FlushReason, Output, TaskError, Transform},
};
use serde_json::json;
use tokio::time::Instant;

use super::{
    deed::{Step, origin},
    tasks::Made,
    world::{Note, Visit},
};

/// How long a batch waits for more.
const PATIENCE: Duration = Duration::from_secs(2);

/// Holds events by key, until there are enough of one.
pub(crate) struct Batcher {
    made: Made,
    size: usize,
    batches: BTreeMap<u64, Collected>,
}

struct Collected {
    number: u64,
    count: usize,
    last: Visit,
    due: Instant,
}

impl Batcher {
    pub(crate) fn new(made: Made, size: usize) -> Self {
        Self { made, size, batches: BTreeMap::new() }
    }

    fn release(&mut self, key: u64, output: &mut Output) {
        let Some(Collected { number, last: Visit { id, delivery, place, .. }, .. }) =
            self.batches.remove(&key)
        else {
            return;
        };
        let (_, n) = origin(&id);
        let data = json!({"n": n, "k": key, "d": delivery, "o": place, "b": number});
        self.made.world.note(Note::Released { task: self.made.task, id, batch: number });
        output.release(BatchId(key), Payload::from(data));
    }
}

impl Transform for Batcher {
    fn apply(&mut self, event: &mut Event, output: &mut Output) -> Result<(), TaskError> {
        let Made { world, task } = &self.made;
        let (visit, _) = world.begin(*task, event);
        let (source, n) = origin(&visit.id);
        let key = world.case.key(source, n);
        let world = Arc::clone(world);
        let collected = self.batches.entry(key).or_insert_with(|| Collected {
            number: world.batch(),
            count: 0,
            last: visit.clone(),
            due: Instant::now() + PATIENCE,
        });
        collected.count += 1;
        collected.last = visit.clone();
        let (batch, is_full) = (collected.number, collected.count == self.size);
        world.end(*task, &visit, Step::Done);
        world.note(Note::Held { id: visit.id, delivery: visit.delivery, batch });
        output.hold(BatchId(key));
        if is_full {
            self.release(key, output);
        }
        Ok(())
    }

    fn deadline(&self) -> Option<Instant> {
        self.batches.values().map(|collected| collected.due).min()
    }

    fn flush(&mut self, reason: FlushReason, now: Instant, output: &mut Output) {
        let is_due = |collected: &Collected| reason == FlushReason::Shutdown || collected.due <= now;
        let due: Vec<u64> =
            self.batches.iter().filter(|(_, collected)| is_due(collected)).map(|(key, _)| *key).collect();
        due.into_iter().for_each(|key| self.release(key, output));
    }
}
