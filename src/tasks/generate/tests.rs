use std::cell::OnceCell;

use serde_json::json;
use tokio::time::Instant;

use super::*;
use crate::task::{
    Resumption,
    testing::{Admitted, Collector},
};

/// 2024-03-30 12:00:00.25 in UTC at the first call on a thread, and then as tokio's clock goes.
fn wall() -> Timestamp {
    thread_local!(static START: OnceCell<Instant> = const { OnceCell::new() });
    let start = START.with(|start| *start.get_or_init(Instant::now));
    let zero: Timestamp = "2024-03-30T12:00:00.25Z".parse().unwrap();
    zero + start.elapsed()
}

fn check(config: Value) -> Vec<(String, String)> {
    let mut problems = Problems::default();
    Generate::check(&serde_json::from_value(config).unwrap(), &mut problems);
    problems.into_vec().into_iter().map(|problem| (problem.path.to_string(), problem.message)).collect()
}

/// Runs it until it has made `limit` events.
async fn run(config: Value, limit: usize) -> (Vec<Admitted>, Instant) {
    let config: Config = serde_json::from_value(config).unwrap();
    let pace = pace(&config).unwrap();
    let maker = maker(&config).unwrap();
    let source = Making { pace, maker, count: config.count, now: wall };
    let start = Instant::now();
    wall();
    let (result, admitted, _) = Collector::until(limit).run(Box::new(source)).await;
    result.unwrap();
    (admitted, start)
}

/// Runs one that takes the place of one that made so many events. Returns their numbers and when they came.
async fn run_behind(made: u64, config: Value) -> Vec<(String, u128)> {
    let config: Config = serde_json::from_value(config).unwrap();
    let (pace, maker) = (pace(&config).unwrap(), maker(&config).unwrap());
    let source = Making { pace, maker, count: config.count, now: wall };
    assert!(source.can_resume());
    let start = Instant::now();
    wall();
    // The last one came after the last position.
    let resumption = Resumption { position: position::at(made - 1), events: 1 };
    let collector = Collector::until(usize::MAX).resumed(vec![resumption]);
    let (result, admitted, _) = collector.run(Box::new(source)).await;
    result.unwrap();
    admitted.iter().map(|event| (event.id.to_string(), (event.at - start).as_millis())).collect()
}

#[tokio::test(start_paused = true)]
async fn one_that_is_built_again_goes_on_with_the_next_number_and_its_pace() {
    let made = |numbers: &[(u64, u128)]| -> Vec<(String, u128)> {
        numbers.iter().map(|(number, time)| (number.to_string(), *time)).collect()
    };
    assert_eq!(run_behind(3, json!({"count": 5})).await, made(&[(3, 0), (4, 0)]));
    assert_eq!(run_behind(5, json!({"count": 5})).await, []);
    let hourly = json!({"count": 5, "interval": "1h"});
    assert_eq!(run_behind(3, hourly).await, made(&[(3, 3_600_000), (4, 7_200_000)]));
    let rate = json!({"count": 1003, "rate": 2});
    assert_eq!(run_behind(1000, rate).await, made(&[(1000, 500), (1001, 1000), (1002, 1500)]));
}

#[tokio::test(start_paused = true)]
async fn a_schedule_goes_on_with_its_next_time() {
    let made = run_behind(3, json!({"count": 5, "cron": "*/15 * * * * *"})).await;
    assert_eq!(made, [("3".to_owned(), 14_750), ("4".to_owned(), 29_750)]);
}

/// Returns when each event came, in milliseconds.
async fn times(config: Value, limit: usize) -> Vec<u128> {
    let (admitted, start) = run(config, limit).await;
    admitted.iter().map(|admitted| (admitted.at - start).as_millis()).collect()
}

#[tokio::test]
async fn flat_out_makes_all_of_them_in_order() {
    let (admitted, _) = run(json!({"count": 5000}), usize::MAX).await;
    let ids: Vec<String> = admitted.iter().map(|admitted| admitted.id.to_string()).collect();
    assert_eq!(ids, (0..5000).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(admitted[0].result.as_ref().unwrap().data.json(), Some(&json!({})));
}

#[tokio::test]
async fn all_events_share_one_payload() {
    let (admitted, _) = run(json!({"count": 2, "payload": {"a": [1]}}), usize::MAX).await;
    let trees: Vec<_> =
        admitted.iter().map(|admitted| admitted.result.as_ref().unwrap().data.json().unwrap()).collect();
    assert_eq!(trees[0], &json!({"a": [1]}));
    assert!(std::ptr::eq(trees[0], trees[1]));
}

#[tokio::test]
async fn without_a_count_a_stop_ends_it_within_a_chunk() {
    let (admitted, _) = run(json!({}), 100).await;
    assert!((100..=100 + CHUNK as usize).contains(&admitted.len()), "{}", admitted.len());
}

#[tokio::test]
async fn a_script_makes_the_data_and_its_errors_are_those_of_events() {
    let (admitted, _) = run(json!({"count": 2, "code": "#{ a: 1 + 1 }"}), usize::MAX).await;
    assert_eq!(admitted[1].result.as_ref().unwrap().data.json(), Some(&json!({"a": 2})));
    for (code, error_type) in [("throw \"no\"", "script"), ("loop {}", "limit")] {
        let (admitted, _) = run(json!({"count": 2, "code": code}), usize::MAX).await;
        assert_eq!(admitted.len(), 2);
        assert_eq!(admitted[0].result.as_ref().unwrap_err().error_type(), error_type);
        assert!(Generate::ERROR_TYPES.contains(&error_type), "{error_type}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_interval_starts_at_once_and_keeps_its_schedule() {
    let config = json!({"interval": "1m 30s", "count": 4});
    assert_eq!(times(config, usize::MAX).await, [0, 90_000, 180_000, 270_000]);
}

#[tokio::test(start_paused = true)]
async fn ticks_that_are_over_are_skipped_and_the_schedule_stays() {
    let mut pacer = Pacer::new(Pace::Interval(Duration::from_millis(100)), wall);
    let start = Instant::now();
    let mut ticks = Vec::new();
    for busy in [0, 250, 100, 10, 0] {
        pacer.due().await.unwrap();
        ticks.push(start.elapsed().as_millis());
        tokio::time::advance(Duration::from_millis(busy)).await;
        pacer.made(1);
    }
    assert_eq!(ticks, [0, 100, 400, 500, 600]);
    assert_eq!(pacer.skipped(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_rate_is_kept_without_drift() {
    let times = times(json!({"rate": 3.0, "count": 31}), usize::MAX).await;
    for (n, time) in times.iter().enumerate() {
        let due = n as f64 * 1000.0 / 3.0;
        assert!((*time as f64 - due).abs() <= 2.0, "event {n} came at {time} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_high_rate_comes_in_small_batches() {
    let times = times(json!({"rate": 100_000, "count": 20_001}), usize::MAX).await;
    assert_eq!(times.len(), 20_001);
    let last = times[20_000];
    assert!((200..=202).contains(&last), "{last}");
    let largest = times.chunk_by(|one, other| one == other).map(<[_]>::len).max();
    assert!(largest <= Some(300), "{largest:?}");
}

#[tokio::test(start_paused = true)]
async fn a_rate_catches_up_one_second_and_skips_the_rest() {
    let mut pacer = Pacer::new(Pace::Rate(10.0), wall);
    assert_eq!(pacer.due().await.unwrap(), 1);
    pacer.made(1);
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(pacer.due().await.unwrap(), 10);
    assert_eq!(pacer.skipped(), 40);
}

#[tokio::test(start_paused = true)]
async fn cron_comes_at_its_times() {
    let config = json!({"cron": "*/15 * * * * *", "count": 3});
    assert_eq!(times(config, usize::MAX).await, [14_750, 29_750, 44_750]);
    let hours = |millis: &[u128]| millis.iter().map(|millis| (millis + 250) / 3_600_000).collect::<Vec<_>>();
    // The clocks of Berlin go from one hour ahead to two on the 31st at one o'clock UTC.
    let config = json!({"cron": "0 14 * * *", "timezone": "Europe/Berlin", "count": 3});
    let shift = wall().duration_since("2024-03-30T12:00:00Z".parse().unwrap()).as_millis();
    let berlin: Vec<u128> =
        times(config, usize::MAX).await.iter().map(|millis| millis + u128::try_from(shift).unwrap()).collect();
    assert_eq!(hours(&berlin), [1, 24, 48]);
}

#[tokio::test(start_paused = true)]
async fn times_of_a_schedule_that_are_over_are_skipped() {
    let schedule = Schedule::new("* * * * * *", None).unwrap();
    let mut pacer = Pacer::new(Pace::Cron(Box::new(schedule)), wall);
    wall();
    pacer.due().await.unwrap();
    pacer.made(1);
    tokio::time::advance(Duration::from_millis(3500)).await;
    pacer.due().await.unwrap();
    assert_eq!(pacer.skipped(), 3);
    assert_eq!(wall().to_string(), "2024-03-30T12:00:05Z");
}

/// Scenario: the clock is set ahead by thirty years. Guarantee: the schedule goes on at once, and only a
/// bounded number of missed times is counted.
#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_ahead_is_not_walked_through() {
    let mut pacer = Pacer::new(Pace::Cron(Box::new(Schedule::new("* * * * * *", None).unwrap())), wall);
    wall();
    pacer.due().await.unwrap();
    pacer.made(1);
    tokio::time::advance(Duration::from_secs(30 * 365 * 86_400)).await;
    let before = wall();
    pacer.due().await.unwrap();
    assert!(wall().duration_since(before) <= jiff::SignedDuration::from_secs(1));
    assert!((1000..=1001).contains(&pacer.skipped()), "{}", pacer.skipped());
}

#[tokio::test(start_paused = true)]
async fn a_rate_beyond_counting_does_not_overflow() {
    let mut pacer = Pacer::new(Pace::Rate(1e300), wall);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(pacer.due().await.unwrap(), u64::MAX);
}

#[test]
fn a_rate_has_its_bounds() {
    assert_eq!(check(json!({"rate": 1e9})), []);
    for rate in [0.0, 1.1e9] {
        assert_eq!(check(json!({"rate": rate})).len(), 1, "{rate}");
    }
}

#[test]
fn every_mistake_is_reported_at_its_key() {
    let config = json!({"interval": "0s", "cron": "61 * * * *", "rate": -1, "timezone": "Mars/Base",
        "payload": 1, "code": "let"});
    let problems = check(config);
    let paths: Vec<&str> = problems.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(
        paths,
        ["cron", "rate", "code", "interval", "rate", "cron", "timezone", "code"]
    );
    assert_eq!(problems[0].1, "`cron` and `interval` cannot both be given");
    assert_eq!(problems[6].1, "`Mars/Base` is no time zone");
}

#[test]
fn a_schedule_has_five_or_six_fields_and_comes_some_time() {
    assert_eq!(check(json!({"cron": "0 12 * * MON-FRI", "timezone": "Europe/Berlin"})), []);
    assert_eq!(check(json!({"cron": "*/5 * * * * *"})), []);
    for wrong in ["* * * *", "* * * * * * 2030", "every day", "", "0 0 30 2 *"] {
        let problems = check(json!({"cron": wrong}));
        assert_eq!(problems.len(), 1, "{wrong}");
        assert!(problems[0].1.starts_with(&format!("`{wrong}` ")), "{problems:?}");
    }
    assert_eq!(check(json!({"timezone": "UTC"}))[0].0, "timezone");
}

#[test]
fn what_is_finite_says_so() {
    let making = |count| Making { pace: Pace::FlatOut, maker: Maker::Payload(Payload::default()), count, now: wall };
    assert_eq!(making(Some(3)).extent(), Some(Extent::Events(3)));
    assert_eq!(making(None).extent(), None);
}
