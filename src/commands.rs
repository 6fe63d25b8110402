//! The subcommands, one file each, and what they share: loading.

pub(crate) mod completions;
pub mod dashboard;
pub(crate) mod dlq;
pub(crate) mod doctor;
pub(crate) mod health;
pub(crate) mod list;
mod queues;
pub(crate) mod rules;
pub(crate) mod run;
pub(crate) mod schema;
mod signals;
pub(crate) mod validate;

use std::{error::Error, path::PathBuf, process::ExitCode, sync::Arc};

use clap::ValueEnum;

use self::run::Configuration;
use crate::{
    config::{Environment, ProcessEnvironment},
    plan::Worker,
    report::{self, Colours},
    runtime::Lent,
    services::{cache::MemoryCache, http::Server, resources::ResourceDirectory},
    shutdown::Stop,
    state::{State, StateError},
    task::{Cache, Resources},
    telemetry::{self, Pipeline, Telemetry},
    trace::Ticks,
};

/// The exit code of a configuration or a command line that is wrong.
pub(crate) const NOT_STARTED: u8 = 2;
/// The exit code of a command whose output could not be written.
const NOT_WRITTEN: u8 = 1;

/// How a result is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// Loads flows and runs them. Watched, changes of their files are taken over.
pub(crate) fn start(paths: Vec<PathBuf>, worker_config: Option<PathBuf>, is_watched: bool) -> ExitCode {
    let began = Ticks::now();
    let mut control = match run::Control::new() {
        Ok(control) => control,
        Err(error) => {
            report::failure(&error);
            return ExitCode::from(NOT_STARTED);
        }
    };
    let mut configuration = Configuration::new(paths, worker_config, is_watched);
    let loaded = match configuration.load(None) {
        Ok(loaded) => loaded,
        Err(problems) => {
            report::problems(&problems);
            return ExitCode::from(NOT_STARTED);
        }
    };
    let worker = &loaded.plan.worker;
    let use_color = Colours::of_stderr() == Colours::On;
    let directives = ProcessEnvironment.variable("RUST_LOG");
    let pipeline = Pipeline::new(&worker.telemetry);
    let service = &worker.telemetry.service_name;
    telemetry::init(&worker.logging, directives.as_deref(), service, use_color, &pipeline);
    if telemetry::is_json(&worker.logging) {
        report::log_warnings(&loaded.warnings);
    } else {
        report::warnings(&loaded.warnings);
    }
    worker.telemetry.log_sources();
    // Before anything is opened: whoever watches over the worker is to see that it starts.
    if let Err(error) = worker.health.map_or(Ok(()), |address| control.listen(address)) {
        return not_started(&error);
    }
    let lent = match control.answering(|| lent(worker)) {
        Ok(Ok(lent)) => lent,
        Ok(Err(error)) => return not_started(&error),
        Err(error) => return not_started(&error),
    };
    let telemetry = match Telemetry::start(&worker.telemetry, pipeline) {
        Ok(telemetry) => telemetry,
        Err(error) => {
            report::failure(&error);
            return ExitCode::from(NOT_STARTED);
        }
    };
    let stop = Stop::default();
    let settings = worker.http_server.clone();
    let server = Server::new(settings, telemetry.tracer().meter(), stop.clone(), worker.shutdown_timeout);
    let lent = Lent { http: Some(Arc::new(server.clone())), stop, ..lent };
    if let Some(state) = &lent.state {
        queues::tell_left(state, &loaded.plan.flows);
    }
    run::execute(control, configuration, loaded, lent, server, telemetry, began)
}

/// Says why a worker that is configured well does not start.
fn not_started(error: &(dyn Error + 'static)) -> ExitCode {
    report::failure(error);
    report::talk("nothing was started\n");
    ExitCode::from(run::FAILED_TO_RUN)
}

/// Opens what the tasks of a worker are lent.
fn lent(worker: &Worker) -> Result<Lent, StateError> {
    let resources =
        worker.resources.clone().map(|path| Arc::new(ResourceDirectory::new(path)) as Arc<dyn Resources>);
    let state = worker.state.as_deref().map(State::open).transpose()?;
    let cache = match &state {
        Some(state) if worker.cache.is_kept => {
            Some(Arc::new(MemoryCache::kept(worker.cache, state.clone())?) as Arc<dyn Cache>)
        }
        _ => None,
    };
    Ok(Lent { resources, state, cache, ..Lent::default() })
}

/// Writes a command's output, and says how that went.
fn print(text: &str) -> ExitCode {
    match report::data(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::failure(&error);
            ExitCode::from(NOT_WRITTEN)
        }
    }
}

/// Writes a command's output as JSON.
fn print_json(value: &serde_json::Value) -> ExitCode {
    print(&format!("{value:#}\n"))
}
