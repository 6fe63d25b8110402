//! One task: its kind, the keys that every task has, and those of its kind.

use serde_json::{Map, Value};

use super::{
    File,
    graph::Draft,
    keys::{Names, TASK_KEYS, TaskKeys, TaskTelemetryKeys, elsewhere},
    planned::{self, Place, Verdict},
    schema::Shape,
    typed::{self, Unknown},
    worker::Settings,
};
use crate::{
    plan::Policy,
    problem::{Focus, KeyPath, Problem, Problems, did_you_mean},
    registry::{KindEntry, Prepared, Registry},
    task::Role,
    telemetry::check_rate,
};

/// What a node is made of, besides its name and its edges.
pub(super) struct Part {
    pub(super) kind: &'static KindEntry,
    pub(super) prepared: Box<dyn Prepared>,
    pub(super) common: Common,
}

/// What the keys amount to that every task has, besides its name and its edges.
pub(super) struct Common {
    pub(super) policy: Policy,
    pub(super) sample_rate: Option<f64>,
}

/// Builds one task.
pub(super) struct TaskBuilder<'a> {
    pub(super) file: &'a mut File,
    pub(super) registry: Registry,
    pub(super) settings: &'a Settings,
}

impl TaskBuilder<'_> {
    /// Types one task. It stands in the graph even if that fails.
    pub(super) fn build(mut self, value: Value, path: &KeyPath) -> (Draft, Option<Part>) {
        let before = self.file.problems.len();
        let mut draft = Draft {
            name: None,
            is_name_certain: false,
            kind: String::new(),
            role: None,
            depends_on: None,
            target_keys: &[],
            targets: vec![],
            is_typed: false,
            needs_stdin: false,
            path: path.clone(),
        };
        let Some((tag, body)) = self.split_tag(value, path) else { return (draft, None) };
        let path = path.key(&*tag);
        draft.kind = tag;
        draft.path = path.clone();
        // Whatever is wrong with a task, its name still stands for it in the graph.
        draft.name = body.get("name").and_then(Value::as_str).map(str::to_owned);
        let name_path = path.key("name");
        let is_resolved = !self.file.unresolved.contains(&name_path);
        draft.is_name_certain = is_resolved && draft.name.as_deref().is_some_and(is_name);
        let Some(kind) = self.kind(&draft.kind, &path) else { return (draft, None) };
        draft.is_name_certain |= body.get("name").is_none_or(Value::is_null);
        draft.role = Some(kind.role);
        draft.target_keys = kind.target_keys;
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
        let common = self.common(kind, common, &path, &mut draft);
        let mut own = Value::Object(own);
        let unknown = typed::clean(&mut own, &own_shape, &path, &self.file.substitutions);
        unknown.iter().for_each(|unknown| self.unknown(kind, unknown));
        let is_clean = self.file.problems.len() == before;
        let raw_targets = Draft::targets_in(kind.target_keys, &own);
        let prepared = self.prepare(kind, own, &own_shape, &path, &unknown);
        draft.targets = match &prepared {
            Some(prepared) => prepared.targets(),
            None => raw_targets,
        };
        let needs = prepared.as_ref().map(|prepared| prepared.needs()).unwrap_or_default();
        draft.needs_stdin = needs.stdin;
        if let Some(key) = needs.resources.filter(|_| !self.settings.has_resources) {
            let mut problems = Problems::below(path.clone());
            problems
                .report(key, "`resources.path` is not set")
                .hint("add `resources: {path: ...}` at the top of the file: the directory of such files");
            self.file.problems.append(&mut problems.into_vec());
        }
        draft.is_typed = prepared.is_some() && common.is_some() && unknown.is_empty();
        let is_misspelt = |key: &Unknown| key.is_top && did_you_mean(&key.key, ["name"]).is_some();
        draft.is_name_certain &= draft.name.is_some() || !unknown.iter().any(is_misspelt);
        let parts = prepared.zip(common).filter(|_| is_clean);
        (draft, parts.map(|(prepared, common)| Part { kind, prepared, common }))
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
                        let path = path.key(&*tag);
                        let found = self.file.describe(&other, &path);
                        let message = format!("expected the keys of the task, found {found}");
                        let mut problem = Problem::new(path, message);
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
                let found = self.file.describe(&Value::String(kind), path);
                let hint = format!("write `{}: {{}}`", found.trim_matches('`'));
                (format!("expected a task, found {found}"), hint)
            }
            other => {
                let message = format!("expected a task, found {}", self.file.describe(&other, path));
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
    ) -> Option<Common> {
        let mut keys = keys;
        if let Some(value) = keys.get("on_error").filter(|value| planned::is_on_error(value)) {
            let mut problem = planned::refusal(self.file, path.key("on_error"), "on_error", value);
            problem.focus(Focus::Value);
            if value.is_object() {
                problem.message = planned::message("`on_error: {route: ...}`");
            }
            self.file.problems.push(problem);
            keys.remove("on_error");
        }
        // Even if another key cannot be typed, the edges hold.
        draft.depends_on = match keys.get("depends_on") {
            Some(Value::String(name)) => Some(Names::One(name.clone())),
            Some(Value::Array(names)) => {
                let names = names.iter().filter_map(Value::as_str);
                Some(Names::Several(names.map(str::to_owned).collect()))
            }
            _ => None,
        };
        let shape = Shape::of::<TaskKeys>();
        let mut value = Value::Object(keys);
        for unknown in typed::clean(&mut value, &shape, path, &self.file.substitutions) {
            self.file.problems.push(unknown.problem(elsewhere));
        }
        let keys: TaskKeys = match typed::deserialize(value, &shape, path, &self.file.substitutions) {
            Ok(keys) => keys,
            Err(problem) => {
                self.file.problems.push(*problem);
                return None;
            }
        };
        draft.depends_on = keys.depends_on;
        if let Some(name) = &keys.name {
            self.check_name(name, path);
        }
        if keys.timeout.is_some() && (kind.role != Role::Processor || kind.is_patient) {
            let (message, hint) = if kind.is_patient {
                (format!("`{}` has no `timeout`", kind.name), "waiting is what it is for; remove it")
            } else {
                let message = format!("`{}` is a {}: it has no `timeout`", kind.name, kind.role);
                (message, "only processors wait for something; remove it")
            };
            let mut problem = Problem::new(path.key("timeout"), message);
            problem.focus(Focus::Key).hint(hint);
            self.file.problems.push(problem);
        } else if keys.timeout.is_some_and(|timeout| timeout.is_zero()) {
            self.file.problems.push(Problem::new(path.key("timeout"), "must be longer than zero"));
        }
        let sample_rate = self.sample_rate(kind, keys.telemetry, path);
        let given = keys.retry.unwrap_or_default();
        let retry = given.over(self.settings.retry);
        let mut problems = Problems::below(path.key("retry"));
        given.check(self.settings.retry, &mut problems);
        self.file.problems.append(&mut problems.into_vec());
        let policy = Policy { retry, timeout: keys.timeout, on_error: keys.on_error.into() };
        Some(Common { policy, sample_rate })
    }

    /// Checks what a task says of its traces, which begin at sources.
    fn sample_rate(
        &mut self,
        kind: &KindEntry,
        keys: Option<TaskTelemetryKeys>,
        path: &KeyPath,
    ) -> Option<f64> {
        let TaskTelemetryKeys { sample_rate } = keys?;
        let mut problems = Problems::below(path.key("telemetry"));
        if kind.role != Role::Source {
            let message = format!("`{}` is a {}: it has no `telemetry`", kind.name, kind.role);
            problems
                .report("", message)
                .focus(Focus::Key)
                .hint("a trace is sampled where it begins, at its source; remove it");
        } else if let Some(rate) = sample_rate {
            check_rate("sample_rate", rate, &mut problems);
        }
        self.file.problems.append(&mut problems.into_vec());
        sample_rate
    }

    fn check_name(&mut self, name: &str, path: &KeyPath) {
        if !is_name(name) {
            let message = format!("`{name}` is no name of a task");
            let mut problem = Problem::new(path.key("name"), message);
            problem.hint("lowercase letters, digits, `_` and `-`");
            self.file.problems.push(problem);
        }
    }

    /// Refuses a key that neither the kind nor all tasks have, unless it is planned and means nothing.
    fn unknown(&mut self, kind: &KindEntry, unknown: &Unknown) {
        if unknown.is_top {
            let mut value = unknown.value.clone();
            typed::settle(&mut value, &unknown.path, &self.file.substitutions);
            let verdict = planned::key(Place::Task, &unknown.key, &value)
                .or_else(|| planned::key(Place::Kind(kind.name), &unknown.key, &value));
            match verdict {
                Some(Verdict::Neutral) => return,
                Some(Verdict::NotYet) => {
                    let problem = planned::refusal(self.file, unknown.path.clone(), &unknown.key, &value);
                    self.file.problems.push(problem);
                    return;
                }
                None => {}
            }
        }
        let mut known = unknown.known.clone();
        if unknown.is_top {
            known.extend(TASK_KEYS.map(str::to_owned));
        }
        let unknown = Unknown {
            path: unknown.path.clone(),
            key: unknown.key.clone(),
            value: Value::Null,
            known,
            planned: planned::keys(Place::Task).filter(|_| unknown.is_top).collect(),
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
        unknown: &[Unknown],
    ) -> Option<Box<dyn Prepared>> {
        if let Some(problem) = typed::misplaced_list(&own, shape, path) {
            self.file.problems.push(problem);
            return None;
        }
        let mut problems = Problems::below(path.clone());
        match kind.prepare(own.clone(), &mut problems) {
            Ok(prepared) => {
                self.file.problems.append(&mut problems.into_vec());
                Some(prepared)
            }
            Err(error) => {
                let problem = typed::mistake(&error, &own, shape, path, &self.file.substitutions);
                if !typed::explains(unknown, &problem) {
                    self.file.problems.push(problem);
                }
                None
            }
        }
    }
}

fn is_name(name: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    !name.is_empty() && name.chars().all(is_allowed)
}
