//! The loop of a transform.

use tokio::sync::mpsc;

use super::{RunEnd, hop::Hop, outlets::BATCH, turn::Turn};
use crate::{event::Event, task::Transform};

/// Handles events until no one upstream is left.
pub(super) async fn run(
    mut transform: Box<dyn Transform>,
    mut inbox: mpsc::Receiver<Box<Event>>,
    mut hop: Hop,
) -> RunEnd {
    let mut batch = Vec::with_capacity(BATCH);
    let mut turn = Turn::new();
    while inbox.recv_many(&mut batch, BATCH).await > 0 {
        let inflight = hop.meters.inflight.hold(batch.len());
        for event in batch.drain(..) {
            hop.handle(event, |event, output| transform.apply(event, output));
            // An event may emit many; without this a batch of arrays would pile up.
            if hop.is_full() {
                hop.flush().await;
            }
            if turn.is_over() {
                turn.pass().await;
            }
        }
        drop(inflight);
        hop.flush().await;
    }
    hop.finish().await;
    Ok(())
}
