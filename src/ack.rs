//! Acknowledgements: the source is told once, with the worst outcome, when the last share settles.
//!
//! An [`Ack`] is one share of a source event. Whatever is derived from the event shares it: fan-out
//! clones, arrays clone, a batch joins many. There is no counting of leaves, so any graph is right by
//! construction. A share that is dropped unsettled (a panic, an abort) counts as failed.

mod ledger;
mod outcome;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

pub use ledger::{Ledger, Observer, Summary};
pub use outcome::Outcome;

use crate::trace::{Moment, Ticks};

/// A share of the acknowledgement of one source event. `Ack::default()` is nobody's.
#[derive(Clone, Default)]
pub struct Ack(Option<Arc<Shared>>);

/// How an event ended: with its last share.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// The worst outcome of all shares.
    pub outcome: Outcome,
    /// How many nanoseconds it took since it entered.
    pub nanos: u64,
    /// When and where the last share settled.
    pub at: Moment,
}

/// What all shares of one source event have in common. Dropped with the last of them.
struct Shared {
    /// The worst outcome so far.
    worst: AtomicU8,
    /// When the event entered, if it is timed.
    entered: Ticks,
    told: Told,
}

/// Who is told the worst outcome.
enum Told {
    /// Nobody any more.
    Nobody,
    /// The flow's ledger: this is a source event.
    Ledger(Arc<Ledger>),
    /// The shares that this one joins: it is a batch.
    Joined(Vec<Ack>),
}

impl Ack {
    /// Makes the first share for an event that enters the flow of `ledger`, and counts it in. `at` is when it does, if
    /// it is timed.
    pub fn enter(ledger: &Arc<Ledger>, at: Ticks) -> Self {
        ledger.enter();
        Self::of(Told::Ledger(Arc::clone(ledger)), at)
    }

    /// Joins many shares to the one of a batch: its worst outcome becomes that of each.
    pub fn join(shares: Vec<Self>) -> Self {
        Self::of(Told::Joined(shares), Ticks::default())
    }

    fn of(told: Told, entered: Ticks) -> Self {
        let worst = AtomicU8::new(Outcome::Filtered as u8);
        Self(Some(Arc::new(Shared { worst, entered, told })))
    }

    /// Takes the share, leaving nobody's behind.
    pub fn take(&mut self) -> Self {
        Self(self.0.take())
    }

    /// Settles this share. Returns how the event ended, if that was its last share and it is timed.
    pub fn settle(mut self, outcome: Outcome, at: Moment) -> Option<Ended> {
        let shared = self.0.take()?;
        shared.worsen(outcome);
        let mut shared = Arc::into_inner(shared)?;
        shared.tell(at);
        let is_timed = shared.entered.is_set() && at.at.is_set();
        is_timed.then(|| Ended { outcome: shared.worst(), nanos: at.at.since(shared.entered), at })
    }
}

impl Drop for Ack {
    fn drop(&mut self) {
        if let Some(shared) = &self.0 {
            shared.worsen(shared.told.unsettled());
        }
    }
}

impl fmt::Debug for Ack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(shared) => write!(f, "Ack({:?})", shared.worst()),
            None => f.write_str("Ack(none)"),
        }
    }
}

impl Shared {
    /// Most shares bring nothing worse, and then a load is all it takes.
    fn worsen(&self, outcome: Outcome) {
        if self.worst.load(Ordering::Relaxed) < outcome as u8 {
            self.worst.fetch_max(outcome as u8, Ordering::Relaxed);
        }
    }

    fn worst(&self) -> Outcome {
        Outcome::from_severity(self.worst.load(Ordering::Relaxed))
    }

    /// Tells the worst outcome, once.
    fn tell(&mut self, at: Moment) {
        let worst = self.worst();
        match std::mem::replace(&mut self.told, Told::Nobody) {
            Told::Nobody => {}
            Told::Ledger(ledger) => ledger.settle(worst, self.entered, at),
            Told::Joined(shares) => {
                for share in shares {
                    share.settle(worst, at);
                }
            }
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.tell(Moment::default());
    }
}

impl Told {
    /// What a share that nobody settled amounts to.
    fn unsettled(&self) -> Outcome {
        match self {
            Self::Ledger(ledger) if ledger.is_cancelling() => Outcome::Cancelled,
            Self::Joined(shares) => shares
                .iter()
                .filter_map(|share| share.0.as_ref())
                .map(|shared| shared.told.unsettled())
                .max()
                .unwrap_or(Outcome::Failed),
            Self::Ledger(_) | Self::Nobody => Outcome::Failed,
        }
    }
}

#[cfg(test)]
mod tests;
