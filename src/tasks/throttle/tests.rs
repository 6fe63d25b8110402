use serde_json::{Value, json};
use tokio::time::advance;

use super::*;
use crate::event::{EventId, Payload};

async fn throttle(config: Value) -> Box<dyn Processor> {
    let config = serde_json::from_value(config).unwrap();
    match Throttle::build(&config, &BuildContext::new("f", "t", ".".into())).await.unwrap() {
        Task::Processor(throttle) => throttle,
        task => panic!("{task:?}"),
    }
}

async fn pass(throttle: &dyn Processor, data: Value) {
    let event = Event::new(EventId::Sequence(0), "s".into(), Payload::from(data));
    let mut output = Output::default();
    throttle.handle(&event, &mut output).await.unwrap();
    assert_eq!(output.len(), 1);
}

/// Returns when each event passes, in milliseconds, if all are there from the start.
async fn times(config: Value, events: impl IntoIterator<Item = Value>) -> Vec<u128> {
    let throttle = throttle(config).await;
    let start = Instant::now();
    let mut times = Vec::new();
    for data in events {
        pass(&*throttle, data).await;
        times.push(start.elapsed().as_millis());
    }
    times
}

fn check(config: Value) -> Vec<String> {
    let mut problems = Problems::default();
    Throttle::check(&serde_json::from_value(config).unwrap(), &mut problems);
    problems.into_vec().iter().map(|problem| problem.path.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn events_are_evenly_spaced_unless_a_burst_is_allowed() {
    let four = || vec![json!(1); 4];
    assert_eq!(times(json!({"rate": 10}), four()).await, [0, 100, 200, 300]);
    assert_eq!(times(json!({"rate": 10, "burst": 3}), four()).await, [0, 0, 0, 100]);
    assert_eq!(times(json!({"rate": 0.5}), four()).await, [0, 2000, 4000, 6000]);
}

#[tokio::test(start_paused = true)]
async fn quiet_time_gives_back_the_burst_and_no_more() {
    let throttle = throttle(json!({"rate": 10, "burst": 2})).await;
    let start = Instant::now();
    let mut times = Vec::new();
    for quiet in [0, 0, 0, 60_000, 0, 0] {
        advance(std::time::Duration::from_millis(quiet)).await;
        pass(&*throttle, json!(1)).await;
        times.push(start.elapsed().as_millis());
    }
    assert_eq!(times, [0, 0, 100, 60_100, 60_100, 60_200]);
}

#[tokio::test(start_paused = true)]
async fn the_schedule_does_not_drift_at_any_rate() {
    for (rate, count) in [(3.0, 301), (700.0, 7001), (12_345.0, 50_001), (1e6, 100_001)] {
        let times = times(json!({"rate": rate}), vec![json!(1); count]).await;
        for (n, time) in times.iter().enumerate() {
            let due = n as f64 * 1000.0 / rate;
            assert!((*time as f64 - due).abs() <= 2.0, "{rate}: event {n} passed at {time} ms, not {due}");
        }
    }
}

/// Scenario: whatever comes whenever. Guarantee: in no second do more events pass than the rate and the burst allow, but
/// for what the clock is late.
#[tokio::test(start_paused = true)]
async fn no_second_has_more_than_it_may() {
    let throttle = throttle(json!({"rate": 20, "burst": 5})).await;
    let start = Instant::now();
    let mut times = Vec::new();
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..2000 {
        if random.u8(..) < 20 {
            advance(std::time::Duration::from_millis(random.u64(..900))).await;
        }
        pass(&*throttle, json!(1)).await;
        times.push(start.elapsed());
    }
    for (n, time) in times.iter().enumerate() {
        let until = *time + std::time::Duration::from_millis(998);
        let count = times[n..].iter().filter(|later| **later < until).count();
        assert!(count <= 20 + 5, "{count} in the second from {time:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_key_has_its_own_rate_and_order_is_kept() {
    let keys = ["a", "b", "a", "b", "c", "a"].map(|key| json!({ "k": key }));
    let times = times(json!({"rate": 10, "key": "{{ event.data.k }}"}), keys).await;
    assert_eq!(times, [0, 0, 100, 100, 100, 200]);
}

#[tokio::test(start_paused = true)]
async fn no_more_keys_are_kept_than_allowed_and_none_is_let_off() {
    let keys = ["a", "b", "c", "a"].map(|key| json!({ "k": key }));
    let config = json!({"rate": 10, "key": "{{ event.data.k }}", "max_keys": 2});
    assert_eq!(times(config, keys).await, [0, 0, 102, 102]);
}

/// Scenario: the wait for an event is given up on, and the event comes again. Guarantee: it takes its turn once.
#[tokio::test(start_paused = true)]
async fn an_event_that_was_given_up_on_counts_once() {
    let throttle = throttle(json!({"rate": 1})).await;
    let start = Instant::now();
    pass(&*throttle, json!(1)).await;
    for _ in 0..3 {
        let limit = std::time::Duration::from_millis(200);
        assert!(tokio::time::timeout(limit, pass(&*throttle, json!(2))).await.is_err());
    }
    pass(&*throttle, json!(2)).await;
    pass(&*throttle, json!(3)).await;
    assert_eq!(start.elapsed().as_millis(), 2000);
}

#[tokio::test]
async fn an_event_without_the_key_fails() {
    let throttle = throttle(json!({"rate": 1, "key": "{{ event.data.k }}"})).await;
    let event = Event::new(EventId::Sequence(0), "s".into(), Payload::from(json!({})));
    let error = throttle.handle(&event, &mut Output::default()).await.unwrap_err();
    assert_eq!(error.error_type(), "template");
}

#[test]
fn every_mistake_is_reported_at_its_key() {
    let config = json!({"rate": 0, "burst": 0, "key": "{{ oops }}", "max_keys": 0});
    assert_eq!(check(config), ["rate", "burst", "max_keys", "key"]);
    assert_eq!(check(json!({"rate": 2e9})), ["rate"]);
    assert_eq!(check(json!({"rate": 0.000_001, "burst": 4_000_000_000_u32})), Vec::<String>::new());
}
