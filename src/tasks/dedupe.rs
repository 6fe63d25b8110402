//! `dedupe`: passes on the first of all events that have the same key.
//!
//! ```yaml
//! flow:
//!   name: once
//!   tasks:
//!     - generate:
//!         name: orders
//!         count: 3
//!         payload: {order: a-1}
//!     - dedupe:
//!         name: once
//!         key: "{{ event.data.order }}"
//!         ttl: 1h
//!     - stdout:
//!         name: out
//! ```
//!
//! A key counts as seen from the moment on when all that came of its event downstream has succeeded, and for `ttl` from
//! then on: duplicates do not make that longer. If the event fails, expires or is dropped, its key is forgotten, so that
//! the same event is none too many when it is brought in again, and a later one has its chance.
//!
//! An event whose key is still under way is taken for the same event, and shares its fate: it goes no further, and is
//! filtered once the first one has succeeded. If that fails for now, both are brought in again by their sources; if it
//! fails for good, both have failed, and both sources learn it. So nothing is lost, nothing waits for a duplicate, and
//! nothing comes twice of one success. The 1,025th duplicate that waits so makes the task wait too.
//!
//! The keys are those of this task alone and in memory: after a restart, and for the oldest key beyond `max_keys`, a
//! duplicate passes. Put a `dedupe` in front of what must not happen twice, and behind what may fail.

mod seen;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::{sync::Notify, time::Instant};

use self::seen::{Digest, Finding, Seen};
use crate::{
    ack::{Fate, Outcome},
    event::Event,
    problem::Problems,
    task::{BuildContext, BuildError, Kind, Output, Processor, Role, Task, TaskError},
    template::{TEMPLATE, Template},
};

/// Duplicates that wait for the first of their key, at most: as many as a channel holds by default.
const MAX_WAITING: usize = 1024;

/// The `dedupe` kind.
pub(super) struct Dedupe;

/// What makes events the same.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// What events that are the same have in common, a template.
    #[serde(default = "key")]
    #[schemars(extend("default" = "{{ event.id }}"))]
    key: String,
    /// How long a key is remembered.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    ttl: Duration,
    /// How many keys are remembered; beyond it the oldest is forgotten.
    #[serde(default = "max_keys")]
    #[schemars(extend("default" = 100_000))]
    max_keys: usize,
}

fn key() -> String {
    "{{ event.id }}".to_owned()
}

fn max_keys() -> usize {
    100_000
}

impl Kind for Dedupe {
    const NAME: &'static str = "dedupe";
    const ROLE: Role = Role::Processor;
    const SUMMARY: &'static str = "passes on the first of all events that have the same key";
    const ERROR_TYPES: &'static [&'static str] = &[TEMPLATE];
    const IS_SERIAL: bool = true;
    type Config = Config;

    fn check(config: &Config, problems: &mut Problems) {
        match Template::compile(&config.key) {
            Ok(template) if template.as_constant().is_some() => {
                let hint = "name what tells them apart, as in `{{ event.data.order }}`";
                problems.report("key", "`key` is the same for all events").hint(hint);
            }
            Ok(_) => {}
            Err(error) => error.report("key", problems),
        }
        if config.ttl.is_zero() {
            problems.report("ttl", "must be longer than zero");
        }
        if config.max_keys == 0 {
            problems.report("max_keys", "must be at least 1");
        }
    }

    async fn build(config: &Config, _: &BuildContext) -> Result<Task, BuildError> {
        let key = Template::compile(&config.key)
            .map_err(|error| BuildError::new("cannot compile `key`").with_source(error))?;
        let keys = Keys { seen: Mutex::new(Seen::new(config.ttl, config.max_keys)), changed: Notify::new() };
        Ok(Task::Processor(Box::new(Deduplicator { key, keys: Arc::new(keys) })))
    }
}

/// Tells the first event of a key from the others.
struct Deduplicator {
    key: Template,
    keys: Arc<Keys>,
}

struct Keys {
    seen: Mutex<Seen>,
    /// Some that waited do so no longer.
    changed: Notify,
}

impl Keys {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks for a key, and waits as long as too many wait for others.
    async fn find(&self, digest: Digest) -> Finding {
        loop {
            let changed = self.changed.notified();
            match self.seen().find(digest, Instant::now(), MAX_WAITING) {
                Finding::Busy => {}
                finding => return finding,
            }
            changed.await;
        }
    }
}

#[async_trait]
impl Processor for Deduplicator {
    async fn handle(&self, event: &Event, output: &mut Output) -> Result<(), TaskError> {
        let digest = seen::digest(&self.key.render(event)?);
        match self.keys.find(digest).await {
            Finding::First(fate) => {
                let claim =
                    Claim { keys: Arc::clone(&self.keys), digest, fate: fate.clone(), is_done: false };
                output.watch(move |outcome| claim.end(outcome));
                output.decide(fate);
                output.forward();
            }
            Finding::UnderWay(fate) => output.follow(fate),
            Finding::Seen | Finding::Busy => {}
        }
        Ok(())
    }
}

/// The first event of a key, which is under way. Whoever drops it has failed it.
struct Claim {
    keys: Arc<Keys>,
    digest: Digest,
    fate: Fate,
    is_done: bool,
}

impl Claim {
    fn end(mut self, outcome: Outcome) {
        self.is_done = matches!(outcome, Outcome::Completed | Outcome::Filtered);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.keys.seen().end(self.digest, &self.fate, self.is_done, Instant::now());
        self.keys.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
