//! The memory that the tasks of a worker share.

use std::{fmt, sync::Arc, time::Duration};

use serde_json::Value;

/// Keeps values for tasks, by a key, for all flows of the worker. It may forget any of them at any time.
pub trait Cache: Send + Sync {
    /// Returns the value of `key`, if it is known.
    fn get(&self, key: &str) -> Option<Arc<Value>>;

    /// Keeps `value` in the place of any other that `key` has, for no longer than `ttl`.
    ///
    /// # Errors
    /// It can never be kept. Then `key` is as it was.
    fn put(&self, key: &str, value: Value, ttl: Option<Duration>) -> Result<(), TooLarge>;

    /// Forgets the value of `key`. Returns whether there was one.
    fn delete(&self, key: &str) -> bool;

    /// Returns all keys that begin with `prefix`, in their order.
    fn list_keys(&self, prefix: &str) -> Vec<Arc<str>>;
}

/// A value has no room even in an empty cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key and its value take {bytes} bytes, and the cache has room for {max_bytes}")]
pub struct TooLarge {
    /// What it would take.
    pub bytes: usize,
    /// What there is.
    pub max_bytes: usize,
}

/// Keeps nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCache;

impl Cache for NoCache {
    fn get(&self, _: &str) -> Option<Arc<Value>> {
        None
    }

    fn put(&self, _: &str, _: Value, _: Option<Duration>) -> Result<(), TooLarge> {
        Ok(())
    }

    fn delete(&self, _: &str) -> bool {
        false
    }

    fn list_keys(&self, _: &str) -> Vec<Arc<str>> {
        Vec::new()
    }
}

impl fmt::Debug for dyn Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cache")
    }
}
