//! `flowgen rules`: what flows promise, as rules of Prometheus: how much of it is kept, and alerts that tell in time.
//!
//! The method is that of the SRE workbook, chapter "Alerting on SLOs": an alert fires while the budget of errors is spent
//! too fast over a long window, and over a short one too, so that it ends soon after the trouble does.

mod document;
mod indicator;
mod objective;
mod promql;
pub(super) mod recorded;
mod windows;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::ValueEnum;

use self::{indicator::Buckets, objective::Objective, windows::Windows};
use super::{NOT_STARTED, print};
use crate::{
    config::{self, ProcessEnvironment},
    plan::{Plan, Worker},
    problem::{KeyPath, Problem},
    report, tasks,
    telemetry::Histogram,
};

/// Whose file it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A file of rules, as Prometheus reads it.
    #[default]
    Prometheus,
    /// A resource of Kubernetes, as the operator of Prometheus reads it.
    Prometheusrule,
}

/// What was asked for: all that the output depends on, besides the flows.
pub(crate) struct Request<'a> {
    pub(crate) paths: &'a [PathBuf],
    pub(crate) worker_config: Option<&'a Path>,
    pub(crate) format: Format,
    /// The only `job` whose metrics count.
    pub(crate) job: Option<&'a str>,
}

/// Prints the rules for the flows of some files.
pub(crate) fn execute(request: &Request<'_>) -> ExitCode {
    let loaded = config::load(request.paths, request.worker_config, tasks::registry(), &ProcessEnvironment);
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(problems) => return refuse(&problems),
    };
    report::warnings(&loaded.warnings);
    if request.job.is_some_and(str::is_empty) {
        return refuse(&[Problem::new(KeyPath::default(), "the name of the job is empty")]);
    }
    let objectives = objectives(&loaded.plan, request.job);
    if objectives.is_empty() {
        let mut problem = Problem::new(KeyPath::default(), "no flow promises anything");
        problem.hint("write `slo: {success: 0.999}` below `flow`");
        return refuse(&[problem]);
    }
    report::warnings(&doubts(&loaded.plan.worker, &objectives));
    print(&document::write(request, &objectives))
}

fn refuse(problems: &[Problem]) -> ExitCode {
    report::problems(problems);
    ExitCode::from(NOT_STARTED)
}

/// Returns all that the flows of a worker promise, in the order of the flows.
fn objectives<'a>(plan: &'a Plan, job: Option<&'a str>) -> Vec<Objective<'a>> {
    let telemetry = &plan.worker.telemetry;
    let buckets = match telemetry.histogram {
        Histogram::Explicit { .. } => Buckets::Explicit,
        Histogram::Exponential {} => Buckets::Native,
    };
    let of_flow = |flow| Objective::of(flow, job, buckets, telemetry.metrics_export_interval);
    plan.flows.iter().flat_map(of_flow).collect()
}

/// Returns what is probably not meant.
fn doubts(worker: &Worker, objectives: &[Objective<'_>]) -> Vec<Problem> {
    let mut doubts = Vec::new();
    let mut doubt = |message: String, hint: String| {
        let mut problem = Problem::new(KeyPath::default(), message);
        problem.hint(hint);
        doubts.push(problem);
    };
    if !worker.telemetry.enabled || worker.telemetry.metrics.is_none() {
        doubt(
            "telemetry is off here: a worker like this has no metrics for these rules".into(),
            "name the file with its `telemetry` by `--config`, so that they fit its histograms".into(),
        );
    }
    for objective in objectives.iter().filter(|objective| !objective.can_page()) {
        doubt(
            format!("nobody is woken for `{}` of the flow `{}`", objective.written(), objective.flow()),
            format!("if all of its events are bad, that is still too few: {}", Windows::LEAST_PAGED),
        );
    }
    doubts
}
