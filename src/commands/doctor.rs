//! `flowgen doctor`: shows the effective settings of telemetry, and tries the way to the collector.
//!
//! What a step looks at is in `telemetry::export::probe`; here is which steps there are, what to do about one
//! that failed, and how all of it is written.

mod advice;
mod checks;
mod output;
mod switch;

use std::{
    error::Error,
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use tokio::runtime::Builder;

use super::{NOT_STARTED, NOT_WRITTEN, Output, signals::Signals};
use crate::{
    config::{self, Loaded, ProcessEnvironment},
    problem::Problem,
    report, tasks,
    telemetry::{Settings, error_chain, export::probe::Probes},
};
use advice::Place;
use checks::{Endpoint, Step};

/// The exit code of a step that failed.
const STEP_FAILED: u8 = 1;

/// What became of the steps to one endpoint, up to where they ended.
#[derive(Debug)]
struct Examined {
    endpoint: Endpoint,
    steps: Vec<Step>,
}

impl Examined {
    fn is_ok(&self) -> bool {
        self.steps.iter().all(Step::is_ok)
    }
}

/// What the doctor found out.
#[derive(Debug, Default)]
struct Findings {
    examined: Vec<Examined>,
    /// The trace of the probe, once a collector has taken it.
    trace_id: Option<String>,
}

impl Findings {
    fn is_ok(&self) -> bool {
        self.examined.iter().all(Examined::is_ok)
    }
}

/// Examines the telemetry of the flows of `paths`.
pub(crate) fn execute(paths: &[PathBuf], worker_config: Option<&Path>, output: Output) -> ExitCode {
    let code = match config::load(paths, worker_config, tasks::registry(), &ProcessEnvironment) {
        Ok(loaded) => examine(&loaded, output),
        Err(problems) => refuse(&problems, output),
    };
    code.map(ExitCode::from).unwrap_or_else(|error| {
        report::failure(&error);
        ExitCode::from(NOT_WRITTEN)
    })
}

/// Tells what is wrong with the configuration, as `validate` does.
fn refuse(problems: &[Problem], output: Output) -> io::Result<u8> {
    match output {
        Output::Text => report::problems(problems),
        Output::Json => report::data(&output::json_of_refusal(problems))?,
    }
    Ok(NOT_STARTED)
}

/// Tells of settings that `run` could not start with.
fn refuse_settings(error: &(dyn Error + 'static), output: Output) -> io::Result<u8> {
    match output {
        Output::Text => {
            report::failure(error);
            Ok(NOT_STARTED)
        }
        Output::Json => refuse(&[Problem::new(Default::default(), error_chain(error))], output),
    }
}

fn examine(loaded: &Loaded, output: Output) -> io::Result<u8> {
    let settings = &loaded.plan.worker.telemetry;
    let notes = switch::notes(settings);
    if output == Output::Text {
        report::warnings(&loaded.warnings);
        report::data(&output::settings(settings, &notes))?;
    }
    let endpoints = match checks::endpoints(settings) {
        Ok(endpoints) => endpoints,
        Err(error) => return refuse_settings(&error, output),
    };
    // Of its own thread only: nothing here needs a second one.
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let examined = runtime.block_on(until_signal(check(endpoints, settings, output)));
    // Never waits: a name may still be looked up.
    runtime.shutdown_background();
    let findings = match examined? {
        Ok(findings) => findings,
        Err(code) => return Ok(code),
    };
    match output {
        Output::Text => report::data(&output::verdict(settings, &findings))?,
        Output::Json => report::data(&output::json(loaded, &notes, &findings))?,
    }
    Ok(if findings.is_ok() { 0 } else { STEP_FAILED })
}

/// Returns what `work` comes to, or the exit code of the signal that came first.
async fn until_signal<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<Result<T, u8>> {
    // The first process of a container dies of no signal that it does not listen to.
    let mut signals = Signals::new()?;
    tokio::select! {
        done = work => done.map(Ok),
        signal = signals.next() => Ok(Err(signal.exit_code())),
    }
}

/// Takes all steps to all endpoints. As text they are written as they come.
async fn check(endpoints: Vec<Endpoint>, settings: &Settings, output: Output) -> io::Result<Findings> {
    let probes = Probes::new(settings);
    let place = Place::find(&ProcessEnvironment);
    let write = |text: String| if output == Output::Text { report::data(&text) } else { Ok(()) };
    let mut findings = Findings::default();
    for endpoint in endpoints {
        write(output::headline(&endpoint))?;
        let mut steps = Vec::new();
        let mut tell = |step: Step| {
            write(output::step(&step))?;
            steps.push(step);
            Ok(())
        };
        if checks::run(&endpoint, &probes, place, &mut tell).await? {
            findings.trace_id = Some(probes.trace_id());
        }
        findings.examined.push(Examined { endpoint, steps });
    }
    Ok(findings)
}
