//! The cache as one flow sees it: what the flow looks for is counted.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use serde_json::Value;

use crate::{
    task::{Cache, TooLarge},
    telemetry::{Counter, Labels, Meter, instruments::CACHE_LOOKUPS},
};

/// A cache that counts the lookups of one flow, `flowgen.cache.lookups`.
pub struct CountedCache {
    cache: Arc<dyn Cache>,
    meter: Meter,
    flow: Arc<str>,
    /// Made with the first lookup: most flows use no cache.
    lookups: OnceLock<Lookups>,
}

struct Lookups {
    hits: Counter,
    misses: Counter,
}

impl CountedCache {
    /// Counts what `flow` looks for in `cache`.
    pub fn new(cache: Arc<dyn Cache>, meter: Meter, flow: Arc<str>) -> Self {
        Self { cache, meter, flow, lookups: OnceLock::new() }
    }

    fn lookups(&self) -> &Lookups {
        self.lookups.get_or_init(|| {
            let counter = |result| {
                let labels = Labels::default().with("flow", Arc::clone(&self.flow)).with("result", result);
                self.meter.counter(&CACHE_LOOKUPS, labels)
            };
            Lookups { hits: counter("hit"), misses: counter("miss") }
        })
    }
}

impl Cache for CountedCache {
    fn get(&self, key: &str) -> Option<Arc<Value>> {
        let found = self.cache.get(key);
        let lookups = self.lookups();
        if found.is_some() {
            lookups.hits.add(1)
        } else {
            lookups.misses.add(1)
        }
        found
    }

    fn put(&self, key: &str, value: Value, ttl: Option<Duration>) -> Result<(), TooLarge> {
        self.cache.put(key, value, ttl)
    }

    fn delete(&self, key: &str) -> bool {
        self.cache.delete(key)
    }

    fn list_keys(&self, prefix: &str) -> Vec<Arc<str>> {
        self.cache.list_keys(prefix)
    }
}

impl fmt::Debug for CountedCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CountedCache({})", self.flow)
    }
}
