//! Spans out of their queue: in batches, a few on their way at once.

use std::{collections::VecDeque, future::pending, ops::Range, sync::Arc, time::Duration};

use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{
    BODY_LIMIT,
    accounts::FLUSH_DEADLINE,
    sender::{Sender, Sent},
};
use crate::telemetry::{SpanRecord, encode, queue::SpanQueue};

/// How many batches are on their way at once, so that a collector far away takes no fewer spans than one
/// nearby. Bounds what the exporter holds.
pub(super) const MAX_BATCHES: usize = 4;

/// Spans as they come out of the queue.
type Batch = Vec<Box<SpanRecord>>;

/// How often it is said that there are more spans than can be exported.
const QUIET: Duration = Duration::from_secs(60);

/// What the queue had no room for, and how much of it was told.
#[derive(Default)]
struct Losses {
    told: Option<Instant>,
    shed: u64,
    refused: u64,
}

impl Losses {
    /// Warns if there is something new, and the last warning is long enough ago.
    fn tell(&mut self, queue: &SpanQueue) {
        if self.told.is_none_or(|told| told.elapsed() >= QUIET) {
            self.tell_rest(queue);
        }
    }

    /// Warns if there is something new.
    fn tell_rest(&mut self, queue: &SpanQueue) {
        let (shed, refused) = (queue.shed(), queue.counts().refused);
        if shed == self.shed && refused == self.refused {
            return;
        }
        tracing::warn!(
            traces_shed = shed - self.shed,
            spans_dropped = refused - self.refused,
            "more spans than can be exported: some traces are left out; metrics stay exact. Lower \
             `trace_sample_rate`, or raise `span_queue.size`"
        );
        (self.told, self.shed, self.refused) = (Some(Instant::now()), shed, refused);
    }
}

/// Exports spans.
pub(super) struct Traces {
    sender: Sender,
    queue: Arc<SpanQueue>,
    batch: usize,
    delay: Duration,
    resource: Vec<u8>,
}

impl Traces {
    pub(super) fn new(
        sender: Sender,
        queue: Arc<SpanQueue>,
        batch: usize,
        delay: Duration,
        resource: &Resource,
    ) -> Self {
        Self { sender, queue, batch, delay, resource: resource.encode_to_vec() }
    }

    /// Exports until the order to flush has come and been carried out.
    pub(super) async fn run(self) {
        let traces = Arc::new(self);
        let mut flush = traces.sender.flush();
        let mut batches = JoinSet::new();
        let mut losses = Losses::default();
        while !flush.has_begun() {
            tokio::select! {
                biased;
                _ = flush.begun() => {}
                () = traces.queue.wait() => {}
                () = sleep(traces.delay) => {}
            }
            traces.empty_queue(&mut batches, &mut losses).await;
        }
        while batches.join_next().await.is_some() {}
        // What came while the last batches were on their way.
        traces.empty_queue(&mut batches, &mut losses).await;
        while batches.join_next().await.is_some() {}
        losses.tell_rest(&traces.queue);
    }

    /// Sends what waits, all of it: what is less than a batch has waited long enough.
    async fn empty_queue(self: &Arc<Self>, batches: &mut JoinSet<()>, losses: &mut Losses) {
        loop {
            losses.tell(&self.queue);
            while batches.try_join_next().is_some() {}
            if batches.len() == MAX_BATCHES {
                batches.join_next().await;
            }
            let records = self.take();
            let is_full = records.len() == self.batch;
            if !records.is_empty() {
                batches.spawn(Arc::clone(self).export(records));
            }
            if !is_full {
                return;
            }
        }
    }

    fn take(&self) -> Batch {
        let mut records = Vec::with_capacity(self.queue.len().min(self.batch));
        self.sender.ledger().take(|| {
            self.queue.take(self.batch, &mut records);
            records.len()
        });
        records
    }

    async fn export(self: Arc<Self>, records: Batch) {
        if self.sender.flush().is_over() {
            return self.sender.ledger().dropped(FLUSH_DEADLINE, records.len() as u64);
        }
        let mut ahead = VecDeque::from(self.bodies(&records, 0..records.len()));
        while let Some((part, body)) = ahead.pop_front() {
            match self.sender.send(body.bytes, body.items, pending()).await {
                Sent::Accepted | Sent::Dropped => {}
                Sent::TooLarge => {
                    let middle = part.start + part.len() / 2;
                    for half in [middle..part.end, part.start..middle] {
                        self.bodies(&records, half).into_iter().rev().for_each(|body| ahead.push_front(body));
                    }
                }
                Sent::GivenUp(reason) => {
                    let left = ahead.drain(..).map(|(_, body)| body.items).sum();
                    self.sender.ledger().dropped(reason, left);
                }
            }
        }
    }

    /// Encodes a part of the records. Each body comes with the part that is in it.
    fn bodies(&self, records: &[Box<SpanRecord>], part: Range<usize>) -> Vec<(Range<usize>, encode::Body)> {
        let mut start = part.start;
        let bodies = encode::bodies(&records[part], &self.resource, BODY_LIMIT);
        let with_part = bodies.into_iter().map(|body| {
            let part = start..start + body.items as usize;
            start = part.end;
            (part, body)
        });
        with_part.collect()
    }
}
