//! One task: its kind, the keys that every task has, and those of its kind.

mod common;

use serde_json::{Map, Value};

pub(super) use self::common::{Common, check_number};
use super::{
    File,
    graph::Draft,
    keys::{TASK_KEYS, elsewhere},
    planned::{self, Place, Verdict},
    schema::Shape,
    typed::{self, Unknown},
    worker::Settings,
};
use crate::{
    problem::{Focus, KeyPath, Problem, Problems, did_you_mean},
    registry::{KindEntry, Prepared, Registry},
};

/// What a node is made of, besides its name and its edges.
pub(super) struct Part {
    pub(super) kind: &'static KindEntry,
    pub(super) prepared: Box<dyn Prepared>,
    pub(super) common: Common,
    /// The file of `resources.path` that it is made of.
    pub(super) resource: Option<String>,
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
            route: None,
            is_route_certain: true,
            is_typed: false,
            needs: Default::default(),
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
        let keys = own.clone();
        let prepared = self.prepare(kind, own, &own_shape, &path, &unknown);
        draft.targets = match &prepared {
            Some(prepared) => prepared.targets(),
            None => raw_targets,
        };
        let needs = prepared.as_ref().map(|prepared| prepared.needs()).unwrap_or_default();
        if let Some(key) = needs.resources.filter(|_| !self.settings.has_resources) {
            let mut problems = Problems::below(path.clone());
            problems
                .report(key, "`resources.path` is not set")
                .hint("add `resources: {path: ...}` at the top of the file: the directory of such files");
            self.file.problems.append(&mut problems.into_vec());
        }
        let resource = needs.resources.and_then(|key| resource(&keys, key));
        draft.needs = needs;
        draft.is_typed = prepared.is_some() && common.is_some() && unknown.is_empty();
        let is_misspelt = |key: &Unknown| key.is_top && did_you_mean(&key.key, ["name"]).is_some();
        draft.is_name_certain &= draft.name.is_some() || !unknown.iter().any(is_misspelt);
        let is_route = |key: &Unknown| key.is_top && did_you_mean(&key.key, ["on_error"]).is_some();
        draft.is_route_certain &= !unknown.iter().any(is_route);
        let parts = prepared.zip(common).filter(|_| is_clean);
        (draft, parts.map(|(prepared, common)| Part { kind, prepared, common, resource }))
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
        let mut problem = unknown.problem(elsewhere);
        if problem.hint.is_none() {
            problem.hint(format!("`flowgen list {}` shows the keys of the kind", kind.name));
        }
        self.file.problems.push(problem);
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

/// Returns the file that a key names as `{resource: <path>}`. A key that reads files while the task works names none.
fn resource(own: &Value, key: &str) -> Option<String> {
    let named = key.strip_suffix("resource").is_some_and(|above| above.is_empty() || above.ends_with('.'));
    let value = key.split('.').try_fold(own, |value, key| value.get(key)).filter(|_| named)?;
    value.as_str().map(str::to_owned)
}

fn is_name(name: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    !name.is_empty() && name.chars().all(is_allowed)
}
