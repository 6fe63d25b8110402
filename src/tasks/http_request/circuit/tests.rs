use std::path::PathBuf;

use serde_json::{Value, json};
use tokio::time::advance;

use super::*;

fn circuits(config: Value) -> Circuits {
    let context = BuildContext::new("f", "t", PathBuf::new());
    Circuits::new(serde_json::from_value(config).unwrap(), &context)
}

fn url(host: &str) -> Url {
    format!("http://{host}/x").parse().unwrap()
}

fn down() -> TaskError {
    TaskError::transient("503", "down")
}

/// Makes an attempt that fails; returns what it is refused with.
fn fail(circuits: &Circuits, host: &str) -> Option<TaskError> {
    match circuits.admit(&url(host)) {
        Ok(passage) => {
            passage.end(Some(&down()));
            None
        }
        Err(error) => Some(error),
    }
}

/// Returns for how long an attempt is refused.
fn refused(circuits: &Circuits, host: &str) -> Option<Duration> {
    let error = circuits.admit(&url(host)).err()?;
    assert_eq!((error.class(), error.error_type()), (ErrorClass::Transient, CIRCUIT_OPEN));
    error.retry_after()
}

#[tokio::test(start_paused = true)]
async fn it_opens_after_failures_in_a_row_and_only_then() {
    let circuits = circuits(json!({"failure_threshold": 3, "open_for": "10s"}));
    for _ in 0..5 {
        assert!(fail(&circuits, "a").is_none() && fail(&circuits, "a").is_none());
        // A status that is no use trying again is an answer, too.
        circuits.admit(&url("a")).unwrap().end(Some(&TaskError::permanent("404", "no")));
    }
    for _ in 0..3 {
        assert!(fail(&circuits, "a").is_none());
    }
    assert_eq!(refused(&circuits, "a"), Some(Duration::from_secs(10)));
    advance(Duration::from_secs(4)).await;
    assert_eq!(refused(&circuits, "a"), Some(Duration::from_secs(6)));
    assert!(fail(&circuits, "b").is_none() && fail(&circuits, "a:81").is_none(), "each host has its own");
}

#[tokio::test(start_paused = true)]
async fn half_open_lets_some_through_and_their_end_decides() {
    let circuits = circuits(json!({"failure_threshold": 1, "open_for": "10s", "half_open_requests": 2}));
    fail(&circuits, "a");
    advance(Duration::from_secs(10)).await;
    let (first, second) = (circuits.admit(&url("a")).unwrap(), circuits.admit(&url("a")).unwrap());
    assert_eq!(refused(&circuits, "a"), Some(SHORTLY), "two are under way");
    first.end(None);
    assert_eq!(refused(&circuits, "a"), Some(SHORTLY), "one more has to succeed, and it is under way");
    second.end(Some(&down()));
    assert_eq!(refused(&circuits, "a"), Some(Duration::from_secs(10)));

    advance(Duration::from_secs(10)).await;
    // One that is given up makes room for another.
    drop(circuits.admit(&url("a")).unwrap());
    let (first, second) = (circuits.admit(&url("a")).unwrap(), circuits.admit(&url("a")).unwrap());
    first.end(None);
    second.end(None);
    assert!(circuits.lock().circuits.is_empty(), "it is closed, and nothing is kept of it");
}

#[tokio::test(start_paused = true)]
async fn what_began_before_it_opened_tells_nothing_any_more() {
    let circuits = circuits(json!({"failure_threshold": 1, "open_for": "10s"}));
    let (early, late) = (circuits.admit(&url("a")).unwrap(), circuits.admit(&url("a")).unwrap());
    fail(&circuits, "a");
    early.end(None);
    assert!(refused(&circuits, "a").is_some());
    advance(Duration::from_secs(10)).await;
    let probe = circuits.admit(&url("a")).unwrap();
    late.end(Some(&down()));
    probe.end(None);
    assert_eq!(refused(&circuits, "a"), None);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_not_to_be_had_says_nothing_of_the_server() {
    let circuits = circuits(json!({"failure_threshold": 1}));
    for error_type in [OAUTH2, REFUSED] {
        circuits.admit(&url("a")).unwrap().end(Some(&TaskError::transient(error_type, "no")));
    }
    assert_eq!(refused(&circuits, "a"), None);
}

#[tokio::test(start_paused = true)]
async fn a_template_cannot_make_it_remember_without_limit() {
    let circuits = circuits(json!({"failure_threshold": 2, "open_for": "10s"}));
    fail(&circuits, "first");
    fail(&circuits, "first");
    for n in 0..3 * MAX_HOSTS {
        fail(&circuits, &format!("h{n}"));
    }
    assert!(circuits.lock().circuits.len() <= MAX_HOSTS);
    assert!(refused(&circuits, "first").is_some(), "one that is open is not forgotten");
}
