use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderValue, StatusCode, header::AUTHORIZATION};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// The moment at which requests come.
pub(super) fn noon() -> Timestamp {
    "2026-06-01T12:00:00Z".parse().unwrap()
}

pub(super) fn build(config: Value) -> Auth {
    let config: Config = serde_json::from_value(config).unwrap();
    let mut problems = Problems::default();
    config.check(&mut problems);
    assert!(problems.is_empty(), "{problems:?}");
    wait(Auth::build(&config, &BuildContext::new("f", "t", ".".into()))).unwrap()
}

/// Waits for what reads files or the network.
pub(super) fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

pub(super) fn headers<const N: usize>(pairs: [(&'static str, &str); N]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(name, HeaderValue::try_from(value).unwrap());
    }
    headers
}

pub(super) fn admit(auth: &Auth, headers: &HeaderMap) -> Result<Principal, Refusal> {
    wait(auth.admit(headers, noon()))
}

/// Returns status, challenge and reason of a refusal, on one line.
pub(super) fn refused<T: std::fmt::Debug>(result: Result<T, Refusal>) -> String {
    let refusal = result.unwrap_err();
    let challenge = refusal.challenge.as_ref().map_or("none", |challenge| challenge.to_str().unwrap());
    format!("{} | {challenge} | {}", refusal.status.as_u16(), refusal.reason)
}

/// Returns what is wrong with a configuration, one line each.
pub(super) fn problems(config: Value) -> Vec<String> {
    let mut problems = Problems::default();
    serde_json::from_value::<Config>(config).unwrap().check(&mut problems);
    problems.into_vec().iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect()
}

fn basic(pair: &str) -> HeaderMap {
    headers([("authorization", &format!("Basic {}", STANDARD.encode(pair)))])
}

#[test]
fn any_of_the_bearer_tokens_admits_and_nothing_else() {
    let auth = build(json!({"bearer": {"tokens": ["first-token", "second~token=="]}}));
    for given in ["Bearer first-token", "bearer second~token==", "BEARER  first-token "] {
        let principal = admit(&auth, &headers([("authorization", given)])).unwrap();
        assert_eq!(principal.into_meta(), json!({"scheme": "bearer"}), "{given}");
    }
    let invalid = "401 | Bearer realm=\"flowgen\", error=\"invalid_token\", error_description=\"the token is not known\" | the token is not known";
    for given in ["Bearer first-toke", "Bearer first-tokens", "Bearer ", "Bearer first-token second~token=="]
    {
        assert_eq!(refused(admit(&auth, &headers([("authorization", given)]))), invalid, "{given}");
    }
    let missing = "401 | Bearer realm=\"flowgen\" | the request does not say who it is from";
    assert_eq!(refused(admit(&auth, &HeaderMap::new())), missing);
    let other = "401 | Bearer realm=\"flowgen\" | the request says in another way who it is from";
    for given in ["Basic first-token", "Bearerfirst-token", "Bearer", "", "first-token"] {
        assert_eq!(refused(admit(&auth, &headers([("authorization", given)]))), other, "{given}");
    }
    let twice = headers([("authorization", "Bearer first-token"), ("authorization", "Bearer wrong")]);
    assert_eq!(admit(&auth, &twice).unwrap_err().status, StatusCode::BAD_REQUEST);
}

#[test]
fn a_user_is_known_by_name_and_password_together() {
    let auth =
        build(json!({"basic": {"users": {"alice": "wonder:land", "jürgen": "größe", "": "nameless"}}}));
    for (pair, name) in [("alice:wonder:land", "alice"), ("jürgen:größe", "jürgen"), (":nameless", "")] {
        let principal = admit(&auth, &basic(pair)).unwrap();
        assert_eq!(principal.into_meta(), json!({"scheme": "basic", "name": name}));
    }
    let unpadded = STANDARD.encode("alice:wonder:land");
    let unpadded = format!("basic {}", unpadded.trim_end_matches('='));
    assert!(admit(&auth, &headers([("authorization", &unpadded)])).is_ok());
    let unknown = "401 | Basic realm=\"flowgen\", charset=\"UTF-8\" | name and password are not known";
    for pair in
        ["alice:größe", "bob:wonder:land", "alice", "alice:", ":", "", "alice:wonder", "alice:wonder:land\n"]
    {
        assert_eq!(refused(admit(&auth, &basic(pair))), unknown, "{pair}");
    }
    let broken = headers([("authorization", "Basic alice:wonder:land")]);
    assert!(refused(admit(&auth, &broken)).ends_with("name and password are not encoded as they should be"));
}

#[test]
fn a_key_is_looked_for_in_its_header_alone() {
    let auth = build(json!({"api_key": {"header": "X-Token", "keys": ["one two", "three"]}}));
    for key in ["one two", "three"] {
        assert_eq!(
            admit(&auth, &headers([("x-token", key)])).unwrap().into_meta(),
            json!({"scheme": "api_key"})
        );
    }
    let challenge = "401 | ApiKey realm=\"flowgen\", header=\"x-token\"";
    assert_eq!(
        refused(admit(&auth, &headers([("x-token", "four")]))),
        format!("{challenge} | the key is not known")
    );
    let missing = format!("{challenge} | the request does not say who it is from");
    assert_eq!(
        refused(admit(&auth, &headers([("x-api-key", "three"), ("authorization", "Bearer three")]))),
        missing
    );
    assert!(admit(&build(json!({"api_key": {"keys": ["k"]}})), &headers([("x-api-key", "k")])).is_ok());
}

#[test]
fn only_a_signature_needs_the_body() {
    assert!(!build(json!({"bearer": {"tokens": ["t"]}})).needs_body());
    assert!(build(json!({"hmac": {"format": "github", "secret": "s"}})).needs_body());
}

#[test]
fn every_mistake_is_reported_at_its_key() {
    assert_eq!(problems(json!({})), [": nobody could call"]);
    assert_eq!(
        problems(json!({"bearer": {"tokens": []}, "basic": {"users": {}}})),
        [
            ": there is more than one way to tell who calls",
            "bearer.tokens: nobody could call",
            "basic.users: nobody could call"
        ]
    );
    assert_eq!(
        problems(json!({"bearer": {"tokens": ["ok", "", "a b", "===", "größe"]}})),
        [1, 2, 3, 4].map(|n| format!("bearer.tokens[{n}]: no caller can send this token"))
    );
    assert_eq!(
        problems(json!({"basic": {"users": {"a:b": "p", "c.d": "", "ok": "fine: really"}}})),
        [
            "basic.users.a:b: a name holds neither a colon nor a control character",
            "basic.users.c.d: a password is not empty and holds no control character",
        ]
    );
    assert_eq!(
        problems(json!({"api_key": {"header": "x y", "keys": ["ok", "", " k", "a\nb"]}})),
        [
            "api_key.header: `x y` is no name of a header",
            "api_key.keys[1]: no caller can send this key in a header",
            "api_key.keys[2]: no caller can send this key in a header",
            "api_key.keys[3]: no caller can send this key in a header",
        ]
    );
    assert_eq!(problems(json!({"api_key": {"keys": []}})), ["api_key.keys: nobody could call"]);
}

#[test]
fn neither_a_problem_nor_a_debug_text_shows_a_secret() {
    let secret = "hunter2 \u{1}";
    let config = json!({"bearer": {"tokens": [secret]}, "basic": {"users": {"u": secret}}, "api_key": {"keys": [secret]},
        "hmac": {"format": "stripe", "algorithm": "sha1", "secret": secret}, "jwt": {"keys": [{"algorithm": "HS256", "secret": secret}]}});
    let config: Config = serde_json::from_value(config).unwrap();
    let mut problems = Problems::default();
    config.check(&mut problems);
    let told = format!("{config:?} {:?}", problems.into_vec());
    assert!(told.contains("HS256") && !told.contains("hunter2"), "{told}");
}

proptest! {
    /// Scenario: any bytes as a header. Guarantee: no panic, and only what was configured is admitted.
    #[test]
    fn what_is_not_configured_is_never_admitted(value in prop::collection::vec(any::<u8>(), 0..80), scheme in "(Bearer|Basic|bearer) ?") {
        let auths = [
            build(json!({"bearer": {"tokens": ["correct-token"]}})),
            build(json!({"basic": {"users": {"alice": "correct"}}})),
            build(json!({"api_key": {"header": "authorization", "keys": ["correct-key"]}})),
        ];
        for value in [value.clone(), [scheme.as_bytes(), &value].concat()] {
            let Ok(value) = HeaderValue::from_bytes(&value) else { continue };
            let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
            for auth in &auths {
                prop_assert!(admit(auth, &headers).is_err());
            }
        }
    }

    /// Scenario: any user and password, and a request of another pair. Guarantee: the first is admitted by name, and the
    /// other is not, wherever the colon is.
    #[test]
    fn a_pair_is_not_mistaken_for_another(name in "[^:\\pC]{0,12}", password in "\\PC{1,12}", other in "\\PC{0,24}") {
        let auth = build(json!({"basic": {"users": {&name: &password}}}));
        let principal = admit(&auth, &basic(&format!("{name}:{password}"))).unwrap();
        prop_assert_eq!(principal.name.as_deref(), Some(name.as_str()));
        if other != format!("{name}:{password}") {
            prop_assert!(admit(&auth, &basic(&other)).is_err());
        }
    }
}
