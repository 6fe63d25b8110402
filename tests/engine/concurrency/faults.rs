//! What becomes of events that are handled at the same time as one that panics, when time is up, and when they are too
//! old.

use std::{sync::Arc, time::Duration};

use flowgen::{
    ack::Outcome,
    plan::{OnError, OnTaskPanic, Order},
    runtime::TaskManager,
};

use tokio::time::Instant;

use super::{
    ROOM,
    stage::{Ends, Stage, attempt, by_key, millis},
};
use crate::support::{
    graph::{flow, node, outcomes, plan},
    tasks::{Waiting, slow},
};

fn orders() -> [Order; 3] {
    [Order::Kept, Order::Free, by_key()]
}

/// Scenario: of eight events, one panics while others run, one waits for its next attempt, and one hangs. Guarantee: those
/// that run end and are not attempted again; the one that waits is attempted again when it is due, by the next processor;
/// the one that hangs is given up after a while, and attempted again too.
#[tokio::test(start_paused = true)]
async fn a_panic_takes_nothing_from_the_events_beside_it() {
    for order in orders() {
        let play = |n, number| match (n, number) {
            (2, 0) => attempt(1_000, Ends::Panics),
            (3, 0) => attempt(500, Ends::Busy(Duration::from_secs(60))),
            (4, 0) => attempt(1, Ends::Never),
            (1, _) => attempt(9_000, Ends::Well),
            _ => attempt(3_000, Ends::Well),
        };
        let stage = Stage::new(0, 8, order, play).keyed(0..30);
        let (report, state, _) = stage.run().await;
        assert_eq!(report.flows[0].failure, None);
        assert_eq!(outcomes(&report.flows[0].summary), [(Outcome::Completed, 30)].into());
        let mut arrived = state.arrived.clone();
        if let Order::Kept = stage.concurrency.order {
            assert!(arrived.is_sorted(), "{arrived:?}");
        }
        arrived.sort_unstable();
        assert!(arrived.iter().map(|(n, _)| *n).eq(0..30), "{arrived:?}");
        assert!(
            arrived.iter().all(|(n, error_type)| *error_type == (*n == 2).then_some("panic")),
            "{arrived:?}"
        );
        let start = state.attempts[&0][0].0;
        for (n, attempts) in &state.attempts {
            let builds: Vec<u32> = attempts.iter().map(|(_, build)| *build).collect();
            match n {
                3 | 4 => assert_eq!(builds, [0, 1], "event {n}"),
                0..8 => assert_eq!(builds, [0], "event {n}"),
                _ => assert_eq!(builds, [1], "event {n}"),
            }
        }
        let again = |n| state.attempts[&n][1].0 - start;
        assert!(again(3) >= millis(60_500), "{:?}", again(3));
        assert!(again(4) >= millis(11_000) && again(4) < millis(12_000), "{:?}", again(4));
    }
}

/// Scenario: the same, and the flow stops when a task panics. Guarantee: what was done is completed, and everything has
/// an outcome.
#[tokio::test(start_paused = true)]
async fn what_is_done_is_not_lost_where_a_panic_ends_the_flow() {
    for order in orders() {
        let play = |n, _| match n {
            2 => attempt(1_000, Ends::Panics),
            3 => attempt(500, Ends::Busy(Duration::from_secs(60))),
            _ => attempt(3_000, Ends::Well),
        };
        let mut stage = Stage::new(0, 8, order, play).keyed(0..30);
        stage.on_task_panic = OnTaskPanic::Stop;
        let (report, state, _) = stage.run().await;
        let flow = &report.flows[0];
        assert!(
            flow.failure.as_deref().is_some_and(|why| why.starts_with("task `processor` panicked")),
            "{flow:?}"
        );
        assert_eq!(flow.summary.inflight(), 0);
        // All that were begun, the one that panicked is passed on, and the one that was to be tried again.
        assert_eq!(flow.summary.count(Outcome::Completed), 7);
        assert_eq!(flow.summary.count(Outcome::Failed), flow.summary.entered - 7);
        assert_eq!(state.attempts.len(), 8);
        let mut arrived: Vec<u64> = state.arrived.iter().map(|(n, _)| *n).collect();
        arrived.sort_unstable();
        assert_eq!(arrived, [0, 1, 2, 4, 5, 6, 7]);
    }
}

/// Scenario: events fail for now and would be tried again after their deadline; others take longer than that. Guarantee:
/// the former expire at once, whatever `on_error` says; the latter are not cut short. What was not begun by then expires.
#[tokio::test(start_paused = true)]
async fn an_event_expires_instead_of_an_attempt_that_would_be_too_late() {
    for (limit, order) in [(1, Order::Kept), (8, Order::Kept), (8, Order::Free), (8, by_key())] {
        let play = |n, number| match n % 2 {
            0 if number == 0 => attempt(100, Ends::Busy(millis(500))),
            0 => attempt(100, Ends::Busy(Duration::from_secs(3600))),
            _ => attempt(2_000, Ends::Well),
        };
        let mut stage = Stage::new(0, limit, order, play).keyed(0..20);
        stage.deadline = Some(millis(700));
        stage.capacity = 64;
        let mut plan = stage.plan();
        // The processor is the last task: another one would not handle what is too old.
        plan.flows[0].tasks.truncate(2);
        plan.flows[0].tasks[1].downstream.clear();
        let started = Instant::now();
        let report = TaskManager::start(plan, None).await.unwrap().run().await;
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
        let state = stage.seen.state();
        let begun = state.attempts.len() as u64;
        // At 0.6 s each is tried again; the third time would be too late.
        let even = state.attempts.iter().filter(|(n, _)| *n % 2 == 0);
        even.clone().for_each(|(n, attempts)| assert_eq!(attempts.len(), 2, "event {n}"));
        let even = even.count() as u64;
        let odd = begun - even;
        assert!(even > 0, "{state:?}");
        let summary = report.flows[0].summary;
        assert_eq!(summary.count(Outcome::Completed), odd, "{stage:?}");
        assert_eq!(summary.count(Outcome::Expired), 20 - odd, "{stage:?}");
        assert_eq!(odd, limit as u64 / 2);
    }
}

/// Scenario: all attempts hang when the worker is stopped. Guarantee: it ends at its deadline, and everything is
/// cancelled and counted: what is in flight, what waits and what is in the channel.
#[tokio::test(start_paused = true)]
async fn what_hangs_at_the_deadline_is_cancelled_and_counted() {
    for order in [Order::Kept, Order::Free, Order::ByKey(Arc::new(super::constant()))] {
        let mut handler = node("handler", vec![], || slow(Duration::from_secs(3600), |_| Ok(())));
        handler.concurrency = flowgen::plan::Concurrency { limit: 8, order };
        handler.policy.on_error = OnError::Drop;
        let events = 8 + ROOM + 16;
        let tasks = vec![
            node("source", vec![1], move || flowgen::task::Task::Source(Box::new(Waiting { count: events }))),
            handler,
        ];
        let manager = TaskManager::start(plan(vec![flow("stuck", tasks)], 16), None).await.unwrap();
        let (flows, stop) = (manager.flows(), manager.stop());
        let (report, ()) = tokio::join!(manager.run(), async {
            while flows[0].summary().entered < events {
                tokio::task::yield_now().await;
            }
            stop.stop();
        });
        assert!(report.is_cut_short);
        assert_eq!(outcomes(&report.flows[0].summary), [(Outcome::Cancelled, events)].into());
    }
}
