//! The task manager: builds and registers the tasks of a plan, wires them, and spawns a loop for each.

use std::{sync::Arc, time::Duration};

use tokio::{runtime::Handle, sync::mpsc};

use super::{
    drain::Drain,
    flow::{FlowHandle, FlowReport},
    hop::{Hop, TaskSpans},
    meters::{LoopMeters, TaskMeters},
    outlets::Outlets,
    processor::ProcessorWork,
    registration::{BUILD, BuiltTask, Registration, StartError},
    restart::{Life, Work},
    source::{Again, SourceWork},
    supervisor::{Spawn, Supervisor},
    transform::{Conductor, TransformWork},
};
use crate::{
    event::Event,
    plan::{Flow, Node, OnError, OnTaskPanic, Plan, Worker},
    services::cache::MemoryCache,
    shutdown::Stop,
    task::{Extent, Resources, Task},
    telemetry::{Attributes, Identity, OpenSpan, SpanKind, SpanOutcome, Spans, Tracer},
    template::TraceAttribute,
    trace::{Ticks, TraceContext},
};

/// Runs the tasks of all flows of a worker.
#[derive(Debug)]
pub struct TaskManager {
    supervisor: Supervisor,
    flows: Vec<RunningFlow>,
    stop: Stop,
    shutdown_timeout: Duration,
    trace_attributes: Arc<[TraceAttribute]>,
    tracer: Tracer,
}

#[derive(Debug)]
pub(super) struct RunningFlow {
    pub(super) handle: FlowHandle,
    /// Tasks that have not ended.
    pub(super) tasks: usize,
    /// Sources among them.
    pub(super) sources: usize,
    /// Of each task, for as long as the flow is known: an event may fail, and be told of, long after the tasks that
    /// it came through have ended.
    _series: Vec<(LoopMeters, TaskSpans)>,
}

/// How all flows of a worker ended.
#[derive(Debug)]
pub struct Report {
    /// One report a flow, in the order of the plan.
    pub flows: Vec<FlowReport>,
    /// Whether the shutdown ran out of time and cancelled what was left.
    pub is_cut_short: bool,
}

/// A worker whose tasks are built; nothing runs yet.
#[derive(Debug)]
pub struct Built {
    plan: Plan,
    flows: Vec<FlowHandle>,
    tasks: Vec<Vec<BuiltTask>>,
    stop: Stop,
    tracer: Tracer,
    span: OpenSpan,
}

impl Built {
    /// Starts all flows. Their loops run on `runtime`.
    pub fn start(self, runtime: Handle) -> TaskManager {
        let Worker { channel_capacity, shutdown_timeout, .. } = self.plan.worker;
        let mut manager = TaskManager {
            supervisor: Supervisor::new(runtime),
            flows: Vec::with_capacity(self.tasks.len()),
            stop: self.stop,
            shutdown_timeout,
            trace_attributes: Arc::clone(&self.plan.worker.trace_attributes),
            tracer: self.tracer,
        };
        for ((flow, handle), tasks) in self.plan.flows.iter().zip(self.flows).zip(self.tasks) {
            manager.spawn(flow, handle, tasks, channel_capacity);
        }
        self.span.end(SpanOutcome::Completed, None);
        manager
    }
}

impl TaskManager {
    /// Builds all tasks of all flows, and starts none. May be given up at any time. `began` is when the start
    /// of the worker did.
    ///
    /// # Errors
    /// Every task that could not be built.
    pub async fn build(
        plan: Plan,
        resources: Option<Arc<dyn Resources>>,
        tracer: Tracer,
        began: Ticks,
    ) -> Result<Built, Vec<StartError>> {
        let spans = tracer.spans("task_manager.start", SpanKind::Internal, None, &[BUILD]);
        let mut span = spans.lifecycle(TraceContext::default());
        span.set_start(began);
        let mut registration = Registration {
            resources,
            cache: Arc::new(MemoryCache::new(plan.worker.cache)),
            tracer: &tracer,
            parent: span.context(),
            errors: Vec::new(),
        };
        let stop = Stop::default();
        let meter = tracer.meter();
        let flow = |flow: &Flow| FlowHandle::new(flow, stop.child(), &meter);
        let flows = plan.flows.iter().map(flow).collect();
        let mut tasks = Vec::with_capacity(plan.flows.len());
        for flow in &plan.flows {
            tasks.push(registration.flow(flow).await);
        }
        let errors = registration.errors;
        if errors.is_empty() {
            Ok(Built { plan, flows, tasks, stop, tracer, span })
        } else {
            span.end(SpanOutcome::Failed, Some(BUILD));
            Err(errors)
        }
    }

    /// Builds all tasks of all flows, and starts them on the current runtime, without telemetry.
    ///
    /// # Errors
    /// Every task that could not be built.
    pub async fn start(plan: Plan, resources: Option<Arc<dyn Resources>>) -> Result<Self, Vec<StartError>> {
        let built = Self::build(plan, resources, Tracer::default(), Ticks::now()).await?;
        Ok(built.start(Handle::current()))
    }

    /// Returns a token that stops the sources of all flows.
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Returns all flows.
    pub fn flows(&self) -> Vec<FlowHandle> {
        self.flows.iter().map(|flow| flow.handle.clone()).collect()
    }

    /// Follows all tasks to their end. Once stopped, that takes no longer than the shutdown timeout, on a
    /// runtime that no task can keep busy.
    pub async fn run(self) -> Report {
        let spans = self.tracer.spans("task_manager.shutdown", SpanKind::Internal, None, &[]);
        let flight = self.tracer.flight_recorder();
        Drain::new(self.supervisor, self.flows, self.stop, self.shutdown_timeout, spans, flight).run().await
    }

    /// Wires the tasks of one flow with bounded channels and spawns their loops.
    fn spawn(&mut self, flow: &Flow, handle: FlowHandle, tasks: Vec<BuiltTask>, capacity: usize) {
        let meter = self.tracer.meter();
        let (senders, inboxes): (Vec<_>, Vec<_>) = tasks
            .iter()
            .map(|built| match built.task {
                Task::Source(_) => (None, None),
                Task::Transform(_) | Task::Processor(_) => {
                    let (sender, inbox) = mpsc::channel::<Box<Event>>(capacity);
                    (Some(sender), Some(inbox))
                }
            })
            .unzip();
        handle.start(extents(&tasks));
        let index = self.flows.len();
        let mut series = Vec::with_capacity(tasks.len());
        let sources = tasks.iter().filter(|built| matches!(built.task, Task::Source(_))).count();
        let asks_again = asks_again(flow, &tasks);
        let flight = self.tracer.flight_recorder();
        let mut running =
            RunningFlow { handle: handle.clone(), tasks: tasks.len(), sources, _series: Vec::new() };
        for ((node, built), inbox) in flow.tasks.iter().zip(tasks).zip(inboxes) {
            let BuiltTask { identity, task, beside, context } = built;
            let runs = self.tracer.spans(
                "task.run",
                SpanKind::Internal,
                Some(Arc::clone(&identity)),
                node.kind.error_types,
            );
            let mut spans = task_spans(&self.tracer, &identity, node, &task);
            if !self.trace_attributes.is_empty() {
                let attributes = Arc::clone(&self.trace_attributes);
                spans.handle = spans.handle.describing(move |event| describe(&attributes, event));
            }
            let sender = senders[identity.task_id].as_ref();
            let waits = matches!(task, Task::Processor(_));
            let is_single = matches!(&task, Task::Processor(task) if !task.is_buffered());
            let meters = TaskMeters::new(&meter, &identity, &node.error_types(), sender, waits);
            let blocked = meters.blocked.clone();
            let outlets = || Outlets::new(node, &senders, capacity, blocked.clone());
            let hop = |meters, outlets| {
                Hop::new(Arc::clone(&identity), handle.clone(), node, spans.clone(), meters, outlets)
            };
            let again = asks_again[identity.task_id]
                .then(|| Again::new(hop(TaskMeters::default(), outlets()), &self.tracer));
            let lanes = if beside.is_empty() { 0 } else { 1 + beside.len() };
            let lanes: Vec<Hop> = (0..lanes).map(|_| hop(meters.shared(), outlets())).collect();
            let mut hop = hop(meters, outlets());
            if is_single {
                hop.describe_all();
            }
            let of_loop = LoopMeters::new(&meter, &identity);
            series.push((of_loop.clone(), hop.spans.clone()));
            let is_source = matches!(task, Task::Source(_));
            let life = Life {
                identity: Arc::clone(&identity),
                flow: handle.clone(),
                is_source,
                policy: flow.on_task_panic,
                backoff: node.policy.retry,
                prepared: Arc::clone(&node.prepared),
                context,
                spans: runs,
                meters: of_loop,
                flight: flight.clone(),
            };
            let spawn = || Spawn { flow: index, identity: Arc::clone(&identity), is_source };
            if !beside.is_empty()
                && let Some(inbox) = inbox
            {
                running.tasks += lanes.len();
                let lanes: Vec<Hop> = lanes.into_iter().map(|lane| lane.beside(&hop)).collect();
                let (conductor, lanes) = Conductor::new(inbox, hop, lanes);
                self.supervisor.spawn(spawn(), conductor.run());
                for (task, lane) in [task].into_iter().chain(beside).zip(lanes) {
                    self.supervisor.spawn(spawn(), life.clone().run(task, Work::Lane(lane)));
                }
                continue;
            }
            let work = match (&task, inbox) {
                (Task::Transform(_), Some(inbox)) => Work::Transform(TransformWork::new(inbox, hop)),
                (Task::Processor(processor), Some(inbox)) => {
                    Work::Processor(ProcessorWork::new(inbox, hop, &node.concurrency, &**processor))
                }
                (Task::Source(source), _) => {
                    let is_resumed = source.can_resume() && flow.on_task_panic == OnTaskPanic::Restart;
                    Work::Source(SourceWork::new(hop, &self.tracer, again, is_resumed))
                }
                (Task::Transform(_) | Task::Processor(_), None) => unreachable!("made with an inbox above"),
            };
            self.supervisor.spawn(spawn(), life.run(task, work));
        }
        self.flows.push(RunningFlow { _series: series, ..running });
    }
}

/// Returns for each task whether it is a source that may be asked for an event again: one that leads to a task that can
/// fail for now and lets its source know.
fn asks_again(flow: &Flow, tasks: &[BuiltTask]) -> Vec<bool> {
    let mut leads = vec![false; tasks.len()];
    // Edges lead anywhere, but along no more of them than there are tasks.
    for _ in 0..tasks.len() {
        for (n, (node, built)) in flow.tasks.iter().zip(tasks).enumerate() {
            let on_error = node.policy.on_error;
            let fails = matches!(built.task, Task::Processor(_)) && on_error == OnError::Fail;
            let route = match on_error {
                OnError::Route(task) => Some(task),
                OnError::Fail | OnError::Drop | OnError::Continue => None,
            };
            leads[n] |=
                fails || node.downstream.iter().chain(&node.targets).chain(&route).any(|next| leads[*next]);
        }
    }
    let is_source = |built: &BuiltTask| matches!(built.task, Task::Source(_));
    tasks.iter().zip(leads).map(|(built, leads)| is_source(built) && leads).collect()
}

/// Returns what makes the spans of a task's events, as far as its role has them.
fn task_spans(tracer: &Tracer, identity: &Arc<Identity>, node: &Node, task: &Task) -> TaskSpans {
    let spans = |name, kind| tracer.spans(name, kind, Some(Arc::clone(identity)), node.kind.error_types);
    let processor = match task {
        Task::Processor(processor) => Some(processor),
        Task::Source(_) | Task::Transform(_) => None,
    };
    let is_batching = match task {
        Task::Source(_) => false,
        Task::Transform(transform) => transform.is_batching(),
        Task::Processor(processor) => processor.is_buffered(),
    };
    let identity = Some(Arc::clone(identity));
    let handle = tracer.spans("task.handle", node.kind.span_kind, identity, node.error_types());
    TaskSpans {
        handle: match node.sample_rate {
            Some(rate) => handle.sampled_at(rate),
            None => handle,
        },
        retry: processor.map(|_| spans("task.retry", SpanKind::Internal)).unwrap_or_default(),
        flush: if is_batching { spans("task.flush", SpanKind::Internal) } else { Spans::default() },
    }
}

/// Returns what spans say of an event besides.
fn describe(attributes: &[TraceAttribute], event: &Event) -> Attributes {
    let mut described = Attributes::default();
    for attribute in attributes {
        if let Some(value) = attribute.value(event) {
            described.set(Arc::clone(attribute.name()), value);
        }
    }
    described
}

/// Returns what the sources have to read, or `None` if any of them has no known end.
fn extents(tasks: &[BuiltTask]) -> Option<Vec<Extent>> {
    tasks
        .iter()
        .filter_map(|built| match &built.task {
            Task::Source(source) => Some(source.extent()),
            _ => None,
        })
        .collect()
}
