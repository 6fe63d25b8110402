//! The keys that a `dedupe` task knows: those under way, and those that were seen.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::ack::Fate;

/// A key, of the same size however long it is.
pub(super) type Digest = [u8; 32];

/// Keys whose time is over that one lookup forgets at most. More than one, so that they become fewer.
const SWEEP: usize = 8;

/// Returns what stands for `key`.
pub(super) fn digest(key: &str) -> Digest {
    Sha256::digest(key).into()
}

/// The keys. Never more than so many.
pub(super) struct Seen {
    ttl: Duration,
    max_keys: usize,
    keys: HashMap<Digest, State>,
    /// Those that were seen, in that order, and until when they count. A key whose time is over may be there once more.
    until: VecDeque<(Option<Instant>, Digest)>,
    /// How many wait for a key that is under way.
    waiting: usize,
}

enum State {
    /// So many wait to learn its fate.
    UnderWay { fate: Fate, waiting: usize },
    /// Until then, or for good where no clock reaches.
    Seen(Option<Instant>),
}

/// What is known of the key of an event.
pub(super) enum Finding {
    /// Nothing: this is the first one, whose fate is to be decided.
    First(Fate),
    /// The first one is under way, and this one waits for its fate.
    UnderWay(Fate),
    /// It is, and too many wait.
    Busy,
    /// The first one is done.
    Seen,
}

impl Seen {
    pub(super) fn new(ttl: Duration, max_keys: usize) -> Self {
        Self { ttl, max_keys, keys: HashMap::new(), until: VecDeque::new(), waiting: 0 }
    }

    /// Looks for a key. What is found as the first one has to be ended, what waits is counted until then.
    pub(super) fn find(&mut self, digest: Digest, now: Instant, max_waiting: usize) -> Finding {
        self.sweep(now);
        match self.keys.get_mut(&digest) {
            Some(State::UnderWay { .. }) if self.waiting >= max_waiting => return Finding::Busy,
            Some(State::UnderWay { fate, waiting }) => {
                *waiting += 1;
                self.waiting += 1;
                return Finding::UnderWay(fate.clone());
            }
            Some(State::Seen(until)) if is_ahead(*until, now) => return Finding::Seen,
            Some(State::Seen(_)) | None => {}
        }
        let fate = Fate::default();
        self.keys.remove(&digest);
        // Where all there is room for is under way, this one is remembered when it is done.
        if self.make_room() {
            self.keys.insert(digest, State::UnderWay { fate: fate.clone(), waiting: 0 });
        }
        Finding::First(fate)
    }

    /// Ends the first event of a key: it is seen from now on if that `is_done`, else it was never there.
    pub(super) fn end(&mut self, digest: Digest, fate: &Fate, is_done: bool, now: Instant) {
        if let Entry::Occupied(entry) = self.keys.entry(digest)
            && let State::UnderWay { fate: of_key, waiting } = entry.get()
        {
            if !of_key.is(fate) {
                // Another one has the place that there was no room for then, and will tell.
                return;
            }
            self.waiting -= waiting;
            entry.remove();
        }
        let is_seen = |state: &State| matches!(state, State::Seen(until) if is_ahead(*until, now));
        // There may have been no room for it until another one of the key was done.
        if !is_done || self.keys.get(&digest).is_some_and(is_seen) {
            return;
        }
        self.keys.remove(&digest);
        if self.make_room() {
            let until = now.checked_add(self.ttl);
            self.keys.insert(digest, State::Seen(until));
            self.until.push_back((until, digest));
        }
    }

    /// Forgets some of those whose time is over.
    fn sweep(&mut self, now: Instant) {
        for _ in 0..SWEEP {
            match self.until.front() {
                Some((Some(until), _)) if *until <= now => self.forget_oldest(),
                _ => return,
            }
        }
    }

    /// Forgets the oldest keys until there is room for one more. Returns whether there is.
    fn make_room(&mut self) -> bool {
        while self.keys.len() >= self.max_keys {
            if self.until.is_empty() {
                return false;
            }
            self.forget_oldest();
        }
        true
    }

    fn forget_oldest(&mut self) {
        let Some((until, digest)) = self.until.pop_front() else { return };
        if matches!(self.keys.get(&digest), Some(State::Seen(of_key)) if *of_key == until) {
            self.keys.remove(&digest);
        }
    }

    /// Returns how many keys there are, and how long the order of them is.
    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        (self.keys.len(), self.until.len())
    }
}

fn is_ahead(until: Option<Instant>, now: Instant) -> bool {
    until.is_none_or(|until| now < until)
}
