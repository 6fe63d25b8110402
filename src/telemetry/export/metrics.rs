//! Metrics at their interval: collected, cut into bodies, exported.
//!
//! Points that were not exported by the next interval are dropped: the next collection has newer ones.

use std::{collections::VecDeque, time::Duration};

use opentelemetry_proto::tonic::{metrics::v1::Metric, resource::v1::Resource};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    BODY_LIMIT,
    chunk::{self, Chunk},
    sender::{Sender, Sent},
};

/// What metrics are collected from.
pub(in crate::telemetry) trait Collect: Send {
    /// Returns all metrics as they are now.
    fn collect(&mut self) -> Vec<Metric>;

    /// Takes note that points of the last collection reached the collector. If none of them did, this is
    /// not called. If only some did, the others are lost to a delta, and counted as dropped.
    fn accepted(&mut self);
}

/// Exports metrics.
pub(super) struct Metrics {
    sender: Sender,
    collect: Box<dyn Collect>,
    first: Duration,
    interval: Duration,
    resource: Resource,
}

impl Metrics {
    pub(super) fn new(
        sender: Sender,
        collect: Box<dyn Collect>,
        (first, interval): (Duration, Duration),
        resource: &Resource,
    ) -> Self {
        Self { sender, collect, first, interval, resource: resource.clone() }
    }

    /// Exports at every interval until `last` is cancelled, and then once more.
    pub(super) async fn run(mut self, last: CancellationToken) {
        let mut ticks = interval_at(Instant::now() + self.first, self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                biased;
                () = last.cancelled() => break,
                _ = ticks.tick() => self.export(Some(&last)).await,
            }
        }
        self.export(None).await;
    }

    /// Exports a collection. If there will be another one, it is given up when that is due or `next` is
    /// cancelled.
    async fn export(&mut self, next: Option<&CancellationToken>) {
        let due = Instant::now() + self.interval;
        let mut ahead = VecDeque::from(self.collect());
        let mut is_accepted = false;
        while let Some(mut chunk) = ahead.pop_front() {
            let body = chunk.encode(&self.resource);
            match self.sender.send(body, chunk.points(), superseded(due, next)).await {
                Sent::Accepted => is_accepted = true,
                Sent::Dropped => {}
                Sent::TooLarge => chunk.halve().into_iter().rev().for_each(|half| ahead.push_front(half)),
                Sent::GivenUp(reason) => {
                    let left = ahead.drain(..).map(|chunk| chunk.points()).sum();
                    self.sender.ledger().dropped(reason, left);
                }
            }
        }
        if is_accepted {
            self.collect.accepted();
        }
    }

    /// Collects, and takes the points into account.
    fn collect(&mut self) -> Vec<Chunk> {
        let metrics = self.collect.collect();
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
