//! A set of keys that somebody else may change.
//!
//! It is fetched by the request that needs it: there is no task of its own. One fetches at a time; whoever can do with
//! the keys that are there does not wait for it. Keys that were fetched stay until others were.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync, time::Instant};

use super::{
    KeySet,
    origin::{FetchError, Origin},
};
use crate::{task::BuildError, telemetry::error_chain};

/// How old keys from a URL become.
const MAX_AGE: Duration = Duration::from_secs(10 * 60);

/// How old keys from a file become.
const MAX_FILE_AGE: Duration = Duration::from_secs(3);

/// How long old keys are used without another try once a fetch has failed.
const PAUSE_WHILE_FAILING: Duration = Duration::from_secs(30);

/// How soon another one may fetch where the fetch was given up with the request it was for.
const PAUSE_AFTER_ABANDON: Duration = Duration::from_secs(1);

/// Keys, and when they are to be fetched again.
pub(in crate::tasks::http_endpoint::auth) struct Cached {
    origin: Origin,
    max_age: Duration,
    state: Mutex<State>,
    /// Held by whoever fetches.
    turn: sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    keys: Option<Arc<KeySet>>,
    /// From when on the keys are too old; at once if there is no time.
    old_from: Option<Instant>,
    /// Before when nothing is fetched, whatever key a token names.
    not_before: Option<Instant>,
    is_failing: bool,
}

/// What is to be done for a token.
enum Finding {
    /// To use what there is.
    Settled(Option<Arc<KeySet>>),
    /// To fetch, unless another one does so: there are keys, and they are old.
    Old(Arc<KeySet>),
    /// To fetch: the key is not there.
    Missing,
}

impl Cached {
    /// How often at most keys are fetched because a key is not known.
    pub(in crate::tasks::http_endpoint::auth) const PAUSE: Duration = Duration::from_secs(5);

    /// Reads the keys of a file, which has to be there at first.
    pub(in crate::tasks::http_endpoint::auth) async fn file(path: PathBuf) -> Result<Self, BuildError> {
        let message = format!("cannot use the keys in `{}`", path.display());
        let cached = Self::new(Origin::File(path), MAX_FILE_AGE);
        let keys =
            cached.origin.fetch().await.map_err(|error| BuildError::new(message).with_source(error))?;
        let now = Instant::now();
        *cached.state() = State {
            keys: Some(Arc::new(keys)),
            old_from: Some(now + MAX_FILE_AGE),
            not_before: None,
            is_failing: false,
        };
        Ok(cached)
    }

    /// Fetches the keys of a URL once they are needed.
    pub(in crate::tasks::http_endpoint::auth) async fn url(url: &str) -> Result<Self, BuildError> {
        Ok(Self::new(Origin::url(url).await?, MAX_AGE))
    }

    fn new(origin: Origin, max_age: Duration) -> Self {
        Self { origin, max_age, state: Mutex::default(), turn: sync::Mutex::default() }
    }

    /// Returns the keys for a token that names the key `kid`, or nothing if there are none to be had.
    pub(in crate::tasks::http_endpoint::auth) async fn get(
        &self,
        kid: Option<&str>,
        now: Instant,
    ) -> Option<Arc<KeySet>> {
        match self.find(kid, now) {
            Finding::Settled(keys) => keys,
            Finding::Old(keys) => match self.turn.try_lock() {
                Ok(_turn) => self.fetch(now).await,
                Err(_) => Some(keys),
            },
            Finding::Missing => {
                let _turn = self.turn.lock().await;
                // Another one may have fetched them meanwhile.
                match self.find(kid, now) {
                    Finding::Settled(keys) => keys,
                    Finding::Old(_) | Finding::Missing => self.fetch(now).await,
                }
            }
        }
    }

    fn find(&self, kid: Option<&str>, now: Instant) -> Finding {
        let state = self.state();
        let is_before = |time: Option<Instant>| time.is_some_and(|time| now < time);
        match &state.keys {
            _ if is_before(state.not_before) => Finding::Settled(state.keys.clone()),
            None => Finding::Missing,
            Some(keys) if !keys.knows(kid) => Finding::Missing,
            Some(keys) if is_before(state.old_from) => Finding::Settled(Some(Arc::clone(keys))),
            Some(keys) => Finding::Old(Arc::clone(keys)),
        }
    }

    /// Fetches the keys, and returns those that there are then.
    async fn fetch(&self, now: Instant) -> Option<Arc<KeySet>> {
        let mut attempt = Attempt { cached: self, now, is_over: false };
        let fetched = self.origin.fetch().await;
        attempt.is_over = true;
        let mut state = self.state();
        state.not_before = Some(now + Self::PAUSE.min(self.max_age));
        match fetched {
            Ok(keys) => {
                state.old_from = Some(now + self.max_age);
                state.keys = Some(Arc::new(keys));
                if std::mem::take(&mut state.is_failing) {
                    tracing::info!(
                        keys.origin = self.origin.name(),
                        "the keys of tokens are to be had again"
                    );
                }
            }
            Err(error) => {
                state.old_from = Some(now + PAUSE_WHILE_FAILING.min(self.max_age));
                if !std::mem::replace(&mut state.is_failing, true) {
                    self.complain(&error, state.keys.is_some());
                }
            }
        }
        state.keys.clone()
    }

    /// Says once that keys cannot be fetched, and what that means.
    fn complain(&self, error: &FetchError, has_keys: bool) {
        let effect = if has_keys { "the old ones are used" } else { "every request is refused" };
        tracing::warn!(
            keys.origin = self.origin.name(),
            error.message = error_chain(error),
            "the keys of tokens are not to be had: {effect}"
        );
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A fetch, which may be given up on with the request that waits for it.
struct Attempt<'a> {
    cached: &'a Cached,
    now: Instant,
    is_over: bool,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.cached.state().not_before = Some(self.now + PAUSE_AFTER_ABANDON);
        }
    }
}
