//! `flowgen run`: starts the worker, watches for signals, and says how it ended.

mod attempt;
mod configuration;
mod control;
mod health;
mod progress;
mod reload;
mod triggers;

use std::{
    cell::Cell,
    future::pending,
    io, mem,
    process::ExitCode,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
    time::Instant,
};

use self::{attempt::Reloads, health::Health, reload::Reloader, triggers::Triggers};
pub(super) use self::{configuration::Configuration, control::Control};
use super::signals::{Hangups, Questions, Received, Signals};
use crate::{
    ack::Outcome,
    config::{Footprint, Loaded},
    plan::Plan,
    report,
    runtime::{Built, Lent, Report, Roster, TaskManager, abort_patience},
    services::http::Server,
    telemetry::{Telemetry, is_json},
    trace::Ticks,
};

/// The flow could not run: a task could not be built, panicked, or a source failed for good.
pub(super) const FAILED_TO_RUN: u8 = 1;
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

/// The share of a shutdown that may pass, once all flows have ended, until the last response was sent.
const ANSWER_SHARE: u32 = 5;

/// Runs all flows of a configuration to their end, or until a signal, and then flushes telemetry. `began` is when the
/// start of the worker did. Whoever asks how the worker is is answered meanwhile.
///
/// Tasks have a runtime of their own. Signals and deadlines are watched for on another, on this thread,
/// which no task can keep busy.
pub(super) fn execute(
    control: Control,
    configuration: Configuration,
    loaded: Loaded,
    lent: Lent,
    server: Server,
    telemetry: Telemetry,
    began: Ticks,
) -> ExitCode {
    let tasks = match Builder::new_multi_thread().enable_all().thread_stack_size(STACK).build() {
        Ok(tasks) => tasks,
        Err(error) => {
            report::failure(&error);
            return ExitCode::from(FAILED_TO_RUN);
        }
    };
    let Control { runtime, hangups, health, mut probes } = control;
    if let Some(state) = &lent.state {
        health.watch(state);
    }
    let Loaded { mut plan, footprint, .. } = loaded;
    let limits = Limits { shutdown: plan.worker.shutdown_timeout, is_exporting: telemetry.is_on() };
    plan.worker.shutdown_timeout = limits.drain();
    let is_json = is_json(&plan.worker.logging);
    let code = runtime.block_on(async {
        let heard = || io::Result::Ok((Signals::new()?, Questions::new()?));
        let (signals, questions) = match heard() {
            Ok(heard) => heard,
            Err(error) => {
                report::failure(&error);
                return FAILED_TO_RUN;
            }
        };
        let is_watched = configuration.is_watched();
        let configuration = Arc::new(Mutex::new(configuration));
        let server = server.clone();
        let reloadable = Reloadable { hangups, configuration, is_watched, footprint, is_json, server };
        let (limits, told) = (Cell::new(limits), health.clone());
        let run = Run { tasks: tasks.handle().clone(), signals, limits, deadline: None, health: told };
        let answers = questions.answer(telemetry.tracer().flight_recorder());
        tokio::select! {
            code = run.worker(plan, reloadable, lent, telemetry, began) => code,
            never = answers => match never {},
            never = health.answer(probes.as_mut()) => match never {},
        }
    });
    // Never waits: a thread may be blocked in a read of stdin or a write to stdout for good.
    tasks.shutdown_background();
    ExitCode::from(code)
}

/// How long what comes after a signal may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limits {
    /// All of it.
    shutdown: Duration,
    /// Whether a part of that is kept for telemetry.
    is_exporting: bool,
}

impl Limits {
    /// Returns how long the drain may take.
    fn drain(self) -> Duration {
        self.shutdown - self.flush()
    }

    /// Returns how long the flush may take.
    fn flush(self) -> Duration {
        if self.is_exporting { FLUSH_TIME.min(self.shutdown / FLUSH_SHARE) } else { Duration::ZERO }
    }
}

/// What is needed to load a configuration anew.
struct Reloadable {
    hangups: Hangups,
    configuration: Arc<Mutex<Configuration>>,
    is_watched: bool,
    footprint: Footprint,
    /// Whether log lines are JSON.
    is_json: bool,
    server: Server,
}

/// One run of a worker.
struct Run {
    tasks: Handle,
    signals: Signals,
    limits: Cell<Limits>,
    /// When it is over, once a signal came.
    deadline: Option<Instant>,
    health: Health,
}

/// How the flows of a run ended.
enum End {
    /// In order, with this exit code. What telemetry has left is to be flushed.
    Orderly(u8),
    /// By a second signal. Nothing is waited for any more.
    AtOnce(u8),
}

impl Run {
    async fn worker(
        mut self,
        plan: Plan,
        reloadable: Reloadable,
        lent: Lent,
        telemetry: Telemetry,
        began: Ticks,
    ) -> u8 {
        let server = reloadable.server.clone();
        let end = match self.build(plan, lent, &telemetry, began).await {
            Ok(built) => self.drain(built, reloadable, &telemetry).await,
            Err(code) => End::Orderly(code),
        };
        self.health.drain();
        if let End::Orderly(_) = end {
            // What has an outcome is to be answered.
            let latest = Instant::now() + self.limits.get().drain() / ANSWER_SHARE;
            server.finish(self.deadline.map_or(latest, |deadline| deadline.min(latest))).await;
        }
        telemetry.tracer().flight_recorder().tell_end();
        match end {
            End::Orderly(code) => self.flush(telemetry, code).await,
            End::AtOnce(code) => {
                // Its end would be told as a failure of the collector.
                mem::forget(telemetry);
                code
            }
        }
    }

    /// Builds all tasks. If there is nothing to run, the exit code says why.
    async fn build(
        &mut self,
        plan: Plan,
        lent: Lent,
        telemetry: &Telemetry,
        began: Ticks,
    ) -> Result<Built, u8> {
        let patience = abort_patience(plan.worker.shutdown_timeout);
        let tracer = telemetry.tracer();
        let mut building = self.tasks.spawn(TaskManager::build(plan, lent, tracer, began));
        let built = tokio::select! {
            built = &mut building => built,
            signal = self.signals.next() => {
                self.health.drain();
                tracing::info!(signal = signal.name, "stopping: nothing was started");
                self.deadline = Some(Instant::now() + self.limits.get().shutdown);
                building.abort();
                // Its spans end when it is gone, and are to be flushed.
                let _ = tokio::time::timeout(patience, building).await;
                return Err(0);
            }
        };
        match built {
            Ok(Ok(built)) => return Ok(built),
            Ok(Err(errors)) => {
                errors.iter().for_each(|error| report::failure(error));
                report::talk("nothing was started\n");
            }
            Err(error) => report::failure(&error),
        }
        Err(FAILED_TO_RUN)
    }

    /// Runs all flows until they have ended or have drained after a signal.
    async fn drain(&mut self, built: Built, reloadable: Reloadable, telemetry: &Telemetry) -> End {
        let Self { tasks, signals, limits, deadline, health } = self;
        let Reloadable { hangups, configuration, is_watched, footprint, is_json, server } = reloadable;
        let manager = built.start(tasks.clone()).staying(is_watched);
        let roster = manager.roster();
        health.run(roster.clone());
        let stop = manager.stop();
        let reloads = Reloads::new(&telemetry.tracer());
        let reloader = Reloader {
            triggers: Triggers {
                hangups,
                configuration: Arc::clone(&configuration),
                is_watched,
                tasks: tasks.clone(),
            },
            configuration,
            running: footprint,
            generation: 1,
            reloads: &reloads,
            tasks: tasks.clone(),
            workshop: manager.workshop(),
            server,
            exchanges: manager.exchanges(),
            stop: stop.clone(),
            limits,
            is_json,
        };
        let stopped_twice = async {
            let first = signals.next().await;
            // Before anything stops: nobody is to send what would be refused.
            health.drain();
            tracing::info!(signal = first.name, "stopping: sources stop, what has entered drains");
            *deadline = Some(Instant::now() + limits.get().shutdown);
            stop.stop();
            let second = signals.next().await;
            // Here, because tasks are aborted as soon as nobody follows them.
            if telemetry.is_on() {
                log_unflushed(telemetry.spans_left()(), &second);
            }
            log_rest(&roster, &second);
            second.exit_code()
        };
        let ended = tokio::select! {
            report = manager.run() => Ok(report),
            code = stopped_twice => Err(code),
            never = reloader.run() => match never {},
            () = progress::show(&roster) => pending().await,
        };
        progress::clear();
        match ended {
            Ok(report) => End::Orderly(exit_code(&report, deadline.is_some())),
            Err(code) => End::AtOnce(code),
        }
    }

    /// Flushes telemetry after a run with this exit code, unless a signal comes. That of a signal is returned
    /// only if it is the second one.
    ///
    /// On a thread of its own, so that signals are heard meanwhile.
    async fn flush(&mut self, telemetry: Telemetry, code: u8) -> u8 {
        if !telemetry.is_on() {
            return code;
        }
        let latest = Instant::now() + self.limits.get().flush();
        let deadline = self.deadline.map_or(latest, |deadline| deadline.min(latest));
        let spans_left = telemetry.spans_left();
        let (done, flushed) = oneshot::channel();
        let flush = move || {
            telemetry.shutdown(deadline.into_std());
            // The other side is gone if a signal ended the wait.
            let _ = done.send(());
        };
        if let Err(error) = thread::Builder::new().name("flowgen-flush".into()).spawn(flush) {
            tracing::error!(error.message = %error, "telemetry cannot be flushed");
            return code;
        }
        tokio::select! {
            biased;
            // Without an answer the flush has panicked, and said so.
            _ = flushed => code,
            signal = self.signals.next() => {
                log_unflushed(spans_left(), &signal);
                if self.deadline.is_some() { signal.exit_code() } else { code }
            }
        }
    }
}

/// Returns the exit code for how the flows ended. A failure to run outweighs a drain that ran out of time. Events that
/// failed, and what became of flows that others have taken the place of, are the verdict only of a run that came to its
/// own end.
fn exit_code(report: &Report, is_stopped: bool) -> u8 {
    let has_failed_events = || report.flows.iter().any(|flow| flow.summary.count(Outcome::Failed) > 0);
    if report.flows.iter().any(|flow| flow.failure.is_some()) {
        FAILED_TO_RUN
    } else if report.is_cut_short || (!is_stopped && report.former.is_cut_short) {
        CUT_SHORT
    } else if !is_stopped && (report.former.has_failed_events || has_failed_events()) {
        EVENTS_FAILED
    } else {
        0
    }
}

fn log_unflushed(spans_left: u64, signal: &Received) {
    tracing::warn!(spans_left, signal = signal.name, "signal: telemetry is not flushed");
}

fn log_rest(roster: &Roster, signal: &Received) {
    for flow in roster.flows() {
        let inflight = flow.summary().inflight();
        tracing::warn!(
            flow = flow.name(),
            inflight,
            signal = signal.name,
            "second signal: exits at once and leaves this behind"
        );
    }
}
