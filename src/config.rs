//! From YAML files to a [`Plan`], or to everything that is wrong with them.
//!
//! Read, parse, interpolate, split the common keys, type, check, link: each step works on what the step
//! before left of every file, so that one load reports all problems of all files. Places in the text are
//! looked up at the end, only for what is reported. Nothing past this module sees YAML or the environment.

mod document;
mod environment;
mod fingerprint;
mod flow;
mod footprint;
mod graph;
mod interpolate;
mod keys;
mod locate;
mod mask;
mod overrides;
mod planned;
mod schema;
mod sources;
mod task;
mod typed;
mod watch;
mod worker;
mod yaml;

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde_json::Value;

pub use document::{Key, document, keys};
pub use environment::{Contents, Environment, ProcessEnvironment, Recorder};
pub use fingerprint::Fingerprint;
pub use footprint::{Changes, Footprint};
pub use planned::commands as planned_commands;
pub use watch::Watch;

use crate::{
    plan::{Flow, HEALTH_ADDRESS, Plan},
    problem::{Focus, KeyPath, Origin, Problem, Segment},
    registry::Registry,
    task::http::{Route, Routing},
};
use interpolate::Substitution;
use sources::SourceFile;

/// What was loaded.
#[derive(Debug)]
pub struct Loaded {
    /// What is to run.
    pub plan: Plan,
    /// What is right, but probably not meant.
    pub warnings: Vec<Problem>,
    /// What tells it from another configuration.
    pub footprint: Footprint,
}

/// Loads the flows of `paths` (files, or directories of them) with the worker's settings, which may stand
/// in `worker_config` or in any one of the files.
///
/// # Errors
/// Every problem of every file, by file, line and column.
pub fn load(
    paths: &[PathBuf],
    worker_config: Option<&Path>,
    registry: Registry,
    environment: &dyn Environment,
) -> Result<Loaded, Vec<Problem>> {
    load_for(None, paths, worker_config, registry, environment)
}

/// As [`load`], for a worker that runs by `running` and is to go on by what is loaded.
///
/// # Errors
/// The same, and every change that such a worker cannot take over.
pub fn reload(
    running: &Footprint,
    paths: &[PathBuf],
    worker_config: Option<&Path>,
    registry: Registry,
    environment: &dyn Environment,
) -> Result<Loaded, Vec<Problem>> {
    load_for(Some(running), paths, worker_config, registry, environment)
}

/// Returns where a worker of these files is asked how it is, whatever else is wrong with them and whether or not it can be
/// asked. Without any file it is where the environment says, or the default.
///
/// # Errors
/// A file cannot be read, or the address is none.
pub fn health_address(
    paths: &[PathBuf],
    worker_config: Option<&Path>,
    environment: &dyn Environment,
) -> Result<SocketAddr, Vec<Problem>> {
    let mut problems = Vec::new();
    let sources = sources::read(paths, worker_config, &mut problems);
    let mut files: Vec<_> = sources.into_iter().map(|source| File::parse(source, environment)).collect();
    let overrides = overrides::read(environment, &mut problems);
    let health = worker::health(&mut files, &overrides, &mut problems);
    for file in &mut files {
        problems.append(&mut file.located());
    }
    problems.retain(|problem| match problem.path.0.first() {
        Some(first) => *first == Segment::Key(worker::HEALTH.to_owned()),
        None => !matches!(problem.origin, Some(Origin::Variable(_))),
    });
    if problems.is_empty() {
        Ok(health.map_or(HEALTH_ADDRESS, |health| health.address))
    } else {
        Err(problems)
    }
}

fn load_for(
    running: Option<&Footprint>,
    paths: &[PathBuf],
    worker_config: Option<&Path>,
    registry: Registry,
    environment: &dyn Environment,
) -> Result<Loaded, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut warnings = Vec::new();
    let sources = sources::read(paths, worker_config, &mut problems);
    let is_readable = problems.is_empty();
    let mut files: Vec<_> = sources.into_iter().map(|source| File::parse(source, environment)).collect();
    let is_parsed = files.iter().all(|file| !file.tree.is_null());
    let overrides = overrides::read(environment, &mut problems);
    let settings = worker::settings(&mut files, &overrides, environment, &mut problems, &mut warnings);
    let mut flows = Vec::new();
    let mut defined = false;
    for (n, file) in files.iter_mut().enumerate() {
        defined |= ["flow", "flows"].iter().any(|key| file.tree.get(key).is_some());
        for (value, path) in file.take_flows() {
            let tree = footprint::of_keys(&value);
            if let Some(flow) = flow::build(file, value, &path, registry, &settings) {
                let fingerprint = footprint::of_flow(tree, &flow, &settings, environment);
                flows.push(Named { flow, file: n, path, fingerprint });
            }
        }
    }
    if !defined && is_readable && is_parsed {
        let mut problem = Problem::new(KeyPath::default(), "there is no flow to run");
        problem.hint("a file holds `flow:`, or `flows:` with a list");
        problem.origin = files.first().map(|file| Origin::Place(sources::whole(&file.source.path)));
        problems.push(problem);
    }
    refuse_same_names(&flows, &mut files);
    refuse_second_stdin(&flows, &mut files);
    refuse_same_routes(&flows, &mut files);
    if let Some(running) = running {
        running.refuse(&settings.blocks, &flows, &mut files, &mut problems);
    }
    for file in &mut files {
        problems.append(&mut file.located());
    }
    if problems.is_empty() {
        let footprint = Footprint::new(settings.blocks, &flows);
        let flows = flows.into_iter().filter_map(|named| named.flow.complete).collect();
        return Ok(Loaded { plan: Plan { worker: settings.worker, flows }, warnings, footprint });
    }
    let order: HashMap<_, _> =
        files.iter().enumerate().map(|(n, file)| (file.source.path.clone(), n)).collect();
    problems.sort_by_key(|problem| match &problem.origin {
        Some(Origin::Place(place)) => {
            (order.get(&place.file).copied().unwrap_or(0), place.line, place.column)
        }
        _ => (usize::MAX, 0, 0),
    });
    Err(problems)
}

/// A file on its way to a plan.
#[derive(Debug)]
struct File {
    source: SourceFile,
    /// Interpolated; `null` if it could not be parsed.
    tree: Value,
    substitutions: Vec<Substitution>,
    /// Where a reference could not be resolved: what follows from that is no second problem.
    unresolved: Vec<KeyPath>,
    /// Not located yet.
    problems: Vec<Problem>,
}

impl File {
    fn parse(source: SourceFile, environment: &dyn Environment) -> Self {
        let mut file =
            Self { source, tree: Value::Null, substitutions: vec![], unresolved: vec![], problems: vec![] };
        match yaml::parse(&file.source.path, &file.source.text) {
            Ok(Value::Object(tree)) => file.tree = Value::Object(tree),
            Ok(Value::Null) => {
                let mut problem = Problem::new(KeyPath::default(), "the file is empty");
                problem.hint("a file holds `flow:`, or `flows:` with a list");
                problem.origin = Some(Origin::Place(sources::whole(&file.source.path)));
                file.problems.push(problem);
            }
            Ok(other) => {
                let message =
                    format!("expected a mapping, found {}", file.describe(&other, &KeyPath::default()));
                file.problems.push(Problem::new(KeyPath::default(), message));
                if let Some(problem) = file.problems.last_mut() {
                    problem.hint("a file holds `flow:`, or `flows:` with a list");
                }
            }
            Err(mut problems) => file.problems.append(&mut problems),
        }
        let base = file.source.base_dir();
        file.substitutions = interpolate::resolve(&mut file.tree, &base, environment, &mut file.problems);
        file.unresolved = file.problems.iter().map(|problem| problem.path.clone()).collect();
        file
    }

    /// Shows the value at `path` in a message.
    fn describe(&self, value: &Value, path: &KeyPath) -> String {
        typed::describe(value, path, &self.substitutions)
    }

    /// Takes the flows of the file, each with its path.
    fn take_flows(&mut self) -> Vec<(Value, KeyPath)> {
        let Value::Object(tree) = &mut self.tree else { return vec![] };
        let top = |key: &str| KeyPath::default().key(key);
        let mut flows = Vec::new();
        if let Some(flow) = tree.remove("flow") {
            flows.push((flow, top("flow")));
        }
        match tree.remove("flows") {
            None => {}
            Some(Value::Array(several)) => {
                flows.extend(several.into_iter().enumerate().map(|(n, flow)| (flow, top("flows").index(n))));
            }
            Some(other) => {
                let found = typed::describe(&other, &top("flows"), &self.substitutions);
                self.problems
                    .push(Problem::new(top("flows"), format!("expected a list of flows, found {found}")));
            }
        }
        if self.source.is_worker_config && !flows.is_empty() {
            let mut problem = Problem::new(flows.remove(0).1, "a file named with `--config` holds no flows");
            problem.focus(Focus::Key).hint("name it as an argument of its own");
            self.problems.push(problem);
            flows.clear();
        }
        flows
    }

    /// Takes the problems, with their places and without what came from outside.
    fn located(&mut self) -> Vec<Problem> {
        let mut problems = std::mem::take(&mut self.problems);
        let first = self.unresolved.len();
        let mut n = 0;
        problems.retain(|problem| {
            n += 1;
            n <= first || problem.path.0.is_empty() || !self.unresolved.contains(&problem.path)
        });
        for problem in &mut problems {
            if problem.origin.is_none() {
                problem.origin = Some(Origin::Place(self.source.place(&problem.path, problem.focus)));
            }
            problem.message = mask::mask(&problem.message, &problem.path, &self.substitutions);
            problem.hint =
                problem.hint.take().map(|hint| mask::mask(&hint, &problem.path, &self.substitutions));
        }
        problems
    }
}

/// A flow and where it stands.
struct Named {
    flow: flow::Built,
    file: usize,
    path: KeyPath,
    /// Of its keys alone, if there is more wrong with it.
    fingerprint: Fingerprint,
}

fn refuse_same_names(flows: &[Named], files: &mut [File]) {
    for (n, second) in flows.iter().enumerate() {
        let Some(first) = flows[..n].iter().find(|first| first.flow.name == second.flow.name) else {
            continue;
        };
        let place = files[first.file].source.position(&first.path.key("name"), Focus::Value);
        let message = format!("a second flow is named `{}`", second.flow.name);
        let mut problem = Problem::new(second.path.key("name"), message);
        problem.hint(format!("names are unique in a worker; the first is at {place}"));
        files[second.file].problems.push(problem);
    }
}

/// Only one task of a worker can read the standard input.
fn refuse_second_stdin(flows: &[Named], files: &mut [File]) {
    let mut readers =
        flows.iter().flat_map(|named| named.flow.stdin.iter().map(move |path| (named.file, path)));
    let Some((file, first)) = readers.next() else { return };
    let place = files[file].source.position(first, Focus::Key);
    for (file, path) in readers {
        let mut problem = Problem::new(path.clone(), "a second task reads the standard input");
        problem.focus(Focus::Key).hint(format!("one task of a worker can; the first is at {place}"));
        files[file].problems.push(problem);
    }
}

/// A request belongs to one task of the worker.
fn refuse_same_routes(flows: &[Named], files: &mut [File]) {
    let mut routing = Routing::<Vec<(Route, usize, &KeyPath)>>::default();
    for named in flows {
        for (path, route) in &named.flow.routes {
            let (message, hint) = match routing.entry(route, Vec::new) {
                Err(conflict) => (
                    format!("`{}` takes requests that `{}` takes too", route.template, conflict.with),
                    "neither path is the more special one: write another one".to_owned(),
                ),
                Ok(known) => match known.iter().find(|(first, ..)| first.is_same(route)) {
                    Some((_, file, first)) => {
                        let place = files[*file].source.position(first, Focus::Key);
                        let hint = format!("one task of a worker can; the first is at {place}");
                        (format!("a second task answers `{route}`"), hint)
                    }
                    None => {
                        known.push((route.clone(), named.file, path));
                        continue;
                    }
                },
            };
            let mut problem = Problem::new(path.key("endpoint"), message);
            problem.hint(hint);
            files[named.file].problems.push(problem);
        }
    }
}

impl Loaded {
    /// Returns the flows.
    pub fn flows(&self) -> &[Flow] {
        &self.plan.flows
    }
}
