//! The flows that run: each from when it is wired to when its last task has ended.

use std::{
    collections::{BTreeMap, btree_map},
    sync::Arc,
};

use super::{
    durable::DurableMeters,
    flow::{FlowHandle, FlowReport, State},
    hop::TaskSpans,
    meters::LoopMeters,
    roster::Roster,
    supervisor::{Ended, FlowId, Supervisor},
    wire::Wiring,
    workshop::BuiltFlow,
};
use crate::{
    ack::Outcome,
    state,
    telemetry::{FlightRecorder, Tracer},
    template::TraceAttribute,
};

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
    /// What is told of its queues, as long.
    pub(super) durable: Option<DurableMeters>,
    /// Whether what was left of it was given up.
    pub(super) is_cancelled: bool,
    /// How it ended, once all its tasks have.
    pub(super) end: Option<FlowReport>,
}

/// The flows of a worker, by a number that no other one gets.
#[derive(Debug)]
pub(super) struct RunningFlows {
    pub(super) supervisor: Supervisor,
    flows: BTreeMap<FlowId, RunningFlow>,
    latest: FlowId,
    pub(super) roster: Roster,
    pub(super) tracer: Tracer,
    flight: FlightRecorder,
    trace_attributes: Arc<[TraceAttribute]>,
    /// What outlives the worker, if anything does.
    state: Option<state::State>,
    /// Events that a channel between two tasks of a flow holds that is started from now on.
    pub(super) capacity: usize,
    pub(super) former: Former,
}

/// What is to be remembered of flows that others have taken the place of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Former {
    /// Whether an event of any of them failed.
    pub has_failed_events: bool,
    /// Whether any of them ran out of time, and what was left was cancelled.
    pub is_cut_short: bool,
}

impl RunningFlows {
    pub(super) fn new(
        supervisor: Supervisor,
        tracer: Tracer,
        trace_attributes: Arc<[TraceAttribute]>,
        state: Option<state::State>,
        capacity: usize,
    ) -> Self {
        Self {
            supervisor,
            flows: BTreeMap::new(),
            latest: FlowId::default(),
            roster: Roster::default(),
            flight: tracer.flight_recorder(),
            tracer,
            trace_attributes,
            state,
            capacity,
            former: Former::default(),
        }
    }

    /// Starts a flow.
    pub(super) fn start(&mut self, built: BuiltFlow, handle: FlowHandle) {
        let id = self.latest.next();
        self.latest = id;
        self.roster.add(handle.clone());
        let mut wiring = Wiring {
            supervisor: &mut self.supervisor,
            tracer: &self.tracer,
            trace_attributes: &self.trace_attributes,
            state: self.state.as_ref(),
            capacity: self.capacity,
        };
        let running = wiring.spawn(id, &built.flow, handle, built.tasks);
        self.flows.insert(id, running);
    }

    /// Returns the flow of this name: there is one at most that is not being replaced.
    pub(super) fn find(&self, name: &str) -> Option<FlowId> {
        self.flows.iter().rev().find(|(_, flow)| flow.handle.name() == name).map(|(id, _)| *id)
    }

    pub(super) fn get(&self, id: FlowId) -> Option<&RunningFlow> {
        self.flows.get(&id)
    }

    /// Returns the flows that have not ended.
    pub(super) fn live(&self) -> impl Iterator<Item = (FlowId, &RunningFlow)> {
        self.flows.iter().filter(|(_, flow)| flow.tasks > 0).map(|(id, flow)| (*id, flow))
    }

    /// Waits until the next flow has ended; `None` when none is left. Safe to drop and call again.
    pub(super) async fn next_end(&mut self) -> Option<FlowId> {
        loop {
            let ended = self.supervisor.ended().await?;
            if let Some(id) = self.note(ended) {
                return Some(id);
            }
        }
    }

    /// Takes note of a task that has ended. Returns its flow if it was the last one of that.
    fn note(&mut self, ended: Ended) -> Option<FlowId> {
        let flow =
            self.flows.get_mut(&ended.flow).expect("a flow is known for as long as any task of it runs");
        flow.tasks -= 1;
        if ended.is_source {
            flow.sources -= 1;
            if flow.sources == 0 {
                flow.handle.enter(State::Draining);
            }
        }
        if let Some(message) = ended.panic {
            let Ended { identity, .. } = ended;
            tracing::error!(
                flow = &*identity.flow,
                task = &*identity.task,
                error.message = message,
                "task panicked"
            );
            self.flight.tell_panic(&identity.flow);
            flow.handle.fail(format!("task `{}` panicked: {message}", identity.task));
        }
        if flow.tasks > 0 {
            return None;
        }
        flow.handle.end();
        if flow.is_cancelled {
            flow.handle.meters().cancel_finished.add(1);
        }
        conclude(flow.end.insert(flow.handle.report()));
        Some(ended.flow)
    }

    /// Cancels what is left of a flow: from here on a share that is dropped counts as cancelled. Of `what` there was no
    /// time left.
    pub(super) fn cancel(&mut self, id: FlowId, what: &str) {
        let Some(flow) = self.flows.get_mut(&id).filter(|flow| !flow.is_cancelled) else { return };
        flow.is_cancelled = true;
        flow.handle.ledger().cancel();
        flow.handle.meters().cancel_started.add(1);
        let inflight = flow.handle.summary().inflight();
        tracing::warn!(
            flow = flow.handle.name(),
            inflight,
            "{what} ran out of time, what is left is cancelled"
        );
        self.supervisor.abort(id);
    }

    /// Names the tasks of a flow that go on although they were cancelled.
    pub(super) fn tell_stuck(&self, id: FlowId) {
        for identity in self.supervisor.running(id) {
            tracing::error!(flow = &*identity.flow, task = &*identity.task, "task cannot be stopped");
        }
    }

    /// Forgets a flow that has ended, and whose place another one takes or none.
    pub(super) fn remove(&mut self, id: FlowId) {
        let btree_map::Entry::Occupied(entry) = self.flows.entry(id) else { return };
        let flow = entry.remove();
        self.roster.remove(&flow.handle);
        self.former.has_failed_events |= flow.handle.summary().count(Outcome::Failed) > 0;
        self.former.is_cut_short |= flow.is_cancelled;
    }

    /// Returns how all flows ended, those first that were there for longest. The last line of those that have not ended
    /// is written now.
    pub(super) fn into_reports(self) -> Vec<FlowReport> {
        let report = |flow: RunningFlow| {
            flow.end.unwrap_or_else(|| {
                let report = flow.handle.report();
                report.log();
                report
            })
        };
        self.flows.into_values().map(report).collect()
    }
}

/// Writes the last line of a flow. All its tasks have ended, so every event must have its outcome.
fn conclude(report: &FlowReport) {
    report.log();
    let (entered, settled) = (report.summary.entered, report.summary.settled());
    if entered != settled {
        tracing::error!(
            flow = &*report.name,
            entered,
            settled,
            "events are unaccounted for: this is a defect of flowgen"
        );
    }
}
