//! The end of a worker, told in order: sources stop or end, what they brought in drains through the
//! tasks, every share settles, and whatever is left at the deadline is cancelled and counted.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    flow::{FlowReport, State},
    running::{Former, RunningFlows},
};
use crate::{
    telemetry::{SpanOutcome, Spans},
    trace::TraceContext,
};

/// The most of a shutdown's time that is kept for aborted tasks to notice, and the share of a short one.
const ABORT_PATIENCE: Duration = Duration::from_millis(500);
const ABORT_SHARE: u32 = 5;

/// How all flows of a worker ended.
#[derive(Debug)]
pub struct Report {
    /// One report a flow, in the order of the plan; those that were started later follow.
    pub flows: Vec<FlowReport>,
    /// Of flows that were there before.
    pub former: Former,
    /// Whether the shutdown ran out of time and cancelled what was left.
    pub is_cut_short: bool,
}

/// Returns how much of a shutdown's time is kept for aborted tasks to notice.
pub(crate) fn abort_patience(timeout: Duration) -> Duration {
    ABORT_PATIENCE.min(timeout / ABORT_SHARE)
}

impl RunningFlows {
    /// Follows all flows to their end, whose sources stop or have ended. That takes no longer than `timeout`.
    pub(super) async fn drain(mut self, timeout: Duration, spans: Spans) -> Report {
        for (_, flow) in self.live() {
            flow.handle.enter(State::Draining);
        }
        let span = spans.lifecycle(TraceContext::default());
        let deadline = Instant::now() + (timeout - abort_patience(timeout));
        let is_drained = tokio::time::timeout_at(deadline, self.all_ended()).await.is_ok();
        if is_drained {
            span.end(SpanOutcome::Completed, None);
        } else {
            self.cancel_rest(timeout).await;
            span.end(SpanOutcome::Cancelled, None);
        }
        let former = self.former;
        Report { flows: self.into_reports(), former, is_cut_short: !is_drained }
    }

    /// Waits until every flow has ended. Safe to drop and call again.
    async fn all_ended(&mut self) {
        while self.next_end().await.is_some() {}
    }

    async fn cancel_rest(&mut self, timeout: Duration) {
        let rest: Vec<_> = self.live().map(|(id, _)| id).collect();
        for id in &rest {
            self.cancel(*id, "shutdown");
        }
        // Flows whose tasks all notice conclude here, as those that drain do.
        let _ = tokio::time::timeout(abort_patience(timeout), self.all_ended()).await;
        for id in rest {
            self.tell_stuck(id);
        }
    }
}
