//! What keeps a cache beyond the worker: every change of it, in order.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::{
    state::{Cached, State, StateError},
    telemetry::{FailureLog, error_chain},
};

/// Changes that wait for the disk at a time, at most; whoever makes another one waits too.
const WAITING: usize = 8192;

/// What the log counts lines by, in the place of an `error.type`.
const STATE: &str = "state";

/// Writes down how a cache changes.
#[derive(Debug)]
pub(super) struct Journal {
    state: State,
    backlog: Arc<Backlog>,
}

#[derive(Debug, Default)]
struct Backlog {
    waiting: Mutex<usize>,
    shorter: Condvar,
    log: Mutex<FailureLog>,
}

impl Journal {
    pub(super) fn new(state: State) -> Self {
        Self { state, backlog: Arc::default() }
    }

    /// Calls `each` with what was written down of each key that is not forgotten yet, and how long it has left.
    pub(super) fn read(&self, mut each: impl FnMut(&str, Value, Option<Duration>)) -> Result<(), StateError> {
        let now = Timestamp::now();
        self.state.cached(|key, Cached { value, expires }| {
            let left = expires.map(|expires| Duration::try_from(expires.duration_since(now)).ok());
            match left {
                None => each(key, value, None),
                Some(Some(left)) if !left.is_zero() => each(key, value, Some(left)),
                // Its time came while nobody was there.
                Some(_) => self.write(key, None),
            }
        })
    }

    /// Writes down that a key has a value for so long.
    pub(super) fn put(&self, key: &str, value: &Value, ttl: Option<Duration>) {
        // What no calendar reaches does not expire.
        let ttl = ttl.and_then(|ttl| SignedDuration::try_from(ttl).ok());
        let expires = ttl.and_then(|ttl| Timestamp::now().checked_add(ttl).ok());
        self.write(key, Some(&Cached { value: value.clone(), expires }));
    }

    /// Writes down that a key has no value.
    pub(super) fn remove(&self, key: &str) {
        self.write(key, None);
    }

    fn write(&self, key: &str, cached: Option<&Cached>) {
        {
            let waiting = self.backlog.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let is_long = |waiting: &mut usize| *waiting >= WAITING;
            let mut waiting =
                self.backlog.shorter.wait_while(waiting, is_long).unwrap_or_else(PoisonError::into_inner);
            *waiting += 1;
        }
        let backlog = Arc::clone(&self.backlog);
        self.state.keep_cached(key, cached, Box::new(move |kept| backlog.kept(kept)));
    }
}

impl Backlog {
    fn kept(&self, kept: Result<(), StateError>) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.shorter.notify_one();
        if let Err(error) = kept {
            let admitted = self.log.lock().unwrap_or_else(PoisonError::into_inner).admit(STATE);
            if let Some(suppressed) = admitted {
                let suppressed = (suppressed > 0).then_some(suppressed);
                tracing::error!(
                    error.type = STATE,
                    error.message = error_chain(&error),
                    suppressed,
                    "a change of the cache cannot be kept: the next run will not know of it"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests;
