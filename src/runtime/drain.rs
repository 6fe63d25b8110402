//! The end of a worker, told in order: sources stop or end, what they brought in drains through the
//! tasks, every share settles, and whatever is left at the deadline is cancelled and counted.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    flow::{FlowReport, State},
    manager::{Report, RunningFlow},
    supervisor::{Ended, Supervisor},
};
use crate::{
    shutdown::Stop,
    telemetry::{FlightRecorder, SpanOutcome, Spans},
    trace::TraceContext,
};

/// The most of a shutdown's time that is kept for aborted tasks to notice, and the share of a short one.
const ABORT_PATIENCE: Duration = Duration::from_millis(500);
const ABORT_SHARE: u32 = 5;

/// Returns how much of a shutdown's time is kept for aborted tasks to notice.
pub(crate) fn abort_patience(timeout: Duration) -> Duration {
    ABORT_PATIENCE.min(timeout / ABORT_SHARE)
}

/// Follows the tasks of a worker to their end.
pub(super) struct Drain {
    supervisor: Supervisor,
    flows: Vec<RunningFlow>,
    stop: Stop,
    timeout: Duration,
    spans: Spans,
    flight: FlightRecorder,
    reports: Vec<Option<FlowReport>>,
    is_cancelling: bool,
}

impl Drain {
    pub(super) fn new(
        supervisor: Supervisor,
        flows: Vec<RunningFlow>,
        stop: Stop,
        timeout: Duration,
        spans: Spans,
        flight: FlightRecorder,
    ) -> Self {
        let reports = flows.iter().map(|_| None).collect();
        Self { supervisor, flows, stop, timeout, spans, flight, reports, is_cancelling: false }
    }

    pub(super) async fn run(mut self) -> Report {
        let stop = self.stop.clone();
        tokio::select! {
            () = self.all_ended() => {}
            () = stop.stopped() => {}
        }
        for flow in self.flows.iter().filter(|flow| flow.tasks > 0) {
            flow.handle.enter(State::Draining);
        }
        let span = self.spans.lifecycle(TraceContext::default());
        let deadline = Instant::now() + (self.timeout - abort_patience(self.timeout));
        let is_drained = tokio::time::timeout_at(deadline, self.all_ended()).await.is_ok();
        if is_drained {
            span.end(SpanOutcome::Completed, None);
        } else {
            self.cancel().await;
            span.end(SpanOutcome::Cancelled, None);
        }
        let flows = self.flows.iter().zip(&mut self.reports);
        let flows =
            flows.map(|(flow, report)| report.take().unwrap_or_else(|| flow.handle.report())).collect();
        Report { flows, is_cut_short: !is_drained }
    }

    /// Waits until every task has ended. Safe to drop and call again.
    async fn all_ended(&mut self) {
        while let Some(ended) = self.supervisor.ended().await {
            self.note(ended);
        }
    }

    fn note(&mut self, ended: Ended) {
        let flow = &mut self.flows[ended.flow];
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
        if flow.tasks == 0 {
            flow.handle.end();
            if self.is_cancelling {
                flow.handle.meters().cancel_finished.add(1);
            }
            let report = flow.handle.report();
            conclude(&report);
            self.reports[ended.flow] = Some(report);
        }
    }

    /// Cancels what is left: from here on a share that is dropped counts as cancelled.
    async fn cancel(&mut self) {
        for flow in self.flows.iter().filter(|flow| flow.tasks > 0) {
            flow.handle.ledger().cancel();
            flow.handle.meters().cancel_started.add(1);
            let inflight = flow.handle.summary().inflight();
            tracing::warn!(
                flow = flow.handle.name(),
                inflight,
                "shutdown ran out of time, what is left is cancelled"
            );
        }
        self.is_cancelling = true;
        self.supervisor.abort();
        // Flows whose tasks all notice conclude here, as those that drain do.
        let _ = tokio::time::timeout(abort_patience(self.timeout), self.all_ended()).await;
        for identity in self.supervisor.running() {
            tracing::error!(flow = &*identity.flow, task = &*identity.task, "task cannot be stopped");
        }
        for (flow, report) in self.flows.iter().zip(&mut self.reports).filter(|(_, report)| report.is_none())
        {
            report.insert(flow.handle.report()).log();
        }
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
