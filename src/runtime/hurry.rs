//! Whether tasks that collect events may wait for more of them.
//!
//! They may not while nothing more comes before what they hold has come to its end: when all sources have read to theirs,
//! or while one waits for what is under way before it brings in again what failed.

use tokio::sync::watch;

/// Tells tasks not to wait. There may be several reasons at a time.
#[derive(Debug, Default)]
pub(super) struct Hurry(watch::Sender<usize>);

/// A reason not to wait, for as long as it is there.
#[must_use = "what is dropped at once is no reason"]
pub(super) struct Reason<'a>(&'a Hurry);

impl Hurry {
    /// Adds a reason.
    pub(super) fn begin(&self) -> Reason<'_> {
        self.0.send_modify(|reasons| *reasons += 1);
        Reason(self)
    }

    /// Waits until there is a reason. Safe to drop and call again.
    pub(super) async fn begun(&self) {
        // The sender is here, so it is not closed.
        let _ = self.0.subscribe().wait_for(|reasons| *reasons > 0).await;
    }
}

impl Reason<'_> {
    /// Keeps the reason for good.
    pub(super) fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Reason<'_> {
    fn drop(&mut self) {
        self.0.0.send_modify(|reasons| *reasons -= 1);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::pin,
        task::{Context, Waker},
    };

    use super::*;

    fn is_begun(hurry: &Hurry) -> bool {
        pin!(hurry.begun()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn there_is_a_hurry_while_there_is_any_reason() {
        let hurry = Hurry::default();
        assert!(!is_begun(&hurry));
        let (one, other) = (hurry.begin(), hurry.begin());
        drop(one);
        assert!(is_begun(&hurry));
        drop(other);
        assert!(!is_begun(&hurry));
        hurry.begin().keep();
        assert!(is_begun(&hurry));
    }
}
