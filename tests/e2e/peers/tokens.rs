//! A token endpoint: tokens are kept as long as they hold, and a secret that is refused is said without being told.

use serde_json::{Value, json};

use super::{Server, request, rows};
use crate::process::Ended;

/// Asks for what is guarded, with tokens that hold so many seconds. Returns how the flow ended, and what was asked for.
fn run(lifetime: &str, secret: &str, count: usize) -> (Ended, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start("server.py", &["--lifetime", lifetime], folder.path());
    let at = format!("http://127.0.0.1:{}", server.port);
    let keys = format!(
        "endpoint: {at}/guarded
        auth: {{oauth2: {{token_url: \"{at}/token\", client_id: client, client_secret: {secret}}}}}"
    );
    let events: Vec<_> = (0..count).map(|n| json!({"n": n})).collect();
    let ended = request(folder.path(), "logging: {level: trace}", &keys, &events);
    assert!(!ended.stderr.contains("m4rker"), "{}", ended.stderr);
    (ended, server.asked())
}

fn tokens(numbers: impl IntoIterator<Item = usize>) -> Vec<Value> {
    numbers.into_iter().map(|token| json!({"token": token})).collect()
}

#[test]
fn a_token_is_asked_for_once_as_long_as_it_holds() {
    let (ended, asked) = run("3600", "m4rker-secret", 10);
    assert_eq!(rows(&ended), tokens([1; 10]), "{}", ended.stderr);
    assert_eq!(asked.iter().filter(|line| *line == "POST /token").count(), 1, "{asked:?}");
}

#[test]
fn a_token_that_has_expired_is_replaced_before_it_is_sent() {
    let (ended, asked) = run("0", "m4rker-secret", 3);
    assert_eq!(rows(&ended), tokens(1..=3), "{}", ended.stderr);
    let expected = ["POST /token", "GET /guarded"].repeat(3);
    assert_eq!(asked, expected);
}

#[test]
fn a_secret_that_is_refused_fails_the_event_and_nothing_is_sent_without_a_token() {
    let (ended, asked) = run("3600", "m4rker-wrong", 1);
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert_eq!(ended.only("event failed")["error.type"], "oauth2", "{}", ended.stderr);
    assert_eq!(asked, ["POST /token"]);
}
