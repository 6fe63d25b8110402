//! As whom requests are made: `auth`, or the file that `credentials_path` names.

mod file;
mod oauth2;
mod tokens;

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::{
    Client, Request,
    header::{AUTHORIZATION, HeaderValue},
};
use schemars::JsonSchema;
use serde::Deserialize;

pub(super) use file::read;

use self::tokens::{Token, Tokens};
use super::durations::Durations;
use crate::{
    event::Event,
    problem::Problems,
    task::TaskError,
    telemetry::{Propagators, Secret},
};

/// As whom requests are made: one of these.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// A token that is known.
    bearer: Option<Bearer>,
    /// A user and a password.
    basic: Option<Basic>,
    /// A token that is asked for, with the client credentials grant of OAuth 2.0.
    oauth2: Option<oauth2::Config>,
}

/// A token that is known.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Bearer {
    /// The token.
    token: Secret,
}

/// A user and a password.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Basic {
    /// The user, without a colon.
    user: String,
    /// The password.
    password: Secret,
}

impl Config {
    pub(super) fn check(&self, problems: &mut Problems) {
        let given = [self.bearer.is_some(), self.basic.is_some(), self.oauth2.is_some()];
        if given.iter().filter(|given| **given).count() != 1 {
            problems.report("auth", "`auth` has one of `bearer`, `basic` and `oauth2`");
        }
        if let Some(bearer) = &self.bearer
            && (bearer.token.expose().is_empty() || bearer_header(bearer.token.expose()).is_none())
        {
            problems
                .report("auth.bearer.token", "this can be no token")
                .hint("it is empty, or holds a control character such as the end of a line");
        }
        if self.basic.as_ref().is_some_and(|basic| basic.user.contains(':')) {
            problems.report("auth.basic.user", "the name of a user has no colon");
        }
        if let Some(oauth2) = &self.oauth2 {
            oauth2.check(problems);
        }
    }

    /// Makes what is put into requests. Tokens are asked for with `client`.
    pub(super) fn compile(
        &self,
        client: Option<Client>,
        durations: &Arc<Durations>,
        propagators: Propagators,
    ) -> Option<Credentials> {
        if let Some(oauth2) = &self.oauth2 {
            let endpoint = oauth2.compile(client?, Arc::clone(durations))?;
            return Some(Credentials::Tokens(Tokens::new(endpoint), propagators));
        }
        let header = match (&self.bearer, &self.basic) {
            (Some(bearer), _) => bearer_header(bearer.token.expose()),
            (None, Some(basic)) => Some(basic_header(&basic.user, basic.password.expose())),
            (None, None) => None,
        };
        header.map(Credentials::Header)
    }

    /// Returns whether it needs a client to ask for tokens with.
    pub(super) fn asks_for_tokens(&self) -> bool {
        self.oauth2.is_some()
    }
}

/// What is put into requests.
pub(super) enum Credentials {
    Header(HeaderValue),
    Tokens(Tokens, Propagators),
}

impl Credentials {
    /// Puts them into a request. Returns the token, if it is one that can be renewed; `stale` is one that no longer holds.
    pub(super) async fn authorize(
        &self,
        request: &mut Request,
        event: &Event,
        stale: Option<Arc<Token>>,
    ) -> Result<Option<Arc<Token>>, TaskError> {
        match self {
            Self::Header(header) => {
                request.headers_mut().insert(AUTHORIZATION, header.clone());
                Ok(None)
            }
            Self::Tokens(tokens, propagators) => {
                let token = Box::pin(tokens.get(event, *propagators, stale)).await?;
                request.headers_mut().insert(AUTHORIZATION, token.header.clone());
                Ok(Some(token))
            }
        }
    }
}

/// Makes the header of a token, if it can be one.
fn bearer_header(token: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// Makes the header of a user and a password (RFC 7617).
fn basic_header(user: &str, password: &str) -> HeaderValue {
    let text = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    let mut header = HeaderValue::try_from(text).expect("it is printable ASCII");
    header.set_sensitive(true);
    header
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn auth_is_one_thing_and_whole() {
        let count = |config: Value| {
            let mut problems = Problems::default();
            serde_json::from_value::<Config>(config).unwrap().check(&mut problems);
            problems.into_vec().len()
        };
        let oauth2 = json!({"token_url": "https://a/token", "client_id": "c", "client_secret": "s"});
        for fine in [
            json!({"bearer": {"token": "t"}}),
            json!({"basic": {"user": "u", "password": ""}}),
            json!({"oauth2": oauth2}),
        ] {
            assert_eq!(count(fine.clone()), 0, "{fine}");
        }
        for wrong in [
            json!({}),
            json!({"bearer": {"token": "t"}, "oauth2": oauth2}),
            json!({"bearer": {"token": ""}}),
            json!({"bearer": {"token": "a\nb"}}),
            json!({"basic": {"user": "a:b", "password": "p"}}),
        ] {
            assert_eq!(count(wrong.clone()), 1, "{wrong}");
        }
        let bad = json!({"oauth2": {
            "token_url": "ftp://u:p@a", "client_id": "c", "client_secret": "s", "parameters": {"scope": "x"},
        }});
        assert_eq!(count(bad), 2);
    }

    #[test]
    fn no_secret_is_shown() {
        let config = json!({
            "bearer": {"token": "m4rker"},
            "basic": {"user": "u", "password": "m4rker"},
            "oauth2": {
                "token_url": "https://a", "client_id": "c", "client_secret": "m4rker", "parameters": {"key": "m4rker"},
            },
        });
        let shown = format!("{:?}", serde_json::from_value::<Config>(config).unwrap());
        assert!(!shown.contains("m4rker") && shown.contains("***"), "{shown}");
        assert!(
            !format!("{:?} {:?}", bearer_header("m4rker"), basic_header("u", "m4rker")).contains("m4rker")
        );
    }
}
