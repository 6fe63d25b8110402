//! `buffer`: makes one event of many, by number, size or time.
//!
//! An event leaves when its batch does, and comes to the end that the batch comes to: if that fails for now, all that was
//! in it is brought in again by its source. The batch has the id, the time and the metadata of its last event.
//!
//! ```yaml
//! flow:
//!   name: batches
//!   tasks:
//!     - generate:
//!         name: orders
//!         count: 5
//!         payload: {shop: berlin}
//!     - buffer:
//!         name: by_shop
//!         size: 2
//!         timeout: 10s
//!         partition_key: "{{ event.data.shop }}"
//!     - drop:
//!         name: nowhere
//! ```

mod batch;

use std::{
    collections::{BTreeMap, HashMap},
    mem,
    sync::Arc,
    time::Duration,
};

use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::Instant;

use self::batch::{Batch, Item, Reason};
use crate::{
    event::Event,
    format::ByteSize,
    problem::Problems,
    task::{BatchId, BuildContext, BuildError, FlushReason, Kind, Output, Role, Task, TaskError, Transform},
    template::{self, Template},
};

/// The most events that a batch, and the most batches that a task may be set to collect.
const MOST: usize = 1_000_000;

/// The `buffer` kind: the batches that one task collects.
pub(super) struct Buffer {
    size: usize,
    timeout: Duration,
    max_bytes: Option<usize>,
    max_partitions: usize,
    partition_key: Option<Template>,
    /// By the order in which they were begun, in which they are also due.
    batches: BTreeMap<u64, Batch>,
    /// The batch that each partition collects.
    partitions: HashMap<Option<Arc<str>>, u64>,
    /// The number of the next batch.
    next: u64,
}

/// What makes a batch.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// How many events a batch has, at most: up to 1,000,000.
    #[serde(default = "size")]
    #[schemars(extend("default" = 100))]
    size: usize,
    /// How long a batch waits for more, from its first event on.
    #[serde(default = "timeout", with = "humantime_serde")]
    #[schemars(with = "String", extend("default" = "30s"))]
    timeout: Duration,
    /// A template: events of the same text share a batch. Without it all do.
    partition_key: Option<String>,
    /// How long the array of a batch may be, as JSON. A longer event is a batch by itself. By default there is no limit.
    max_bytes: Option<ByteSize>,
    /// How many batches are collected at a time, at most: up to 1,000,000. For a further one the oldest leaves.
    #[serde(default = "max_partitions")]
    #[schemars(extend("default" = 1000))]
    max_partitions: usize,
}

fn size() -> usize {
    100
}

fn timeout() -> Duration {
    Duration::from_secs(30)
}

fn max_partitions() -> usize {
    1000
}

impl Kind for Buffer {
    const NAME: &'static str = "buffer";
    const ROLE: Role = Role::Transform;
    const SUMMARY: &'static str = "makes one event of many, by number, size or time";
    const ERROR_TYPES: &'static [&'static str] = &[template::TEMPLATE, "type"];
    const IS_SERIAL: bool = true;
    type Config = Config;

    fn check(config: &Config, problems: &mut Problems) {
        for (key, value) in [("size", config.size), ("max_partitions", config.max_partitions)] {
            if !(1..=MOST).contains(&value) {
                problems.report(key, format!("`{key}` has to be between 1 and {MOST}"));
            }
        }
        if config.timeout.is_zero() {
            problems
                .report("timeout", "must be longer than zero")
                .hint("`size: 1` makes a batch of each event at once");
        }
        if let Some(limit) = config.max_bytes {
            limit.check_limit("max_bytes", problems);
        }
        if let Some(Err(error)) = config.partition_key.as_deref().map(Template::compile) {
            error.report("partition_key", problems);
        }
    }

    async fn build(config: &Config, _: &BuildContext) -> Result<Task, BuildError> {
        let partition_key = config.partition_key.as_deref().map(Template::compile).transpose();
        let partition_key = partition_key
            .map_err(|error| BuildError::new("cannot compile `partition_key`").with_source(error))?;
        Ok(Task::Transform(Box::new(Self::new(config, partition_key))))
    }
}

impl Buffer {
    fn new(config: &Config, partition_key: Option<Template>) -> Self {
        Self {
            size: config.size,
            timeout: config.timeout,
            max_bytes: config.max_bytes.map(|ByteSize(limit)| limit),
            max_partitions: config.max_partitions,
            partition_key,
            batches: BTreeMap::new(),
            partitions: HashMap::new(),
            next: 0,
        }
    }

    /// Returns the number of the batch of a partition that an item goes into; it releases what has to leave before.
    fn batch_for(&mut self, key: Option<Arc<str>>, item: &Item, output: &mut Output) -> u64 {
        if let Some(&number) = self.partitions.get(&key) {
            let has_room = |batch: &Batch| self.max_bytes.is_none_or(|limit| batch.bytes_with(item) <= limit);
            if self.batches.get(&number).is_some_and(has_room) {
                return number;
            }
            self.release(number, Reason::Bytes, output);
        }
        if self.batches.len() >= self.max_partitions
            && let Some((&oldest, _)) = self.batches.first_key_value()
        {
            self.release(oldest, Reason::Partitions, output);
        }
        let number = self.next;
        self.next += 1;
        self.batches.insert(number, Batch::new(key.clone(), Instant::now() + self.timeout));
        self.partitions.insert(key, number);
        number
    }

    fn release(&mut self, number: u64, reason: Reason, output: &mut Output) {
        let Some(batch) = self.batches.remove(&number) else { return };
        self.partitions.remove(batch.key());
        output.release(BatchId(number), batch.into_payload(reason));
    }
}

impl Transform for Buffer {
    fn apply(&mut self, event: &mut Event, output: &mut Output) -> Result<(), TaskError> {
        let key = self.partition_key.as_ref().map(|template| template.render(event)).transpose()?;
        let key = key.map(Arc::from);
        let mut item = Item::new(&event.data, self.max_bytes.is_some())?;
        let number = self.batch_for(key, &item, output);
        output.hold(BatchId(number));
        let Some(batch) = self.batches.get_mut(&number) else { return Ok(()) };
        // The event is held from here on, and needs its data no more.
        item.take(mem::take(&mut event.data));
        batch.push(item);
        if batch.len() >= self.size {
            self.release(number, Reason::Size, output);
        } else if self.max_bytes.is_some_and(|limit| batch.bytes() >= limit) {
            self.release(number, Reason::Bytes, output);
        }
        Ok(())
    }

    fn is_batching(&self) -> bool {
        true
    }

    fn deadline(&self) -> Option<Instant> {
        self.batches.first_key_value().map(|(_, oldest)| oldest.due())
    }

    fn flush(&mut self, reason: FlushReason, now: Instant, output: &mut Output) {
        while let Some((&oldest, batch)) = self.batches.first_key_value() {
            let reason = match reason {
                FlushReason::Shutdown => Reason::Shutdown,
                FlushReason::Timeout if batch.due() <= now => Reason::Timeout,
                FlushReason::Timeout => break,
            };
            self.release(oldest, reason, output);
        }
    }
}

#[cfg(test)]
mod tests;
