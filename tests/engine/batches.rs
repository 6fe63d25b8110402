//! Batches: many events become one, and what becomes of it becomes of each.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use flowgen::{
    ack::Outcome,
    event::{Event, EventId, Payload},
    plan::{Node, OnTaskPanic, Plan},
    problem::Problems,
    retry::RetryPolicy,
    runtime::{Report, TaskManager},
    shutdown::Stop,
    task::{BatchId, Emitter, FlushReason, Output, Source, Task, TaskError, Transform},
    tasks::registry,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{
    graph::{flow, node, outcomes, plan},
    tasks::{counting, slow},
};

/// A row, and how long the source waits before it.
type Row = (Duration, Value);

/// Emits rows, and goes on until it is stopped if it does not end.
struct Rows {
    rows: Vec<Row>,
    is_endless: bool,
}

#[async_trait::async_trait]
impl Source for Rows {
    async fn run(self: Box<Self>, emitter: &mut Emitter, stop: Stop) -> Result<(), TaskError> {
        for (n, (wait, row)) in (0..).zip(self.rows) {
            if !wait.is_zero() {
                emitter.flush().await?;
                tokio::time::sleep(wait).await;
            }
            emitter.stage(EventId::Sequence(n), |_| Ok(Payload::from(row.clone()).into())).await?;
        }
        emitter.flush().await?;
        if self.is_endless {
            stop.stopped().await;
        }
        Ok(())
    }
}

fn rows(rows: Vec<Row>, is_endless: bool) -> impl Fn() -> Task + Send + Sync + 'static {
    move || Task::Source(Box::new(Rows { rows: rows.clone(), is_endless }))
}

fn numbers(count: u64) -> Vec<Row> {
    (0..count).map(|n| (Duration::ZERO, json!(n))).collect()
}

/// The first node of a flow.
fn source(downstream: Vec<usize>, rows: impl Fn() -> Task + Send + Sync + 'static) -> Node {
    // By its kind the flow knows when all sources have come to their end.
    Node { kind: registry().get("generate").unwrap(), ..node("source", downstream, rows) }
}

/// A node of the kind `buffer`.
fn buffer(downstream: Vec<usize>, config: Value) -> Node {
    let kind = registry().get("buffer").unwrap();
    let mut problems = Problems::default();
    let prepared = kind.prepare(config, &mut problems).unwrap();
    assert!(problems.is_empty(), "{problems:?}");
    Node { kind, prepared: prepared.into(), ..node("buffer", downstream, || unreachable!("it is prepared")) }
}

/// The batches that a sink has taken, each with its event's id and the time.
#[derive(Clone, Debug)]
struct Taken {
    batches: Arc<Mutex<Vec<(String, Value, Duration)>>>,
    since: Instant,
}

impl Taken {
    fn new() -> Self {
        Self { batches: Arc::default(), since: Instant::now() }
    }

    /// A sink that takes the batches that `judge` lets pass. It is asked once.
    fn sink(
        &self,
        judge: impl Fn(&Value) -> Result<(), TaskError> + Send + Sync + 'static,
    ) -> impl Fn() -> Task + Send + Sync + 'static {
        let (taken, judge) = (self.clone(), Arc::new(judge));
        move || {
            let (taken, judge) = (taken.clone(), Arc::clone(&judge));
            slow(Duration::ZERO, move |event| {
                let data = event.data.json().unwrap();
                judge(data)?;
                let taken_at = taken.since.elapsed();
                taken.batches.lock().unwrap().push((event.id.to_string(), data.clone(), taken_at));
                Ok(())
            })
        }
    }

    fn batches(&self) -> Vec<(String, Value, Duration)> {
        self.batches.lock().unwrap().clone()
    }

    /// Returns what is in the batches, each in order.
    fn items(&self) -> Vec<Value> {
        self.batches().iter().map(|(_, data, _)| data["batch"].clone()).collect()
    }

    fn reasons(&self) -> Vec<String> {
        self.batches().iter().map(|(_, data, _)| data["flush_reason"].as_str().unwrap().to_owned()).collect()
    }
}

/// A source, a buffer and a sink that gives up at the first failure.
fn chain(source: impl Fn() -> Task + Send + Sync + 'static, config: Value, sink: Node) -> Plan {
    let mut sink = sink;
    sink.policy.retry = RetryPolicy { max_attempts: 1, ..RetryPolicy::default() };
    plan(vec![flow("batches", vec![self::source(vec![1], source), buffer(vec![2], config), sink])], 16)
}

async fn run(plan: Plan) -> Report {
    TaskManager::start(plan, None).await.expect("test tasks always build").run().await
}

fn contains(data: &Value, item: u64) -> bool {
    data["batch"].as_array().unwrap().contains(&json!(item))
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_fails_fails_each_of_its_events_and_no_other() {
    let taken = Taken::new();
    let sink = taken.sink(|data| match contains(data, 7) {
        true => Err(TaskError::permanent("test", "a seven")),
        false => Ok(()),
    });
    let report = run(chain(rows(numbers(20), false), json!({"size": 5}), node("sink", vec![], sink))).await;
    let expected = [(Outcome::Completed, 15), (Outcome::Failed, 5)].into();
    assert_eq!(outcomes(&report.flows[0].summary), expected);
    let expected =
        json!([[0, 1, 2, 3, 4], [10, 11, 12, 13, 14], [15, 16, 17, 18, 19]]).as_array().unwrap().clone();
    assert_eq!(taken.items(), expected);
    // It is derived from the last event that it holds.
    assert_eq!(taken.batches().iter().map(|(id, ..)| &**id).collect::<Vec<_>>(), ["4", "14", "19"]);
}

/// Scenario: the second batch fails for now, twice. Guarantee: every event of it is brought in again, and is part of exactly
/// one batch that is taken.
#[tokio::test(start_paused = true)]
async fn a_batch_that_fails_for_now_is_brought_in_again_event_by_event() {
    let taken = Taken::new();
    let failures = Arc::new(Mutex::new(2));
    let sink = taken.sink(move |data| {
        let mut failures = failures.lock().unwrap();
        if contains(data, 7) && *failures > 0 {
            *failures -= 1;
            return Err(TaskError::transient("test", "busy"));
        }
        Ok(())
    });
    let config = json!({"size": 5, "timeout": "1h"});
    let report = run(chain(rows(numbers(20), false), config, node("sink", vec![], sink))).await;
    assert_eq!(outcomes(&report.flows[0].summary), [(Outcome::Completed, 20)].into());
    let mut items: Vec<u64> = taken
        .items()
        .iter()
        .flat_map(|batch| batch.as_array().unwrap().clone())
        .map(|n| n.as_u64().unwrap())
        .collect();
    items.sort_unstable();
    assert_eq!(items, (0..20).collect::<Vec<_>>());
    assert!(taken.since.elapsed() < Duration::from_secs(3600), "it waited for the time of a batch");
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_batch_counts_from_its_first_event() {
    let taken = Taken::new();
    let seconds = Duration::from_secs;
    let input = vec![(seconds(5), json!(0)), (seconds(20), json!(1)), (seconds(60), json!(2))];
    run(chain(rows(input, false), json!({"timeout": "30s"}), node("sink", vec![], taken.sink(|_| Ok(())))))
        .await;
    assert_eq!(taken.items(), [json!([0, 1]), json!([2])]);
    assert_eq!(taken.reasons(), ["timeout", "shutdown"]);
    let at: Vec<u64> = taken.batches().iter().map(|(.., at)| at.as_secs()).collect();
    assert_eq!(at, [35, 85]);
}

/// Scenario: a batch will never be full, and its time is far. Guarantee: neither the end of the flow, nor that of a stop
/// waits for it.
#[tokio::test(start_paused = true)]
async fn a_batch_that_fills_no_more_holds_up_no_end() {
    for is_endless in [false, true] {
        let taken = Taken::new();
        let sink = node("sink", vec![], taken.sink(|_| Ok(())));
        let plan = chain(rows(numbers(3), is_endless), json!({"size": 1000, "timeout": "1h"}), sink);
        let manager = TaskManager::start(plan, None).await.unwrap();
        let (flows, stop) = (manager.flows(), manager.stop());
        let (report, ()) = tokio::join!(manager.run(), async {
            while flows[0].summary().entered < 3 {
                tokio::task::yield_now().await;
            }
            if is_endless {
                tokio::time::sleep(Duration::from_secs(60)).await;
                stop.stop();
            }
        });
        assert!(!report.is_cut_short);
        assert_eq!(outcomes(&report.flows[0].summary), [(Outcome::Completed, 3)].into());
        assert_eq!(taken.items().iter().flat_map(|items| items.as_array().unwrap().clone()).count(), 3);
        assert!(taken.reasons().iter().all(|reason| reason == "shutdown"));
        assert!(taken.since.elapsed() < Duration::from_secs(61), "{:?}", taken.since.elapsed());
    }
}

/// Scenario: two branches of each event meet in a buffer, and one of the batches fails. Guarantee: an event fails if either
/// of its branches was in it, once.
#[tokio::test(start_paused = true)]
async fn both_branches_of_an_event_may_be_in_batches() {
    let taken = Taken::new();
    let sink = taken.sink(|data| match contains(data, 3) {
        true => Err(TaskError::permanent("test", "a three")),
        false => Ok(()),
    });
    let tasks = vec![
        source(vec![1, 2], rows(numbers(12), false)),
        node("left", vec![3], || counting(&Arc::default())),
        node("right", vec![3], || counting(&Arc::default())),
        buffer(vec![4], json!({"size": 1})),
        node("sink", vec![], sink),
    ];
    let report = run(plan(vec![flow("diamond", tasks)], 4)).await;
    let expected = [(Outcome::Completed, 11), (Outcome::Failed, 1)].into();
    assert_eq!(outcomes(&report.flows[0].summary), expected);
    assert_eq!(taken.batches().len(), 22);
    let taken = Taken::new();
    let tasks = vec![
        source(vec![1, 2], rows(numbers(12), false)),
        node("left", vec![3], || counting(&Arc::default())),
        node("right", vec![3], || counting(&Arc::default())),
        buffer(vec![4], json!({"size": 7})),
        node("sink", vec![], taken.sink(|_| Ok(()))),
    ];
    let report = run(plan(vec![flow("diamond", tasks)], 4)).await;
    assert_eq!(outcomes(&report.flows[0].summary), [(Outcome::Completed, 12)].into());
    assert_eq!(
        taken.batches().iter().map(|(_, data, _)| data["batch_size"].as_u64().unwrap()).sum::<u64>(),
        24
    );
}

/// Scenario: of two events in a batch one becomes too old. Guarantee: the batch is handled all the same; one of which all
/// is too old is not.
#[tokio::test(start_paused = true)]
async fn a_batch_is_too_old_when_all_of_it_is() {
    let seconds = Duration::from_secs;
    for (second, expected) in [(seconds(25), Outcome::Completed), (seconds(5), Outcome::Expired)] {
        let taken = Taken::new();
        let input = vec![(Duration::ZERO, json!(0)), (second, json!(1)), (seconds(60), json!(2))];
        let sink = node("sink", vec![], taken.sink(|_| Ok(())));
        let mut plan = chain(rows(input, false), json!({"timeout": "30s"}), sink);
        plan.flows[0].deadline = Some(seconds(10));
        let report = run(plan).await;
        let count = report.flows[0].summary.count(expected);
        assert_eq!(count, if expected == Outcome::Completed { 3 } else { 2 }, "{report:?}");
    }
}

/// Holds events, three in a batch, and panics at the first sight of one.
struct Fragile {
    held: Vec<Value>,
    panics_at: Arc<Mutex<Option<Value>>>,
}

impl Transform for Fragile {
    fn apply(&mut self, event: &mut Event, output: &mut Output) -> Result<(), TaskError> {
        let data = event.data.json().unwrap().clone();
        let is_fatal = self.panics_at.lock().unwrap().take_if(|fatal| *fatal == data).is_some();
        assert!(!is_fatal, "as the test wants it");
        self.held.push(data);
        output.hold(BatchId(0));
        if self.held.len() == 3 {
            output.release(BatchId(0), Payload::from(json!({"batch": std::mem::take(&mut self.held)})));
        }
        Ok(())
    }

    fn is_batching(&self) -> bool {
        true
    }

    fn flush(&mut self, _: FlushReason, _: Instant, output: &mut Output) {
        output.release(BatchId(0), Payload::from(json!({"batch": std::mem::take(&mut self.held)})));
    }
}

/// Scenario: a task that holds two events panics at the next one. Guarantee: that one has failed; what it held is brought
/// in again, and nothing is lost or there twice.
#[tokio::test(start_paused = true)]
async fn what_a_task_held_when_it_panicked_is_brought_in_again() {
    let taken = Taken::new();
    let panics_at = Arc::new(Mutex::new(Some(json!(5))));
    let fragile = move || {
        Task::Transform(
            Box::new(Fragile { held: Vec::new(), panics_at: Arc::clone(&panics_at) }) as Box<dyn Transform>
        )
    };
    let tasks = vec![
        source(vec![1], rows(numbers(10), false)),
        node("fragile", vec![2], fragile),
        node("sink", vec![], taken.sink(|_| Ok(()))),
    ];
    let mut plan = plan(vec![flow("fragile", tasks)], 16);
    plan.flows[0].on_task_panic = OnTaskPanic::Restart;
    let report = run(plan).await;
    let expected = [(Outcome::Completed, 9), (Outcome::Failed, 1)].into();
    assert_eq!(outcomes(&report.flows[0].summary), expected, "{report:?}");
    let mut items: Vec<u64> = taken
        .items()
        .iter()
        .flat_map(|batch| batch.as_array().unwrap().clone())
        .map(|n| n.as_u64().unwrap())
        .collect();
    items.sort_unstable();
    assert_eq!(items, [0, 1, 2, 3, 4, 6, 7, 8, 9]);
}

/// What a random flow is made of.
#[derive(Clone, Debug)]
struct Case {
    /// Of each row its partition and how long the source waits before it.
    rows: Vec<(u64, u64)>,
    size: usize,
    timeout: u64,
    max_bytes: Option<usize>,
    max_partitions: usize,
    capacity: usize,
    /// Which of the batches, as they come, fail for now.
    failures: Vec<bool>,
}

fn cases() -> impl Strategy<Value = Case> {
    let row = (0..5_u64, prop_oneof![4 => Just(0), 1 => 0..9_u64]);
    let limits = (1..9_usize, 1..20_u64, proptest::option::of(20..200_usize), 1..6_usize, 1..20_usize);
    let failures = prop_oneof![Just(Vec::new()), prop::collection::vec(any::<bool>(), 0..8)];
    (prop::collection::vec(row, 0..150), limits, failures).prop_map(|(rows, limits, failures)| {
        let (size, timeout, max_bytes, max_partitions, capacity) = limits;
        Case { rows, size, timeout, max_bytes, max_partitions, capacity, failures }
    })
}

fn check(case: Case) -> Result<(), TestCaseError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let (report, taken) = runtime.block_on(async {
        let taken = Taken::new();
        let failures = Mutex::new(case.failures.clone().into_iter());
        let sink = taken.sink(move |_| match failures.lock().unwrap().next() {
            Some(true) => Err(TaskError::transient("test", "busy")),
            _ => Ok(()),
        });
        let source = (0..)
            .zip(&case.rows)
            .map(|(n, (key, wait))| (Duration::from_secs(*wait), json!({"key": format!("k{key}"), "n": n})));
        let config = json!({
            "size": case.size,
            "timeout": format!("{}s", case.timeout),
            "max_bytes": case.max_bytes,
            "max_partitions": case.max_partitions,
            "partition_key": "{{ event.data.key }}",
        });
        let mut plan = chain(rows(source.collect(), false), config, node("sink", vec![], sink));
        plan.worker.channel_capacity = case.capacity;
        (run(plan).await, taken)
    });
    let count = case.rows.len() as u64;
    let summary = &report.flows[0].summary;
    prop_assert_eq!(summary.inflight(), 0);
    prop_assert_eq!((summary.entered, summary.count(Outcome::Completed)), (count, count), "{:?}", report);
    let mut partitions: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for (_, data, _) in taken.batches() {
        let items = data["batch"].as_array().unwrap();
        prop_assert!((1..=case.size).contains(&items.len()), "{}", data);
        prop_assert_eq!(&data["batch_size"], &json!(items.len()));
        let bytes = data["batch"].to_string().len();
        prop_assert!(items.len() == 1 || case.max_bytes.is_none_or(|limit| bytes <= limit), "{}", data);
        for item in items {
            prop_assert_eq!(&item["key"], &data["partition_key"]);
            partitions
                .entry(item["key"].as_str().unwrap().into())
                .or_default()
                .push(item["n"].as_u64().unwrap());
        }
    }
    let mut expected: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for (n, (key, _)) in (0..).zip(&case.rows) {
        expected.entry(format!("k{key}")).or_default().push(n);
    }
    if case.failures.contains(&true) {
        partitions.values_mut().for_each(|items| items.sort_unstable());
    }
    prop_assert_eq!(partitions, expected);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Scenario: any limits, partitions and pauses, and batches that fail for now. Guarantee: each event is part of exactly
    /// one batch that was taken, in order within its partition unless it was brought in again, and no batch is beyond a
    /// limit.
    #[test]
    fn each_event_is_part_of_exactly_one_batch(case in cases()) {
        check(case)?;
    }
}
