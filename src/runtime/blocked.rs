//! The time that a task waits for room downstream. It shows while the wait lasts, which may be for good.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::trace::Ticks;

/// Adds up the waits of one task, of which each instance has one at a time.
#[derive(Clone, Debug, Default)]
pub(super) struct Blocked(Arc<Mutex<Waits>>);

#[derive(Debug, Default)]
struct Waits {
    /// What they amounted to when any of them last began or ended.
    nanos: u64,
    /// When that was.
    since: Ticks,
    /// How many there are now.
    waiting: u64,
}

/// A wait that lasts as long as this is there.
#[derive(Debug)]
#[must_use = "what is dropped at once is no wait"]
pub(super) struct Waiting<'a>(&'a Blocked);

impl Blocked {
    /// Begins a wait.
    pub(super) fn wait(&self) -> Waiting<'_> {
        self.lock().change(1);
        Waiting(self)
    }

    /// Returns how many nanoseconds of waiting there were so far.
    pub(super) fn nanos(&self) -> u64 {
        let waits = self.lock();
        waits.at(Ticks::now())
    }

    fn lock(&self) -> MutexGuard<'_, Waits> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waits {
    /// Returns what all of them amount to at a time.
    fn at(&self, now: Ticks) -> u64 {
        if self.waiting == 0 { self.nanos } else { self.nanos + self.waiting * now.since(self.since) }
    }

    /// Takes note that there is one more or one less.
    fn change(&mut self, by: i64) {
        let now = Ticks::now();
        self.nanos = self.at(now);
        self.since = now;
        self.waiting = self.waiting.saturating_add_signed(by);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.lock().change(-1);
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

    #[test]
    fn waits_of_several_instances_add_up() {
        let mut waits = Waits::default();
        waits.change(1);
        waits.change(1);
        let (since, nanos) = (waits.since, waits.nanos);
        let now = loop {
            let now = Ticks::now();
            if now.since(since) > 0 {
                break now;
            }
        };
        assert_eq!(waits.at(now) - nanos, 2 * now.since(since));
        waits.change(-1);
        waits.change(-1);
        assert_eq!(waits.at(Ticks::now()), waits.nanos);
    }
}
