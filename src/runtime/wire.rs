//! Wires the tasks of a flow: bounded channels between them, and around each instance of a task what makes it a part of
//! the worker.

mod loops;

use std::sync::Arc;

use tokio::sync::mpsc;

use self::loops::Loops;
use super::{
    durable::DurableMeters,
    flow::FlowHandle,
    hop::{Hop, TaskSpans},
    inbox::Inbox,
    letters::DeadLetters,
    meters::{LetterMeters, LoopMeters, TaskMeters},
    outlets::Outlets,
    registration::BuiltTask,
    replays::{Entrance, Replays},
    restart::Life,
    running::RunningFlow,
    supervisor::{FlowId, Spawn, Supervisor},
    upkeep::Again,
};
use crate::{
    event::Event,
    plan::{Flow, Node, OnError},
    state::{Owner, State},
    task::{BuildContext, Extent, Task},
    telemetry::{Attributes, Identity, SpanKind, Spans, Tracer},
    template::TraceAttribute,
};

/// What the flows of a worker are wired with.
pub(super) struct Wiring<'a> {
    pub(super) supervisor: &'a mut Supervisor,
    pub(super) tracer: &'a Tracer,
    pub(super) trace_attributes: &'a Arc<[TraceAttribute]>,
    /// What outlives the worker, if anything does.
    pub(super) state: Option<&'a State>,
    /// Events that a channel between two tasks holds.
    pub(super) capacity: usize,
}

/// The channels of a flow, by task.
struct Channels {
    senders: Vec<Option<mpsc::Sender<Box<Event>>>>,
    inboxes: Vec<Vec<Inbox>>,
}

impl Channels {
    /// Makes a channel for each task but sources, with an inbox for each of its instances.
    fn new(tasks: &[BuiltTask], capacity: usize) -> Self {
        let channel = |built: &BuiltTask| match built.task() {
            Task::Source(_) => (None, Vec::new()),
            Task::Transform(_) | Task::Processor(_) => {
                let (sender, receiver) = mpsc::channel(capacity);
                (Some(sender), Inbox::of(receiver, built.instances.len()))
            }
        };
        let (senders, inboxes) = tasks.iter().map(channel).unzip();
        Self { senders, inboxes }
    }
}

/// What all instances of a task have in common.
struct Shared<'a> {
    node: &'a Node,
    flow: &'a FlowHandle,
    identity: Arc<Identity>,
    spans: TaskSpans,
    meters: Arc<TaskMeters>,
    letters: Option<DeadLetters>,
    senders: &'a [Option<mpsc::Sender<Box<Event>>>],
    capacity: usize,
}

impl Shared<'_> {
    /// Makes what surrounds the handling of each event, counted by `meters`.
    fn hop(&self, meters: &Arc<TaskMeters>) -> Hop {
        let Self { node, senders, capacity, .. } = self;
        self.hop_to(Outlets::new(node, senders, *capacity, self.meters.blocked.clone()), meters)
    }

    /// Makes what surrounds the handling of each event of a source whose events `queue` accepts.
    fn hop_to_queue(&self, queue: mpsc::Sender<Box<Event>>) -> Hop {
        let outlets = Outlets::into_queue(self.node, queue, self.capacity, self.meters.blocked.clone());
        self.hop_to(outlets, &self.meters)
    }

    fn hop_to(&self, outlets: Outlets, meters: &Arc<TaskMeters>) -> Hop {
        let Self { node, flow, identity, spans, .. } = self;
        Hop::new(Arc::clone(identity), (*flow).clone(), node, spans.clone(), Arc::clone(meters), outlets)
            .storing(self.letters.clone())
    }
}

impl Wiring<'_> {
    /// Wires the tasks of the flow of this number, and spawns their loops.
    pub(super) fn spawn(
        &mut self,
        id: FlowId,
        flow: &Flow,
        handle: FlowHandle,
        tasks: Vec<BuiltTask>,
    ) -> RunningFlow {
        let meter = self.tracer.meter();
        let Channels { senders, inboxes } = Channels::new(&tasks, self.capacity);
        let sources = tasks.iter().filter(|built| matches!(built.task(), Task::Source(_))).count();
        // What lets in what a queue holds is one too, and what brings in dead letters.
        let is_durable = self.state.is_some() && flow.durable.is_some();
        let sources = if is_durable { 2 * sources } else { sources };
        let sources = sources + usize::from(self.state.is_some());
        handle.start(sources, extents(&tasks));
        let entrances = tasks.iter().zip(&senders).map(|(built, sender)| Entrance {
            task: Arc::clone(&built.identity.task),
            sender: sender.clone(),
        });
        let replays =
            self.state.map(|state| Replays::new(state.clone(), handle.clone(), entrances.collect()));
        let asks_again = asks_again(flow, &tasks);
        let series = Vec::with_capacity(tasks.len());
        let mut running =
            RunningFlow { handle, tasks: 0, sources, series, durable: None, is_cancelled: false, end: None };
        let mut queues = Vec::new();
        for ((node, built), inboxes) in flow.tasks.iter().zip(tasks).zip(inboxes) {
            let BuiltTask { identity, instances, context } = built;
            let task = &instances[0].task;
            let sender = senders[identity.task_id].as_ref();
            let waits = matches!(task, Task::Processor(_));
            let of_loop = LoopMeters::new(&meter, &identity);
            let shared = Shared {
                node,
                flow: &running.handle,
                spans: self.spans(&identity, node, task),
                meters: Arc::new(TaskMeters::new(&meter, &identity, &node.error_types(), sender, waits)),
                letters: self.letters(&identity, node),
                senders: &senders,
                capacity: self.capacity,
                identity,
            };
            let life = self.life(flow, &shared, of_loop.clone(), context, task);
            let (tracer, state) = (self.tracer, self.state);
            let mut loops = Loops { supervisor: self.supervisor, flow: id, life, tracer, count: 0 };
            if inboxes.is_empty() {
                let again = asks_again[shared.identity.task_id]
                    .then(|| Again::new(shared.hop(&Arc::default()), tracer));
                queues.extend(match state.zip(flow.durable) {
                    Some((state, durable)) => {
                        Some(loops.durable_source(&shared, instances, again, state, durable))
                    }
                    None => {
                        loops.source(&shared, instances, again, state);
                        None
                    }
                });
            } else {
                loops.others(&shared, instances, inboxes);
            }
            running.tasks += loops.count;
            running.series.push((of_loop, shared.spans));
        }
        if !queues.is_empty() {
            running.durable = Some(DurableMeters::new(&meter, &flow.name, &queues));
        }
        if let Some(replays) = replays {
            let identity = Arc::new(Identity {
                flow: Arc::clone(&flow.name),
                task: "dlq".into(),
                task_type: "dlq",
                task_id: flow.tasks.len(),
            });
            self.supervisor.spawn(Spawn { flow: id, identity, is_source: true }, replays.run());
            running.tasks += 1;
        }
        running
    }

    /// Makes what stores the events that fail in a task, if that is what becomes of them.
    fn letters(&self, identity: &Arc<Identity>, node: &Node) -> Option<DeadLetters> {
        let state = self.state.filter(|_| node.policy.on_error == OnError::DeadLetter)?;
        let (counting, of) = (state.clone(), Arc::clone(identity));
        let depth = move || {
            let count = counting.count_letters(Owner { flow: &of.flow, task: &of.task }).ok()?;
            i64::try_from(count).ok()
        };
        let meters = LetterMeters::new(&self.tracer.meter(), identity, &node.error_types(), depth);
        Some(DeadLetters::new(state.clone(), Arc::clone(identity), meters))
    }

    /// Makes what stays the same of a task from one tenure to the next.
    fn life(
        &self,
        flow: &Flow,
        shared: &Shared<'_>,
        meters: LoopMeters,
        context: BuildContext,
        task: &Task,
    ) -> Life {
        let Shared { node, identity, .. } = shared;
        let identity = Arc::clone(identity);
        let error_types = node.kind.error_types;
        Life {
            flow: shared.flow.clone(),
            is_source: matches!(task, Task::Source(_)),
            policy: flow.on_task_panic,
            backoff: node.policy.retry,
            prepared: Arc::clone(&node.prepared),
            context,
            spans: self.tracer.spans(
                "task.run",
                SpanKind::Internal,
                Some(Arc::clone(&identity)),
                error_types,
            ),
            meters,
            flight: self.tracer.flight_recorder(),
            identity,
        }
    }

    /// Returns what makes the spans of a task's events, as far as its role has them.
    fn spans(&self, identity: &Arc<Identity>, node: &Node, task: &Task) -> TaskSpans {
        let spans = task_spans(self.tracer, identity, node, task);
        if self.trace_attributes.is_empty() {
            return spans;
        }
        let attributes = Arc::clone(self.trace_attributes);
        let handle = spans.handle.describing(move |event| describe(&attributes, event));
        TaskSpans { handle, ..spans }
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
            let fails = match built.task() {
                // What cannot be stored for now is given back.
                _ if on_error == OnError::DeadLetter => true,
                Task::Processor(_) => on_error == OnError::Fail,
                Task::Source(_) | Task::Transform(_) => false,
            };
            let route = match on_error {
                OnError::Route(task) => Some(task),
                OnError::Fail | OnError::Drop | OnError::DeadLetter | OnError::Continue => None,
            };
            leads[n] |=
                fails || node.downstream.iter().chain(&node.targets).chain(&route).any(|next| leads[*next]);
        }
    }
    let is_source = |built: &BuiltTask| matches!(built.task(), Task::Source(_));
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
        .filter_map(|built| match built.task() {
            Task::Source(source) => Some(source.extent()),
            _ => None,
        })
        .collect()
}
