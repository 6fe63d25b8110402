//! The task manager: builds and registers the tasks of a plan, wires them, and spawns a loop for each.

use std::{sync::Arc, time::Duration};

use tokio::runtime::Handle;

use super::{
    drain::Report,
    exchange::{Exchanges, Orders},
    flow::FlowHandle,
    registration::{BUILD, StartError},
    roster::Roster,
    running::RunningFlows,
    supervisor::Supervisor,
    workshop::{BuiltFlow, Workshop},
};
use crate::{
    plan::{Plan, Worker},
    services::cache::MemoryCache,
    shutdown::Stop,
    state::State,
    task::{Cache, Resources, http::HttpServer},
    telemetry::{Meter, OpenSpan, SpanKind, SpanOutcome, Tracer},
    trace::{Ticks, TraceContext},
};

/// Runs the tasks of all flows of a worker.
#[derive(Debug)]
pub struct TaskManager {
    flows: RunningFlows,
    workshop: Workshop,
    exchanges: Exchanges,
    orders: Orders,
    stop: Stop,
    shutdown_timeout: Duration,
    /// Whether it goes on when all flows have ended.
    stays: bool,
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
    /// The worker's HTTP server, if it has one.
    pub http: Option<Arc<dyn HttpServer>>,
    /// Stops the worker.
    pub stop: Stop,
}

/// A worker whose tasks are built; nothing runs yet.
#[derive(Debug)]
pub struct Built {
    worker: Worker,
    flows: Vec<(BuiltFlow, FlowHandle)>,
    workshop: Workshop,
    stop: Stop,
    state: Option<State>,
    span: OpenSpan,
}

impl Built {
    /// Starts all flows. Their loops run on `runtime`.
    pub fn start(self, runtime: Handle) -> TaskManager {
        let Worker { trace_attributes, channel_capacity, shutdown_timeout, .. } = self.worker;
        let tracer = self.workshop.tracer.clone();
        let supervisor = Supervisor::new(runtime);
        let mut flows = RunningFlows::new(supervisor, tracer, trace_attributes, self.state, channel_capacity);
        for (built, handle) in self.flows {
            flows.start(built, handle);
        }
        self.span.end(SpanOutcome::Completed, None);
        let (exchanges, orders) = Orders::new();
        let (workshop, stop) = (self.workshop, self.stop);
        TaskManager { flows, workshop, exchanges, orders, stop, shutdown_timeout, stays: false }
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
        let Lent { resources, state, cache, http, stop } = lent;
        let spans = tracer.spans("task_manager.start", SpanKind::Internal, None, &[BUILD]);
        let mut span = spans.lifecycle(TraceContext::default());
        span.set_start(began);
        let Plan { worker, flows } = plan;
        let meter = tracer.meter();
        let handles: Vec<_> = flows.iter().map(|flow| FlowHandle::new(flow, stop.child(), &meter)).collect();
        let cache = cache.unwrap_or_else(|| Arc::new(MemoryCache::new(worker.cache)));
        let workshop = Workshop { resources, has_state: state.is_some(), cache, http, tracer };
        match workshop.build(flows, span.context()).await {
            Ok(built) => {
                let flows = built.into_iter().zip(handles).collect();
                Ok(Built { worker, flows, workshop, stop, state, span })
            }
            Err(errors) => {
                span.end(SpanOutcome::Failed, Some(BUILD));
                Err(errors)
            }
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

    /// Lets it go on when all flows have ended, until it is stopped.
    #[must_use]
    pub fn staying(self, stays: bool) -> Self {
        Self { stays, ..self }
    }

    /// Returns a token that stops the sources of all flows.
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Returns all flows.
    pub fn flows(&self) -> Vec<FlowHandle> {
        self.flows.roster.flows()
    }

    /// Returns what tells the flows that there are, as they come and go.
    pub fn roster(&self) -> Roster {
        self.flows.roster.clone()
    }

    /// Returns what builds further flows.
    pub fn workshop(&self) -> Workshop {
        self.workshop.clone()
    }

    /// Returns what exchanges flows.
    pub fn exchanges(&self) -> Exchanges {
        self.exchanges.clone()
    }

    /// Follows all tasks to their end. Once stopped, that takes no longer than the shutdown timeout, on a
    /// runtime that no task can keep busy.
    pub async fn run(mut self) -> Report {
        let stop = self.stop.clone();
        let spans = self.workshop.tracer.spans("task_manager.shutdown", SpanKind::Internal, None, &[]);
        tokio::select! {
            biased;
            () = stop.stopped() => {}
            () = self.go_on() => {}
        }
        // From here on nothing is started that was not.
        drop(self.orders);
        self.flows.drain(self.shutdown_timeout, spans).await
    }

    /// Follows the flows, and lets them come and go, until all of them have ended.
    async fn go_on(&mut self) {
        let (stop, meter) = (self.stop.clone(), self.workshop.tracer.meter());
        let handle = |built: &BuiltFlow| new_handle(built, &stop, &meter);
        while self.stays || !self.orders.is_empty() || self.flows.live().next().is_some() {
            tokio::select! {
                biased;
                Some(id) = self.flows.next_end() => self.orders.ended(id, &mut self.flows, &handle),
                step = self.orders.next() => {
                    self.shutdown_timeout = step.shutdown_timeout().unwrap_or(self.shutdown_timeout);
                    self.orders.take(step, &mut self.flows, &handle);
                }
            }
        }
    }
}

/// Makes what watches and stops a flow. What it counts goes on where another flow of the name has stopped counting, so
/// that one must have ended.
fn new_handle(built: &BuiltFlow, stop: &Stop, meter: &Meter) -> FlowHandle {
    FlowHandle::new(&built.flow, stop.child(), meter)
}
