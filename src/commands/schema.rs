//! `flowgen schema`: the JSON Schema of a file, for editors, or what the endpoints of flows are, for those who call them.

mod openapi;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use super::{NOT_STARTED, print_json};
use crate::{
    config::{self, ProcessEnvironment},
    problem::{KeyPath, Problem},
    report, tasks,
};

/// Prints the schema.
pub(crate) fn execute() -> ExitCode {
    print_json(&config::document(tasks::registry()))
}

/// Describes the endpoints of the flows of `paths`.
pub(crate) fn describe(paths: &[PathBuf], worker_config: Option<&Path>) -> ExitCode {
    let loaded = match config::load(paths, worker_config, tasks::registry(), &ProcessEnvironment) {
        Ok(loaded) => loaded,
        Err(problems) => {
            report::problems(&problems);
            return ExitCode::from(NOT_STARTED);
        }
    };
    report::warnings(&loaded.warnings);
    match openapi::document(&loaded.plan) {
        Some(document) => print_json(&document),
        None => {
            let mut problem = Problem::new(KeyPath::default(), "there is no endpoint to describe");
            problem.hint("a flow that answers requests begins with `http_endpoint`");
            report::problems(&[problem]);
            ExitCode::from(NOT_STARTED)
        }
    }
}
