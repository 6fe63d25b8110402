//! Who brought an event in, and learns what became of it.

use std::any::Any;

use tokio::time::Instant;

use super::Outcome;
use crate::trace::Ticks;

/// What a source keeps of an event until it is settled: what to answer, to acknowledge or to deliver again.
pub trait Receipt: Send + Sync {
    /// Learns what became of the event, once. Must not block. The ledger is told unless the event is delivered again.
    fn settled(self: Box<Self>, settled: &Settled) -> Verdict;

    /// Learns what reached a leaf: the task of this index put out `event`, an `Event`, and nothing comes after it. Must
    /// not block. Sources that answer with it keep it.
    fn reached(&self, task: usize, event: &dyn Any) {
        let _ = (task, event);
    }
}

/// What became of an event.
#[derive(Clone, Copy, Debug)]
pub struct Settled {
    /// The worst outcome of all shares.
    pub outcome: Outcome,
    /// Whether it failed, and may succeed when it is delivered again.
    pub is_transient: bool,
    /// When the event entered, if it is timed.
    pub entered: Ticks,
    /// From when on it is too old to be handled.
    pub expires: Option<Instant>,
}

/// What a source makes of the outcome of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the event's end, which is counted.
    Counted,
    /// The same event is delivered again, and its end is yet to come.
    Again,
}
