//! `flowgen run`: starts the worker, watches for signals, and says how it ended.

mod progress;

use std::{future::pending, io, process::ExitCode, sync::Arc};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    ack::Outcome,
    plan::Plan,
    report,
    runtime::{FlowHandle, Report, TaskManager},
    task::Resources,
};

/// The flow could not run: a task could not be built, panicked, or a source failed for good.
const FAILED_TO_RUN: u8 = 1;
/// All sources came to their end, and at least one event failed.
const EVENTS_FAILED: u8 = 3;
/// The shutdown ran out of time.
const CUT_SHORT: u8 = 4;

/// Runs all flows of a plan to their end, or until a signal.
pub(crate) fn execute(plan: Plan, resources: Option<Arc<dyn Resources>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            report::failure(&error);
            return ExitCode::from(FAILED_TO_RUN);
        }
    };
    let code = runtime.block_on(run(plan, resources));
    // Never waits: a thread may be blocked in a read of stdin or a write to stdout for good.
    runtime.shutdown_background();
    ExitCode::from(code)
}

async fn run(plan: Plan, resources: Option<Arc<dyn Resources>>) -> u8 {
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            report::failure(&error);
            return FAILED_TO_RUN;
        }
    };
    let started = tokio::select! {
        started = TaskManager::start(plan, resources) => started,
        // Nothing has entered yet, so there is nothing to drain.
        _ = signals.next() => return 0,
    };
    let manager = match started {
        Ok(manager) => manager,
        Err(errors) => {
            errors.iter().for_each(|error| report::failure(error));
            report::talk("nothing was started\n");
            return FAILED_TO_RUN;
        }
    };
    let flows = manager.flows();
    let stop = manager.stop();
    let progress = progress::show(&flows);
    let stopped_twice = async {
        let name = signals.next().await.name;
        tracing::info!(signal = name, "stopping: sources stop, what has entered drains");
        stop.stop();
        let second = signals.next().await;
        log_rest(&flows, second.name);
        128 + second.number
    };
    let code = tokio::select! {
        report = manager.run() => exit_code(&report, stop.is_stopped()),
        code = stopped_twice => code,
        () = progress => pending().await,
    };
    progress::clear();
    code
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

fn log_rest(flows: &[FlowHandle], signal: &str) {
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

/// The signals that end a worker.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

struct Received {
    name: &'static str,
    number: u8,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> Received {
        tokio::select! {
            _ = self.terminate.recv() => Received { name: "SIGTERM", number: 15 },
            _ = self.interrupt.recv() => Received { name: "SIGINT", number: 2 },
        }
    }
}
