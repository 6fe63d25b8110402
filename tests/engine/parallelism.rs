//! A transform on several threads at once.

use std::{
    collections::BTreeSet,
    hint,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use flowgen::{
    ack::Outcome,
    event::{Event, EventId, Payload},
    plan::{Node, OnError, OnTaskPanic, Plan},
    retry::RetryPolicy,
    runtime::{Report, TaskManager},
    task::{Output, Task, TaskError},
};
use proptest::prelude::*;

use crate::support::{
    graph::{flow, node, outcomes, plan},
    tasks::{Apply, counting, numbers, slow},
};

/// What becomes of an event, by its number.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// It is forwarded after so many turns of a loop.
    Work(u32),
    Filter,
    Fail,
    Panic,
    /// It becomes so many.
    Derive(usize),
}

fn number(id: &EventId) -> Option<u64> {
    match id {
        EventId::Sequence(n) => Some(*n),
        _ => None,
    }
}

fn act(acts: &[Act], event: &Event, output: &mut Output) -> Result<(), TaskError> {
    let n = usize::try_from(number(&event.id).unwrap()).unwrap();
    match acts[n % acts.len()] {
        Act::Work(turns) => {
            (0..turns).map(hint::black_box).for_each(drop::<u32>);
            output.forward();
        }
        Act::Filter => {}
        Act::Fail => return Err(TaskError::permanent("test", "as the test wants it")),
        Act::Panic => panic!("as the test wants it"),
        Act::Derive(count) => {
            (0..count).for_each(|n| output.emit(event.derive(n, Payload::default())));
        }
    }
    Ok(())
}

/// A task that is there `parallelism` times.
fn parallel(parallelism: usize, build: impl Fn() -> Task + Send + Sync + 'static) -> Node {
    let mut node = node("parallel", vec![2], build);
    node.parallelism = parallelism;
    node.policy.retry = RetryPolicy { initial_backoff: Duration::ZERO, ..RetryPolicy::default() };
    node
}

type Ids = Arc<Mutex<Vec<String>>>;

fn noting(ids: &Ids) -> Task {
    let ids = Arc::clone(ids);
    Task::Transform(Box::new(Apply(move |event: &mut Event, output: &mut Output| {
        ids.lock().unwrap().push(event.id.to_string());
        output.forward();
        Ok(())
    })))
}

fn acting(count: u64, parallelism: usize, acts: Vec<Act>, ids: &Ids) -> Plan {
    let (acts, ids) = (Arc::new(acts), Arc::clone(ids));
    let work = move || {
        let acts = Arc::clone(&acts);
        Task::Transform(Box::new(Apply(move |event: &mut Event, output: &mut Output| {
            act(&acts, event, output)
        })))
    };
    let tasks = vec![
        node("source", vec![1], move || numbers(count)),
        parallel(parallelism, work),
        node("sink", vec![], move || noting(&ids)),
    ];
    let mut plan = plan(vec![flow("parallel", tasks)], 100);
    plan.flows[0].on_task_panic = OnTaskPanic::Restart;
    plan
}

async fn run(plan: Plan) -> Report {
    TaskManager::start(plan, None).await.expect("test tasks always build").run().await
}

fn threads() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn paused() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

fn check(
    count: u64,
    parallelism: usize,
    acts: &[Act],
    runtime: &tokio::runtime::Runtime,
) -> Result<(), TestCaseError> {
    let ids = Ids::default();
    let report = runtime.block_on(run(acting(count, parallelism, acts.to_vec(), &ids)));
    let mut expected = (Vec::new(), [0, 0, 0]);
    for n in 0..count {
        let outcome = match acts[usize::try_from(n).unwrap() % acts.len()] {
            Act::Work(_) => {
                expected.0.push(n.to_string());
                0
            }
            Act::Derive(0) | Act::Filter => 1,
            Act::Derive(count) => {
                expected.0.extend((0..count).map(|index| format!("{n}-{index}")));
                0
            }
            Act::Fail | Act::Panic => 2,
        };
        expected.1[outcome] += 1;
    }
    let summary = &report.flows[0].summary;
    prop_assert_eq!(ids.lock().unwrap().clone(), expected.0);
    let counts =
        [Outcome::Completed, Outcome::Filtered, Outcome::Failed].map(|outcome| summary.count(outcome));
    prop_assert_eq!(counts, expected.1, "{:?}", report);
    prop_assert_eq!(summary.inflight(), 0);
    Ok(())
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        8 => (0..20_000_u32).prop_map(Act::Work),
        1 => Just(Act::Filter),
        1 => Just(Act::Fail),
        1 => (0..200_usize).prop_map(Act::Derive),
    ];
    let some = prop::collection::vec(act, 1..60);
    (some, prop::option::of(0..60_usize)).prop_map(|(mut acts, panics_at)| {
        // Rare, because each one is told on stderr.
        if let Some(at) = panics_at {
            acts.resize(200, Act::Work(10));
            acts[at] = Act::Panic;
        }
        acts
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Scenario: events take their time, come to nothing, fail, panic or become many, in several lanes. Guarantee: what
    /// leaves them leaves in the order in which it came, and every event has its own outcome.
    #[test]
    fn order_is_kept_whatever_the_lanes_do(count in 0..800_u64, parallelism in 2..5_usize, acts in acts()) {
        check(count, parallelism, &acts, &threads())?;
        check(count, parallelism, &acts, &paused())?;
    }
}

/// Scenario: a lane waits in its work until another one works too. Guarantee: they do work at the same time.
#[test]
fn lanes_work_at_the_same_time() {
    let (working, have_met) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let met = Arc::clone(&have_met);
    let work = move || {
        let (working, met) = (Arc::clone(&working), Arc::clone(&met));
        Task::Transform(Box::new(Apply(move |_: &mut Event, output: &mut Output| {
            working.fetch_add(1, Ordering::SeqCst);
            // Not for good: the other one may be the next that this very thread is to run.
            for _ in 0..10_000 {
                if met.load(Ordering::SeqCst) {
                    break;
                }
                met.fetch_or(working.load(Ordering::SeqCst) == 2, Ordering::SeqCst);
                std::thread::yield_now();
            }
            working.fetch_sub(1, Ordering::SeqCst);
            output.forward();
            Ok(())
        })))
    };
    let tasks = vec![
        node("source", vec![1], || numbers(1000)),
        parallel(2, work),
        node("sink", vec![], || counting(&Arc::default())),
    ];
    let report = threads().block_on(run(plan(vec![flow("parallel", tasks)], 100)));
    assert_eq!(outcomes(&report.flows[0].summary), [(Outcome::Completed, 1000)].into());
    assert!(have_met.load(Ordering::SeqCst));
}

/// Scenario: a lane panics in a flow that stops then. Guarantee: the flow ends, names the task, and every event has an
/// outcome; what the lane had done is done.
#[tokio::test(start_paused = true)]
async fn a_lane_that_is_gone_for_good_ends_the_flow() {
    let ids = Ids::default();
    let mut acts = vec![Act::Work(0); 5000];
    acts[500] = Act::Panic;
    let mut plan = acting(5000, 3, acts, &ids);
    plan.flows[0].on_task_panic = OnTaskPanic::Stop;
    let report = run(plan).await;
    let flow = &report.flows[0];
    assert!(
        flow.failure.as_deref().is_some_and(|why| why.starts_with("task `parallel` panicked")),
        "{flow:?}"
    );
    let reached: BTreeSet<String> = ids.lock().unwrap().iter().cloned().collect();
    assert!((0..500).all(|n| reached.contains(&n.to_string())), "what was done before is missing");
    assert_eq!(flow.summary.count(Outcome::Completed), reached.len() as u64);
    assert_eq!(flow.summary.settled(), flow.summary.entered);
}

/// Scenario: the lanes are far faster than the sink, and each event becomes a hundred. Guarantee: they hold two lots each,
/// and no more of what comes of them than fits the channel and a lot of each.
#[tokio::test(start_paused = true)]
async fn lanes_hold_no_more_than_two_lots_each() {
    const CAPACITY: u64 = 64;
    let most = Arc::new(AtomicUsize::new(0));
    let handle = Arc::new(Mutex::new(None::<flowgen::runtime::FlowHandle>));
    let (peak, flow_handle) = (Arc::clone(&most), Arc::clone(&handle));
    let sink = move || {
        let (peak, handle) = (Arc::clone(&peak), Arc::clone(&flow_handle));
        slow(Duration::from_millis(1), move |_| {
            if let Some(flow) = &*handle.lock().unwrap() {
                peak.fetch_max(usize::try_from(flow.summary().inflight()).unwrap(), Ordering::Relaxed);
            }
            Ok(())
        })
    };
    let tasks = vec![
        node("source", vec![1], || numbers(2000)),
        parallel(3, || counting(&Arc::default())),
        node("sink", vec![], sink),
    ];
    let manager =
        TaskManager::start(plan(vec![flow("bounded", tasks)], CAPACITY as usize), None).await.unwrap();
    *handle.lock().unwrap() = Some(manager.flows()[0].clone());
    let report = manager.run().await;
    assert_eq!(outcomes(&report.flows[0].summary), [(Outcome::Completed, 2000)].into());
    let most = most.load(Ordering::Relaxed) as u64;
    // Two channels, a batch of the source and of the sink, and the lots.
    assert!(most <= 2 * CAPACITY + 2 * 64 + 3 * 2 * 64, "{most}");
}

/// Scenario: a task that fails passes its events on. Guarantee: in order, with the others.
#[tokio::test(start_paused = true)]
async fn what_failed_and_goes_on_keeps_its_place() {
    let ids = Ids::default();
    let acts = vec![Act::Work(0), Act::Fail, Act::Work(0), Act::Fail, Act::Fail];
    let mut plan = acting(700, 2, acts, &ids);
    plan.flows[0].tasks[1].policy.on_error = OnError::Continue;
    run(plan).await;
    let expected: Vec<String> = (0..700).map(|n| n.to_string()).collect();
    assert_eq!(*ids.lock().unwrap(), expected);
}
