//! Metrics at their interval: collected, limited, told as deltas if they are to be, cut into bodies, exported.
//!
//! Points that were not exported by the next interval are dropped: the next collection has newer ones, and a delta since
//! what the collector has.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use opentelemetry_proto::tonic::{metrics::v1::Metric, resource::v1::Resource};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    BODY_LIMIT,
    chunk::{self, Chunk},
    delta::Deltas,
    error::ExportError,
    exporter::MetricsExport,
    limit::Limit,
    sender::{Sender, Sent},
};

/// Returns all metrics as they are now. It is told whether everything arrived of the collection before, so that a
/// series that ended can be left out from then on.
pub(in crate::telemetry) type Collect = Box<dyn FnMut(bool) -> Vec<Metric> + Send>;

/// Exports metrics.
pub(super) struct Metrics {
    sender: Sender,
    collect: Collect,
    limit: Option<Limit>,
    deltas: Option<Deltas>,
    first: Duration,
    interval: Duration,
    resource: Resource,
    has_arrived: bool,
}

impl Metrics {
    pub(super) fn new(sender: Sender, export: MetricsExport, resource: &Resource) -> Self {
        Self {
            sender,
            collect: export.collect,
            limit: export.cardinality_limit.map(Limit::new),
            deltas: Deltas::new(export.temporality, export.is_observed),
            first: export.first,
            interval: export.interval,
            resource: resource.clone(),
            has_arrived: true,
        }
    }

    /// Exports at every interval until the order to flush, and once more when `last` is cancelled. In between a
    /// further collection would only stand in the way of the last one.
    pub(super) async fn run(mut self, last: CancellationToken) {
        let mut ticks = interval_at(Instant::now() + self.first, self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut flush = self.sender.flush();
        loop {
            tokio::select! {
                biased;
                _ = flush.begun() => break,
                _ = ticks.tick() => self.export(Some(&last)).await,
            }
        }
        last.cancelled().await;
        self.export(None).await;
    }

    /// Exports a collection. If there will be another one, it is given up when that is due or `next` is
    /// cancelled.
    async fn export(&mut self, next: Option<&CancellationToken>) {
        let due = Instant::now() + self.interval;
        let mut ahead = VecDeque::from(self.collect());
        while let Some(mut chunk) = ahead.pop_front() {
            let body = chunk.encode(&self.resource);
            match self.send(body, chunk.points(), due, next).await {
                Sent::Accepted => {
                    if let Some(deltas) = &mut self.deltas {
                        deltas.accepted(chunk.metrics());
                    }
                }
                Sent::Dropped => self.has_arrived = false,
                Sent::TooLarge => chunk.halve().into_iter().rev().for_each(|half| ahead.push_front(half)),
                Sent::GivenUp(reason) => {
                    self.has_arrived = false;
                    let left = ahead.drain(..).map(|chunk| chunk.points()).sum();
                    self.sender.ledger().dropped(reason, left);
                }
            }
        }
    }

    /// Sends a body of a collection. A call that hangs is given up for the sake of the last collection, which
    /// is to have a call of its own.
    async fn send(&self, body: Bytes, points: u64, due: Instant, next: Option<&CancellationToken>) -> Sent {
        tokio::select! {
            biased;
            sent = self.sender.send(body, points, superseded(due, next)) => sent,
            () = self.last_must_leave(next) => self.sender.give_up(ExportError::cut_off().error_type(), points),
        }
    }

    /// Resolves when half of the time is over that `last` has left for the flush: a collector that is alive
    /// answers before that. Never resolves for the last collection itself.
    async fn last_must_leave(&self, last: Option<&CancellationToken>) {
        let Some(last) = last else { return std::future::pending().await };
        last.cancelled().await;
        let now = Instant::now();
        let deadline = self.sender.flush().begun().await;
        sleep_until(now + deadline.saturating_duration_since(now) / 2).await;
    }

    /// Collects what is to be exported, and takes the points into account.
    fn collect(&mut self) -> Vec<Chunk> {
        let mut metrics = (self.collect)(std::mem::replace(&mut self.has_arrived, true));
        if let Some(limit) = &mut self.limit {
            limit.apply(&mut metrics);
        }
        if let Some(deltas) = &mut self.deltas {
            deltas.apply(&mut metrics);
        }
        let points = metrics.iter().map(chunk::points).sum();
        self.sender.ledger().take(|| points);
        chunk::chunks(metrics, BODY_LIMIT.saturating_sub(chunk::envelope(&self.resource)))
    }
}

/// Resolves when a collection is older than the next one will be.
async fn superseded(due: Instant, next: Option<&CancellationToken>) {
    match next {
        None => std::future::pending().await,
        Some(next) => tokio::select! {
            () = sleep_until(due) => {}
            () = next.cancelled() => {}
        },
    }
}
