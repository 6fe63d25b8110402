//! A flow around one processor that handles several events at a time, on paused time.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use flowgen::{
    event::{Event, EventId, Payload},
    plan::{Concurrency, Flow, OnError, OnTaskPanic, Order, Plan, Policy},
    retry::RetryPolicy,
    runtime::{Report, TaskManager},
    script::Condition,
    shutdown::Stop,
    task::{Emitter, Output, Processor, Source, Task, TaskError},
    template::Template,
};
use serde_json::json;
use tokio::time::Instant;

use crate::support::{
    graph::{flow, node, plan},
    tasks::Apply,
};

/// How an attempt ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    Well,
    ForNow,
    /// For now, and the other side asks to be left alone for so long.
    Busy(Duration),
    ForGood,
    Panics,
    Never,
}

/// What an attempt does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    pub(super) takes: Duration,
    pub(super) ends: Ends,
}

/// Says what the attempt of this number, from 0, at the event of this number does.
pub(super) type Play = Arc<dyn Fn(u64, u32) -> Attempt + Send + Sync>;

/// A flow: a source, the processor, and a sink that notes what arrives.
#[derive(Clone)]
pub(super) struct Stage {
    /// The key of each event; without one it has none.
    pub(super) keys: Vec<Option<u64>>,
    pub(super) concurrency: Concurrency,
    pub(super) policy: Policy,
    pub(super) when: Option<Arc<Condition>>,
    pub(super) capacity: usize,
    pub(super) deadline: Option<Duration>,
    pub(super) on_task_panic: OnTaskPanic,
    pub(super) play: Play,
    pub(super) seen: Arc<Seen>,
}

/// What is seen of a run.
#[derive(Debug, Default)]
pub(super) struct Seen {
    builds: AtomicU32,
    state: Mutex<State>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// Of each event, when its attempts began, and by the processor of which build.
    pub(super) attempts: BTreeMap<u64, Vec<(Instant, u32)>>,
    running: Vec<(u64, Option<u64>)>,
    /// The most attempts that ran at a time.
    pub(super) most: usize,
    /// Attempts that began while another one of the same key ran.
    pub(super) overlaps: usize,
    /// What arrived at the sink, in order, each with the type of its error.
    pub(super) arrived: Vec<(u64, Option<&'static str>)>,
}

impl Seen {
    pub(super) fn state(&self) -> State {
        self.state.lock().unwrap().clone()
    }
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {} events", self.concurrency, self.keys.len())
    }
}

impl Stage {
    /// Makes one of so many events without keys.
    pub(super) fn new(
        events: u64,
        limit: usize,
        order: Order,
        play: impl Fn(u64, u32) -> Attempt + Send + Sync + 'static,
    ) -> Self {
        Self {
            keys: (0..events).map(|_| None).collect(),
            concurrency: Concurrency { limit, order },
            policy: Policy {
                retry: RetryPolicy {
                    max_attempts: 3,
                    initial_backoff: Duration::from_millis(20),
                    max_backoff: Duration::from_millis(100),
                    max_elapsed: None,
                },
                timeout: None,
                on_error: OnError::Continue,
            },
            when: None,
            capacity: 16,
            deadline: None,
            on_task_panic: OnTaskPanic::Restart,
            play: Arc::new(play),
            seen: Arc::default(),
        }
    }

    pub(super) fn keyed(mut self, keys: impl IntoIterator<Item = u64>) -> Self {
        self.keys = keys.into_iter().map(Some).collect();
        self
    }

    pub(super) fn plan(&self) -> Plan {
        plan(vec![self.flow()], self.capacity)
    }

    fn flow(&self) -> Flow {
        let (keys, stage, seen) = (self.keys.clone(), self.clone(), Arc::clone(&self.seen));
        let source = node("source", vec![1], move || Task::Source(Box::new(Keyed(keys.clone()))));
        let mut processor = node("processor", vec![2], move || {
            let build = stage.seen.builds.fetch_add(1, Ordering::Relaxed);
            Task::Processor(Box::new(Player { stage: stage.clone(), build }))
        });
        processor.concurrency = self.concurrency.clone();
        processor.policy = self.policy;
        processor.when = self.when.clone();
        let sink = node("sink", vec![], move || {
            let seen = Arc::clone(&seen);
            Task::Transform(Box::new(Apply(move |event: &mut Event, output: &mut Output| {
                let error_type = event.error.as_ref().map(|error| error.error_type);
                seen.state.lock().unwrap().arrived.push((number(event), error_type));
                output.forward();
                Ok(())
            })))
        });
        let mut flow = flow("stage", vec![source, processor, sink]);
        flow.deadline = self.deadline;
        flow.on_task_panic = self.on_task_panic;
        flow
    }

    /// Runs it to its end. Returns that, what was seen, and how long it took.
    pub(super) async fn run(&self) -> (Report, State, Duration) {
        let started = Instant::now();
        let report =
            TaskManager::start(self.plan(), None).await.expect("test tasks always build").run().await;
        (report, self.seen.state(), started.elapsed())
    }

    /// As [`Self::run`], where there is no runtime yet.
    pub(super) fn run_alone(&self) -> (Report, State, Duration) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(self.run())
    }
}

/// Orders events by their keys.
pub(super) fn by_key() -> Order {
    Order::ByKey(Arc::new(Template::compile("{{ event.data.key }}").unwrap()))
}

pub(super) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// An attempt that takes so many milliseconds.
pub(super) fn attempt(takes: u64, ends: Ends) -> Attempt {
    Attempt { takes: millis(takes), ends }
}

fn number(event: &Event) -> u64 {
    match event.id {
        EventId::Sequence(n) => n,
        ref other => panic!("no event of the source: {other}"),
    }
}

struct Keyed(Vec<Option<u64>>);

#[async_trait]
impl Source for Keyed {
    async fn run(self: Box<Self>, emitter: &mut Emitter, stop: Stop) -> Result<(), TaskError> {
        for (n, key) in self.0.into_iter().enumerate() {
            if stop.is_stopped() {
                break;
            }
            let data = key.map_or_else(|| json!({}), |key| json!({"key": key}));
            emitter.stage(EventId::Sequence(n as u64), |_| Ok(Payload::from(data.clone()).into())).await?;
        }
        Ok(())
    }
}

struct Player {
    stage: Stage,
    build: u32,
}

/// An attempt that runs until it is dropped.
struct Running<'a> {
    seen: &'a Seen,
    n: u64,
}

impl Player {
    /// Notes an attempt, and returns its number.
    fn begin(&self, n: u64) -> (Running<'_>, u32) {
        let key = self.stage.keys[n as usize];
        let mut state = self.stage.seen.state.lock().unwrap();
        let is_overlap = key.is_some() && state.running.iter().any(|(_, other)| *other == key);
        state.overlaps += usize::from(is_overlap);
        state.running.push((n, key));
        state.most = state.most.max(state.running.len());
        let attempts = state.attempts.entry(n).or_default();
        attempts.push((Instant::now(), self.build));
        (Running { seen: &self.stage.seen, n }, u32::try_from(attempts.len() - 1).unwrap())
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.seen.state.lock().unwrap().running.retain(|(n, _)| *n != self.n);
    }
}

#[async_trait]
impl Processor for Player {
    async fn handle(&self, event: &Event, output: &mut Output) -> Result<(), TaskError> {
        let n = number(event);
        let (_running, number) = self.begin(n);
        let Attempt { takes, ends } = (self.stage.play)(n, number);
        // In two steps: one that is not looked at for a while cannot be done in time.
        tokio::time::sleep(takes / 2).await;
        tokio::time::sleep(takes - takes / 2).await;
        // Discarded if it fails.
        output.forward();
        match ends {
            Ends::Well => Ok(()),
            Ends::ForNow => Err(TaskError::transient("test", "as the test wants it")),
            Ends::Busy(time) => {
                Err(TaskError::transient("test", "as the test wants it").with_retry_after(time))
            }
            Ends::ForGood => Err(TaskError::permanent("test", "as the test wants it")),
            Ends::Panics => panic!("as the test wants it"),
            Ends::Never => std::future::pending().await,
        }
    }
}
