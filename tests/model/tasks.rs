//! The tasks of a case: they do what [`Case::deed`] says and note it.

use std::{
    panic::resume_unwind,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use flowgen::{
    event::Event,
    plan::{Concurrency, Flow, Node, Order, Plan, Policy, Worker},
    registry::{KindEntry, Prepared},
    retry::RetryPolicy,
    script::Condition,
    task::{
        BuildContext, BuildError, Edge, FlushError, Kind, Output, Processor, Role as Part, Target, Task,
        TaskError, Transform,
    },
    template::Template,
};
use serde_json::json;

use super::{
    batcher::Batcher,
    case::{Case, Kept, LONG, Role, When},
    deed::{Step, Way},
    reader::Reader,
    world::{Note, Visit, World},
};

/// The `error.type` of all that goes wrong.
pub(crate) const ERROR: &str = "model";

/// The place of an output that no attempt with success has.
pub(crate) const JUNK: usize = 99;

struct Reads;
struct Works<const IS_SERIAL: bool>;

static READS: KindEntry = KindEntry::of::<Reads>("");
static WORKS: KindEntry = KindEntry::of::<Works<false>>("");
static SERIAL: KindEntry = KindEntry::of::<Works<true>>("");

impl Kind for Reads {
    const NAME: &'static str = "reads";
    const ROLE: Part = Part::Source;
    const SUMMARY: &'static str = "brings in numbers";
    const ERROR_TYPES: &'static [&'static str] = &[ERROR];
    type Config = ();

    async fn build((): &(), _: &BuildContext) -> Result<Task, BuildError> {
        Err(BuildError::new("made by its case"))
    }
}

impl<const IS_SERIAL: bool> Kind for Works<IS_SERIAL> {
    const IS_SERIAL: bool = IS_SERIAL;
    const NAME: &'static str = "works";
    const ROLE: Part = Part::Processor;
    const SUMMARY: &'static str = "does what its case says";
    const ERROR_TYPES: &'static [&'static str] = &[ERROR, "script"];
    type Config = ();

    async fn build((): &(), _: &BuildContext) -> Result<Task, BuildError> {
        Err(BuildError::new("made by its case"))
    }
}

/// Makes the plan of a case.
pub(crate) fn plan(world: &Arc<World>, name: &str) -> Plan {
    let case = &world.case;
    let flow = Flow {
        name: name.into(),
        labels: Default::default(),
        file: "model.yaml".into(),
        base_dir: ".".into(),
        on_task_panic: case.on_task_panic,
        deadline: case.deadline,
        durable: None,
        parallel_instances: case.parallel_instances,
        slo: None,
        tasks: (0..case.tasks.len()).map(|task| node(world, task)).collect(),
    };
    let shutdown_timeout = case.stopping.map_or(LONG, |stopping| stopping.timeout);
    let worker = Worker { channel_capacity: case.capacity, shutdown_timeout, ..Worker::default() };
    Plan { worker, flows: vec![flow] }
}

fn node(world: &Arc<World>, task: usize) -> Node {
    static CONDITIONS: OnceLock<[Arc<Condition>; 2]> = OnceLock::new();
    static KEY: OnceLock<Arc<Template>> = OnceLock::new();
    let spec = &world.case.tasks[task];
    let conditions = CONDITIONS.get_or_init(|| {
        [When::Even, When::Throwing].map(|when| Arc::new(Condition::compile(when.expression()).unwrap()))
    });
    let key = KEY.get_or_init(|| Arc::new(Template::compile("{{ event.data.k }}").unwrap()));
    Node {
        name: format!("t{task}").into(),
        kind: match spec.role {
            Role::Source(_) => &READS,
            _ if spec.is_serial() => &SERIAL,
            _ => &WORKS,
        },
        prepared: Arc::new(Made { world: Arc::clone(world), task }),
        policy: Policy {
            retry: RetryPolicy {
                max_attempts: spec.max_attempts,
                initial_backoff: spec.backoff,
                max_backoff: Duration::from_secs(10),
                max_elapsed: None,
            },
            timeout: spec.timeout,
            on_error: spec.on_error,
        },
        when: spec.when.map(|when| Arc::clone(&conditions[when as usize])),
        concurrency: Concurrency {
            limit: spec.limit,
            order: match spec.kept {
                Kept::All => Order::Kept,
                Kept::ByKey => Order::ByKey(Arc::clone(key)),
                Kept::No => Order::Free,
            },
        },
        parallelism: spec.parallelism,
        sample_rate: None,
        downstream: spec.downstream.clone(),
        targets: spec.targets.clone(),
    }
}

/// A task of a case.
#[derive(Clone)]
pub(crate) struct Made {
    pub(crate) world: Arc<World>,
    pub(crate) task: usize,
}

#[async_trait]
impl Prepared for Made {
    fn targets(&self) -> Vec<Target> {
        Vec::new()
    }

    async fn build(&self, _: &BuildContext) -> Result<Task, BuildError> {
        Ok(match self.world.case.tasks[self.task].role {
            Role::Source(reading) => Task::Source(Box::new(Reader { made: self.clone(), reading })),
            Role::Tap => Task::Transform(Box::new(Tap(self.clone()))),
            Role::Batching { size } => Task::Transform(Box::new(Batcher::new(self.clone(), size))),
            Role::Transform => Task::Transform(Box::new(self.clone())),
            Role::Processor => Task::Processor(Box::new(self.clone())),
            Role::Buffered => {
                Task::Processor(Box::new(Collecting { made: self.clone(), batch: Mutex::default() }))
            }
        })
    }
}

impl Made {
    fn case(&self) -> &Case {
        &self.world.case
    }

    /// Ends an attempt as it goes: emits, or does half of it and fails. `None` if it never ends.
    fn act(
        &self,
        visit: &Visit,
        earlier: u32,
        event: &Event,
        output: &mut Output,
    ) -> Option<Result<(), TaskError>> {
        let step = self.case().step(self.task, &visit.id, earlier);
        if step == Step::Done {
            self.emit(visit, event, output);
        } else if !self.case().hash((self.task, &visit.id, earlier)).is_multiple_of(3) {
            output.emit(event.derive(JUNK, event.data.clone()));
            output.forward();
            let (world, task) = (Arc::clone(&self.world), self.task);
            output.watch(move |_| world.note(Note::Wrong(format!("t{task}: a failed attempt is watched"))));
        }
        self.world.end(self.task, visit, step);
        match step {
            Step::Done => Some(Ok(())),
            Step::Transient => Some(Err(TaskError::transient(ERROR, "for now"))),
            Step::Hanging => None,
            Step::Permanent => Some(Err(TaskError::permanent(ERROR, "for good"))),
            Step::Panic => resume_unwind(Box::new("as the case wants it")),
        }
    }

    fn emit(&self, visit: &Visit, event: &Event, output: &mut Output) {
        match self.case().deed(self.task, &visit.id).way {
            Way::Forward => output.forward(),
            Way::Filter => {}
            Way::Derive(count) => {
                (0..count).for_each(|n| output.emit(event.derive(n, event.data.clone())));
            }
            Way::To(edge) => output.forward_to(Edge(edge)),
            Way::Both(edge) => {
                output.forward_to(Edge(edge));
                output.emit(event.with_data(event.data.clone()));
            }
        }
        if !output.is_empty() {
            let (world, task, Visit { id, delivery, .. }) =
                (Arc::clone(&self.world), self.task, visit.clone());
            output.watch(move |outcome| world.note(Note::Watched { task, id, delivery, outcome }));
        }
    }

    async fn attempt(&self, event: &Event, output: &mut Output) -> Result<Visit, TaskError> {
        let (visit, earlier) = self.world.begin(self.task, event);
        let hash = self.case().hash(("slow", self.task, &visit.id, earlier));
        if self.case().tasks[self.task].is_slow {
            tokio::time::sleep(Duration::from_millis(hash % 50)).await;
        } else if hash.is_multiple_of(2) {
            tokio::task::yield_now().await;
        }
        match self.act(&visit, earlier, event, output) {
            Some(result) => result.map(|()| visit),
            None => std::future::pending().await,
        }
    }
}

impl Transform for Made {
    fn apply(&mut self, event: &mut Event, output: &mut Output) -> Result<(), TaskError> {
        let (visit, earlier) = self.world.begin(self.task, event);
        self.act(&visit, earlier, event, output).expect("a transform does not hang")
    }
}

#[async_trait]
impl Processor for Made {
    async fn handle(&self, event: &Event, output: &mut Output) -> Result<(), TaskError> {
        self.attempt(event, output).await.map(drop)
    }
}

/// A processor that works when it is flushed.
struct Collecting {
    made: Made,
    /// What was handled and is not flushed; `None` in the place of what is.
    batch: Mutex<Vec<Option<Visit>>>,
}

#[async_trait]
impl Processor for Collecting {
    async fn handle(&self, event: &Event, output: &mut Output) -> Result<(), TaskError> {
        let visit = self.made.attempt(event, output).await?;
        self.batch.lock().unwrap().push(Some(visit));
        Ok(())
    }

    fn is_buffered(&self) -> bool {
        true
    }

    async fn flush(&self) -> Result<(), FlushError> {
        tokio::task::yield_now().await;
        let Made { world, task } = &self.made;
        let mut batch = self.batch.lock().unwrap();
        let mut failed = Vec::new();
        let mut panic = None;
        for (place, waiting) in batch.iter_mut().enumerate() {
            let Some(visit) = waiting else { continue };
            let earlier = world.flush(*task, &visit.id);
            let step = world.case.deed(*task, &visit.id).flush.step(earlier);
            let Visit { id, delivery, .. } = visit.clone();
            world.note(Note::Flushed { task: *task, id, delivery, step });
            match step {
                Step::Transient | Step::Hanging => {
                    failed.push((place, TaskError::transient(ERROR, "for now")));
                    continue;
                }
                Step::Permanent => failed.push((place, TaskError::permanent(ERROR, "for good"))),
                Step::Panic => panic = Some("as the case wants it"),
                Step::Done => {}
            }
            *waiting = None;
        }
        if let Some(message) = panic {
            drop(batch);
            resume_unwind(Box::new(message));
        }
        if failed.is_empty() {
            batch.clear();
            return Ok(());
        }
        Err(FlushError::Events(failed))
    }

    fn forget(&self) {
        self.batch.lock().unwrap().clear();
    }
}

/// Counts the deliveries of each event of a source, and writes into it which one it is.
struct Tap(Made);

impl Transform for Tap {
    fn apply(&mut self, event: &mut Event, output: &mut Output) -> Result<(), TaskError> {
        let Made { world, task } = &self.0;
        let (delivery, place) = world.tap(&event.id);
        let data = event.data.json_mut().unwrap();
        data["d"] = json!(delivery);
        data["o"] = json!(place);
        let (world, task, id) = (Arc::clone(world), *task, event.id.to_string());
        output.watch(move |outcome| world.note(Note::Watched { task, id, delivery, outcome }));
        output.forward();
        Ok(())
    }
}
