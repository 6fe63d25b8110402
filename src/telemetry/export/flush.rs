//! The order to flush: that it has come, and until when.

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// Gives the order to flush.
#[derive(Debug)]
pub(super) struct FlushOrder(watch::Sender<Option<Instant>>);

/// Waits for the order to flush. Clones are about the same order.
#[derive(Clone, Debug)]
pub(super) struct Flush(watch::Receiver<Option<Instant>>);

impl FlushOrder {
    pub(super) fn new() -> (Self, Flush) {
        let (order, flush) = watch::channel(None);
        (Self(order), Flush(flush))
    }

    /// Orders to flush until `deadline`. The first order counts.
    pub(super) fn give(&self, deadline: Instant) {
        self.0.send_if_modified(|flush| {
            let is_first = flush.is_none();
            flush.get_or_insert(deadline);
            is_first
        });
    }
}

impl Drop for FlushOrder {
    /// Nobody is left who could ask for anything: whoever waits may end at once.
    fn drop(&mut self) {
        self.give(Instant::now());
    }
}

impl Flush {
    pub(super) fn has_begun(&self) -> bool {
        self.0.borrow().is_some()
    }

    pub(super) fn is_over(&self) -> bool {
        self.0.borrow().is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Resolves with the deadline when the order is given.
    pub(super) async fn begun(&mut self) -> Instant {
        match self.0.wait_for(Option::is_some).await.map(|deadline| *deadline) {
            Ok(Some(deadline)) => deadline,
            // The order is always given before its giver is gone.
            Ok(None) | Err(_) => Instant::now(),
        }
    }

    /// Resolves when the time to flush is over.
    pub(super) async fn over(&mut self) {
        let deadline = self.begun().await;
        sleep_until(deadline).await;
    }
}
