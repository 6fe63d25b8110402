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
            if stale.is_some_and(|stale| state.token.as_ref().is_some_and(|token| Arc::ptr_eq(token, &stale)))
            {
                state.token = None;
            }
            let now = Instant::now();
            let known = state.token.clone().filter(|token| now < token.expires);
            let is_fresh =
                |token: &Arc<Token>| now < token.refresh || state.paused.is_some_and(|until| now < until);
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::json;

    use super::*;
    use crate::{
        event::{EventId, Payload},
        task::BuildContext,
        tasks::http_request::{
            auth::oauth2,
            client::{self, Files, ProxyChoice, Settings},
            durations::Durations,
        },
    };

    fn token(age: u64, lifetime: u64) -> Arc<Token> {
        let asked = Instant::now() - Duration::from_secs(age);
        Arc::new(Token::new(HeaderValue::from_static("Bearer known"), asked, Duration::from_secs(lifetime)))
    }

    /// Makes tokens whose endpoint nobody listens at, with one that was had before.
    fn tokens(known: Arc<Token>) -> Tokens {
        let settings = Settings {
            tls: client::connections(&Files::default()).unwrap(),
            proxy: ProxyChoice::None,
            timeout: None,
            connect_timeout: Duration::from_secs(10),
            pool_max_idle_per_host: None,
            pool_idle_timeout: None,
        };
        let config = json!({"token_url": "http://127.0.0.1:1/", "client_id": "c", "client_secret": "s"});
        let durations = Arc::new(Durations::new(&BuildContext::new("f", "t", PathBuf::new())));
        let client = client::build(settings, None).unwrap();
        let config: oauth2::Config = serde_json::from_value(config).unwrap();
        let tokens = Tokens::new(config.compile(client, durations).unwrap());
        tokens.0.lock().token = Some(known);
        tokens
    }

    async fn get(tokens: &Tokens, stale: Option<Arc<Token>>) -> Answer {
        let event = Event::new(EventId::Sequence(0), "s".into(), Payload::from(json!(1)));
        tokens.get(&event, Propagators::default(), stale).await
    }

    #[test]
    fn a_token_is_asked_for_ahead_of_its_end() {
        let ahead = |lifetime| {
            let token = token(0, lifetime);
            (token.expires - token.refresh).as_secs()
        };
        assert_eq!([100, 3600, u64::MAX].map(ahead), [10, 60, 60]);
    }

    /// Scenario: a token is about to expire, and the endpoint is down.
    /// Guarantee: it is used as long as it holds, and the endpoint is not asked again for each request.
    #[tokio::test]
    async fn what_still_holds_is_used_while_no_other_is_to_be_had() {
        let known = token(95, 100);
        let tokens = tokens(Arc::clone(&known));
        assert!(Arc::ptr_eq(&get(&tokens, None).await.unwrap(), &known));
        let paused = tokens.0.lock().paused;
        assert!(paused.is_some_and(|until| until > Instant::now() && until < known.expires));
        assert!(Arc::ptr_eq(&get(&tokens, None).await.unwrap(), &known));
        assert_eq!(tokens.0.lock().paused, paused, "it was not asked again");

        let error = get(&tokens, Some(known)).await.unwrap_err();
        assert_eq!(error.error_type(), "oauth2", "the server has taken it back");
        assert!(tokens.0.lock().token.is_none());
    }

    #[tokio::test]
    async fn what_has_expired_is_not_used() {
        assert!(get(&tokens(token(100, 100)), None).await.is_err());
        let other = token(0, 100);
        let tokens = tokens(token(0, 100));
        assert!(get(&tokens, Some(other)).await.is_ok(), "that is another one than the one that is known");
    }

    /// Scenario: whoever began to ask gives up, as an attempt does whose time is over.
    /// Guarantee: the next one asks anew instead of waiting for nobody.
    #[tokio::test]
    async fn asking_that_nobody_waits_for_is_begun_anew() {
        let tokens = tokens(token(100, 100));
        let event = Event::new(EventId::Sequence(0), "s".into(), Payload::from(json!(1)));
        let (first, second) = {
            let mut state = tokens.0.lock();
            let first = tokens.join(&mut state, &event, Propagators::default());
            (first, tokens.join(&mut state, &event, Propagators::default()))
        };
        assert!(first.ptr_eq(&second), "both wait for the same");
        drop((first, second));
        assert!(tokens.0.lock().asking.as_ref().is_some_and(|asking| asking.upgrade().is_none()));
        assert!(get(&tokens, None).await.is_err());
        assert!(tokens.0.lock().asking.is_none());
    }
}
