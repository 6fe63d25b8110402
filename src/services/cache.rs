//! The cache of a worker, in memory: bounded by keys and bytes, with a time to live for each key.
//!
//! Three orders over the same entries: by key, by their last use and by the end of their time, each a tree of the
//! standard library, so that every operation takes logarithmic time and a listing no more than it lists. Of the crates
//! at hand none fits: `moka` and `mini-moka` have a clock of their own, which no test can pause; `quick_cache` knows no
//! time at all; `lru`, `hashlink` and `clru` are one of the three orders.
//!
//! One lock: what is done under it takes less time than the rest of a task's work.

mod counted;
mod journal;
mod weight;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::time::Instant;

pub use self::counted::CountedCache;
use self::journal::Journal;
use crate::{
    plan::CacheLimits,
    state::{State, StateError},
    task::{Cache, TooLarge},
};

/// Entries whose time is over that one operation removes at most, besides those that it needs the room of. More than
/// one, so that they become fewer.
const SWEEP: usize = 8;

/// A cache in memory.
#[derive(Debug)]
pub struct MemoryCache {
    limits: CacheLimits,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    by_key: BTreeMap<Arc<str>, Entry>,
    by_use: BTreeMap<u64, Arc<str>>,
    by_end: BTreeSet<(Instant, Arc<str>)>,
    bytes: usize,
    uses: u64,
    /// What keeps every change beyond the worker, if anything does.
    journal: Option<Journal>,
}

#[derive(Debug)]
struct Entry {
    value: Arc<Value>,
    bytes: usize,
    /// When it was used last, as a number that grows.
    used: u64,
    expires: Option<Instant>,
}

impl MemoryCache {
    /// Makes an empty cache.
    pub fn new(limits: CacheLimits) -> Self {
        Self { limits, entries: Mutex::default() }
    }

    /// Makes a cache that holds what the one before it with this state did. Blocks as disks do.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn kept(limits: CacheLimits, state: State) -> Result<Self, StateError> {
        let cache = Self::new(limits);
        let journal = Journal::new(state);
        let mut keys = Vec::new();
        journal.read(|key, value, ttl| {
            keys.push(key.to_owned());
            // The limits may have been others; what has no room is told below.
            let _ = cache.put(key, value, ttl);
        })?;
        let mut entries = cache.entries();
        keys.iter()
            .filter(|key| !entries.by_key.contains_key(key.as_str()))
            .for_each(|key| journal.remove(key));
        entries.journal = Some(journal);
        drop(entries);
        Ok(cache)
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how many keys there are and what they take, with those whose time is over.
    #[cfg(test)]
    fn size(&self) -> (usize, usize) {
        let entries = self.entries();
        (entries.by_key.len(), entries.bytes)
    }
}

impl Cache for MemoryCache {
    fn get(&self, key: &str) -> Option<Arc<Value>> {
        let now = Instant::now();
        let mut entries = self.entries();
        entries.sweep(now);
        if !entries.by_key.get(key)?.is_alive(now) {
            entries.remove(key);
            return None;
        }
        entries.touch(key)
    }

    fn put(&self, key: &str, value: Value, ttl: Option<Duration>) -> Result<(), TooLarge> {
        let CacheLimits { max_entries, max_bytes, .. } = self.limits;
        let bytes = weight::of(key, &value);
        if bytes > max_bytes {
            return Err(TooLarge { bytes, max_bytes });
        }
        let now = Instant::now();
        // What no clock reaches does not expire.
        let expires = ttl.and_then(|ttl| now.checked_add(ttl));
        let mut entries = self.entries();
        entries.take(key);
        entries.sweep(now);
        while entries.by_key.len() >= max_entries || entries.bytes + bytes > max_bytes {
            if !entries.evict(now) {
                break;
            }
        }
        if let Some(journal) = &entries.journal {
            journal.put(key, &value, ttl);
        }
        entries.insert(key.into(), Entry { value: Arc::new(value), bytes, used: 0, expires });
        Ok(())
    }

    fn delete(&self, key: &str) -> bool {
        let now = Instant::now();
        self.entries().remove(key).is_some_and(|entry| entry.is_alive(now))
    }

    fn list_keys(&self, prefix: &str) -> Vec<Arc<str>> {
        let now = Instant::now();
        let entries = self.entries();
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let listed = entries.by_key.range::<str, _>(from).take_while(|(key, _)| key.starts_with(prefix));
        listed.filter(|(_, entry)| entry.is_alive(now)).map(|(key, _)| Arc::clone(key)).collect()
    }
}

impl Entry {
    fn is_alive(&self, now: Instant) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

impl Entries {
    fn insert(&mut self, key: Arc<str>, entry: Entry) {
        self.uses += 1;
        self.bytes += entry.bytes;
        self.by_use.insert(self.uses, Arc::clone(&key));
        if let Some(expires) = entry.expires {
            self.by_end.insert((expires, Arc::clone(&key)));
        }
        self.by_key.insert(key, Entry { used: self.uses, ..entry });
    }

    /// Notes that `key` is used, and returns its value.
    fn touch(&mut self, key: &str) -> Option<Arc<Value>> {
        let entry = self.by_key.get_mut(key)?;
        let key = self.by_use.remove(&entry.used)?;
        self.uses += 1;
        entry.used = self.uses;
        self.by_use.insert(self.uses, key);
        Some(Arc::clone(&entry.value))
    }

    /// Removes a key for good.
    fn remove(&mut self, key: &str) -> Option<Entry> {
        let entry = self.take(key)?;
        if let Some(journal) = &self.journal {
            journal.remove(key);
        }
        Some(entry)
    }

    /// Removes a key, which is to have another value.
    fn take(&mut self, key: &str) -> Option<Entry> {
        let (key, entry) = self.by_key.remove_entry(key)?;
        self.bytes -= entry.bytes;
        self.by_use.remove(&entry.used);
        if let Some(expires) = entry.expires {
            self.by_end.remove(&(expires, key));
        }
        Some(entry)
    }

    /// Removes some of those whose time is over.
    fn sweep(&mut self, now: Instant) {
        for _ in 0..SWEEP {
            if !self.remove_expired(now) {
                return;
            }
        }
    }

    fn remove_expired(&mut self, now: Instant) -> bool {
        let Some((_, key)) = self.by_end.first().filter(|(expires, _)| *expires <= now) else { return false };
        let key = Arc::clone(key);
        self.remove(&key).is_some()
    }

    /// Makes room: of what has expired if there is any, else of what was not used for the longest time.
    fn evict(&mut self, now: Instant) -> bool {
        if self.remove_expired(now) {
            return true;
        }
        let Some((_, key)) = self.by_use.first_key_value() else { return false };
        let key = Arc::clone(key);
        self.remove(&key).is_some()
    }
}

#[cfg(test)]
mod tests;
