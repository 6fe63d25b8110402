use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn cors(config: Value) -> Cors {
    Cors::new(&serde_json::from_value(config).unwrap(), &Method::POST)
}

fn headers<const N: usize>(pairs: [(&'static str, &str); N]) -> HeaderMap {
    let pair = |(name, value): (&'static str, &str)| {
        (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
    };
    pairs.map(pair).into_iter().collect()
}

/// Shows headers in order, one a line.
fn shown(headers: &HeaderMap) -> Vec<String> {
    let mut lines: Vec<_> =
        headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    lines.sort();
    lines
}

fn asking(origin: &str) -> HeaderMap {
    headers([("origin", origin), ("access-control-request-method", "POST")])
}

#[test]
fn a_preflight_of_an_allowed_origin_learns_what_it_may() {
    let cors = cors(
        json!({"allow_origins": ["https://a.example", "https://b.example"], "allow_headers": ["content-type", "authorization"],
        "expose_headers": ["x-request-id"], "allow_credentials": true, "max_age": "10m"}),
    );
    let answer = cors.preflight(&asking("https://b.example")).unwrap();
    assert_eq!(
        shown(&answer),
        [
            "access-control-allow-credentials: true",
            "access-control-allow-headers: content-type, authorization",
            "access-control-allow-methods: POST",
            "access-control-allow-origin: https://b.example",
            "access-control-max-age: 600",
            "vary: origin, access-control-request-method, access-control-request-headers",
        ]
    );
    let mut response = headers([("vary", "accept-encoding")]);
    cors.apply(&headers([("origin", "https://a.example")]), &mut response);
    assert_eq!(
        shown(&response),
        [
            "access-control-allow-credentials: true",
            "access-control-allow-origin: https://a.example",
            "access-control-expose-headers: x-request-id",
            "vary: accept-encoding",
            "vary: origin",
        ]
    );
}

#[test]
fn other_origins_learn_nothing_and_caches_are_told_apart() {
    let cors = cors(json!({"allow_origins": ["https://a.example"]}));
    for origin in [
        "https://evil.example",
        "https://a.example.evil.example",
        "http://a.example",
        "https://A.example",
        "null",
        "",
    ] {
        let answer = cors.preflight(&asking(origin)).unwrap();
        assert_eq!(
            shown(&answer),
            ["vary: origin, access-control-request-method, access-control-request-headers"]
        );
        let mut response = HeaderMap::new();
        cors.apply(&headers([("origin", origin)]), &mut response);
        assert_eq!(shown(&response), ["vary: origin"], "{origin}");
    }
    let mut twice = asking("https://a.example");
    twice.append(ORIGIN, HeaderValue::from_static("https://evil.example"));
    assert_eq!(cors.preflight(&twice).unwrap().len(), 1);
}

#[test]
fn a_star_is_the_same_for_everybody() {
    let cors = cors(json!({"allow_origins": ["*"]}));
    let mut response = HeaderMap::new();
    cors.apply(&headers([("origin", "https://a.example")]), &mut response);
    assert_eq!(shown(&response), ["access-control-allow-origin: *"]);
    let mut response = HeaderMap::new();
    cors.apply(&HeaderMap::new(), &mut response);
    assert_eq!(shown(&response), Vec::<String>::new());
}

#[test]
fn what_is_no_preflight_is_not_answered() {
    let cors = cors(json!({"allow_origins": ["*"]}));
    let full = asking("https://a.example");
    assert!(cors.preflight(&headers([("origin", "https://a.example")])).is_none());
    assert!(cors.preflight(&headers([("access-control-request-method", "POST")])).is_none());
    assert!(cors.preflight(&full).is_some());
}

fn problems(config: Value) -> Vec<String> {
    let mut problems = Problems::default();
    serde_json::from_value::<Config>(config).unwrap().check(&mut problems);
    let told = problems.into_vec();
    told.iter()
        .map(|one| format!("{}: {} | {}", one.path, one.message, one.hint.as_deref().unwrap_or_default()))
        .collect()
}

#[test]
fn what_no_browser_would_heed_is_found_at_load() {
    let wanted = "a scheme and a host, and a port if it is not the usual one: `https://shop.example.com`";
    let origins = [
        "https://a.example",
        "https://a.example/",
        "https://A.example",
        "a.example",
        "null",
        "https://a.example:443",
        "http://localhost:3000",
    ];
    assert_eq!(
        problems(json!({"allow_origins": origins})),
        [
            "allow_origins[1]: `https://a.example/` is no origin | a browser sends `https://a.example`",
            "allow_origins[2]: `https://A.example` is no origin | a browser sends `https://a.example`",
            &format!("allow_origins[3]: `a.example` is no origin | {wanted}"),
            &format!("allow_origins[4]: `null` is no origin | {wanted}"),
            "allow_origins[5]: `https://a.example:443` is no origin | a browser sends `https://a.example`",
        ]
    );
    assert_eq!(
        problems(json!({"allow_origins": ["*"], "allow_headers": ["*"], "allow_credentials": true})),
        [
            "allow_origins: `*` cannot stand beside `allow_credentials` | name each of them",
            "allow_headers: `*` cannot stand beside `allow_credentials` | name each of them",
        ]
    );
    assert_eq!(
        problems(
            json!({"allow_origins": [], "allow_methods": ["post"], "allow_headers": ["x y"], "expose_headers": ["*", "a"]})
        ),
        [
            "allow_origins: no origin is allowed | name one, or leave `cors` out",
            "expose_headers: `*` stands beside others | `*` alone means all",
            "allow_methods[0]: `post` is no method | methods are written in capitals: `POST`",
            "allow_headers[0]: `x y` is no name of a header | ",
        ]
    );
}

proptest! {
    /// Scenario: any origin. Guarantee: no panic, and only what is on the list is ever allowed.
    #[test]
    fn only_what_is_on_the_list_is_allowed(origin in prop::collection::vec(any::<u8>(), 0..60)) {
        let cors = cors(json!({"allow_origins": ["https://a.example"], "allow_credentials": true}));
        let Ok(value) = HeaderValue::from_bytes(&origin) else { return Ok(()) };
        let mut request = headers([("access-control-request-method", "POST")]);
        request.insert(ORIGIN, value);
        let mut response = HeaderMap::new();
        cors.apply(&request, &mut response);
        let is_allowed = origin == b"https://a.example";
        prop_assert_eq!(response.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN), is_allowed);
        prop_assert_eq!(response.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS), is_allowed);
        let answer = cors.preflight(&request).unwrap();
        prop_assert_eq!(answer.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN), is_allowed);
    }

    /// Scenario: any text as an origin. Guarantee: what the check lets pass is what a browser sends.
    #[test]
    fn an_origin_that_is_let_pass_is_one(origin in "\\PC{0,40}|https?://[a-zA-Z0-9.:\\[\\]/@-]{0,30}") {
        if check_origin(&origin).is_ok() {
            let url = Url::parse(&origin).unwrap();
            prop_assert_eq!(url.origin().ascii_serialization(), origin.clone());
            prop_assert!(HeaderValue::try_from(origin.as_str()).is_ok());
        }
    }
}
