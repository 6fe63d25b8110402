//! Random flows of test tasks, and a model that says what must come out of them.
//!
//! What a task does with an event follows from a hash of the seed, the task and the event's id, so that
//! the engine and the model agree without sharing any code of the engine.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use flowgen::{
    ack::{Outcome, Summary},
    event::{Event, EventId, Payload},
    plan::{Concurrency, Flow, Node, OnError, OnTaskPanic, Order, Plan, Policy, Worker},
    registry::{KindEntry, Prepared},
    retry::RetryPolicy,
    shutdown::Stop,
    task::{
        BuildContext, BuildError, Edge, Emitter, FlushError, Kind, Output, Processor, Role, Source, Target,
        Task, TaskError, Transform,
    },
};
use proptest::prelude::*;

use super::walk::Walk;

/// How many attempts the policies of the test tasks allow.
const MAX_ATTEMPTS: u32 = 3;

/// What a test task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Source { events: u64 },
    Transform,
    Processor,
    Buffered,
}

/// One task of a random flow. Edges lead to greater indices only.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) shape: Shape,
    pub(crate) downstream: Vec<usize>,
    pub(crate) targets: Vec<usize>,
    pub(crate) on_error: OnError,
}

/// A random flow.
#[derive(Clone, Debug)]
pub(crate) struct Graph {
    pub(crate) seed: u64,
    pub(crate) capacity: usize,
    pub(crate) tasks: Vec<Spec>,
}

/// The ids of the events that left each leaf, in order.
pub(crate) type Leaves = BTreeMap<usize, Vec<String>>;

/// What a task does with one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Forward,
    ForwardTo(usize),
    Filter,
    Derive(usize),
    /// Emits, then fails: the output must be discarded.
    FailPermanently,
    /// Emits, then fails, this many times.
    FailAtFirst(u32),
}

impl Graph {
    fn act(&self, task: usize, id: &str) -> Act {
        let mut hasher = DefaultHasher::new();
        (self.seed, task, id).hash(&mut hasher);
        let hash = hasher.finish();
        let spec = &self.tasks[task];
        let is_processor = matches!(spec.shape, Shape::Processor | Shape::Buffered);
        match (hash % 100, usize::try_from(hash >> 32).unwrap() % 8) {
            (0..50, n) if !spec.targets.is_empty() => Act::ForwardTo(n % spec.targets.len()),
            (0..65, _) => Act::Forward,
            (65..73, _) => Act::Filter,
            (73..83, n) => Act::Derive(n % 4),
            (83..93, n) if is_processor => Act::FailAtFirst(u32::try_from(n).unwrap() % MAX_ATTEMPTS),
            (83..97, _) => Act::FailPermanently,
            _ => Act::Forward,
        }
    }

    /// Returns what must become of every event that enters.
    pub(crate) fn walks(&self) -> Vec<Walk> {
        let sources = self.tasks.iter().enumerate().filter_map(|(source, spec)| match spec.shape {
            Shape::Source { events } => Some((source, events)),
            _ => None,
        });
        let ids =
            sources.flat_map(|(source, events)| (0..events).map(move |n| (source, source_id(source, n))));
        ids.map(|(source, id)| self.walk(source, &id, Act::Forward)).collect()
    }

    /// Returns what must come out: per leaf the ids, and the flow's account.
    pub(crate) fn expected(&self) -> (Leaves, BTreeMap<Outcome, u64>) {
        let mut leaves = Leaves::new();
        let mut outcomes = BTreeMap::new();
        for walk in self.walks() {
            *outcomes.entry(walk.settled()).or_default() += 1;
            walk.each(&mut |walk| {
                if walk.end == Some(Outcome::Completed) {
                    let (ids, _) = self.emitted(walk.task, &walk.id, self.act_of(walk));
                    leaves.entry(walk.task).or_default().extend(ids);
                }
            });
        }
        (leaves, outcomes)
    }

    fn act_of(&self, walk: &Walk) -> Act {
        match self.tasks[walk.task].shape {
            Shape::Source { .. } => Act::Forward,
            _ => self.act(walk.task, &walk.id),
        }
    }

    fn walk(&self, task: usize, id: &str, act: Act) -> Walk {
        let (ids, next) = self.emitted(task, id, act);
        let failed_attempts = match act {
            Act::FailPermanently => 1,
            Act::FailAtFirst(failures) => failures.min(MAX_ATTEMPTS),
            _ => 0,
        };
        let is_failed = matches!(act, Act::FailPermanently) || failed_attempts == MAX_ATTEMPTS;
        let (outcome, end) = match self.tasks[task].on_error {
            OnError::Fail if is_failed => ("failed", Some(Outcome::Failed)),
            OnError::Drop | OnError::Continue | OnError::Route(_) if is_failed => {
                ("failed", Some(Outcome::Dropped))
            }
            _ if ids.is_empty() => ("filtered", Some(Outcome::Filtered)),
            _ if next.is_empty() => ("completed", Some(Outcome::Completed)),
            _ => ("completed", None),
        };
        let next = || next.iter().copied();
        let below = ids.iter().flat_map(|id| next().map(move |next| self.walk(next, id, self.act(next, id))));
        Walk {
            task,
            id: id.to_owned(),
            outcome,
            end,
            failed_attempts: failed_attempts.into(),
            // The last of the attempts that are allowed is followed by none.
            retries: if act == Act::FailPermanently {
                0
            } else {
                failed_attempts.min(MAX_ATTEMPTS - 1).into()
            },
            below: below.collect(),
        }
    }

    /// Returns the ids of what a task emits of an event, and the tasks that it goes to.
    fn emitted(&self, task: usize, id: &str, act: Act) -> (Vec<String>, Vec<usize>) {
        let downstream = self.tasks[task].downstream.clone();
        match act {
            Act::Filter | Act::FailPermanently | Act::FailAtFirst(MAX_ATTEMPTS..) => (vec![], downstream),
            Act::Forward | Act::FailAtFirst(_) => (vec![id.to_owned()], downstream),
            Act::ForwardTo(edge) => (vec![id.to_owned()], vec![self.tasks[task].targets[edge]]),
            Act::Derive(count) => ((0..count).map(|n| format!("{id}-{n}")).collect(), downstream),
        }
    }

    /// Returns whether all that reaches `task` comes along one path, so that its order is known.
    pub(crate) fn has_one_path_to(&self, task: usize) -> bool {
        let upstream: Vec<usize> = self
            .tasks
            .iter()
            .enumerate()
            .flat_map(|(index, spec)| {
                let edges = spec.downstream.iter().chain(&spec.targets).filter(|next| **next == task);
                edges.map(move |_| index)
            })
            .collect();
        match upstream.as_slice() {
            [] => true,
            [one] => self.has_one_path_to(*one),
            _ => false,
        }
    }

    /// Returns how many events a task handles at a time. The model knows nothing of it.
    fn concurrency(&self, task: usize) -> Concurrency {
        // Test processors tell attempts at an event from one another by its id, and leaves note what they handle.
        let is_noted_in_order = self.tasks[task].downstream.is_empty();
        let limits = [1, 2, 8, 100];
        let limit = if self.has_one_path_to(task) && !is_noted_in_order {
            limits[(self.seed as usize).wrapping_add(task) % limits.len()]
        } else {
            1
        };
        Concurrency { limit, order: Order::Kept }
    }

    /// Makes the plan of the flow. What leaves its leaves is added to `leaves`.
    pub(crate) fn plan(&self, leaves: &Arc<Mutex<Leaves>>) -> Plan {
        let graph = Arc::new(self.clone());
        let tasks = self
            .tasks
            .iter()
            .enumerate()
            .map(|(index, spec)| Node {
                name: format!("t{index}").into(),
                kind: &TEST_KIND,
                prepared: Arc::new(TestTask { graph: Arc::clone(&graph), index, leaves: Arc::clone(leaves) }),
                policy: Policy {
                    retry: RetryPolicy {
                        max_attempts: MAX_ATTEMPTS,
                        initial_backoff: Duration::ZERO,
                        ..RetryPolicy::default()
                    },
                    timeout: None,
                    on_error: spec.on_error,
                },
                when: None,
                concurrency: self.concurrency(index),
                parallelism: 1,
                sample_rate: None,
                downstream: spec.downstream.clone(),
                targets: spec.targets.clone(),
            })
            .collect();
        plan(vec![flow("random", tasks)], self.capacity)
    }
}

/// Makes a flow of test tasks.
pub(crate) fn flow(name: &str, tasks: Vec<Node>) -> Flow {
    Flow {
        name: name.into(),
        labels: Default::default(),
        file: "test.yaml".into(),
        base_dir: ".".into(),
        on_task_panic: OnTaskPanic::Stop,
        deadline: None,
        durable: None,
        parallel_instances: 1,
        slo: None,
        tasks,
    }
}

/// Makes a plan whose channels hold `channel_capacity` events.
pub(crate) fn plan(flows: Vec<Flow>, channel_capacity: usize) -> Plan {
    Plan { worker: Worker { channel_capacity, ..Worker::default() }, flows }
}

/// Makes a node of a hand-made flow. `build` is called once for each build.
pub(crate) fn node(
    name: &str,
    downstream: Vec<usize>,
    build: impl Fn() -> Task + Send + Sync + 'static,
) -> Node {
    Node {
        name: name.into(),
        kind: &TEST_KIND,
        prepared: Arc::new(Built(build)),
        policy: Policy::default(),
        when: None,
        concurrency: Concurrency::default(),
        parallelism: 1,
        sample_rate: None,
        downstream,
        targets: Vec::new(),
    }
}

struct Built<F>(F);

#[async_trait]
impl<F: Fn() -> Task + Send + Sync> Prepared for Built<F> {
    fn targets(&self) -> Vec<Target> {
        Vec::new()
    }

    async fn build(&self, _: &BuildContext) -> Result<Task, BuildError> {
        Ok((self.0)())
    }
}

/// Returns the outcomes of a summary that are not zero.
pub(crate) fn outcomes(summary: &Summary) -> BTreeMap<Outcome, u64> {
    Outcome::ALL
        .iter()
        .map(|outcome| (*outcome, summary.count(*outcome)))
        .filter(|(_, count)| *count > 0)
        .collect()
}

fn source_id(source: usize, n: u64) -> String {
    format!("{source}:{n}")
}

struct TestKind;

static TEST_KIND: KindEntry = KindEntry::of::<TestKind>("");

impl Kind for TestKind {
    const NAME: &'static str = "test";
    const ROLE: Role = Role::Transform;
    const SUMMARY: &'static str = "stands in for any kind";
    const ERROR_TYPES: &'static [&'static str] = &["test"];
    type Config = ();

    async fn build((): &(), _: &BuildContext) -> Result<Task, BuildError> {
        Err(BuildError::new("test tasks are made by their graph"))
    }
}

#[derive(Clone)]
struct TestTask {
    graph: Arc<Graph>,
    index: usize,
    leaves: Arc<Mutex<Leaves>>,
}

#[async_trait]
impl Prepared for TestTask {
    fn targets(&self) -> Vec<Target> {
        Vec::new()
    }

    async fn build(&self, _: &BuildContext) -> Result<Task, BuildError> {
        Ok(match self.graph.tasks[self.index].shape {
            Shape::Source { .. } => Task::Source(Box::new(self.clone())),
            Shape::Transform => Task::Transform(Box::new(self.clone())),
            Shape::Processor => Task::Processor(Box::new(TestProcessor::new(self, false))),
            Shape::Buffered => Task::Processor(Box::new(TestProcessor::new(self, true))),
        })
    }
}

impl TestTask {
    /// Does with the event what the model says, and notes what leaves a leaf.
    fn act(&self, event: &Event, earlier_failures: u32, output: &mut Output) -> Result<(), TaskError> {
        let id = event.id.to_string();
        match self.graph.act(self.index, &id) {
            Act::Filter => {}
            Act::ForwardTo(edge) => output.forward_to(Edge(edge)),
            Act::Derive(count) => {
                for n in 0..count {
                    output.emit(event.derive(n, Payload::default()));
                    self.note(format!("{id}-{n}"));
                }
            }
            Act::FailPermanently => {
                output.forward();
                return Err(TaskError::permanent("test", "always fails"));
            }
            Act::FailAtFirst(failures) if earlier_failures < failures => {
                output.emit(event.derive(0, Payload::default()));
                return Err(TaskError::transient("test", "fails at first"));
            }
            Act::Forward | Act::FailAtFirst(_) => {
                output.forward();
                self.note(id);
            }
        }
        Ok(())
    }

    fn note(&self, id: String) {
        if self.graph.tasks[self.index].downstream.is_empty() {
            self.leaves.lock().unwrap().entry(self.index).or_default().push(id);
        }
    }
}

#[async_trait]
impl Source for TestTask {
    async fn run(self: Box<Self>, emitter: &mut Emitter, _: Stop) -> Result<(), TaskError> {
        let Shape::Source { events } = self.graph.tasks[self.index].shape else { unreachable!() };
        for n in 0..events {
            let id = source_id(self.index, n);
            if self.graph.tasks[self.index].downstream.is_empty() {
                self.note(id.clone());
            }
            if n % 3 == 0 {
                emitter.emit(EventId::Text(id.into()), Payload::default()).await?;
            } else {
                emitter.stage(EventId::Text(id.into()), |_| Ok(Payload::default().into())).await?;
            }
        }
        Ok(())
    }
}

impl Transform for TestTask {
    fn apply(&mut self, event: &mut Event, output: &mut Output) -> Result<(), TaskError> {
        self.act(event, 0, output)
    }
}

struct TestProcessor {
    task: TestTask,
    is_buffered: bool,
    failures: Mutex<BTreeMap<String, u32>>,
    flushes: Mutex<u32>,
}

impl TestProcessor {
    fn new(task: &TestTask, is_buffered: bool) -> Self {
        Self { task: task.clone(), is_buffered, failures: Mutex::default(), flushes: Mutex::default() }
    }
}

#[async_trait]
impl Processor for TestProcessor {
    async fn handle(&self, event: &Event, output: &mut Output) -> Result<(), TaskError> {
        tokio::task::yield_now().await;
        let id = event.id.to_string();
        let earlier = self.failures.lock().unwrap().get(&id).copied().unwrap_or_default();
        let result = self.task.act(event, earlier, output);
        match &result {
            // A diamond brings the same id again: it starts anew.
            Ok(()) => drop(self.failures.lock().unwrap().remove(&id)),
            Err(_) if earlier + 1 == MAX_ATTEMPTS => drop(self.failures.lock().unwrap().remove(&id)),
            Err(_) => drop(self.failures.lock().unwrap().insert(id, earlier + 1)),
        }
        result
    }

    fn is_buffered(&self) -> bool {
        self.is_buffered
    }

    /// Every second flush has to be tried again.
    async fn flush(&self) -> Result<(), FlushError> {
        tokio::task::yield_now().await;
        let mut flushes = self.flushes.lock().unwrap();
        *flushes += 1;
        if flushes.is_multiple_of(2) {
            return Err(TaskError::transient("test", "fails at first").into());
        }
        Ok(())
    }
}

impl std::fmt::Display for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = format!("seed {}, capacity {}\n", self.seed, self.capacity);
        for (index, spec) in self.tasks.iter().enumerate() {
            writeln!(text, "  t{index} {spec:?}")?;
        }
        f.write_str(&text)
    }
}

/// Any flow of up to nine tasks: one to three sources, chains, fan-out, fan-in, diamonds, named edges.
pub(crate) fn graphs() -> impl Strategy<Value = Graph> {
    let task = (0u8..3, any::<bool>(), any::<u16>(), any::<u16>());
    (any::<u64>(), 1usize..70, 1usize..4, 0u64..200, prop::collection::vec(task, 0..7)).prop_map(
        |(seed, capacity, sources, events, others)| {
            let source = |n| Shape::Source { events: events / (n as u64 + 1) };
            let mut tasks: Vec<Spec> = (0..sources)
                .map(|n| Spec {
                    shape: source(n),
                    downstream: vec![],
                    targets: vec![],
                    on_error: OnError::Fail,
                })
                .collect();
            for (shape, is_dropping, upstream, named) in others {
                let index = tasks.len();
                let shape = [Shape::Transform, Shape::Processor, Shape::Buffered][usize::from(shape)];
                let on_error = if is_dropping { OnError::Drop } else { OnError::Fail };
                // At least one edge from above, or nothing would ever reach it.
                let mut is_fed = false;
                for (above, spec) in tasks.iter_mut().enumerate() {
                    if upstream >> above & 1 == 1 {
                        spec.downstream.push(index);
                        is_fed = true;
                    } else if named >> above & 1 == 1 && above >= sources {
                        spec.targets.push(index);
                    }
                }
                if !is_fed {
                    tasks[index - 1].downstream.push(index);
                }
                tasks.push(Spec { shape, downstream: vec![], targets: vec![], on_error });
            }
            Graph { seed, capacity, tasks }
        },
    )
}
