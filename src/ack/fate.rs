//! What becomes of one event and of all that are taken for the same.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Ack, Outcome};
use crate::trace::Moment;

/// The outcome of a part of one event, which becomes that of others: they end when it is known. Clones are the same
/// fate.
#[derive(Clone, Default)]
pub struct Fate(Arc<Mutex<State>>);

enum State {
    /// These shares wait for it.
    Open(Vec<Ack>),
    /// It has this severity.
    Decided(u8),
}

impl Default for State {
    fn default() -> Self {
        Self::Open(Vec::new())
    }
}

impl Fate {
    /// Returns whether the two are the same.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Decides it for all that wait and all that come. The first word counts.
    pub(super) fn decide(&self, severity: u8, at: Moment) {
        let waiting = {
            let mut state = self.state();
            match &mut *state {
                State::Open(waiting) => {
                    let waiting = std::mem::take(waiting);
                    *state = State::Decided(severity);
                    waiting
                }
                State::Decided(_) => return,
            }
        };
        // Without the lock: whoever learns of it may be anything.
        for share in waiting {
            share.settle_as(of_others(severity), at);
        }
    }

    /// Settles `share` as it says, as soon as it says anything.
    pub(super) fn befall(&self, share: Ack, at: Moment) {
        let severity = {
            match &mut *self.state() {
                State::Open(waiting) => {
                    waiting.push(share);
                    return;
                }
                State::Decided(severity) => *severity,
            }
        };
        share.settle_as(of_others(severity), at);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The others did not go on themselves: where it is good they are filtered.
fn of_others(severity: u8) -> u8 {
    if severity <= Outcome::Completed as u8 { Outcome::Filtered as u8 } else { severity }
}

impl fmt::Debug for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fate")
    }
}
