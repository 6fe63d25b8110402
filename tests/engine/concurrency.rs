//! A processor that handles several events at a time: order, overlap, bounds.

mod faults;
mod stage;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use flowgen::{
    ack::Outcome,
    plan::{Concurrency, Order},
    runtime::TaskManager,
    script::Condition,
};
use proptest::prelude::*;

use self::stage::{Attempt, Ends, Stage, State, attempt, by_key, millis};
use crate::support::{
    graph::{flow, node, outcomes, plan},
    tasks::{numbers, slow},
};

/// Events that may wait besides, at least.
const ROOM: u64 = 64;

fn orders() -> impl Strategy<Value = Order> {
    prop_oneof![Just(Order::Kept), Just(Order::Free), Just(by_key())]
}

/// Returns what becomes of an event, and after how many attempts, when no more than three are allowed.
fn expected(play: impl Fn(u32) -> Attempt) -> (Option<&'static str>, usize) {
    for n in 0.. {
        let error_type = match play(n).ends {
            Ends::Well => return (None, n as usize + 1),
            Ends::ForGood => return (Some("test"), n as usize + 1),
            Ends::Panics => return (Some("panic"), n as usize + 1),
            Ends::ForNow | Ends::Busy(_) => "test",
            Ends::Never => "timeout",
        };
        if n == 2 {
            return (Some(error_type), 3);
        }
    }
    unreachable!("three attempts are enough")
}

/// Returns what the attempts at events of this seed do.
fn random(seed: u64) -> impl Fn(u64, u32) -> Attempt + Clone {
    move |event, number| {
        let mut random = fastrand::Rng::with_seed(seed ^ (event << 32 | u64::from(number)));
        let takes = random.u64(0..200);
        let ends = match random.u32(0..100) {
            0..70 => Ends::Well,
            70..82 => Ends::ForNow,
            82..84 => Ends::Busy(millis(300)),
            84..90 => Ends::ForGood,
            90..97 => Ends::Never,
            _ => Ends::Panics,
        };
        attempt(takes, ends)
    }
}

fn assert_order(order: &Order, keys: &[Option<u64>], state: &State) {
    let numbers: Vec<u64> = state.arrived.iter().map(|(n, _)| *n).collect();
    match order {
        Order::Kept => assert!(numbers.is_sorted(), "{numbers:?}"),
        Order::Free => {}
        Order::ByKey(_) => {
            assert_eq!(state.overlaps, 0);
            let mut of_keys: BTreeMap<_, Vec<u64>> = BTreeMap::new();
            numbers.into_iter().for_each(|n| of_keys.entry(keys[n as usize]).or_default().push(n));
            of_keys.values().for_each(|numbers| assert!(numbers.is_sorted(), "{of_keys:?}"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// Scenario: attempts take their time, fail for now or for good, hang, and panic. Guarantee: every event arrives
    /// once, in the order that was asked for, with the error that it should have and after exactly as many attempts as it
    /// needs: a panic costs no other event one. No more run at a time than may.
    #[test]
    fn whatever_happens_each_event_is_handled_as_if_it_were_alone(
        seed in any::<u64>(), limit in prop::sample::select(vec![1, 2, 8, 64]), order in orders(), keys in 1..20u64,
    ) {
        let play = random(seed);
        let mut stage = Stage::new(0, limit, order, play.clone())
            .keyed((0..200).map(|n: u64| fastrand::Rng::with_seed(seed ^ n).u64(0..keys)));
        stage.policy.timeout = Some(millis(500));
        let (report, state, _) = stage.run_alone();
        assert_eq!(outcomes(&report.flows[0].summary), [(Outcome::Completed, 200)].into());
        assert_eq!(report.flows[0].failure, None);
        assert_order(&stage.concurrency.order, &stage.keys, &state);
        assert!(state.most <= limit, "{}", state.most);
        let mut arrived = state.arrived.clone();
        arrived.sort_unstable();
        let results = (0..200).map(|n| (n, expected(|number| play(n, number)).0));
        prop_assert_eq!(arrived, results.collect::<Vec<_>>());
        for (n, attempts) in &state.attempts {
            prop_assert_eq!(attempts.len(), expected(|number| play(*n, number)).1, "event {}", n);
        }
    }

    /// Scenario: as many events as may be handled at a time. Guarantee: they take as long as the longest one.
    #[test]
    fn events_that_are_handled_at_a_time_overlap(
        seed in any::<u64>(), limit in prop::sample::select(vec![2, 8, 64]), order in orders(),
    ) {
        let takes = move |n: u64| fastrand::Rng::with_seed(seed ^ n).u64(1_000..10_000);
        let stage = Stage::new(0, limit, order, move |n, _| attempt(takes(n), Ends::Well)).keyed(0..limit as u64);
        let (report, state, elapsed) = stage.run_alone();
        prop_assert_eq!(report.flows[0].summary.count(Outcome::Completed), limit as u64);
        prop_assert_eq!(state.most, limit);
        let longest = (0..limit as u64).map(takes).max().unwrap();
        prop_assert!(elapsed < millis(longest + 10), "{:?} instead of {}", elapsed, longest);
    }
}

/// Scenario: an event takes an hour, those behind it a millisecond. Guarantee: where order is kept no more of them are
/// begun than may be in flight, done or not; where it is not they all pass.
#[tokio::test(start_paused = true)]
async fn an_event_that_is_done_waits_for_those_before_it_and_counts_as_in_flight() {
    for (order, before) in [(Order::Kept, 7), (Order::Free, 299), (by_key(), 299)] {
        let first = |n, _| attempt(if n == 0 { 3_600_000 } else { 1 }, Ends::Well);
        let stage = Stage::new(0, 8, order, first).keyed(0..300);
        let (_, state, elapsed) = stage.run().await;
        assert_eq!(state.arrived.len(), 300);
        let first = state.attempts[&0][0].0 + Duration::from_secs(3600);
        let begun = state.attempts.values().skip(1).filter(|attempts| attempts[0].0 < first).count();
        assert_eq!(begun, before, "{stage:?}");
        assert!(elapsed < Duration::from_secs(3602), "{elapsed:?}");
        let place = state.arrived.iter().position(|(n, _)| *n == 0);
        assert_eq!(place, Some(if before == 7 { 0 } else { 299 }), "{stage:?}");
    }
}

/// Scenario: more and more events of one key, which take a second each, before one of another key. Guarantee: it does not
/// wait while no more than [`ROOM`] of them do, and then only for those that are too many.
#[tokio::test(start_paused = true)]
async fn a_hot_key_holds_up_others_only_when_too_many_of_its_events_wait() {
    for (hot, seconds) in [(1, 0), (ROOM, 0), (ROOM + 1, 1), (ROOM + 10, 10)] {
        let mut stage = Stage::new(0, 4, by_key(), |_, _| attempt(1_000, Ends::Well));
        stage = stage.keyed((0..hot).map(|_| 1).chain([2]));
        stage.capacity = 1024;
        let (_, state, _) = stage.run().await;
        let waited = state.attempts[&hot][0].0 - state.attempts[&0][0].0;
        assert_eq!(waited.as_secs(), seconds, "after {hot}");
        assert_eq!(state.overlaps, 0);
    }
}

/// Scenario: some events have no key. Guarantee: they fail for good, as `on_error` says, without an attempt; the others
/// are handled.
#[tokio::test(start_paused = true)]
async fn an_event_without_its_key_fails() {
    let mut stage = Stage::new(100, 4, by_key(), |_, _| attempt(5, Ends::Well));
    for n in (0..100).step_by(2) {
        stage.keys[n] = Some(7);
    }
    let (report, state, _) = stage.run().await;
    assert_eq!(outcomes(&report.flows[0].summary), [(Outcome::Completed, 100)].into());
    assert!(state.attempts.keys().eq((0..100).step_by(2).collect::<Vec<_>>().iter()));
    let (failed, handled): (Vec<_>, Vec<_>) = state.arrived.iter().partition(|(n, _)| n % 2 == 1);
    assert!(failed.iter().all(|(_, error_type)| *error_type == Some("template")), "{failed:?}");
    assert!(handled.iter().all(|(_, error_type)| error_type.is_none()), "{handled:?}");
}

/// Scenario: some events pass by without being handled. Guarantee: they overtake no other one of the flow, or of their
/// key; and one that passes by needs no key.
#[tokio::test(start_paused = true)]
async fn events_that_pass_by_keep_their_place() {
    for order in [Order::Kept, by_key()] {
        let mut stage =
            Stage::new(0, 4, order, |n, _| attempt(20 - n % 20, Ends::Well)).keyed((0..100).map(|n| n % 7));
        stage.keys.push(None);
        stage.when =
            Some(Arc::new(Condition::compile("event.data.key == 3 || event.data.key == 4").unwrap()));
        let (report, state, _) = stage.run().await;
        assert_eq!(outcomes(&report.flows[0].summary), [(Outcome::Completed, 101)].into());
        assert_order(&stage.concurrency.order, &stage.keys, &state);
        assert!(state.arrived.iter().all(|(_, error_type)| error_type.is_none()), "{state:?}");
        assert!(state.attempts.keys().all(|n| [3, 4].contains(&(n % 7))), "{state:?}");
    }
}

/// Scenario: the task downstream takes a second an event, and its channel holds one. Guarantee: what is in flight goes
/// on meanwhile, and so keeps its time; no more of it is done before it can be sent on than may be in flight.
#[tokio::test(start_paused = true)]
async fn a_full_channel_holds_up_no_attempt() {
    for order in [Order::Kept, Order::Free] {
        let mut stage = Stage::new(60, 8, order, |n, _| attempt(20 + n % 8 * 30, Ends::Well));
        stage.policy.timeout = Some(millis(300));
        stage.capacity = 1;
        let mut plan = stage.plan();
        let mut slow = node("slow", vec![3], || slow(Duration::from_secs(1), |_| Ok(())));
        let tasks = &mut plan.flows[0].tasks;
        std::mem::swap(&mut slow, &mut tasks[2]);
        tasks.push(slow);
        let report = TaskManager::start(plan, None).await.unwrap().run().await;
        assert_eq!(outcomes(&report.flows[0].summary), [(Outcome::Completed, 60)].into());
        let state = stage.seen.state();
        assert!(
            state.attempts.values().all(|attempts| attempts.len() == 1),
            "{stage:?}: {:?}",
            state.attempts
        );
        // One is handled downstream, one is on its way there, and as many wait to be sent as were begun.
        let start = state.attempts[&0][0].0;
        let early = state.attempts.values().filter(|attempts| attempts[0].0 < start + millis(900)).count();
        assert!(early <= 8 + 8 + 2, "{early}");
    }
}

/// Scenario: a source is faster than the processor. Guarantee: no more is in the flow than its channels hold, a batch of
/// the source, what is in flight, and as much again or [`ROOM`] that waits.
#[tokio::test(start_paused = true)]
async fn no_more_is_taken_than_may_be_in_flight_and_wait() {
    const CAPACITY: u64 = 16;
    for limit in [2, 64, 200] {
        for order in [Order::Kept, Order::Free, by_key(), Order::ByKey(Arc::new(constant()))] {
            let name = format!("{limit} {order:?}");
            let mut handler = node("handler", vec![], || slow(millis(10), |_| Ok(())));
            handler.concurrency = Concurrency { limit, order };
            handler.policy.on_error = flowgen::plan::OnError::Drop;
            let tasks = vec![node("source", vec![1], || numbers(3_000)), handler];
            let manager =
                TaskManager::start(plan(vec![flow("fast", tasks)], CAPACITY as usize), None).await.unwrap();
            let handle = manager.flows()[0].clone();
            let watch = async {
                let mut most = 0;
                while handle.summary().settled() < 3_000 {
                    most = most.max(handle.summary().inflight());
                    tokio::time::sleep(millis(1)).await;
                }
                most
            };
            let (report, most) = tokio::join!(manager.run(), watch);
            assert_eq!(report.flows[0].summary.settled(), 3_000);
            let limit = limit as u64;
            assert!(most <= CAPACITY + 64 + limit + limit.max(ROOM), "{name}: {most}");
            assert!(name.contains("event") || most > CAPACITY + limit, "{name}: {most}");
        }
    }
}

fn constant() -> flowgen::template::Template {
    flowgen::template::Template::compile("one").unwrap()
}
