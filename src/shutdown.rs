//! The token that asks sources to stop.

use tokio_util::sync::CancellationToken;

/// Tells a source when to stop. Clones are the same token; a child stops with its parent.
#[derive(Clone, Debug, Default)]
pub struct Stop(CancellationToken);

impl Stop {
    /// Makes a token that also stops when `self` does.
    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }

    /// Asks everyone who holds the token to stop.
    pub fn stop(&self) {
        self.0.cancel();
    }

    /// Returns whether stopping was asked for.
    pub fn is_stopped(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Resolves when stopping is asked for. Safe to drop and call again.
    pub async fn stopped(&self) {
        self.0.cancelled().await;
    }
}
