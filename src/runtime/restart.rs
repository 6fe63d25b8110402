//! The life of a task: one tenure after the other, each with a task built anew, until there is no more to do or its flow
//! gives up.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Failure, RunEnd,
    ailments::Ailment,
    flow::FlowHandle,
    meters::LoopMeters,
    processor::ProcessorWork,
    source::SourceWork,
    transform::{Lane, TransformWork},
};
use crate::{
    plan::OnTaskPanic,
    registry::Prepared,
    retry::RetryPolicy,
    task::{BuildContext, Task},
    telemetry::{FlightRecorder, Identity, PANIC, SpanOutcome, Spans, error_chain},
    trace::TraceContext,
};

/// The longest pause while the flow is stopping: there is little time left for what waits.
const WHILE_STOPPING: Duration = Duration::from_millis(100);

/// What a task works on. It outlives the task, so that what waits is not lost with it.
pub(super) enum Work {
    Source(SourceWork),
    Transform(TransformWork),
    Lane(Lane),
    Processor(ProcessorWork),
}

impl Work {
    /// Lets a task of the same role work until its end.
    async fn run(&mut self, task: Task) -> RunEnd {
        match (self, task) {
            (Self::Source(work), Task::Source(task)) => work.run(task).await,
            (Self::Transform(work), Task::Transform(task)) => work.run(task).await,
            (Self::Lane(work), Task::Transform(task)) => work.run(task).await,
            (Self::Processor(work), Task::Processor(task)) => work.run(task).await,
            (_, task) => unreachable!("a kind builds tasks of one role, not {task:?}"),
        }
    }

    /// Ends the work for good.
    async fn finish(self) {
        match self {
            Self::Source(work) => work.finish().await,
            Self::Transform(mut work) => work.finish().await,
            Self::Lane(mut work) => work.finish().await,
            Self::Processor(mut work) => work.finish().await,
        }
    }

    /// Returns whether a task that is built later can go on where `task` ends.
    fn can_go_on(&self, task: &Task) -> bool {
        match task {
            Task::Source(source) => source.can_resume(),
            Task::Transform(_) | Task::Processor(_) => true,
        }
    }
}

/// Everything about a task that stays the same from one tenure to the next.
#[derive(Clone)]
pub(super) struct Life {
    pub(super) identity: Arc<Identity>,
    pub(super) flow: FlowHandle,
    pub(super) is_source: bool,
    pub(super) policy: OnTaskPanic,
    /// How long to wait before the task is built again; it is tried for as long as its flow runs.
    pub(super) backoff: RetryPolicy,
    pub(super) prepared: Arc<dyn Prepared>,
    pub(super) context: BuildContext,
    pub(super) spans: Spans,
    pub(super) meters: LoopMeters,
    pub(super) flight: FlightRecorder,
}

impl Life {
    /// Runs `task` on `work`, and others in its place when it panics, to the end.
    pub(super) async fn run(self, mut task: Task, mut work: Work) {
        let mut attempts = 0;
        // The flow may have failed before it began; then nothing is to enter it.
        if self.is_source && self.flow.has_failed() {
            return work.finish().await;
        }
        loop {
            let began = Instant::now();
            let can_go_on = work.can_go_on(&task);
            let end = self.tenure(&mut work, task).await;
            if !self.can_restart(end, can_go_on) {
                break;
            }
            // What has worked for a while is not held responsible for what was long ago.
            attempts = if began.elapsed() >= self.backoff.max_backoff { 1 } else { attempts + 1 };
            let restart = self.flow.ails(&self.identity.task, Ailment::Restarting);
            task = loop {
                self.pause(attempts).await;
                if self.is_over() {
                    return work.finish().await;
                }
                match self.prepared.build(&self.context).await {
                    Ok(task) => break task,
                    Err(error) => {
                        tracing::error!(error.message = error_chain(&error), "task cannot be built again");
                        attempts += 1;
                    }
                }
            };
            drop(restart);
            tracing::info!("task restarted");
        }
        work.finish().await;
    }

    /// Returns whether nothing would come of a further task.
    fn is_over(&self) -> bool {
        self.flow.has_failed() || self.is_source && self.flow.stop().is_stopped()
    }

    /// Runs the loop of one task, in a span and counted.
    async fn tenure(&self, work: &mut Work, task: Task) -> RunEnd {
        let span = self.spans.lifecycle(TraceContext::default());
        let tenure = self.meters.begin();
        tracing::debug!("task started");
        let end = work.run(task).await;
        match &end {
            RunEnd::Completed => span.end(SpanOutcome::Completed, None),
            RunEnd::Failed(failure) => span.end(SpanOutcome::Failed, Some(failure.error_type)),
            RunEnd::Panicked(_) => span.end(SpanOutcome::Failed, Some(PANIC)),
        };
        tenure.end(&end);
        tracing::debug!("task ended");
        end
    }

    /// Names the failure of a task, if it is one, and decides whether another one takes its place.
    fn can_restart(&self, end: RunEnd, can_go_on: bool) -> bool {
        let task = &self.identity.task;
        let (reason, is_transient) = match end {
            RunEnd::Completed => return false,
            RunEnd::Failed(Failure { message, is_transient, error_type }) => {
                if !self.is_source {
                    return false;
                }
                tracing::error!(error.type = error_type, error.message = message, "source failed");
                (format!("source `{task}` failed: {message}"), is_transient)
            }
            RunEnd::Panicked(message) => {
                tracing::error!(error.type = PANIC, error.message = message, "task panicked");
                self.flight.tell_panic(&self.identity.flow);
                (format!("task `{task}` panicked: {message}"), true)
            }
        };
        let can_restart = self.policy == OnTaskPanic::Restart && can_go_on && is_transient;
        if !can_restart {
            self.flow.fail(reason);
        }
        can_restart && !self.flow.has_failed()
    }

    /// Waits before the task is built again, for no longer than the flow runs.
    async fn pause(&self, attempts: u32) {
        let delay = self.backoff.jittered(attempts);
        tracing::info!(
            attempt = attempts,
            delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
            "task is restarted"
        );
        let stopping = self.flow.stop();
        let is_over = tokio::select! {
            () = tokio::time::sleep(delay) => true,
            () = stopping.stopped() => false,
        };
        if !is_over {
            tokio::time::sleep(delay.min(WHILE_STOPPING)).await;
        }
    }
}
