//! The task manager: builds and registers the tasks of a plan, wires them, and spawns a loop for each.

use std::{sync::Arc, time::Duration};

use tokio::runtime::Handle;

use super::{
    drain::Drain,
    flow::{FlowHandle, FlowReport},
    hop::TaskSpans,
    meters::LoopMeters,
    registration::{BUILD, BuiltTask, Registration, StartError},
    supervisor::Supervisor,
    wire::Wiring,
};
use crate::{
    plan::{Flow, Plan, Worker},
    services::cache::MemoryCache,
    shutdown::Stop,
    state::State,
    task::{Cache, Resources},
    telemetry::{OpenSpan, SpanKind, SpanOutcome, Tracer},
    trace::{Ticks, TraceContext},
};

/// Runs the tasks of all flows of a worker.
#[derive(Debug)]
pub struct TaskManager {
    supervisor: Supervisor,
    flows: Vec<RunningFlow>,
    stop: Stop,
    shutdown_timeout: Duration,
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
    pub(super) series: Vec<(LoopMeters, TaskSpans)>,
}

/// How all flows of a worker ended.
#[derive(Debug)]
pub struct Report {
    /// One report a flow, in the order of the plan.
    pub flows: Vec<FlowReport>,
    /// Whether the shutdown ran out of time and cancelled what was left.
    pub is_cut_short: bool,
}

/// What the tasks of a worker are lent that is there before them.
#[derive(Default)]
pub struct Lent {
    /// The worker's resources, if it has any.
    pub resources: Option<Arc<dyn Resources>>,
    /// What outlives the worker, if anything does.
    pub state: Option<State>,
    /// What its tasks remember together, if it is not empty at first.
    pub cache: Option<Arc<dyn Cache>>,
}

/// A worker whose tasks are built; nothing runs yet.
#[derive(Debug)]
pub struct Built {
    plan: Plan,
    flows: Vec<FlowHandle>,
    tasks: Vec<Vec<BuiltTask>>,
    stop: Stop,
    tracer: Tracer,
    state: Option<State>,
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
            tracer: self.tracer,
        };
        for ((flow, handle), tasks) in self.plan.flows.iter().zip(self.flows).zip(self.tasks) {
            let mut wiring = Wiring {
                supervisor: &mut manager.supervisor,
                tracer: &manager.tracer,
                trace_attributes: &self.plan.worker.trace_attributes,
                state: self.state.as_ref(),
                capacity: channel_capacity,
            };
            let running = wiring.spawn(manager.flows.len(), flow, handle, tasks);
            manager.flows.push(running);
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
        lent: Lent,
        tracer: Tracer,
        began: Ticks,
    ) -> Result<Built, Vec<StartError>> {
        let Lent { resources, state, cache } = lent;
        let spans = tracer.spans("task_manager.start", SpanKind::Internal, None, &[BUILD]);
        let mut span = spans.lifecycle(TraceContext::default());
        span.set_start(began);
        let mut registration = Registration {
            resources,
            has_state: state.is_some(),
            cache: cache.unwrap_or_else(|| Arc::new(MemoryCache::new(plan.worker.cache))),
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
            Ok(Built { plan, flows, tasks, stop, tracer, state, span })
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
        let built =
            Self::build(plan, Lent { resources, ..Lent::default() }, Tracer::default(), Ticks::now()).await?;
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
}
