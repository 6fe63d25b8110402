use std::path::PathBuf;

use serde_json::{Value, json};
use tokio::time::advance;

use super::*;
use crate::problem::KeyPath;

const TTL: Duration = Duration::from_secs(60);

fn seen(max_keys: usize) -> Seen {
    Seen::new(TTL, max_keys)
}

fn find(seen: &mut Seen, key: &str) -> Finding {
    seen.find(seen::digest(key), Instant::now(), 2)
}

fn first(seen: &mut Seen, key: &str) -> Fate {
    match find(seen, key) {
        Finding::First(fate) => fate,
        _ => panic!("`{key}` is known"),
    }
}

fn end(seen: &mut Seen, key: &str, fate: &Fate, is_done: bool) {
    seen.end(seen::digest(key), fate, is_done, Instant::now());
}

fn is_seen(seen: &mut Seen, key: &str) -> bool {
    matches!(find(seen, key), Finding::Seen)
}

#[tokio::test(start_paused = true)]
async fn a_key_is_seen_from_its_success_on_until_its_time_is_over() {
    let mut seen = seen(10);
    let fate = first(&mut seen, "a");
    advance(TTL * 2).await;
    assert!(matches!(find(&mut seen, "a"), Finding::UnderWay(of_key) if of_key.is(&fate)));
    end(&mut seen, "a", &fate, true);
    advance(TTL / 2).await;
    assert!(is_seen(&mut seen, "a"));
    advance(TTL / 2).await;
    first(&mut seen, "a");
}

#[test]
fn a_key_that_failed_is_forgotten_and_another_one_goes_its_own_way() {
    let mut seen = seen(10);
    let (a, b) = (first(&mut seen, "a"), first(&mut seen, "b"));
    end(&mut seen, "a", &a, false);
    let again = first(&mut seen, "a");
    assert!(!again.is(&a));
    end(&mut seen, "b", &b, true);
    assert!(is_seen(&mut seen, "b"));
}

#[test]
fn no_more_wait_than_may_until_others_are_done() {
    let mut seen = seen(10);
    let (a, b) = (first(&mut seen, "a"), first(&mut seen, "b"));
    assert!(matches!(find(&mut seen, "a"), Finding::UnderWay(_)));
    assert!(matches!(find(&mut seen, "b"), Finding::UnderWay(_)));
    assert!(matches!(find(&mut seen, "a"), Finding::Busy));
    end(&mut seen, "b", &b, false);
    assert!(matches!(find(&mut seen, "a"), Finding::UnderWay(_)));
    end(&mut seen, "a", &a, true);
    assert!(is_seen(&mut seen, "a"));
}

#[test]
fn the_oldest_key_makes_room_and_one_under_way_does_not() {
    let mut seen = seen(2);
    let under_way = first(&mut seen, "under way");
    for key in ["a", "b"] {
        let fate = first(&mut seen, key);
        end(&mut seen, key, &fate, true);
    }
    assert!(is_seen(&mut seen, "b"));
    first(&mut seen, "a");
    // There is room for no other: it passes, and is remembered when it is done and something else is.
    let untracked = first(&mut seen, "c");
    let twin = first(&mut seen, "c");
    end(&mut seen, "under way", &under_way, true);
    for fate in [untracked, twin] {
        end(&mut seen, "c", &fate, true);
    }
    assert!(is_seen(&mut seen, "c"));
    assert_eq!(seen.size(), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn what_is_known_stays_bounded() {
    let mut seen = seen(100);
    for round in 0..5 {
        for n in 0..1000 {
            let key = if n % 3 == 0 { "same".to_owned() } else { format!("{round}-{n}") };
            if let Finding::First(fate) = find(&mut seen, &key) {
                end(&mut seen, &key, &fate, n % 5 > 0);
            }
            let (keys, order) = seen.size();
            assert!(keys <= 100 && order <= 101, "{keys} keys in an order of {order}");
        }
        advance(TTL).await;
    }
    for _ in 0..100 {
        find(&mut seen, "none");
    }
    assert_eq!(seen.size(), (1, 0));
}

fn problems(value: Value) -> Vec<(String, String)> {
    let mut problems = Problems::below(KeyPath::default());
    Dedupe::check(&serde_json::from_value(value).unwrap(), &mut problems);
    problems.into_vec().into_iter().map(|problem| (problem.path.to_string(), problem.message)).collect()
}

#[test]
fn what_makes_no_sense_is_refused() {
    assert_eq!(problems(json!({"ttl": "1h"})), []);
    assert_eq!(
        problems(json!({"key": "order", "ttl": "0s", "max_keys": 0})),
        [
            ("key".to_owned(), "`key` is the same for all events".to_owned()),
            ("ttl".to_owned(), "must be longer than zero".to_owned()),
            ("max_keys".to_owned(), "must be at least 1".to_owned()),
        ]
    );
    assert_eq!(problems(json!({"key": "{{ order }}", "ttl": "1h"}))[0].0, "key");
    assert!(serde_json::from_value::<Config>(json!({})).is_err(), "`ttl` is missing");
}

/// Scenario: nobody wants to know what becomes of an event. Guarantee: its key is forgotten, not under way for good.
#[tokio::test]
async fn a_key_is_forgotten_with_an_event_that_never_goes_on() {
    let config = serde_json::from_value(json!({"ttl": "1h"})).unwrap();
    let context = BuildContext::new("f", "t", PathBuf::new());
    let Task::Processor(task) = Dedupe::build(&config, &context).await.unwrap() else { unreachable!() };
    let event = Event::new(crate::event::EventId::Sequence(1), "s".into(), Default::default());
    for _ in 0..3 {
        let mut output = Output::default();
        task.handle(&event, &mut output).await.unwrap();
        assert_eq!(output.len(), 1);
        output.clear();
    }
}
