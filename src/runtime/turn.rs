//! How long a loop may keep its thread while it handles events that take their time.

use std::time::{Duration, Instant};

/// A loop that has held its thread this long lets others have it.
const TURN: Duration = Duration::from_millis(1);
/// Events between two looks at the clock, at most.
const STRIDE: u32 = 64;

/// Watches the clock for one loop, and seldom looks at it while events are quick.
///
/// The thread's own clock and not tokio's: it is about the processor, and paused time stands still.
#[derive(Debug)]
pub(super) struct Turn {
    started: Instant,
    looked: Instant,
    stride: u32,
    left: u32,
}

impl Turn {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { started: now, looked: now, stride: 1, left: 1 }
    }

    /// Begins a turn: the loop has just waited.
    pub(super) fn begin(&mut self) {
        self.started = Instant::now();
        self.looked = self.started;
    }

    /// Counts an event, and returns whether the turn is over.
    pub(super) fn is_over(&mut self) -> bool {
        self.left -= 1;
        if self.left > 0 {
            return false;
        }
        let now = Instant::now();
        // Halved and doubled so that the clock is looked at about every tenth of a turn.
        let is_quick = now.duration_since(self.looked) < TURN / 10;
        self.stride = if is_quick { (self.stride * 2).min(STRIDE) } else { (self.stride / 2).max(1) };
        self.left = self.stride;
        self.looked = now;
        now.duration_since(self.started) >= TURN
    }

    /// Lets others have the thread, and begins a new turn.
    pub(super) async fn pass(&mut self) {
        tokio::task::yield_now().await;
        self.begin();
    }
}
