//! As whom requests are made, and where tokens come from.

use std::{
    net::TcpListener,
    sync::atomic::{AtomicUsize, Ordering},
};

use serde_json::{Value, json};

use super::{ONE, assert_completed, assert_failed, assert_given_up, call, call_with, events};
use crate::support::http::{self, Reply, Request, Server, response};

/// A token endpoint whose tokens are `t0`, `t1` and so on, and hold for so many seconds.
fn tokens(seconds: u64) -> Server {
    Server::start(move |n, _| token(n, seconds))
}

fn token(n: usize, seconds: u64) -> Reply {
    http::json(json!({"access_token": format!("t{n}"), "token_type": "Bearer", "expires_in": seconds}))
}

fn oauth2(tokens: &Server, more: &str) -> String {
    let url = format!("http://{}/token", tokens.address);
    format!(
        "endpoint: http://HOST\nauth: {{oauth2: {{token_url: '{url}', client_id: 'a b', client_secret: 's:3'{more}}}}}"
    )
}

fn authorization(request: &Request) -> &str {
    request.header("authorization").unwrap_or_default()
}

#[test]
fn what_is_known_is_sent_and_no_retry_loses_it() {
    let file = |content: Value| ("credentials.json", content.to_string());
    let from_file = "credentials_path: credentials.json";
    let basic = "Basic dTpwOnE=";
    for (keys, (name, content), expected) in [
        ("auth: {bearer: {token: t-1}}", ("", String::new()), "Bearer t-1"),
        ("auth: {basic: {user: u, password: 'p:q'}}", ("", String::new()), basic),
        (from_file, file(json!({"bearer_auth": "t-2"})), "Bearer t-2"),
        (from_file, file(json!({"basic_auth": {"username": "u", "password": "p:q"}})), basic),
    ] {
        let server = Server::start(|n, _| if n == 0 { response("503 Busy", "") } else { http::json(n) });
        let files: Vec<_> =
            Some((name, &*content)).filter(|(name, _)| !name.is_empty()).into_iter().collect();
        let ended = call_with(&server, &format!("endpoint: http://HOST\n{keys}"), ONE, &files);
        assert_completed(&ended, &[json!(1)]);
        assert!(server.requests().iter().all(|request| authorization(request) == expected), "{keys}");
    }
}

#[test]
fn a_file_without_credentials_stops_the_start_and_is_not_shown() {
    let server = Server::start(|n, _| http::json(n));
    let keys = "endpoint: http://HOST\ncredentials_path: credentials.json";
    for content in ["{\"bearer_auth\": 4711}", "{\"token\": \"m4rker\"}", "m4rker"] {
        let ended = call_with(&server, keys, ONE, &[("credentials.json", content)]);
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        assert!(ended.stderr.contains("credentials.json"), "{}", ended.stderr);
        assert!(!ended.stderr.contains("m4rker") && !ended.stderr.contains("4711"), "{}", ended.stderr);
    }
    assert_eq!(call(&server, keys, ONE).code, Some(1), "there is no such file");
}

#[test]
fn one_token_is_asked_for_however_many_requests_wait_for_it() {
    let tokens = tokens(3600);
    let server = Server::start(|_, request| http::json(authorization(request)));
    let more = ", scopes: [read, write], audience: api, parameters: {resource: 'urn:x'}";
    let keys = format!("{}\nconcurrency: 16", oauth2(&tokens, more));
    let ended = call(&server, &keys, &events(64));
    assert_completed(&ended, &vec![json!("Bearer t0"); 64]);
    let asked = tokens.requests();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].line, "POST /token");
    let form = "grant_type=client_credentials&scope=read+write&audience=api&resource=urn%3Ax";
    assert_eq!(asked[0].body, form);
    assert_eq!(authorization(&asked[0]), "Basic YStiOnMlM0Ez", "a+b:s%3A3");
    assert_eq!(asked[0].header("content-type"), Some("application/x-www-form-urlencoded"));
}

#[test]
fn the_secret_goes_into_the_body_where_the_endpoint_wants_it() {
    let tokens = tokens(3600);
    let server = Server::start(|n, _| http::json(n));
    assert_completed(&call(&server, &oauth2(&tokens, ", auth_method: client_secret_post"), ONE), &[json!(0)]);
    let shared = json!({"oauth2_client_credentials": {
        "token_url": format!("http://{}/token", tokens.address),
        "client_id": "a b", "client_secret": "s:3", "scope": "x y",
    }});
    let keys = "endpoint: http://HOST\ncredentials_path: c.json";
    assert_completed(&call_with(&server, keys, ONE, &[("c.json", &shared.to_string())]), &[json!(1)]);
    let asked = tokens.requests();
    let form = "grant_type=client_credentials&client_id=a+b&client_secret=s%3A3";
    assert_eq!([&*asked[0].body, &*asked[1].body], [form.to_owned(), format!("{form}&scope=x+y")]);
    assert!(asked.iter().all(|request| request.header("authorization").is_none()));
}

#[test]
fn a_token_that_has_expired_is_not_sent() {
    let tokens = tokens(0);
    let server = Server::start(|_, request| http::json(authorization(request)));
    let expected: Vec<_> = (0..3).map(|n| json!(format!("Bearer t{n}"))).collect();
    assert_completed(&call(&server, &oauth2(&tokens, ""), &events(3)), &expected);
}

/// Scenario: the server takes back the token in the middle, while many requests are under way.
/// Guarantee: one new token is asked for, each request is made once more with it, and no event notices.
#[test]
fn a_token_that_is_taken_back_is_renewed_once_for_all() {
    let tokens = tokens(3600);
    let server = Server::start(|n, request| match authorization(request) {
        "Bearer t0" if n >= 20 => response("401 Unauthorized", ""),
        _ => http::json(serde_json::from_str::<Value>(&request.body).unwrap()),
    });
    let keys =
        format!("{}\nmethod: POST\npayload: {{from_event: true}}\nconcurrency: 8", oauth2(&tokens, ""));
    let ended = call(&server, &keys, &events(60));
    assert_completed(&ended, &(0..60).map(|n| json!({"n": n})).collect::<Vec<_>>());
    assert_eq!(tokens.requests().len(), 2);
    assert!(ended.logged("attempt failed, trying again").is_empty(), "{}", ended.stderr);
    let refused = server.requests().len() - 60;
    assert!((1..=8).contains(&refused), "{refused} were made twice");
}

#[test]
fn a_server_that_wants_no_token_fails_after_one_renewal() {
    let tokens = tokens(3600);
    let server = Server::start(|_, _| response("401 Unauthorized", ""));
    assert_failed(&call(&server, &oauth2(&tokens, ""), ONE), "401");
    assert_eq!((server.requests().len(), tokens.requests().len()), (2, 2));
    let server = Server::start(|_, _| response("401 Unauthorized", ""));
    assert_failed(&call(&server, "endpoint: http://HOST\nauth: {bearer: {token: t}}", ONE), "401");
    assert_eq!(server.requests().len(), 1, "this one cannot be renewed");
}

#[test]
fn an_endpoint_that_is_down_is_tried_again_and_one_that_refuses_is_not() {
    let server = Server::start(|n, _| http::json(n));
    let recovers = Server::start(|n, _| match n {
        0 => response("503 Busy", ""),
        1 => Reply::Close(Vec::new()),
        _ => token(n, 60),
    });
    assert_completed(&call(&server, &oauth2(&recovers, ""), ONE), &[json!(0)]);

    let down = Server::start(|_, _| response("503 Busy", ""));
    let message =
        assert_given_up(&call(&server, &format!("{}\non_error: drop", oauth2(&down, "")), ONE), "oauth2");
    assert!(message.contains(&format!("POST {}: the answer is 503", down.address)), "{message}");

    for (status, body, expected) in [
        (
            "401 Unauthorized",
            r#"{"error":"invalid_client","error_description":"m4rker"}"#,
            "401 Unauthorized, `invalid_client`",
        ),
        ("400 Bad Request", r#"{"error":"m4rker"}"#, "400 Bad Request"),
        ("403 Forbidden", "m4rker", "403 Forbidden"),
        ("200 OK", "{\"token\":\"m4rker\"}", "no token of type `Bearer`"),
        ("200 OK\r\ncontent-type: application/json", "m4rker", "the body is no JSON"),
        ("302 Found\r\nlocation: /m4rker", "", "302 Found"),
    ] {
        let refuses = Server::start(move |_, _| response(status, body));
        let ended = call(&server, &oauth2(&refuses, ""), ONE);
        let message = assert_failed(&ended, "oauth2");
        assert!(message.contains(expected), "{message}");
        assert!(!ended.stderr.contains("m4rker") && !ended.stderr.contains("s:3"), "{}", ended.stderr);
        assert_eq!(refuses.requests().len(), 1, "{status}");
    }
    assert_eq!(server.requests().len(), 1, "nothing was sent without a token");
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let keys = format!(
        "endpoint: http://HOST\non_error: drop\n\
         auth: {{oauth2: {{token_url: 'http://{closed}', client_id: a, client_secret: b}}}}"
    );
    assert_given_up(&call(&server, &keys, ONE), "oauth2");
}

/// Scenario: requests that are redirected to another host, or within the host.
/// Guarantee: the credentials go with those that stay, and no others.
#[test]
fn another_host_learns_nothing() {
    let asked = std::sync::Arc::new(AtomicUsize::new(0));
    let other = Server::start(|_, _| http::json("there"));
    let (location, counted) = (format!("http://user:pw@{}/there", other.address), asked.clone());
    let server = Server::start(move |_, request| match &*request.line {
        "GET /" => {
            counted.fetch_add(1, Ordering::Relaxed);
            response("302 Found\r\nlocation: /next", "")
        }
        _ => response(&format!("307 Elsewhere\r\nlocation: {location}"), ""),
    });
    let keys = "endpoint: http://HOST\nheaders: {x-key: secret, accept: text/x}\nauth: {bearer: {token: secret}}\n\
                redirects: {across_hosts: true}\npayload: {from_event: true}";
    assert_completed(&call(&server, keys, ONE), &[json!("there")]);
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    for request in &*server.requests() {
        assert_eq!((authorization(request), request.header("x-key")), ("Bearer secret", Some("secret")));
        assert_eq!(request.body, "{\"n\":1}");
    }
    let seen = other.requests();
    assert_eq!((seen[0].header("accept"), &*seen[0].body), (Some("text/x"), ""));
    assert!(!format!("{:?}", seen[0]).contains("secret"), "{:?}", seen[0]);
    assert_eq!(seen[0].header("authorization"), None);
}
