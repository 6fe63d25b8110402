use std::{
    cell::{Cell, OnceCell},
    collections::BTreeSet,
};

use jiff::SignedDuration;
use serde_json::json;
use tokio::time::Instant;

use super::*;
use crate::task::{
    Resumption,
    testing::{Admitted, Collector},
};

thread_local! {
    static START: OnceCell<Instant> = const { OnceCell::new() };
    /// How far the clock of the wall was set ahead, in seconds.
    static SET_AHEAD: Cell<i64> = const { Cell::new(0) };
}

/// 2024-03-30 12:00:00.25 in UTC at the first call on a thread, and then as tokio's clock goes.
fn wall() -> Timestamp {
    let start = START.with(|start| *start.get_or_init(Instant::now));
    let zero: Timestamp = "2024-03-30T12:00:00.25Z".parse().unwrap();
    zero + start.elapsed() + SignedDuration::from_secs(SET_AHEAD.get())
}

fn check(config: Value) -> Vec<(String, String)> {
    let mut problems = Problems::default();
    Generate::check(&serde_json::from_value(config).unwrap(), &mut problems);
    problems.into_vec().into_iter().map(|problem| (problem.path.to_string(), problem.message)).collect()
}

fn source(config: Value) -> Box<Making> {
    let config: Config = serde_json::from_value(config).unwrap();
    let start = config.allow_rerun.then(|| config.start.0.to_string());
    let (pace, maker) = (pace(&config).unwrap(), maker(&config).unwrap());
    Box::new(Making { pace, maker, count: config.count, start, now: wall })
}

/// Runs it until it has made `limit` events.
async fn run(config: Value, limit: usize) -> (Vec<Admitted>, Instant) {
    let start = Instant::now();
    wall();
    let (result, admitted, _) = Collector::until(limit).run(source(config)).await;
    result.unwrap();
    (admitted, start)
}

/// Runs one where another one stood. Returns the numbers of its events and when they came.
async fn run_from(at: At, events: u64, config: Value) -> Vec<(String, u128)> {
    let start = Instant::now();
    wall();
    let resumption = Resumption { position: at.position(), events };
    let collector = Collector::until(usize::MAX).resumed(vec![resumption]);
    let (result, admitted, _) = collector.run(source(config)).await;
    result.unwrap();
    admitted.iter().map(|event| (event.id.to_string(), (event.at - start).as_millis())).collect()
}

fn made(numbers: &[(u64, u128)]) -> Vec<(String, u128)> {
    numbers.iter().map(|(number, time)| (number.to_string(), *time)).collect()
}

/// Returns where one stands that made so many events, the last of them so many seconds ago.
fn at(made: u64, ago: i64) -> At {
    At { made, due: Some(wall() - SignedDuration::from_secs(ago)), start: None }
}

#[tokio::test(start_paused = true)]
async fn one_that_is_built_again_goes_on_with_the_next_number() {
    let counted = |made| At { made, ..At::default() };
    assert_eq!(run_from(counted(3), 0, json!({"count": 5})).await, made(&[(3, 0), (4, 0)]));
    assert_eq!(run_from(counted(2), 1, json!({"count": 5})).await, made(&[(3, 0), (4, 0)]));
    assert_eq!(run_from(counted(5), 0, json!({"count": 5})).await, []);
    assert_eq!(run_from(counted(0), 0, json!({"count": 1, "interval": "1h"})).await, made(&[(0, 0)]));
    let rate = json!({"count": 1003, "rate": 2});
    assert_eq!(run_from(counted(1000), 0, rate).await, made(&[(1000, 500), (1001, 1000), (1002, 1500)]));
}

#[tokio::test(start_paused = true)]
async fn an_interval_keeps_its_phase_while_nothing_runs() {
    const HOUR: u128 = 3_600_000;
    let hourly = || json!({"count": 5, "interval": "1h"});
    let minutes = |minutes: u128| minutes * 60_000;
    for (ago, events, first) in [
        (10 * 60, 0, minutes(50)),
        (0, 0, HOUR),
        (3600, 0, 0),
        (2 * 3600 + 30 * 60, 0, minutes(30)),
        // Another one came behind that position.
        (3600 + 10 * 60, 1, minutes(50)),
        // The clock was set back.
        (-86_400, 0, HOUR),
    ] {
        let expected = made(&[(3, first), (4, first + HOUR)]);
        assert_eq!(run_from(at(3 - events, ago), events, hourly()).await, expected, "{ago} {events}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_times_that_came_while_nothing_ran_are_counted_as_skipped() {
    for (pace, ago, skipped) in [
        (Pace::Interval(Duration::from_secs(3600)), 2 * 3600 + 60, 2),
        (Pace::Interval(Duration::from_secs(3600)), 2 * 3600, 1),
        (Pace::Interval(Duration::from_secs(3600)), -60, 0),
        (Pace::Cron(Box::new(Schedule::new("* * * * *", None).unwrap())), 150, 3),
    ] {
        let mut pacer = Pacer::new(pace, wall);
        pacer.go_on(at(1, ago).due, 0).unwrap();
        pacer.due().await.unwrap();
        assert_eq!(pacer.skipped(), skipped, "{ago}");
    }
}

/// Scenario: every kind of pace, interrupted behind each of its events, and another one in its place at once. Guarantee:
/// the numbers go on, and the times are those of one that was not interrupted.
#[tokio::test(start_paused = true)]
async fn an_interruption_changes_no_number_and_no_time() {
    let paces = [json!({"interval": "7s"}), json!({"cron": "*/10 * * * * *"}), json!({"payload": 1})];
    for pace in paces {
        for n in 0..5 {
            let mut config = pace.clone();
            config["count"] = 6.into();
            let start = Instant::now();
            let before = Collector::until(n.max(1));
            let (result, first, _) = before.clone().run(source(config.clone())).await;
            result.unwrap();
            let after = Collector::until(usize::MAX).resumed(before.resumptions_at(first.len()));
            let (result, rest, _) = after.run(source(config)).await;
            result.unwrap();
            let all: Vec<_> = first.iter().chain(&rest).collect();
            let ids: Vec<_> = all.iter().map(|event| event.id.to_string()).collect();
            assert_eq!(ids, ["0", "1", "2", "3", "4", "5"], "{pace} {n}");
            let gaps: BTreeSet<_> =
                all.windows(2).map(|pair| (pair[1].at - pair[0].at).as_secs_f64().round() as u64).collect();
            assert_eq!(
                gaps.len(),
                1,
                "{pace} {n}: {:?}",
                all.iter().map(|event| event.at - start).collect::<Vec<_>>()
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_schedule_goes_on_with_its_next_time() {
    let every = || json!({"count": 5, "cron": "*/15 * * * * *"});
    // At 12:00:00.25.
    assert_eq!(run_from(at(3, 10), 0, every()).await, made(&[(3, 14_750), (4, 29_750)]));
    assert_eq!(run_from(at(3, 86_400 * 365), 0, every()).await.len(), 2);
}

#[tokio::test]
async fn one_that_has_made_all_of_them_makes_none_in_a_later_run_unless_it_may_run_again() {
    let rerun = || json!({"count": 2, "allow_rerun": true});
    for (first, second, is_rerun) in [
        (json!({"count": 2}), json!({"count": 2}), false),
        (json!({"count": 2}), rerun(), true),
        (rerun(), rerun(), true),
        (rerun(), json!({"count": 2}), false),
    ] {
        let before = Collector::until(usize::MAX);
        let (_, made, _) = before.clone().run(source(first)).await;
        assert_eq!(made.len(), 2);
        let after = Collector::until(usize::MAX).resumed(before.resumptions_at(2));
        let (_, made, _) = after.run(source(second)).await;
        let ids: Vec<_> = made.iter().map(|event| event.id.to_string()).collect();
        assert_eq!(ids, if is_rerun { vec!["0", "1"] } else { vec![] });
    }
    // What is built again in the same run goes on: it has the same configuration.
    let config: Config = serde_json::from_value(rerun()).unwrap();
    let built =
        async || match Generate::build(&config, &BuildContext::new("f", "t", ".".into())).await.unwrap() {
            Task::Source(source) => source,
            task => panic!("{task:?}"),
        };
    let before = Collector::until(usize::MAX);
    before.clone().run(built().await).await.0.unwrap();
    let after = Collector::until(usize::MAX).resumed(before.resumptions_at(1));
    let (_, made, _) = after.run(built().await).await;
    assert_eq!(made.len(), 1);
}

/// Scenario: the clock is set back while a schedule waits, by less than three hours and by more. Guarantee: in the first
/// case no time comes twice and the wait is as long as what was set back, in the second it goes by the new time at once.
#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_makes_no_time_come_twice_and_nothing_stall() {
    const HOURLY: &str = "0 * * * *";
    for (back, expected) in [(0, 60), (30, 90), (179, 239), (24 * 60, 60), (30 * 24 * 60, 60)] {
        SET_AHEAD.set(0);
        let mut pacer = Pacer::new(Pace::Cron(Box::new(Schedule::new(HOURLY, None).unwrap())), wall);
        pacer.due().await.unwrap();
        let (fired, before) = (Instant::now(), pacer.last().unwrap());
        SET_AHEAD.set(-60 * back);
        pacer.due().await.unwrap();
        let minutes = (fired.elapsed().as_secs_f64() / 60.0).round() as i64;
        assert_eq!(minutes, expected, "set back by {back}");
        assert_eq!(pacer.last().unwrap() > before, back < 180, "set back by {back}");
        assert_eq!(pacer.skipped(), 0);
    }
}

/// Scenario: the clock was wrong at the start, and is set back before the first time of the schedule has come. Guarantee:
/// the schedule does not wait for a time of the wrong clock.
#[tokio::test(start_paused = true)]
async fn a_schedule_that_has_not_begun_goes_by_the_clock_as_it_is() {
    let mut pacer = Pacer::new(Pace::Cron(Box::new(Schedule::new("0 * * * *", None).unwrap())), wall);
    let start = Instant::now();
    wall();
    let due = async {
        pacer.due().await.unwrap();
        start.elapsed()
    };
    let set = async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        SET_AHEAD.set(-2 * 3600);
    };
    let (waited, ()) = tokio::join!(due, set);
    assert!(waited <= Duration::from_secs(3600), "{waited:?}");
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
    let berlin: Vec<u128> = times(config, usize::MAX)
        .await
        .iter()
        .map(|millis| millis + u128::try_from(shift).unwrap())
        .collect();
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
    assert_eq!(paths, ["cron", "rate", "code", "interval", "rate", "cron", "timezone", "code"]);
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
    let making = |count| Making {
        pace: Pace::FlatOut,
        maker: Maker::Payload(Payload::default()),
        count,
        start: None,
        now: wall,
    };
    assert_eq!(making(Some(3)).extent(), Some(Extent::Events(3)));
    assert_eq!(making(None).extent(), None);
}
