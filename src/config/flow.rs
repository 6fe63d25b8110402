//! One flow: its keys, its tasks and their names.

use std::{collections::HashMap, path::Path, sync::Arc};

use serde_json::{Map, Value};

use super::{
    File,
    graph::{self, Draft, Links},
    keys::{FLOW_KEYS, elsewhere},
    planned::{self, Place, Verdict},
    task::{Common, Part, TaskBuilder},
    typed::{self, Unknown},
    worker::Settings,
};
use crate::{
    plan::{Concurrency, Flow, Node, OnTaskPanic},
    problem::{Focus, KeyPath, Problem, Problems},
    registry::Registry,
};

/// A flow, as far as it could be built.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) name: String,
    /// The tasks that read the standard input.
    pub(super) stdin: Vec<KeyPath>,
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
    refuse_others(file, keys, path);
    let mut drafts = Vec::new();
    let mut parts = Vec::new();
    let mut stdin = Vec::new();
    for (n, task) in tasks.into_iter().enumerate() {
        let at = path.key("tasks").index(n);
        let (draft, part) = TaskBuilder { file: &mut *file, registry, settings }.build(task, &at);
        if draft.needs_stdin {
            stdin.push(draft.path.clone());
        }
        drafts.push(draft);
        parts.push(part);
    }
    names(file, &mut drafts);
    let mut problems = Problems::default();
    let links = graph::link(&drafts, &mut problems);
    file.problems.append(&mut problems.into_vec());
    let nodes = drafts.into_iter().zip(parts).zip(links).map(|((draft, part), links)| {
        let Part { kind, prepared, common: Common { policy, sample_rate } } = part?;
        let name = Arc::from(draft.name?);
        let Links { downstream, targets } = links;
        Some(Node {
            name,
            kind,
            prepared: Arc::from(prepared),
            policy,
            when: None,
            concurrency: Concurrency::default(),
            parallelism: 1,
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
        on_task_panic: OnTaskPanic::default(),
        deadline: None,
        parallel_instances: 1,
        tasks,
    });
    Some(Built { name, stdin, complete })
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

/// Refuses the keys of a flow that are planned or unknown.
fn refuse_others(file: &mut File, keys: Map<String, Value>, path: &KeyPath) {
    for (key, mut value) in keys {
        typed::settle(&mut value, &path.key(&*key), &file.substitutions);
        match planned::key(Place::Flow, &key, &value) {
            Some(Verdict::Neutral) => {}
            Some(Verdict::NotYet) => {
                let problem = planned::refusal(file, path.key(&*key), &key, &value);
                file.problems.push(problem);
            }
            None => {
                let known = FLOW_KEYS.map(str::to_owned).to_vec();
                let planned = planned::keys(Place::Flow).collect();
                let unknown = Unknown { path: path.key(&*key), key, value, known, planned, is_top: true };
                file.problems.push(unknown.problem(elsewhere));
            }
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
