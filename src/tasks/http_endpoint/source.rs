//! The source's side: brings the requests that its endpoint took in into the flow.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::{sync::mpsc, task::yield_now};

use super::endpoint::Endpoint;
use crate::{
    shutdown::Stop,
    task::{Closed, Emitter, Incoming, Record, Source, TaskError, http::Claim},
};

/// Requests that are brought in at once.
const AT_ONCE: usize = 64;

/// A request that is to become an event.
pub(super) struct Arrived {
    pub(super) incoming: Incoming,
    pub(super) record: Record,
}

/// Brings in requests.
pub(super) struct Listener {
    pub(super) claim: Box<dyn Claim>,
    pub(super) endpoint: Arc<Endpoint>,
    /// The endpoint takes requests as long as it is there.
    pub(super) sender: mpsc::Sender<Box<Arrived>>,
    pub(super) requests: mpsc::Receiver<Box<Arrived>>,
}

#[async_trait]
impl Source for Listener {
    async fn run(self: Box<Self>, emitter: &mut Emitter, stop: Stop) -> Result<(), TaskError> {
        let Self { claim, endpoint, sender, mut requests } = *self;
        let serving = claim.serve(endpoint);
        let mut batch = Vec::with_capacity(AT_ONCE);
        // Who sent a request before the worker stopped gets its answer.
        let stopped = async {
            stop.stopped().await;
            claim.quiet().await;
        };
        tokio::pin!(stopped);
        loop {
            tokio::select! {
                biased;
                _ = requests.recv_many(&mut batch, AT_ONCE) => {
                    // What other connections have received meanwhile comes along: bringing in several costs little more
                    // than bringing in one.
                    yield_now().await;
                    while batch.len() < AT_ONCE && let Ok(request) = requests.try_recv() {
                        batch.push(request);
                    }
                    bring_in(&mut batch, emitter).await?;
                }
                () = &mut stopped => break,
            }
        }
        // From here on another one answers, or nobody does. What is being read is still brought in.
        drop((serving, sender));
        while requests.recv_many(&mut batch, AT_ONCE).await > 0 {
            bring_in(&mut batch, emitter).await?;
        }
        Ok(())
    }

    fn can_resume(&self) -> bool {
        true
    }
}

#[expect(clippy::vec_box, reason = "as they come")]
async fn bring_in(batch: &mut Vec<Box<Arrived>>, emitter: &mut Emitter) -> Result<(), Closed> {
    for arrived in batch.drain(..) {
        let Arrived { incoming, record } = *arrived;
        let mut record = Some(record);
        emitter.stage(incoming, move |_| Ok(record.take().unwrap_or_default())).await?;
    }
    emitter.flush().await
}
