//! What is done for the events of one source besides letting them in: those that failed for now are brought in again,
//! and how far all of them are done is kept.

use std::{future::pending, sync::Arc};

use super::{
    checkpoints::Checkpoints, flow::FlowHandle, hop::Hop, meters::SourceMeters, redelivery::Redelivery,
};
use crate::{
    retry::RetryPolicy,
    telemetry::{Counter, FailureLog, Tracer},
};

/// What brings in again what failed for now.
pub(super) struct Again {
    redelivery: Arc<Redelivery>,
    /// Of the same task as what lets events in the first time, and beside it.
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

/// What is done for the events of one source besides.
pub(super) struct Upkeep {
    flow: FlowHandle,
    again: Option<Again>,
    checkpoints: Option<Checkpoints>,
}

impl Upkeep {
    /// Makes it of what a source has: `again` unless nothing that it brings in can fail for now only, `checkpoints` if
    /// it is kept how far it is done.
    pub(super) fn new(flow: FlowHandle, again: Option<Again>, checkpoints: Option<Checkpoints>) -> Self {
        Self { flow, again, checkpoints }
    }

    /// Returns what knows of the events that failed for now.
    pub(super) fn redelivery(&self) -> Option<Arc<Redelivery>> {
        self.again.as_ref().map(|again| Arc::clone(&again.redelivery))
    }

    /// Returns the checkpoints.
    pub(super) fn checkpoints(&self) -> Option<&Checkpoints> {
        self.checkpoints.as_ref()
    }

    /// Waits for `work`, and meanwhile brings in again what fails for now, and keeps how far it is done.
    pub(super) async fn beside<T>(&mut self, work: impl Future<Output = T>) -> T {
        let Self { again, checkpoints, .. } = self;
        let again = async {
            match again {
                Some(again) => again.run().await,
                None => pending().await,
            }
        };
        let checkpoints = async {
            match checkpoints {
                Some(checkpoints) => checkpoints.run().await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            result = work => result,
            () = again => unreachable!("it goes on for as long as it is polled"),
            () = checkpoints => unreachable!("it goes on for as long as it is polled"),
        }
    }

    /// Ends it when nothing more is let in for the first time: brings in again what fails for now, until nothing does.
    pub(super) async fn finish(&mut self) {
        self.flow.read();
        if let Some(redelivery) = self.redelivery() {
            self.beside(redelivery.finished()).await;
        }
        if let Some(checkpoints) = &mut self.checkpoints {
            checkpoints.finish().await;
        }
        if let Some(again) = &mut self.again {
            again.hop.finish().await;
        }
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        if let Some(again) = &self.again {
            again.redelivery.abandon();
        }
    }
}
