//! `dedupe` in the engine: what fails behind it is brought in again and is no duplicate of itself.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use flowgen::{
    ack::Outcome,
    event::{Event, EventId, Payload},
    plan::{Node, OnError, Plan, Policy},
    problem::{KeyPath, Problems},
    retry::RetryPolicy,
    runtime::{Report, TaskManager},
    shutdown::Stop,
    task::{Emitter, Output, Processor, Source, Task, TaskError},
    tasks::registry,
};
use proptest::prelude::*;
use serde_json::json;

use crate::support::{
    graph::{flow, node, outcomes, plan},
    tasks::Apply,
};

/// Emits an event for each key, and has sequence numbers for ids.
struct Keys(Vec<u8>);

#[async_trait]
impl Source for Keys {
    async fn run(self: Box<Self>, emitter: &mut Emitter, _: Stop) -> Result<(), TaskError> {
        for (n, key) in (0..).zip(&self.0) {
            let data = Payload::from(json!({"key": key}));
            emitter.stage(EventId::Sequence(n), move |_| Ok(data.clone().into())).await?;
        }
        Ok(())
    }
}

fn keys(keys: Vec<u8>) -> Task {
    Task::Source(Box::new(Keys(keys)))
}

fn key_of(event: &Event) -> u8 {
    event.data.json().and_then(|data| data["key"].as_u64()).and_then(|key| u8::try_from(key).ok()).unwrap()
}

/// A node of the kind itself.
fn dedupe(downstream: Vec<usize>, max_keys: usize) -> Node {
    let kind = registry().get("dedupe").unwrap();
    let config = json!({"key": "{{ event.data.key }}", "ttl": "1h", "max_keys": max_keys});
    let mut problems = Problems::below(KeyPath::default());
    let prepared = kind.prepare(config, &mut problems).unwrap();
    assert!(problems.into_vec().is_empty());
    Node { kind, prepared: prepared.into(), ..node("dedupe", downstream, || unreachable!()) }
}

/// What a sink does with the events of one key, one after the other; all that follow succeed.
type Script = BTreeMap<u8, Vec<Act>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Succeed,
    FailForNow,
    FailForGood,
}

/// The sequence numbers of the events that a sink was done with, by key.
type Done = Arc<Mutex<BTreeMap<u8, Vec<u64>>>>;

struct Flaky {
    script: Mutex<Script>,
    done: Done,
    time: Duration,
}

#[async_trait]
impl Processor for Flaky {
    async fn handle(&self, event: &Event, output: &mut Output) -> Result<(), TaskError> {
        tokio::time::sleep(self.time).await;
        let key = key_of(event);
        let act = match self.script.lock().unwrap().get_mut(&key) {
            Some(acts) if !acts.is_empty() => acts.remove(0),
            _ => Act::Succeed,
        };
        match act {
            Act::Succeed => {
                let EventId::Sequence(sequence) = event.id else { panic!("{:?}", event.id) };
                self.done.lock().unwrap().entry(key).or_default().push(sequence);
                output.forward();
                Ok(())
            }
            Act::FailForNow => Err(TaskError::transient("test", "fails for now")),
            Act::FailForGood => Err(TaskError::permanent("test", "fails for good")),
        }
    }
}

/// A sink that tries nothing twice: what fails for now goes back to the source.
fn flaky(script: &Script, done: &Done, on_error: OnError) -> Node {
    let (script, done) = (script.clone(), Arc::clone(done));
    let mut sink = node("sink", vec![], move || {
        let script = Mutex::new(script.clone());
        let time = Duration::from_millis(10);
        Task::Processor(Box::new(Flaky { script, done: Arc::clone(&done), time }))
    });
    let retry = RetryPolicy { max_attempts: 1, ..RetryPolicy::default() };
    sink.policy = Policy { retry, on_error, ..Policy::default() };
    sink
}

async fn run(plan: Plan) -> Report {
    let worker = TaskManager::start(plan, None).await.unwrap().run();
    tokio::time::timeout(Duration::from_secs(100_000), worker).await.expect("the worker never ended")
}

/// Runs keys through `dedupe` into a sink that acts by `script`.
async fn deduplicated(all: Vec<u8>, script: Script, on_error: OnError) -> (Report, BTreeMap<u8, Vec<u64>>) {
    let done = Done::default();
    let source = node("source", vec![1], move || keys(all.clone()));
    let tasks = vec![source, dedupe(vec![2], 1000), flaky(&script, &done, on_error)];
    let report = run(plan(vec![flow("f", tasks)], 16)).await;
    let done = done.lock().unwrap().clone();
    (report, done)
}

/// Scenario: duplicates, close together and far apart, before a sink that works. Guarantee: the first of each passes,
/// and nothing else.
#[tokio::test(start_paused = true)]
async fn the_first_of_each_key_passes_and_nothing_else() {
    let all: Vec<u8> = (0..5000).map(|n| u8::try_from(n % 100 / 3).unwrap()).collect();
    let (report, done) = deduplicated(all, Script::new(), OnError::Fail).await;
    assert_eq!(done, (0..34).map(|key| (key, vec![u64::from(key) * 3])).collect());
    let expected = [(Outcome::Completed, 34), (Outcome::Filtered, 4966)].into();
    assert_eq!(outcomes(&report.flows[0].summary), expected);
}

/// Scenario: the first event of a key fails for now, while duplicates of it are on their way. Guarantee: it is brought in
/// again and is no duplicate of itself; it comes once, and the others do not.
#[tokio::test(start_paused = true)]
async fn what_fails_for_now_is_no_duplicate_when_it_comes_again() {
    let script = Script::from([(1, vec![Act::FailForNow; 3])]);
    let (report, done) = deduplicated(vec![1, 2, 1, 1, 2, 1], script, OnError::Fail).await;
    assert_eq!(done, [(1, vec![0]), (2, vec![1])].into());
    let expected = [(Outcome::Completed, 2), (Outcome::Filtered, 4)].into();
    assert_eq!(outcomes(&report.flows[0].summary), expected);
}

/// Scenario: the first event of a key fails for good while a duplicate waits, and another one comes later. Guarantee: no
/// failure is told to be a success, and the later one has its chance.
#[tokio::test(start_paused = true)]
async fn what_fails_for_good_takes_those_with_it_that_wait_and_no_others() {
    let late = 500;
    let all = [vec![1, 1], vec![2; late], vec![1]].concat();
    let script = Script::from([(1, vec![Act::FailForGood])]);
    // So many others of key 2 wait that the last one is handled when they are done.
    let (report, done) = deduplicated(all.clone(), script.clone(), OnError::Fail).await;
    let summary = &report.flows[0].summary;
    assert_eq!(
        summary.count(Outcome::Completed) + summary.count(Outcome::Failed) + summary.count(Outcome::Filtered),
        all.len() as u64
    );
    assert!(summary.count(Outcome::Failed) >= 2, "{summary:?}");
    assert_eq!(done[&2], [2]);
    let (report, _) = deduplicated(vec![1, 1], script, OnError::Drop).await;
    assert_eq!(outcomes(&report.flows[0].summary), [(Outcome::Dropped, 2)].into());
}

/// Scenario: an event reaches `dedupe` along two branches, before a sink that fails at first, for now or for good.
/// Guarantee: it is done once at most, and once unless it failed for good; and the flow ends. If one branch has failed for
/// now before the other one comes and succeeds, the event is brought in again, and there is nothing left to do.
#[tokio::test(start_paused = true)]
async fn an_event_that_comes_along_two_branches_passes_once() {
    for (act, expected) in [
        (Act::Succeed, &[Outcome::Completed][..]),
        (Act::FailForNow, &[Outcome::Completed, Outcome::Filtered]),
        (Act::FailForGood, &[Outcome::Failed]),
    ] {
        let done = Done::default();
        let forward = || {
            Task::Transform(Box::new(Apply(|_: &mut Event, output: &mut Output| {
                output.forward();
                Ok(())
            })))
        };
        let tasks = vec![
            node("source", vec![1, 2], || keys((0..100).collect())),
            node("left", vec![3], forward),
            node("right", vec![3], forward),
            dedupe(vec![4], 1000),
            flaky(&(0..100).map(|key| (key, vec![act])).collect(), &done, OnError::Fail),
        ];
        let report = run(plan(vec![flow("diamond", tasks)], 8)).await;
        let summary = &report.flows[0].summary;
        assert_eq!(
            expected.iter().map(|outcome| summary.count(*outcome)).sum::<u64>(),
            100,
            "{act:?}: {summary:?}"
        );
        let done = done.lock().unwrap();
        assert!(act == Act::FailForGood || done.len() == 100, "{act:?}: {done:?}");
        assert!(done.values().all(|sequences| sequences.len() == 1), "{done:?}");
    }
}

/// Scenario: more duplicates than may wait, before a slow sink. Guarantee: they wait their turn, and the flow ends.
#[tokio::test(start_paused = true)]
async fn more_duplicates_than_may_wait_wait_their_turn() {
    let (report, done) = deduplicated(vec![1; 5000], Script::new(), OnError::Fail).await;
    assert_eq!(done, [(1, vec![0])].into());
    assert_eq!(
        outcomes(&report.flows[0].summary),
        [(Outcome::Completed, 1), (Outcome::Filtered, 4999)].into()
    );
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act =
        prop_oneof![Just(Act::Succeed), Just(Act::FailForNow), Just(Act::FailForNow), Just(Act::FailForGood)];
    prop::collection::vec(act, 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// Scenario: any keys, a sink that fails for now or for good in any way, any room for keys. Guarantee: every event
    /// has an outcome; a key that has an event filtered was done once before; each event is done at most once; with room
    /// for all keys, so is each key.
    #[test]
    fn nothing_is_filtered_that_was_not_done_and_nothing_is_done_twice(
        all in prop::collection::vec(0..5_u8, 1..60),
        script in prop::collection::btree_map(0..5_u8, acts(), 0..5),
        max_keys in prop_oneof![1..5_usize, Just(1000)],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let done = Done::default();
        let report = runtime.block_on(async {
            let of_source = all.clone();
            let tasks = vec![
                node("source", vec![1], move || keys(of_source.clone())),
                dedupe(vec![2], max_keys),
                flaky(&script, &done, OnError::Fail),
            ];
            run(plan(vec![flow("any", tasks)], 4)).await
        });
        let summary = &report.flows[0].summary;
        prop_assert_eq!((summary.entered, summary.inflight()), (all.len() as u64, 0));
        let done = done.lock().unwrap();
        let of_key = |key: u8| done.get(&key).map_or(&[][..], Vec::as_slice);
        let completed: usize = done.values().map(Vec::len).sum();
        prop_assert_eq!(summary.count(Outcome::Completed), completed as u64);
        for key in 0..5 {
            let mut sequences = of_key(key).to_vec();
            sequences.dedup();
            prop_assert_eq!(sequences.len(), of_key(key).len(), "an event was done twice");
            if max_keys == 1000 {
                prop_assert!(of_key(key).len() <= 1, "key {} was done twice: {:?}", key, of_key(key));
            }
            let may_fail = script.get(&key).is_some_and(|acts| acts.contains(&Act::FailForGood));
            if all.contains(&key) && !may_fail {
                prop_assert!(!of_key(key).is_empty(), "key {} was lost", key);
            }
        }
        if script.values().flatten().all(|act| *act != Act::FailForGood) {
            prop_assert_eq!(summary.count(Outcome::Failed), 0);
        }
    }
}
