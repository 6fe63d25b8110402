//! `flowgen run`: starts the worker, watches for signals, and says how it ended.

mod progress;

use std::{cell::Cell, future::pending, process::ExitCode, sync::Arc, thread, time::Duration};

use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
    time::Instant,
};

use super::signals::Signals;
use crate::{
    ack::Outcome,
    event::Ticks,
    plan::Plan,
    report,
    runtime::{FlowHandle, Report, TaskManager},
    task::Resources,
    telemetry::Telemetry,
};

/// The flow could not run: a task could not be built, panicked, or a source failed for good.
const FAILED_TO_RUN: u8 = 1;
/// All sources came to their end, and at least one event failed.
const EVENTS_FAILED: u8 = 3;
/// The shutdown ran out of time.
const CUT_SHORT: u8 = 4;

/// The stack of a thread that runs tasks. Scripts recurse, and so do values within values; the memory is
/// taken only as far as it is used.
const STACK: usize = 32 << 20;

/// The most of a shutdown's time that is kept for the flush of telemetry, and the share of a short one.
const FLUSH_TIME: Duration = Duration::from_secs(5);
const FLUSH_SHARE: u32 = 5;

/// A second signal that comes so soon is the same one: `timeout` signals a process and then its group.
const SAME_SIGNAL: Duration = Duration::from_millis(100);

/// Runs all flows of a plan to their end, or until a signal, and then flushes telemetry. `began` is when the
/// start of the worker did.
///
/// Tasks have a runtime of their own. Signals and deadlines are watched for on another, on this thread,
/// which no task can keep busy.
pub(crate) fn execute(
    mut plan: Plan,
    resources: Option<Arc<dyn Resources>>,
    telemetry: Telemetry,
    began: Ticks,
) -> ExitCode {
    let tasks = Builder::new_multi_thread().enable_all().thread_stack_size(STACK).build();
    let control = Builder::new_current_thread().enable_all().build();
    let (tasks, control) = match (tasks, control) {
        (Ok(tasks), Ok(control)) => (tasks, control),
        (Err(error), _) | (_, Err(error)) => {
            report::failure(&error);
            return ExitCode::from(FAILED_TO_RUN);
        }
    };
    let flush_time = if telemetry.is_on() {
        FLUSH_TIME.min(plan.worker.shutdown_timeout / FLUSH_SHARE)
    } else {
        Duration::ZERO
    };
    plan.worker.shutdown_timeout -= flush_time;
    let run = Run { tasks: tasks.handle().clone(), flush_time, stopped: Cell::new(None) };
    let code = control.block_on(run.worker(plan, resources, telemetry, began));
    // Never waits: a thread may be blocked in a read of stdin or a write to stdout for good.
    tasks.shutdown_background();
    ExitCode::from(code)
}

/// One run of a worker.
struct Run {
    tasks: Handle,
    /// How much of the shutdown's time is left for telemetry.
    flush_time: Duration,
    /// Until when the flows have to be drained, once a signal came.
    stopped: Cell<Option<Instant>>,
}

impl Run {
    async fn worker(
        &self,
        plan: Plan,
        resources: Option<Arc<dyn Resources>>,
        telemetry: Telemetry,
        began: Ticks,
    ) -> u8 {
        let mut signals = match Signals::new() {
            Ok(signals) => signals,
            Err(error) => {
                report::failure(&error);
                return FAILED_TO_RUN;
            }
        };
        let drain_time = plan.worker.shutdown_timeout;
        let tracer = telemetry.tracer().clone();
        let building = self.tasks.spawn(TaskManager::build(plan, resources, tracer, began));
        let built = tokio::select! {
            built = building => built,
            // Nothing has started yet, so there is nothing to drain.
            _ = signals.next() => {
                self.flush(telemetry).await;
                return 0;
            }
        };
        let manager = match built {
            Ok(Ok(built)) => built.start(self.tasks.clone()),
            Ok(Err(errors)) => {
                errors.iter().for_each(|error| report::failure(error));
                report::talk("nothing was started\n");
                self.flush(telemetry).await;
                return FAILED_TO_RUN;
            }
            Err(error) => {
                report::failure(&error);
                self.flush(telemetry).await;
                return FAILED_TO_RUN;
            }
        };
        let flows = manager.flows();
        let stop = manager.stop();
        let progress = progress::show(&flows);
        let spans_waiting = telemetry.spans_waiting();
        let stopped_twice = async {
            let first = signals.next().await;
            let came = Instant::now();
            tracing::info!(signal = first.name, "stopping: sources stop, what has entered drains");
            self.stopped.set(Some(came + drain_time));
            stop.stop();
            let second = loop {
                let second = signals.next().await;
                if second.number != first.number || came.elapsed() > SAME_SIGNAL {
                    break second;
                }
            };
            log_rest(&flows, spans_waiting(), second.name);
            128 + second.number
        };
        let drained_and_flushed = async {
            let report = manager.run().await;
            progress::clear();
            self.flush(telemetry).await;
            exit_code(&report, self.stopped.get().is_some())
        };
        let code = tokio::select! {
            code = drained_and_flushed => code,
            code = stopped_twice => code,
            () = progress => pending().await,
        };
        progress::clear();
        code
    }

    /// Flushes telemetry within what is left of the shutdown's time. On a thread of its own, so that signals
    /// are heard meanwhile.
    async fn flush(&self, telemetry: Telemetry) {
        let deadline = self.stopped.get().unwrap_or_else(Instant::now) + self.flush_time;
        let (done, flushed) = oneshot::channel();
        let flush = move || {
            telemetry.shutdown(deadline.into_std());
            // The other side is gone if a signal ended the wait.
            let _ = done.send(());
        };
        if let Err(error) = thread::Builder::new().name("flowgen-flush".into()).spawn(flush) {
            tracing::error!(error.message = %error, "telemetry cannot be flushed");
            return;
        }
        // Without an answer the flush has panicked, and said so.
        let _ = flushed.await;
    }
}

/// Returns the exit code for how the flows ended. A failure to run outweighs a shutdown that ran out of
/// time; events that failed are the verdict only of a run that came to its own end.
fn exit_code(report: &Report, is_stopped: bool) -> u8 {
    if report.flows.iter().any(|flow| flow.failure.is_some()) {
        FAILED_TO_RUN
    } else if report.is_cut_short {
        CUT_SHORT
    } else if !is_stopped && report.flows.iter().any(|flow| flow.summary.count(Outcome::Failed) > 0) {
        EVENTS_FAILED
    } else {
        0
    }
}

fn log_rest(flows: &[FlowHandle], spans_waiting: usize, signal: &str) {
    if spans_waiting > 0 {
        tracing::warn!(spans_waiting, signal, "second signal: telemetry is not flushed");
    }
    for flow in flows {
        let inflight = flow.summary().inflight();
        tracing::warn!(
            flow = flow.name(),
            inflight,
            signal,
            "second signal: exits at once and leaves this behind"
        );
    }
}
