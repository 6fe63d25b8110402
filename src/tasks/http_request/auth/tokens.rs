//! The token of a task: asked for once, by however many requests at a time, and again ahead of its end.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{Shared, WeakShared},
};
use reqwest::header::{HeaderMap, HeaderValue};
use tokio::time::Instant;

use super::oauth2::TokenEndpoint;
use crate::{
    event::Event, task::TaskError, tasks::http_request::headers, telemetry::Propagators, trace::TraceContext,
};

/// How long before its end a token is asked for anew; not more than a tenth of its life.
const AHEAD: Duration = Duration::from_secs(60);

/// How long it takes at least until a token that still holds is asked for again.
const PAUSE: Duration = Duration::from_secs(1);

/// The longest life of a token that clocks can tell.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// A token.
#[derive(Debug)]
pub(in super::super) struct Token {
    pub(super) header: HeaderValue,
    pub(super) expires: Instant,
    /// When to ask for another one.
    refresh: Instant,
}

impl Token {
    pub(super) fn new(header: HeaderValue, asked: Instant, lifetime: Duration) -> Self {
        let lifetime = lifetime.min(LONGEST);
        let expires = asked + lifetime;
        Self { header, expires, refresh: expires - AHEAD.min(lifetime / 10) }
    }
}

type Answer = Result<Arc<Token>, TaskError>;
type Asking = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// The token of a task.
pub(in super::super) struct Tokens(Arc<Inner>);

struct Inner {
    endpoint: TokenEndpoint,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    token: Option<Arc<Token>>,
    /// When the token may be asked for anew, if that has just failed.
    paused: Option<Instant>,
    /// What everyone waits for. Gone if nobody does.
    asking: Option<WeakShared<Asking>>,
}

impl Tokens {
    pub(super) fn new(endpoint: TokenEndpoint) -> Self {
        Self(Arc::new(Inner { endpoint, state: Mutex::default() }))
    }

    /// Returns a token that holds, and is not the `stale` one.
    pub(super) async fn get(
        &self,
        event: &Event,
        propagators: Propagators,
        stale: Option<Arc<Token>>,
    ) -> Answer {
        let (asking, known) = {
            let mut state = self.0.lock();
            if stale.is_some_and(|stale| state.token.as_ref().is_some_and(|token| Arc::ptr_eq(token, &stale))) {
                state.token = None;
            }
            let now = Instant::now();
            let known = state.token.clone().filter(|token| now < token.expires);
            let is_fresh = |token: &Arc<Token>| now < token.refresh || state.paused.is_some_and(|until| now < until);
            match known {
                Some(token) if is_fresh(&token) => return Ok(token),
                known => (self.join(&mut state, event, propagators), known),
            }
        };
        // While one holds that was asked for before, a failure can wait.
        match (asking.await, known) {
            (Err(_), Some(token)) => Ok(token),
            (answer, _) => answer,
        }
    }

    /// Returns what is being asked, or begins to.
    fn join(&self, state: &mut State, event: &Event, propagators: Propagators) -> Shared<Asking> {
        if let Some(asking) = state.asking.as_ref().and_then(WeakShared::upgrade) {
            return asking;
        }
        let headers: HeaderMap = headers::of_trace(propagators, event).collect();
        let asking: Asking = Box::pin(ask(Arc::clone(&self.0), headers, event.trace));
        let asking = asking.shared();
        state.asking = asking.downgrade();
        asking
    }
}

async fn ask(inner: Arc<Inner>, headers: HeaderMap, context: TraceContext) -> Answer {
    let answer = inner.endpoint.ask(headers, context).await.map(Arc::new);
    let mut state = inner.lock();
    state.asking = None;
    match &answer {
        Ok(token) => {
            state.token = Some(Arc::clone(token));
            state.paused = None;
        }
        Err(_) => {
            let now = Instant::now();
            let left = state.token.as_ref().map(|token| token.expires.saturating_duration_since(now));
            state.paused = left.map(|left| now + (left / 2).max(PAUSE));
        }
    }
    answer
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
