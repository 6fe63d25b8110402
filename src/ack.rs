//! Acknowledgements: the source is told once, with the worst outcome, when the last share settles.
//!
//! An [`Ack`] is one share of a source event. Whatever is derived from the event shares it: fan-out
//! clones, arrays clone, a batch joins many. There is no counting of leaves, so any graph is right by
//! construction. A share that is dropped unsettled (a panic, an abort) counts as failed.

mod batch;
mod fate;
mod ledger;
mod origin;
mod outcome;
mod receipt;

use std::{
    any::Any,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

pub use batch::{after_batch, batch};
pub use fate::Fate;
pub use ledger::{Ledger, Observer, Summary};
pub use origin::Origin;
pub use outcome::Outcome;
pub use receipt::{Receipt, Settled, Verdict};

use tokio::time::Instant;

use crate::trace::{Moment, Ticks};

/// Worse than any outcome: it failed, and the same attempt may succeed later.
const RETURNED: u8 = Outcome::Failed as u8 + 1;

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
    /// From when on it is too old to be handled.
    expires: Option<Instant>,
    told: Told,
}

/// What is known of an event that enters a flow.
#[derive(Default)]
pub struct Entry {
    /// When it does, if it is timed.
    pub at: Ticks,
    /// From when on it is too old to be handled.
    pub expires: Option<Instant>,
    /// Who learns what became of it, besides the ledger.
    pub receipt: Option<Box<dyn Receipt>>,
    /// Where it comes from.
    pub origin: Origin,
}

impl From<Ticks> for Entry {
    fn from(at: Ticks) -> Self {
        Self { at, ..Self::default() }
    }
}

/// Who is told the worst outcome.
enum Told {
    /// Nobody any more.
    Nobody,
    /// The flow's ledger: this is a source event.
    Ledger(Arc<Ledger>),
    /// Whoever brought it in first, who may bring it in again, and then the ledger.
    Receipt(Arc<Ledger>, Box<dyn Receipt>),
    /// Whoever brought it in, once a queue has accepted it. It is counted when it leaves the queue, and by the ledger now
    /// only if it never got there.
    Accepting(Arc<Ledger>, Option<Box<dyn Receipt>>),
    /// The shares that this one joins: it is a batch.
    Joined(Vec<Ack>),
    /// A task that is told first what became of its part, and then the share that this one stands for.
    Watched(Ack, Watcher),
    /// The share that this one stands for, and all that await the same fate.
    Deciding(Ack, Fate),
    /// The share that this one stands for, with that fate, unless it fails by itself.
    Awaiting(Ack, Fate),
}

/// What is called with the outcome of a part of an event.
type Watcher = Box<dyn FnOnce(Outcome) + Send + Sync>;

impl Ack {
    /// Makes the first share for an event that enters the flow of `ledger`, and counts it in.
    pub fn enter(ledger: &Arc<Ledger>, entry: impl Into<Entry>) -> Self {
        let entry = entry.into();
        ledger.enter(entry.origin);
        Self::again(ledger, entry)
    }

    /// Makes the share of an event that is to be accepted by a queue, as which it is completed. It enters behind the queue,
    /// and here if it is not accepted.
    pub fn accept(ledger: &Arc<Ledger>, entry: impl Into<Entry>) -> Self {
        let Entry { at, expires, receipt, .. } = entry.into();
        Self::of(Told::Accepting(Arc::clone(ledger), receipt), at, expires)
    }

    /// Makes the first share for an event that entered before and is delivered again: it is not counted twice.
    pub fn again(ledger: &Arc<Ledger>, entry: impl Into<Entry>) -> Self {
        let Entry { at, expires, receipt, .. } = entry.into();
        let ledger = Arc::clone(ledger);
        let told = match receipt {
            Some(receipt) => Told::Receipt(ledger, receipt),
            None => Told::Ledger(ledger),
        };
        Self::of(told, at, expires)
    }

    /// Joins many shares to the one of a batch: its worst outcome becomes that of each. A batch is too old when all that
    /// is in it is.
    pub fn join(shares: Vec<Self>) -> Self {
        let expires = shares
            .iter()
            .map(Self::expires)
            .reduce(|one, other| one.zip(other).map(|(one, other)| one.max(other)));
        Self::of(Told::Joined(shares), Ticks::default(), expires.flatten())
    }

    /// Makes a share in the place of this one whose worst outcome `watcher` learns, before anybody upstream does.
    #[must_use]
    pub fn watch(self, watcher: impl FnOnce(Outcome) + Send + Sync + 'static) -> Self {
        self.stand_in(|share| Told::Watched(share, Box::new(watcher)))
    }

    /// Makes a share in the place of this one whose worst outcome becomes `fate`.
    #[must_use]
    pub fn decide(self, fate: Fate) -> Self {
        self.stand_in(|share| Told::Deciding(share, fate))
    }

    /// Makes a share in the place of this one that ends as `fate` says, once it is filtered and that is decided.
    #[must_use]
    pub fn follow(self, fate: Fate) -> Self {
        self.stand_in(|share| Told::Awaiting(share, fate))
    }

    fn stand_in(self, told: impl FnOnce(Self) -> Told) -> Self {
        let (entered, expires) =
            self.0.as_ref().map_or_else(Default::default, |shared| (shared.entered, shared.expires));
        Self::of(told(self), entered, expires)
    }

    fn of(told: Told, entered: Ticks, expires: Option<Instant>) -> Self {
        let worst = AtomicU8::new(Outcome::Filtered as u8);
        Self(Some(Arc::new(Shared { worst, entered, expires, told })))
    }

    /// Names who learns what becomes of an event that was let in without, as long as this is the only share of it.
    pub fn attach(&mut self, receipt: Box<dyn Receipt>) {
        let Some(shared) = self.0.as_mut().and_then(Arc::get_mut) else { return };
        if let Told::Ledger(ledger) = &shared.told {
            shared.told = Told::Receipt(Arc::clone(ledger), receipt);
        }
    }

    /// Returns from when on the event is too old to be handled.
    pub fn expires(&self) -> Option<Instant> {
        self.0.as_ref()?.expires
    }

    /// Takes the share, leaving nobody's behind.
    pub fn take(&mut self) -> Self {
        Self(self.0.take())
    }

    /// Lets whoever brought the event in know that `event`, which has this share, has reached a leaf: the task of this
    /// index. Of a batch that is everyone who brought in a part of it.
    #[inline]
    pub fn reached(&self, task: usize, event: &dyn Any) {
        if let Some(shared) = &self.0 {
            shared.told.reached(task, event);
        }
    }

    /// Settles this share. Returns how the event ended, if that was its last share and it is timed; of a batch, how the
    /// one ended that took longest.
    pub fn settle(self, outcome: Outcome, at: Moment) -> Option<Ended> {
        self.settle_as(outcome as u8, at)
    }

    /// Settles this share as failed for now: whoever brought the event in is asked to bring it in again, and if nobody
    /// does it has failed. Returns the same.
    pub fn give_back(self, at: Moment) -> Option<Ended> {
        self.settle_as(RETURNED, at)
    }

    fn settle_as(mut self, severity: u8, at: Moment) -> Option<Ended> {
        let shared = self.0.take()?;
        shared.worsen(severity);
        Arc::into_inner(shared)?.tell(at)
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
            Some(shared) => write!(f, "Ack({:?})", shared.outcome()),
            None => f.write_str("Ack(none)"),
        }
    }
}

impl Shared {
    /// Most shares bring nothing worse, and then a load is all it takes.
    fn worsen(&self, severity: u8) {
        if self.worst.load(Ordering::Relaxed) < severity {
            self.worst.fetch_max(severity, Ordering::Relaxed);
        }
    }

    fn outcome(&self) -> Outcome {
        Outcome::from_severity(self.worst.load(Ordering::Relaxed))
    }

    /// Tells the worst outcome, once. Returns how the event ended, if that was its end and it is timed.
    fn tell(&mut self, at: Moment) -> Option<Ended> {
        let severity = self.worst.load(Ordering::Relaxed);
        let outcome = Outcome::from_severity(severity);
        let entered = self.entered;
        match std::mem::replace(&mut self.told, Told::Nobody) {
            Told::Nobody => return None,
            Told::Ledger(ledger) => ledger.settle(outcome, entered, at),
            Told::Receipt(ledger, receipt) => {
                let is_transient = severity == RETURNED;
                let settled = Settled { outcome, is_transient, entered, expires: self.expires };
                if receipt.settled(&settled) == Verdict::Again {
                    return None;
                }
                ledger.settle(outcome, entered, at);
            }
            Told::Accepting(ledger, receipt) => {
                let is_transient = severity == RETURNED;
                let settled = Settled { outcome, is_transient, entered, expires: self.expires };
                let verdict = receipt.map_or(Verdict::Counted, |receipt| receipt.settled(&settled));
                if outcome == Outcome::Completed || verdict == Verdict::Again {
                    return None;
                }
                ledger.enter(Origin::Source);
                ledger.settle(outcome, entered, at);
            }
            Told::Joined(shares) => {
                let ended = shares.into_iter().filter_map(|share| share.settle_as(severity, at));
                return ended.max_by_key(|ended| ended.nanos);
            }
            Told::Watched(share, watcher) => {
                watcher(outcome);
                return share.settle_as(severity, at);
            }
            Told::Deciding(share, fate) => {
                fate.decide(severity, at);
                return share.settle_as(severity, at);
            }
            Told::Awaiting(share, fate) if outcome == Outcome::Filtered => {
                fate.befall(share, at);
                return None;
            }
            Told::Awaiting(share, _) => return share.settle_as(severity, at),
        }
        let is_timed = entered.is_set() && at.at.is_set();
        is_timed.then(|| Ended { outcome, nanos: at.at.since(entered), at })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Nobody is there whom the end could be told of.
        let _ = self.tell(Moment::default());
    }
}

impl Told {
    fn reached(&self, task: usize, event: &dyn Any) {
        match self {
            Self::Receipt(_, receipt) => receipt.reached(task, event),
            Self::Joined(shares) => shares.iter().for_each(|share| share.reached(task, event)),
            Self::Watched(share, _) | Self::Deciding(share, _) | Self::Awaiting(share, _) => {
                share.reached(task, event);
            }
            Self::Nobody | Self::Ledger(_) | Self::Accepting(..) => {}
        }
    }

    /// What a share that nobody settled amounts to: whatever took it away may not do so again.
    fn unsettled(&self) -> u8 {
        let of = |share: &Ack| share.0.as_ref().map(|shared| shared.told.unsettled());
        match self {
            Self::Ledger(ledger) | Self::Receipt(ledger, _) | Self::Accepting(ledger, _)
                if ledger.is_cancelling() =>
            {
                Outcome::Cancelled as u8
            }
            Self::Joined(shares) => shares.iter().filter_map(of).max().unwrap_or(RETURNED),
            Self::Watched(share, _) | Self::Deciding(share, _) | Self::Awaiting(share, _) => {
                of(share).unwrap_or(RETURNED)
            }
            Self::Ledger(_) | Self::Receipt(..) | Self::Accepting(..) | Self::Nobody => RETURNED,
        }
    }
}

#[cfg(test)]
mod tests;
