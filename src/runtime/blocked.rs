//! The time that a task waits for room downstream. It shows while the wait lasts, which may be for good.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::trace::Ticks;

/// Adds up the waits of one task, of which there is one at a time.
#[derive(Clone, Debug, Default)]
pub(super) struct Blocked(Arc<Mutex<Waits>>);

#[derive(Debug, Default)]
struct Waits {
    /// What those that are over amount to.
    nanos: u64,
    /// When the one that is not began, if there is one.
    since: Ticks,
}

/// A wait that lasts as long as this is there.
#[derive(Debug)]
#[must_use = "what is dropped at once is no wait"]
pub(super) struct Waiting<'a>(&'a Blocked);

impl Blocked {
    /// Begins a wait.
    pub(super) fn wait(&self) -> Waiting<'_> {
        self.lock().since = Ticks::now();
        Waiting(self)
    }

    /// Returns how many nanoseconds of waiting there were so far.
    pub(super) fn nanos(&self) -> u64 {
        let waits = self.lock();
        waits.nanos + waits.current()
    }

    fn lock(&self) -> MutexGuard<'_, Waits> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waits {
    fn current(&self) -> u64 {
        if self.since.is_set() { Ticks::now().since(self.since) } else { 0 }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waits = self.0.lock();
        waits.nanos += waits.current();
        waits.since = Ticks::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads until the clock has gone on.
    fn beyond(blocked: &Blocked, nanos: u64) -> u64 {
        loop {
            let now = blocked.nanos();
            if now > nanos {
                return now;
            }
        }
    }

    #[test]
    fn a_wait_counts_while_it_lasts_and_no_longer() {
        let blocked = Blocked::default();
        assert_eq!(blocked.nanos(), 0);
        let wait = blocked.wait();
        let during = beyond(&blocked, 0);
        drop(wait);
        let after = blocked.nanos();
        assert!(after >= during);
        assert_eq!(blocked.nanos(), after);
        let wait = blocked.wait();
        beyond(&blocked, after);
        drop(wait);
    }
}
