//! Asks for tokens: the client credentials grant of OAuth 2.0 (RFC 6749, section 4.4).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use reqwest::{
    Client, Method, Request, StatusCode, Url,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue},
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;
use url::form_urlencoded::{Serializer, byte_serialize};

use super::{basic_header, bearer_header, tokens::Token};
use crate::{
    problem::Problems,
    task::{ErrorClass, TaskError},
    tasks::http_request::{
        durations::{Durations, Timing},
        failure::{Exchange, OAUTH2},
        response::{Reading, ResponseType, Shape},
    },
    telemetry::Secret,
    trace::TraceContext,
};

/// How long the answer of a token endpoint may be.
const MAX_ANSWER: usize = 256 << 10;

const READING: Reading = Reading { response_type: ResponseType::Auto, shape: Shape::Body, limit: MAX_ANSWER };

/// How long a token holds whose endpoint does not say so.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(300);

/// What the form holds already.
const TAKEN: [&str; 5] = ["grant_type", "client_id", "client_secret", "scope", "audience"];

/// The errors of a token endpoint, by RFC 6749 section 5.2 and RFC 8707. Any other may hold a secret.
const ERRORS: [&str; 7] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "invalid_target",
];

/// Where a token is to be had, and what for.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// The URL of the token endpoint.
    token_url: String,
    /// The id of the client.
    client_id: String,
    /// The secret of the client.
    client_secret: Secret,
    /// What the token is for.
    #[serde(default)]
    scopes: Vec<String>,
    /// Whom the token is for, where the endpoint wants to know.
    audience: Option<String>,
    /// Further parameters.
    #[serde(default)]
    parameters: BTreeMap<String, Secret>,
    /// How the client shows who it is.
    #[serde(default)]
    #[schemars(extend("default" = "client_secret_basic"))]
    auth_method: AuthMethod,
}

/// How the client shows who it is.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum AuthMethod {
    /// In the header `authorization`.
    #[default]
    ClientSecretBasic,
    /// In the body.
    ClientSecretPost,
}

/// The same as a file of credentials has it.
#[derive(Deserialize)]
pub(super) struct Shared {
    token_url: String,
    client_id: String,
    client_secret: Secret,
    scope: Option<String>,
}

impl From<Shared> for Config {
    fn from(shared: Shared) -> Self {
        Self {
            token_url: shared.token_url,
            client_id: shared.client_id,
            client_secret: shared.client_secret,
            scopes: shared.scope.into_iter().collect(),
            audience: None,
            parameters: BTreeMap::new(),
            auth_method: AuthMethod::ClientSecretPost,
        }
    }
}

impl Config {
    pub(super) fn check(&self, problems: &mut Problems) {
        if self.url().is_none() {
            problems
                .report("auth.oauth2.token_url", "a token endpoint is an `http://` or `https://` URL")
                .hint("without a user and a password: those are `client_id` and `client_secret`");
        }
        for name in self.parameters.keys().filter(|name| TAKEN.contains(&name.as_str())) {
            problems
                .report(&format!("auth.oauth2.parameters.{name}"), format!("`{name}` has a key of its own"))
                .hint("remove it");
        }
    }

    fn url(&self) -> Option<Url> {
        let is_fine = |url: &Url| {
            matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none()
        };
        Url::parse(&self.token_url).ok().filter(is_fine)
    }

    /// Makes what asks for tokens; `None` if there is no such URL.
    pub(super) fn compile(&self, client: Client, durations: Arc<Durations>) -> Option<TokenEndpoint> {
        let secret = self.client_secret.expose();
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        let authorization = match self.auth_method {
            AuthMethod::ClientSecretBasic => {
                // Both are encoded as in a form first.
                let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
                Some(basic_header(&encoded(&self.client_id), &encoded(secret)))
            }
            AuthMethod::ClientSecretPost => {
                form.append_pair("client_id", &self.client_id).append_pair("client_secret", secret);
                None
            }
        };
        if !self.scopes.is_empty() {
            form.append_pair("scope", &self.scopes.join(" "));
        }
        if let Some(audience) = &self.audience {
            form.append_pair("audience", audience);
        }
        for (name, value) in &self.parameters {
            form.append_pair(name, value.expose());
        }
        Some(TokenEndpoint { client, url: self.url()?, form: form.finish(), authorization, durations })
    }
}

/// Asks for tokens.
pub(super) struct TokenEndpoint {
    client: Client,
    url: Url,
    form: String,
    authorization: Option<HeaderValue>,
    durations: Arc<Durations>,
}

impl TokenEndpoint {
    /// Asks for a token, for an event that stands there in its trace.
    pub(super) async fn ask(&self, headers: HeaderMap, context: TraceContext) -> Result<Token, TaskError> {
        let request = self.request(headers);
        let exchange = Exchange::of(&request);
        let mut timing = self.durations.begin(&request, context);
        let answered = self.exchange(request, &exchange, &mut timing).await;
        timing.end(answered.as_ref().err().map(TaskError::error_type));
        answered.map_err(no_token)
    }

    fn request(&self, headers: HeaderMap) -> Request {
        let mut request = Request::new(Method::POST, self.url.clone());
        *request.headers_mut() = headers;
        let own = [(CONTENT_TYPE, "application/x-www-form-urlencoded"), (ACCEPT, "application/json")];
        request.headers_mut().extend(own.map(|(name, value)| (name, HeaderValue::from_static(value))));
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        *request.body_mut() = Some(self.form.clone().into());
        request
    }

    async fn exchange(
        &self,
        request: Request,
        exchange: &Exchange,
        timing: &mut Timing<'_>,
    ) -> Result<Token, TaskError> {
        let asked = Instant::now();
        let response = self.client.execute(request).await.map_err(|error| exchange.broken(error))?;
        let status = response.status();
        timing.status(status);
        let unsuccessful = (!status.is_success()).then(|| exchange.unsuccessful(&response));
        let answer = match unsuccessful {
            Some(error) if !tells_why(status) => return Err(error),
            Some(error) => {
                let read = READING.read(response, exchange, &mut { MAX_ANSWER }).await;
                let reason = read.ok().and_then(|answer| reason(answer.body.json()?));
                return Err(match reason {
                    Some(reason) => TaskError::permanent(error.error_type(), format!("{error}, `{reason}`")),
                    None => error,
                });
            }
            None => READING.read(response, exchange, &mut { MAX_ANSWER }).await?,
        };
        token(answer.body.json().unwrap_or(&Value::Null), asked)
            .ok_or_else(|| exchange.undecodable("the body is no token of type `Bearer`"))
    }
}

/// Returns whether an answer of this status says what is wrong with the request.
fn tells_why(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED)
}

/// Returns why a token was refused, if it is one of the reasons that there are.
fn reason(body: &Value) -> Option<&'static str> {
    let given = body.get("error")?.as_str()?;
    ERRORS.into_iter().find(|known| *known == given)
}

/// Reads a token that was asked for at a time.
fn token(body: &Value, asked: Instant) -> Option<Token> {
    let is_bearer = body
        .get("token_type")
        .is_none_or(|kind| kind.as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("bearer")));
    let header = body.get("access_token")?.as_str().filter(|token| is_bearer && !token.is_empty())?;
    let seconds = body.get("expires_in").and_then(|value| match value {
        Value::String(text) => text.parse().ok(),
        value => value.as_u64(),
    });
    let lifetime = seconds.map_or(DEFAULT_LIFETIME, Duration::from_secs);
    Some(Token::new(bearer_header(header)?, asked, lifetime))
}

/// Makes the error of a request that has no token.
fn no_token(error: TaskError) -> TaskError {
    let made = match error.class() {
        ErrorClass::Transient => TaskError::transient(OAUTH2, "no token is to be had for now"),
        _ => TaskError::permanent(OAUTH2, "no token is to be had"),
    };
    let made = match error.retry_after() {
        Some(delay) => made.with_retry_after(delay),
        None => made,
    };
    made.with_source(error)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_token_is_read_as_endpoints_write_it() {
        let asked = Instant::now();
        let expiry =
            |body| token(&body, asked).map(|token: Token| token.expires.duration_since(asked).as_secs());
        assert_eq!(expiry(json!({"access_token": "t", "token_type": "bearer", "expires_in": 60})), Some(60));
        assert_eq!(
            expiry(json!({"access_token": "t", "token_type": "Bearer", "expires_in": "3599"})),
            Some(3599)
        );
        assert_eq!(expiry(json!({"access_token": "t"})), Some(300));
        for wrong in [
            json!({}),
            json!("t"),
            json!({"access_token": ""}),
            json!({"access_token": 1}),
            json!({"access_token": "a\nb"}),
            json!({"access_token": "t", "token_type": "mac"}),
        ] {
            assert_eq!(expiry(wrong.clone()), None, "{wrong}");
        }
    }

    #[test]
    fn only_a_reason_that_is_known_is_shown() {
        assert_eq!(reason(&json!({"error": "invalid_client"})), Some("invalid_client"));
        assert_eq!(reason(&json!({"error": "m4rker"})), None);
        assert_eq!(reason(&json!(["invalid_client"])), None);
    }
}
