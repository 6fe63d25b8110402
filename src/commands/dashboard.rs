//! `flowgen dashboard`: dashboards for Grafana, of certain flows or of any.
//!
//! What a dashboard shows is said in a small model, in terms of the instruments; `grafana` alone knows how Grafana writes it.

mod flows;
mod grafana;
mod graph;
mod model;
mod panels;
mod promql;
mod shipped;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde_json::Value;

use super::{NOT_STARTED, print_json};
use crate::{
    config::{self, ProcessEnvironment},
    report, tasks,
};

/// Prints the dashboard of the flows of `paths`.
pub(crate) fn execute(paths: &[PathBuf], worker_config: Option<&Path>, title: Option<&str>) -> ExitCode {
    match config::load(paths, worker_config, tasks::registry(), &ProcessEnvironment) {
        Ok(loaded) => {
            report::warnings(&loaded.warnings);
            print_json(&grafana::document(&flows::dashboard(&loaded.plan, title)))
        }
        Err(problems) => {
            report::problems(&problems);
            ExitCode::from(NOT_STARTED)
        }
    }
}

/// Returns the dashboards of `deploy/dashboards`, each with the name of its file.
pub fn shipped() -> Vec<(&'static str, Value)> {
    shipped::all().iter().map(|(name, dashboard)| (*name, grafana::document(dashboard))).collect()
}
