//! `flowgen validate`: checks flows and starts nothing.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde_json::{Value, json};

use super::{NOT_STARTED, Output, print, print_json};
use crate::{
    config::{self, Loaded, ProcessEnvironment},
    plan::{Flow, OnError},
    problem::{Origin, Problem},
    report, tasks,
};

/// Checks the flows of `paths`. Problems are told on stderr as text, or on stdout as JSON.
pub(crate) fn execute(paths: &[PathBuf], worker_config: Option<&Path>, output: Output) -> ExitCode {
    let loaded = config::load(paths, worker_config, tasks::registry(), &ProcessEnvironment);
    match (loaded, output) {
        (Ok(loaded), Output::Text) => {
            report::warnings(&loaded.warnings);
            print(&text(&loaded))
        }
        (Ok(loaded), Output::Json) => print_json(&json!({
            "ok": true,
            "flows": loaded.flows().iter().map(flow).collect::<Vec<_>>(),
            "problems": [],
            "warnings": loaded.warnings.iter().map(problem).collect::<Vec<_>>(),
        })),
        (Err(problems), Output::Text) => {
            report::problems(&problems);
            ExitCode::from(NOT_STARTED)
        }
        (Err(problems), Output::Json) => {
            let told = problems.iter().map(problem).collect::<Vec<_>>();
            print_json(&json!({"ok": false, "flows": [], "problems": told, "warnings": []}));
            ExitCode::from(NOT_STARTED)
        }
    }
}

fn text(loaded: &Loaded) -> String {
    loaded.flows().iter().fold(String::new(), |mut text, flow| {
        let names: Vec<_> = flow.tasks.iter().map(|task| &*task.name).collect();
        let noun = if names.len() == 1 { "task" } else { "tasks" };
        let _ = writeln!(text, "ok {}: {} {noun} ({})", flow.name, names.len(), names.join(", "));
        text
    })
}

fn flow(flow: &Flow) -> Value {
    let names = |indices: &[usize]| indices.iter().map(|n| &*flow.tasks[*n].name).collect::<Vec<_>>();
    let route = |on_error| match on_error {
        OnError::Route(task) => Some(&*flow.tasks[task].name),
        OnError::Fail | OnError::Drop | OnError::DeadLetter | OnError::Continue => None,
    };
    let tasks = flow.tasks.iter().map(|task| {
        json!({
            "name": &*task.name,
            "kind": task.kind.name,
            "role": task.kind.role.to_string(),
            "downstream": names(&task.downstream),
            "targets": names(&task.targets),
            "route": route(task.policy.on_error),
        })
    });
    json!({
        "name": &*flow.name,
        "file": flow.file,
        "labels": flow.labels,
        "tasks": tasks.collect::<Vec<_>>(),
    })
}

/// Returns a problem for programs.
pub(super) fn problem(problem: &Problem) -> Value {
    let mut told =
        json!({"message": problem.message, "path": problem.path.to_string(), "hint": problem.hint});
    match &problem.origin {
        Some(Origin::Place(place)) => {
            told["file"] = json!(place.file);
            if place.line > 0 {
                told["line"] = place.line.into();
            }
            if place.column > 0 {
                told["column"] = place.column.into();
            }
        }
        Some(Origin::Variable(name)) => told["variable"] = name.as_str().into(),
        Some(Origin::Argument(argument)) => told["argument"] = argument.as_str().into(),
        None => {}
    }
    told
}
