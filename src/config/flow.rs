//! One flow: its keys, its tasks, their common keys and those of their kinds.

use std::{collections::HashMap, path::Path, sync::Arc};

use serde_json::{Map, Value};

use super::{
    File,
    graph::{self, Draft},
    keys::{FLOW_KEYS, Names, TASK_KEYS, TaskKeys, elsewhere},
    planned::{self, Place, Verdict},
    schema::Shape,
    typed::{self, Unknown},
};
use crate::{
    plan::{Flow, Node, Policy},
    problem::{Focus, KeyPath, Problem, Problems, did_you_mean},
    registry::{KindEntry, Prepared, Registry},
    retry::RetryPolicy,
    task::Role,
};

/// A flow, as far as it could be built.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) name: String,
    /// The flow, if nothing is wrong with it.
    pub(super) complete: Option<Flow>,
}

/// Builds the flow `value`, which stands at `path` in `file`. Returns nothing for what is no flow at all.
pub(super) fn build(
    file: &mut File,
    value: Value,
    path: &KeyPath,
    registry: Registry,
    retry: RetryPolicy,
) -> Option<Built> {
    let before = file.problems.len();
    let Value::Object(mut keys) = value else {
        let message = format!("expected a flow, found {}", typed::describe(&value));
        file.problems.push(Problem::new(path.clone(), message));
        return None;
    };
    let name = name(file, keys.remove("name"), path);
    let labels = keys.remove("labels").unwrap_or_default();
    let tasks = tasks(file, keys.remove("tasks"), path);
    refuse_others(file, keys, path);
    let mut drafts = Vec::new();
    let mut parts = Vec::new();
    for (n, task) in tasks.into_iter().enumerate() {
        let at = path.key("tasks").index(n);
        let (draft, part) = TaskBuilder { file: &mut *file, registry, retry }.build(task, &at);
        drafts.push(draft);
        parts.push(part);
    }
    names(file, &mut drafts);
    let mut problems = Problems::default();
    let links = graph::link(&drafts, &mut problems);
    file.problems.append(&mut problems.into_vec());
    let nodes = drafts.into_iter().zip(parts).zip(links).map(|((draft, part), links)| {
        let (kind, prepared, policy) = part?;
        let name = Arc::from(draft.name?);
        Some(Node { name, kind, prepared, policy, downstream: links.downstream, targets: links.targets })
    });
    let nodes: Option<Vec<_>> = nodes.collect();
    let complete = nodes.filter(|_| file.problems.len() == before).map(|tasks| Flow {
        name: Arc::from(name.as_str()),
        labels,
        file: file.source.path.clone(),
        base_dir: file.source.base_dir(),
        tasks,
    });
    Some(Built { name, complete })
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
                other => format!("expected text, found {}", typed::describe(other)),
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
            let message = format!("expected a list of tasks, found {}", typed::describe(&other));
            Problem::new(path.key("tasks"), message)
        }
    };
    problem.focus(Focus::Key).hint("`tasks` is a list: `- generate: {name: numbers}`");
    file.problems.push(problem);
    Vec::new()
}

/// Refuses the keys of a flow that are planned or unknown.
fn refuse_others(file: &mut File, keys: Map<String, Value>, path: &KeyPath) {
    for (key, value) in keys {
        match planned::key(Place::Flow, &key, &value) {
            Some(Verdict::Neutral) => {}
            Some(Verdict::NotYet) => file.problems.push(not_yet(path.key(&*key), &key, &value)),
            None => {
                let known = FLOW_KEYS.into_iter().chain(planned::keys(Place::Flow));
                let known = known.map(str::to_owned).collect();
                let unknown = Unknown { path: path.key(&*key), key, value, known, is_top: true };
                file.problems.push(unknown.problem(elsewhere));
            }
        }
    }
}

fn not_yet(path: KeyPath, key: &str, value: &Value) -> Problem {
    let message = match value {
        Value::Bool(_) | Value::String(_) | Value::Number(_) => planned::message(format_args!(
            "`{key}: {}`",
            value.as_str().map_or(value.to_string(), str::to_owned)
        )),
        _ => planned::message(format_args!("`{key}`")),
    };
    let mut problem = Problem::new(path, message);
    problem.focus(Focus::Key);
    problem
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

/// What a node is made of, besides its name and its edges.
type Part = (&'static KindEntry, Box<dyn Prepared>, Policy);

struct TaskBuilder<'a> {
    file: &'a mut File,
    registry: Registry,
    retry: RetryPolicy,
}

impl TaskBuilder<'_> {
    /// Types one task. It stands in the graph even if that fails.
    fn build(mut self, value: Value, path: &KeyPath) -> (Draft, Option<Part>) {
        let before = self.file.problems.len();
        let mut draft = Draft {
            name: None,
            kind: String::new(),
            role: None,
            depends_on: None,
            targets: None,
            path: path.clone(),
        };
        let Some((tag, body)) = self.split_tag(value, path) else { return (draft, None) };
        let path = path.key(&*tag);
        draft.kind = tag;
        draft.path = path.clone();
        let Some(kind) = self.kind(&draft.kind, &path) else {
            // Its name still stands for it in the graph.
            draft.name = body.get("name").and_then(Value::as_str).map(str::to_owned);
            return (draft, None);
        };
        draft.role = Some(kind.role);
        let own_shape = Shape::of_kind(kind);
        let own_keys = own_shape.view().keys().unwrap_or_default();
        let mut common = Map::new();
        let mut own = Map::new();
        for (key, value) in body {
            if own_keys.contains(&key.as_str()) || !TASK_KEYS.contains(&key.as_str()) {
                own.insert(key, value);
            } else {
                common.insert(key, value);
            }
        }
        let policy = self.common(kind, common, &path, &mut draft);
        let mut own = Value::Object(own);
        for unknown in typed::clean(&mut own, &own_shape, &path, &self.file.substitutions) {
            self.unknown(kind, &unknown);
        }
        let is_clean = self.file.problems.len() == before;
        let prepared = self.prepare(kind, own, &own_shape, &path);
        draft.targets = prepared.as_ref().map(|prepared| prepared.targets());
        let part =
            prepared.zip(policy).filter(|_| is_clean).map(|(prepared, policy)| (kind, prepared, policy));
        (draft, part)
    }

    /// Splits `{<kind>: {...}}`.
    fn split_tag(&mut self, value: Value, path: &KeyPath) -> Option<(String, Map<String, Value>)> {
        let (message, hint) = match value {
            Value::Object(task) if task.len() == 1 => {
                let (tag, body) = task.into_iter().next()?;
                match body {
                    Value::Object(body) => return Some((tag, body)),
                    Value::Null => return Some((tag, Map::new())),
                    other => {
                        let message =
                            format!("expected the keys of the task, found {}", typed::describe(&other));
                        let mut problem = Problem::new(path.key(&*tag), message);
                        problem.hint(format!("write `{tag}: {{name: ...}}`"));
                        self.file.problems.push(problem);
                        return None;
                    }
                }
            }
            Value::Object(task) => {
                let kind = task.keys().find(|key| self.registry.get(key).is_some());
                let hint = match kind {
                    Some(kind) => format!("indent the keys of the task below `{kind}:`"),
                    None => "a task is `- <kind>: {...}`".to_owned(),
                };
                ("a task has one key, its kind".to_owned(), hint)
            }
            Value::String(kind) => {
                (format!("expected a task, found `{kind}`"), format!("write `{kind}: {{}}`"))
            }
            other => {
                let message = format!("expected a task, found {}", typed::describe(&other));
                (message, "a task is `- <kind>: {...}`".to_owned())
            }
        };
        let mut problem = Problem::new(path.clone(), message);
        problem.hint(hint);
        self.file.problems.push(problem);
        None
    }

    fn kind(&mut self, tag: &str, path: &KeyPath) -> Option<&'static KindEntry> {
        let kind = self.registry.get(tag);
        if kind.is_none() {
            let mut problem = if planned::kinds().contains(&tag) {
                Problem::new(path.clone(), planned::message(format_args!("the kind `{tag}`")))
            } else {
                let mut problem = Problem::new(path.clone(), format!("unknown kind `{tag}`"));
                let known = self.registry.kinds().iter().map(|kind| kind.name);
                let hint = did_you_mean(tag, known.chain(planned::kinds().iter().copied()));
                problem.hint_opt(hint.or_else(|| Some("`flowgen list` shows all kinds".into())));
                problem
            };
            problem.focus(Focus::Key);
            self.file.problems.push(problem);
        }
        kind
    }

    /// Types the keys that every task has.
    fn common(
        &mut self,
        kind: &KindEntry,
        keys: Map<String, Value>,
        path: &KeyPath,
        draft: &mut Draft,
    ) -> Option<Policy> {
        let mut keys = keys;
        if let Some(value) = keys.get("on_error").filter(|value| planned::is_on_error(value)) {
            let mut problem = not_yet(path.key("on_error"), "on_error", value);
            problem.focus(Focus::Value);
            self.file.problems.push(problem);
            keys.remove("on_error");
        }
        // Even if another key cannot be typed, the name and the edges hold.
        draft.name = keys.get("name").and_then(Value::as_str).map(str::to_owned);
        draft.depends_on = match keys.get("depends_on") {
            Some(Value::String(name)) => Some(vec![name.clone()]),
            Some(Value::Array(names)) => {
                Some(names.iter().filter_map(Value::as_str).map(str::to_owned).collect())
            }
            _ => None,
        };
        let shape = Shape::of::<TaskKeys>();
        let mut value = Value::Object(keys);
        for unknown in typed::clean(&mut value, &shape, path, &self.file.substitutions) {
            self.file.problems.push(unknown.problem(elsewhere));
        }
        let keys: TaskKeys = match typed::deserialize(value, &shape, path) {
            Ok(keys) => keys,
            Err(problem) => {
                self.file.problems.push(*problem);
                return None;
            }
        };
        draft.depends_on = keys.depends_on.map(|names| match names {
            Names::One(name) => vec![name],
            Names::Several(names) => names,
        });
        if let Some(name) = &keys.name {
            self.check_name(name, path);
        }
        if keys.timeout.is_some() && kind.role != Role::Processor {
            let message = format!("`{}` is a {}: it has no `timeout`", kind.name, kind.role);
            let mut problem = Problem::new(path.key("timeout"), message);
            problem.focus(Focus::Key).hint("only processors wait for something; remove it");
            self.file.problems.push(problem);
        } else if keys.timeout.is_some_and(|timeout| timeout.is_zero()) {
            self.file.problems.push(Problem::new(path.key("timeout"), "must be longer than zero"));
        }
        let retry = keys.retry.over(self.retry);
        if keys.retry.max_attempts == Some(0) {
            let path = path.key("retry").key("max_attempts");
            self.file.problems.push(Problem::new(path, "must be at least 1"));
        }
        Some(Policy { retry, timeout: keys.timeout, on_error: keys.on_error.into() })
    }

    fn check_name(&mut self, name: &str, path: &KeyPath) {
        let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
        if name.is_empty() || !name.chars().all(is_allowed) {
            let message = format!("`{name}` is no name of a task");
            let mut problem = Problem::new(path.key("name"), message);
            problem.hint("lowercase letters, digits, `_` and `-`");
            self.file.problems.push(problem);
        }
    }

    /// Refuses a key that neither the kind nor all tasks have, unless it is planned and means nothing.
    fn unknown(&mut self, kind: &KindEntry, unknown: &Unknown) {
        if unknown.is_top {
            let verdict = planned::key(Place::Task, &unknown.key, &unknown.value)
                .or_else(|| planned::key(Place::Kind(kind.name), &unknown.key, &unknown.value));
            match verdict {
                Some(Verdict::Neutral) => return,
                Some(Verdict::NotYet) => {
                    self.file.problems.push(not_yet(unknown.path.clone(), &unknown.key, &unknown.value));
                    return;
                }
                None => {}
            }
        }
        let mut known = unknown.known.clone();
        if unknown.is_top {
            known.extend(TASK_KEYS.into_iter().chain(planned::keys(Place::Task)).map(str::to_owned));
        }
        let unknown = Unknown {
            path: unknown.path.clone(),
            key: unknown.key.clone(),
            value: Value::Null,
            known,
            is_top: unknown.is_top,
        };
        self.file.problems.push(unknown.problem(elsewhere));
    }

    fn prepare(
        &mut self,
        kind: &KindEntry,
        own: Value,
        shape: &Shape,
        path: &KeyPath,
    ) -> Option<Box<dyn Prepared>> {
        let mut problems = Problems::below(path.clone());
        match kind.prepare(own.clone(), &mut problems) {
            Ok(prepared) => {
                self.file.problems.append(&mut problems.into_vec());
                Some(prepared)
            }
            Err(error) => {
                self.file.problems.push(typed::mistake(&error, &own, shape, path));
                None
            }
        }
    }
}
