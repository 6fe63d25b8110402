//! What the engine does when a task panics, hangs, is slow, or its reader goes away.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use flowgen::{
    ack::Outcome,
    event::{Event, EventId},
    plan::{OnError, Plan, Policy},
    retry::RetryPolicy,
    runtime::{Report, TaskManager},
    task::{Output, Task, TaskError},
};
use tokio::time::Instant;

use crate::support::{
    graph::{flow, node, outcomes, plan},
    tasks::{Apply, Waiting, counting, numbers, slow},
};

async fn run(plan: Plan) -> Report {
    TaskManager::start(plan, None).await.expect("test tasks always build").run().await
}

fn panicking_at(sequence: u64) -> Task {
    Task::Transform(Box::new(Apply(move |event: &mut Event, output: &mut Output| {
        assert_ne!(event.id, EventId::Sequence(sequence), "as the test wants it");
        output.forward();
        Ok(())
    })))
}

/// Scenario: a task of one flow panics in the middle. Guarantee: the failure names the task, its flow
/// ends with every event accounted for, and the other flow does not notice.
#[tokio::test(start_paused = true)]
async fn a_panic_is_a_named_failure_of_its_task_and_leaves_other_flows_untouched() {
    let reached = Arc::new(AtomicU64::new(0));
    let sink = Arc::clone(&reached);
    let broken = flow(
        "broken",
        vec![
            node("source", vec![1], || numbers(10_000)),
            node("fragile", vec![2], || panicking_at(5_000)),
            node("sink", vec![], move || counting(&sink)),
        ],
    );
    let healthy = flow(
        "healthy",
        vec![node("source", vec![1], || numbers(10_000)), node("sink", vec![], || counting(&Arc::default()))],
    );
    let report = run(plan(vec![broken, healthy], 16)).await;
    let broken = &report.flows[0];
    assert!(
        broken.failure.as_deref().is_some_and(|why| why.starts_with("task `fragile` panicked")),
        "{broken:?}"
    );
    assert_eq!(broken.summary.inflight(), 0);
    assert_eq!(broken.summary.count(Outcome::Completed), reached.load(Ordering::Relaxed));
    assert_eq!(
        broken.summary.count(Outcome::Completed) + broken.summary.count(Outcome::Failed),
        broken.summary.entered
    );
    assert_eq!(report.flows[1].failure, None);
    assert_eq!(report.flows[1].summary.count(Outcome::Completed), 10_000);
}

/// Scenario: one branch of a fan-out dies. Guarantee: the other branch gets everything that enters, and
/// no event that the dead branch missed counts as completed.
#[tokio::test(start_paused = true)]
async fn a_dead_branch_does_not_stop_its_sibling() {
    let reached = Arc::new(AtomicU64::new(0));
    let sink = Arc::clone(&reached);
    let fan_out = flow(
        "fan-out",
        vec![
            node("source", vec![1, 2], || numbers(1_000)),
            node("fragile", vec![], || panicking_at(100)),
            node("sink", vec![], move || counting(&sink)),
        ],
    );
    let report = run(plan(vec![fan_out], 8)).await;
    let summary = report.flows[0].summary;
    assert_eq!(reached.load(Ordering::Relaxed), summary.entered);
    assert_eq!(summary.count(Outcome::Completed), 100);
    assert_eq!(summary.count(Outcome::Failed), summary.entered - 100);
}

/// Scenario: the sink needs an hour for an event when the worker is stopped. Guarantee: the worker ends
/// at its deadline, and everything that entered has an outcome.
#[tokio::test(start_paused = true)]
async fn what_is_left_at_the_deadline_is_cancelled_and_counted() {
    let tasks = vec![
        node("source", vec![1], || Task::Source(Box::new(Waiting { count: 500 }))),
        node("sink", vec![], || slow(Duration::from_secs(3600), |_| Ok(()))),
    ];
    let manager = TaskManager::start(plan(vec![flow("stuck", tasks)], 1024), None).await.unwrap();
    let flows = manager.flows();
    let stop = manager.stop();
    let started = Instant::now();
    let (report, ()) = tokio::join!(manager.run(), async {
        while flows[0].summary().entered < 500 {
            tokio::task::yield_now().await;
        }
        stop.stop();
    });
    assert!(report.is_cut_short);
    assert!(started.elapsed() <= Duration::from_secs(26), "{:?}", started.elapsed());
    assert_eq!(outcomes(&report.flows[0].summary), [(Outcome::Cancelled, 500)].into());
}

/// Scenario: the time of a shutdown is shorter than what aborted tasks are given of a long one. Guarantee: most of
/// it is there to drain all the same.
#[tokio::test(start_paused = true)]
async fn a_short_shutdown_drains_too() {
    let tasks = vec![
        node("source", vec![1], || Task::Source(Box::new(Waiting { count: 10 }))),
        node("sink", vec![], || slow(Duration::from_millis(10), |_| Ok(()))),
    ];
    let mut plan = plan(vec![flow("short", tasks)], 1024);
    plan.worker.shutdown_timeout = Duration::from_millis(400);
    let manager = TaskManager::start(plan, None).await.unwrap();
    let flows = manager.flows();
    let stop = manager.stop();
    let (report, ()) = tokio::join!(manager.run(), async {
        while flows[0].summary().entered < 10 {
            tokio::task::yield_now().await;
        }
        stop.stop();
    });
    assert!(!report.is_cut_short);
    assert_eq!(outcomes(&report.flows[0].summary), [(Outcome::Completed, 10)].into());
}

/// Scenario: a source is a hundred times faster than its sink. Guarantee: what is in flight never exceeds
/// the channels plus one batch a task.
#[tokio::test(start_paused = true)]
async fn a_fast_source_holds_no_more_than_the_channels_and_one_batch_a_task() {
    const CAPACITY: u64 = 128;
    const BATCH: u64 = 64;
    let most = Arc::new(AtomicU64::new(0));
    let seen = Arc::new(Mutex::new(None::<flowgen::runtime::FlowHandle>));
    let (peak, handle) = (Arc::clone(&most), Arc::clone(&seen));
    let sink = move || {
        let (peak, handle) = (Arc::clone(&peak), Arc::clone(&handle));
        slow(Duration::from_millis(1), move |_| {
            if let Some(flow) = &*handle.lock().unwrap() {
                peak.fetch_max(flow.summary().inflight(), Ordering::Relaxed);
            }
            Ok(())
        })
    };
    let tasks = vec![
        node("source", vec![1], || numbers(20_000)),
        node("middle", vec![2], || counting(&Arc::default())),
        node("sink", vec![], sink),
    ];
    let manager = TaskManager::start(plan(vec![flow("fast", tasks)], CAPACITY as usize), None).await.unwrap();
    *seen.lock().unwrap() = Some(manager.flows()[0].clone());
    let report = manager.run().await;
    assert_eq!(outcomes(&report.flows[0].summary), [(Outcome::Completed, 20_000)].into());
    let most = most.load(Ordering::Relaxed);
    assert!(most > CAPACITY, "the sink was meant to be the slow one: {most}");
    assert!(most <= 2 * CAPACITY + 3 * BATCH, "{most}");
}

/// Scenario: the reader of the output goes away. Guarantee: the source stops, nothing counts as failed.
#[tokio::test(start_paused = true)]
async fn a_closed_output_ends_the_flow_quietly() {
    let sink = || {
        slow(Duration::ZERO, |event| match event.id {
            EventId::Sequence(n) if n >= 100 => Err(TaskError::closed("the reader went away")),
            _ => Ok(()),
        })
    };
    let tasks = vec![node("source", vec![1], || numbers(u64::MAX)), node("sink", vec![], sink)];
    let report = run(plan(vec![flow("pipe", tasks)], 16)).await;
    let flow = &report.flows[0];
    assert_eq!(flow.failure, None);
    assert!(!report.is_cut_short);
    assert_eq!(flow.summary.count(Outcome::Completed), 100);
    assert_eq!(flow.summary.count(Outcome::Cancelled), flow.summary.entered - 100);
}

fn with_policy(policy: Policy, sink: impl Fn() -> Task + Send + Sync + 'static) -> Plan {
    let mut sink = node("sink", vec![], sink);
    sink.policy = policy;
    plan(vec![flow("policy", vec![node("source", vec![1], || numbers(3)), sink])], 16)
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_takes_too_long_is_tried_again_and_then_given_up() {
    let attempts = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&attempts);
    let policy = Policy {
        retry: RetryPolicy { max_attempts: 4, ..RetryPolicy::default() },
        timeout: Some(Duration::from_secs(1)),
        on_error: OnError::Drop,
    };
    let report = run(with_policy(policy, move || {
        let counted = Arc::clone(&counted);
        Task::Processor(Box::new(Hanging(counted)))
    }))
    .await;
    assert_eq!(outcomes(&report.flows[0].summary), [(Outcome::Dropped, 3)].into());
    assert_eq!(attempts.load(Ordering::Relaxed), 12);
}

struct Hanging(Arc<AtomicU32>);

#[async_trait::async_trait]
impl flowgen::task::Processor for Hanging {
    async fn handle(&self, _: &Event, _: &mut Output) -> Result<(), TaskError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_permanent_error_is_never_tried_again_and_drop_disposes_of_it() {
    let attempts = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&attempts);
    let policy = Policy { on_error: OnError::Drop, ..Policy::default() };
    let report = run(with_policy(policy, move || {
        let counted = Arc::clone(&counted);
        slow(Duration::ZERO, move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            Err(TaskError::permanent("test", "no use"))
        })
    }))
    .await;
    assert_eq!(outcomes(&report.flows[0].summary), [(Outcome::Dropped, 3)].into());
    assert_eq!(attempts.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn waits_as_long_as_the_other_side_asked() {
    let policy = Policy {
        retry: RetryPolicy { max_attempts: 2, ..RetryPolicy::default() },
        on_error: OnError::Drop,
        ..Policy::default()
    };
    let started = Instant::now();
    let report = run(with_policy(policy, || {
        slow(Duration::ZERO, |_| {
            Err(TaskError::transient("test", "busy").with_retry_after(Duration::from_secs(600)))
        })
    }))
    .await;
    assert_eq!(outcomes(&report.flows[0].summary), [(Outcome::Dropped, 3)].into());
    assert!(started.elapsed() >= Duration::from_secs(1800), "{:?}", started.elapsed());
}

struct Buffered;

#[async_trait::async_trait]
impl flowgen::task::Processor for Buffered {
    async fn handle(&self, _: &Event, output: &mut Output) -> Result<(), TaskError> {
        output.forward();
        Ok(())
    }

    fn is_buffered(&self) -> bool {
        true
    }
}

/// Scenario: a source falls silent after a few events, and does not end. Guarantee: they reach the end of
/// the flow all the same, through every role; nothing waits for company.
#[tokio::test(start_paused = true)]
async fn an_event_is_sent_on_although_none_follows() {
    let tasks = vec![
        node("source", vec![1], || Task::Source(Box::new(Waiting { count: 3 }))),
        node("buffered", vec![2], || Task::Processor(Box::new(Buffered))),
        node("slow", vec![3], || slow(Duration::from_millis(1), |_| Ok(()))),
        node("sink", vec![], || counting(&Arc::default())),
    ];
    let manager = TaskManager::start(plan(vec![flow("quiet", tasks)], 16), None).await.unwrap();
    let flows = manager.flows();
    let stop = manager.stop();
    let all_completed = async {
        while flows[0].summary().count(Outcome::Completed) < 3 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        stop.stop();
    };
    let patience = Duration::from_secs(60);
    let (report, arrived) = tokio::join!(manager.run(), async {
        let arrived = tokio::time::timeout(patience, all_completed).await;
        stop.stop();
        arrived
    });
    assert!(arrived.is_ok(), "{report:?}");
}
