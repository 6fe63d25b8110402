//! One flow: its keys, its tasks and their names.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde_json::{Map, Value};

use super::{
    File,
    graph::{self, Draft, Links},
    keys::{DurableKeys, FLOW_KEYS, FlowKeys, MOST_INSTANCES, elsewhere},
    planned::{self, Place, Verdict},
    schema::Shape,
    task::{Common, Part, TaskBuilder, check_number},
    typed,
    worker::Settings,
};
use crate::{
    plan::{Durable, Flow, Node, OnTaskPanic, Slo},
    problem::{Focus, KeyPath, Problem, Problems},
    registry::Registry,
    task::{Durability, http::Route},
};

/// The longest that events may wait before they are too old; clocks overflow far beyond.
const MAX_DEADLINE: Duration = Duration::from_secs(365 * 24 * 3600);

/// How to do without a deadline.
const ANY_AGE: &str = "remove it if events may have any age";

/// A flow, as far as it could be built.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) name: String,
    /// The tasks that read the standard input.
    pub(super) stdin: Vec<KeyPath>,
    /// The tasks that answer a route of the HTTP server.
    pub(super) routes: Vec<(KeyPath, Route)>,
    /// The resources that tasks are made of.
    pub(super) resources: Vec<String>,
    /// The other files that tasks are made of.
    pub(super) files: Vec<PathBuf>,
    /// The flow, if nothing is wrong with it.
    pub(super) complete: Option<Flow>,
}

/// Builds the flow `value`, which stands at `path` in `file`. Returns nothing for what is no flow at all.
pub(super) fn build(
    file: &mut File,
    value: Value,
    path: &KeyPath,
    registry: Registry,
    settings: &Settings,
) -> Option<Built> {
    let before = file.problems.len();
    let Value::Object(mut keys) = value else {
        let message = format!("expected a flow, found {}", file.describe(&value, path));
        file.problems.push(Problem::new(path.clone(), message));
        return None;
    };
    let name = name(file, keys.remove("name"), path);
    let labels = keys.remove("labels").unwrap_or_default();
    let tasks = tasks(file, keys.remove("tasks"), path);
    let (keys, durable, slo) = settings_of(file, keys, path, settings);
    let mut drafts = Vec::new();
    let mut parts = Vec::new();
    let (mut stdin, mut routes) = (Vec::new(), Vec::new());
    let (mut resources, mut files) = (Vec::new(), Vec::new());
    for (n, task) in tasks.into_iter().enumerate() {
        let at = path.key("tasks").index(n);
        let (draft, part) = TaskBuilder { file: &mut *file, registry, settings }.build(task, &at);
        if draft.needs.stdin {
            stdin.push(draft.path.clone());
        }
        routes.extend(draft.needs.route.clone().map(|route| (draft.path.clone(), route)));
        check_durability(file, &draft, durable.is_some());
        resources.extend(part.as_ref().and_then(|part| part.resource.clone()));
        files.extend(draft.needs.files.iter().map(|path| file.source.base_dir().join(path)));
        drafts.push(draft);
        parts.push(part);
    }
    names(file, &mut drafts);
    let mut problems = Problems::default();
    let links = graph::link(&drafts, &mut problems);
    file.problems.append(&mut problems.into_vec());
    let nodes = drafts.into_iter().zip(parts).zip(links).map(|((draft, part), links)| {
        let Part { kind, prepared, common, .. } = part?;
        let name = Arc::from(draft.name?);
        let Links { downstream, targets, route } = links;
        let policy = common.policy(route)?;
        let Common { when, concurrency, parallelism, sample_rate, .. } = common;
        Some(Node {
            name,
            kind,
            prepared: Arc::from(prepared),
            policy,
            when,
            concurrency,
            parallelism,
            sample_rate,
            downstream,
            targets,
        })
    });
    let nodes: Option<Vec<_>> = nodes.collect();
    let complete = nodes.filter(|_| file.problems.len() == before).map(|tasks| Flow {
        name: Arc::from(name.as_str()),
        labels,
        file: file.source.path.clone(),
        base_dir: file.source.base_dir(),
        on_task_panic: keys.on_task_panic.map(OnTaskPanic::from).unwrap_or_default(),
        deadline: keys.deadline,
        durable,
        parallel_instances: keys.parallel_instances.unwrap_or(1),
        slo,
        tasks,
    });
    Some(Built { name, stdin, routes, resources, files, complete })
}

fn name(file: &mut File, value: Option<Value>, path: &KeyPath) -> String {
    let stem = || stem(&file.source.path);
    match value {
        None | Some(Value::Null) => stem(),
        Some(Value::String(name)) if !name.trim().is_empty() => name,
        Some(other) => {
            let name = stem();
            let message = match &other {
                Value::String(_) => "the name of the flow is empty".to_owned(),
                other => format!("expected text, found {}", file.describe(other, &path.key("name"))),
            };
            file.problems.push(Problem::new(path.key("name"), message));
            name
        }
    }
}

fn stem(path: &Path) -> String {
    path.file_stem().map_or_else(|| "flow".into(), |stem| stem.to_string_lossy().into_owned())
}

fn tasks(file: &mut File, value: Option<Value>, path: &KeyPath) -> Vec<Value> {
    let mut problem = match value {
        Some(Value::Array(tasks)) if !tasks.is_empty() => return tasks,
        None | Some(Value::Null) | Some(Value::Array(_)) => {
            Problem::new(path.key("tasks"), "the flow has no tasks")
        }
        Some(other) => {
            let message =
                format!("expected a list of tasks, found {}", file.describe(&other, &path.key("tasks")));
            Problem::new(path.key("tasks"), message)
        }
    };
    problem.focus(Focus::Key).hint("`tasks` is a list: `- generate: {name: numbers}`");
    file.problems.push(problem);
    Vec::new()
}

/// Types the rest of the keys of a flow, and refuses those that are planned or unknown.
fn settings_of(
    file: &mut File,
    mut keys: Map<String, Value>,
    path: &KeyPath,
    settings: &Settings,
) -> (FlowKeys, Option<Durable>, Option<Slo>) {
    for key in planned::keys(Place::Flow) {
        let Some(mut value) = keys.remove(key) else { continue };
        typed::settle(&mut value, &path.key(key), &file.substitutions);
        if planned::key(Place::Flow, key, &value) == Some(Verdict::NotYet) {
            let problem = planned::refusal(file, path.key(key), key, &value);
            file.problems.push(problem);
        }
    }
    let durable = keys.remove("durable").and_then(|value| durable_of(file, value, &path.key("durable")));
    let shape = Shape::of::<FlowKeys>();
    let mut value = Value::Object(keys);
    let mut unknown = typed::clean(&mut value, &shape, path, &file.substitutions);
    for unknown in &mut unknown {
        if unknown.is_top {
            unknown.known = FLOW_KEYS.map(str::to_owned).to_vec();
            unknown.planned = planned::keys(Place::Flow).collect();
        }
        file.problems.push(unknown.problem(elsewhere));
    }
    let keys: FlowKeys = match typed::deserialize(value, &shape, path, &file.substitutions) {
        Ok(keys) => keys,
        Err(problem) => {
            if !typed::explains(&unknown, &problem) {
                file.problems.push(*problem);
            }
            return (FlowKeys::default(), None, None);
        }
    };
    let mut problems = Problems::below(path.clone());
    if let Some(deadline) = keys.deadline {
        if deadline.is_zero() {
            problems.report("deadline", "must be longer than zero").hint(ANY_AGE);
        } else if deadline > MAX_DEADLINE {
            problems.report("deadline", "must not be longer than a year").hint(ANY_AGE);
        }
    }
    if let Some(instances) = keys.parallel_instances {
        let why = "all of them are there from the start";
        check_number("parallel_instances", instances, MOST_INSTANCES, why, &mut problems);
    }
    let slo = keys.slo.as_ref().map(|slo| slo.slo(&mut problems));
    let durable = durable.map(|durable| durable.durable(&mut problems));
    if durable.is_some() && !settings.has_state {
        let problem = problems.report("durable", "`durable` needs `state`");
        problem.hint(
            "add `state: {path: .flowgen}` at the top of the file: the directory that accepted events are kept in",
        );
    }
    file.problems.append(&mut problems.into_vec());
    (keys, durable, slo)
}

/// Refuses a task whose flow is durable and must not be, or the other way round.
fn check_durability(file: &mut File, draft: &Draft, is_durable: bool) {
    let (key, message, hint) = match (draft.needs.durable, is_durable) {
        (Durability::Required(key), false) => (
            key,
            "the flow is not durable: what is answered before the flow is done with it would be lost with the worker",
            "add `durable: true` below `flow`",
        ),
        (Durability::Refused(key), true) => (
            key,
            "the flow is durable: its queue has an event long before anything comes of it",
            "write `response: accepted`, or remove `durable`",
        ),
        (Durability::Any | Durability::Required(_) | Durability::Refused(_), _) => return,
    };
    let mut problem = Problem::new(draft.path.key(key), message);
    problem.hint(hint);
    file.problems.push(problem);
}

/// Types what is said of the queues of a flow, if it has any.
fn durable_of(file: &mut File, mut value: Value, path: &KeyPath) -> Option<DurableKeys> {
    typed::settle(&mut value, path, &file.substitutions);
    match &value {
        Value::Null | Value::Bool(false) => return None,
        Value::Bool(true) => return Some(DurableKeys::default()),
        Value::Object(_) => {}
        other => {
            let found = file.describe(other, path);
            let message = format!("expected `true`, `false` or a mapping, found {found}");
            file.problems.push(Problem::new(path.clone(), message));
            return None;
        }
    }
    let shape = Shape::of::<DurableKeys>();
    for unknown in typed::clean(&mut value, &shape, path, &file.substitutions) {
        file.problems.push(unknown.problem(elsewhere));
    }
    match typed::deserialize(value, &shape, path, &file.substitutions) {
        Ok(keys) => Some(keys),
        Err(problem) => {
            file.problems.push(*problem);
            None
        }
    }
}

/// Gives tasks without a name that of their kind, and refuses names that stand twice.
fn names(file: &mut File, drafts: &mut [Draft]) {
    let mut first: HashMap<String, KeyPath> = HashMap::new();
    for draft in drafts.iter() {
        let Some(name) = &draft.name else { continue };
        let path = draft.path.key("name");
        if let Some(earlier) = first.get(name) {
            let place = file.source.position(earlier, Focus::Value);
            let mut problem = Problem::new(path, format!("a second task is named `{name}`"));
            problem.hint(format!("names are unique in a flow; the first is at {place}"));
            file.problems.push(problem);
        } else {
            first.insert(name.clone(), path);
        }
    }
    for draft in drafts.iter_mut().filter(|draft| draft.name.is_none()) {
        if draft.kind.is_empty() {
            continue;
        }
        if first.contains_key(&draft.kind) {
            let mut problem = Problem::new(draft.path.clone(), "the task needs a name");
            problem
                .focus(Focus::Key)
                .hint(format!("another task is named `{}` already: add `name`", draft.kind));
            file.problems.push(problem);
        } else {
            first.insert(draft.kind.clone(), draft.path.clone());
            draft.name = Some(draft.kind.clone());
        }
    }
}
