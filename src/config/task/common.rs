//! What the keys amount to that every task has, besides its name and its edges.

use std::{sync::Arc, time::Duration};

use serde_json::{Map, Value};

use super::{TaskBuilder, is_name};
use crate::{
    config::{
        graph::Draft,
        keys::{
            MOST_CONCURRENCY, MOST_PARALLELISM, Names, OnErrorKey, TASK_KEYS, TaskKeys, TaskTelemetryKeys,
            elsewhere, is_of_task,
        },
        schema::Shape,
        typed,
    },
    plan::{Concurrency, Order, Policy},
    problem::{Focus, KeyPath, Problems},
    registry::KindEntry,
    retry::RetryPolicy,
    script::Condition,
    task::{Role, Target},
    telemetry::check_rate,
    template::Template,
};

/// What those keys amount to.
pub(in crate::config) struct Common {
    retry: RetryPolicy,
    timeout: Option<Duration>,
    on_error: OnErrorKey,
    pub(in crate::config) when: Option<Arc<Condition>>,
    pub(in crate::config) concurrency: Concurrency,
    pub(in crate::config) parallelism: usize,
    pub(in crate::config) sample_rate: Option<f64>,
}

impl Common {
    /// Returns what to do when handling fails, if the task that `on_error` names is that of the index `route`.
    pub(in crate::config) fn policy(&self, route: Option<usize>) -> Option<Policy> {
        let Self { retry, timeout, .. } = *self;
        Some(Policy { retry, timeout, on_error: self.on_error.resolved(route)? })
    }
}

impl TaskBuilder<'_> {
    /// Types the keys that every task has.
    pub(super) fn common(
        &mut self,
        kind: &KindEntry,
        keys: Map<String, Value>,
        path: &KeyPath,
        draft: &mut Draft,
    ) -> Option<Common> {
        // Even if another key cannot be typed, the edges hold.
        draft.depends_on = depends_on(&keys);
        let on_error = keys.get("on_error");
        draft.route = on_error.and_then(|on_error| on_error.get("route")?.as_str()).map(route);
        draft.is_route_certain = draft.route.is_some() || !on_error.is_some_and(Value::is_object);
        let shape = Shape::of::<TaskKeys>();
        let mut value = Value::Object(keys);
        let unknown = typed::clean(&mut value, &shape, path, &self.file.substitutions);
        let of_on_error = path.key("on_error");
        if unknown.iter().any(|unknown| unknown.path.0.starts_with(&of_on_error.0)) {
            value = without_rest(value);
        }
        self.file.problems.extend(unknown.iter().map(|unknown| unknown.problem(above)));
        let keys: TaskKeys = match typed::deserialize(value, &shape, path, &self.file.substitutions) {
            Ok(keys) => keys,
            Err(problem) => {
                self.file.problems.push(*problem);
                return None;
            }
        };
        draft.depends_on = keys.depends_on.clone();
        draft.route = keys.on_error.route().map(route);
        let mut problems = Problems::below(path.clone());
        let common = self.checked(kind, keys, &mut problems);
        self.file.problems.append(&mut problems.into_vec());
        Some(common)
    }

    /// Checks what the keys say.
    fn checked(&self, kind: &KindEntry, keys: TaskKeys, problems: &mut Problems) -> Common {
        if let Some(name) = keys.name.as_ref().filter(|name| !is_name(name)) {
            let problem = problems.report("name", format!("`{name}` is no name of a task"));
            problem.hint("lowercase letters, digits, `_` and `-`");
        }
        if keys.timeout.is_some() && kind.role != Role::Processor {
            refuse(kind, "timeout", "only processors wait for something; remove it", problems);
        } else if keys.timeout.is_some() && kind.is_patient {
            let problem = problems.report("timeout", format!("`{}` has no `timeout`", kind.name));
            problem.focus(Focus::Key).hint("waiting is what it is for; remove it");
        } else if keys.timeout.is_some_and(|timeout| timeout.is_zero()) {
            problems.report("timeout", "must be longer than zero");
        }
        if keys.on_error == OnErrorKey::DeadLetter && !self.settings.has_state {
            let problem = problems.report("on_error", "`on_error: dead_letter` needs `state`");
            problem.hint("add `state: {path: .flowgen}` at the top of the file: the directory that events are stored in");
        }
        let given = keys.retry.clone().unwrap_or_default();
        let mut of_retry = Problems::below(problems.base().key("retry"));
        given.check(self.settings.retry, &mut of_retry);
        problems.extend(of_retry);
        Common {
            retry: given.over(self.settings.retry),
            timeout: keys.timeout,
            when: keys.when.as_deref().and_then(|when| condition(kind, when, problems)),
            concurrency: concurrency(kind, &keys, problems),
            parallelism: parallelism(kind, keys.parallelism, problems),
            on_error: keys.on_error,
            sample_rate: sample_rate(kind, keys.telemetry, problems),
        }
    }
}

/// Reads the names in `depends_on`, typed or not.
fn depends_on(keys: &Map<String, Value>) -> Option<Names> {
    match keys.get("depends_on")? {
        Value::String(name) => Some(Names::One(name.clone())),
        Value::Array(names) => {
            let names = names.iter().filter_map(Value::as_str);
            Some(Names::Several(names.map(str::to_owned).collect()))
        }
        _ => None,
    }
}

/// Makes the edge to the task that `on_error` names.
fn route(task: &str) -> Target {
    Target { task: task.to_owned(), path: "on_error.route".to_owned() }
}

/// Says where a key stands that stands nowhere below a task's: rather beside that than further away.
fn above(key: &str) -> Option<String> {
    if TASK_KEYS.contains(&key) { Some(is_of_task(key)) } else { elsewhere(key) }
}

/// Removes what is left of `on_error` without its unknown keys, if that is nothing.
fn without_rest(mut keys: Value) -> Value {
    if let Some(keys) = keys.as_object_mut()
        && keys.get("on_error").and_then(Value::as_object).is_some_and(Map::is_empty)
    {
        keys.remove("on_error");
    }
    keys
}

/// Refuses a key that tasks of this role do not have.
fn refuse(kind: &KindEntry, key: &str, hint: impl Into<String>, problems: &mut Problems) {
    let message = format!("`{}` is a {}: it has no `{key}`", kind.name, kind.role);
    problems.report(key, message).focus(Focus::Key).hint(hint);
}

/// Refuses a key that makes several of what there can be only one of.
fn refuse_several(kind: &KindEntry, key: &str, problems: &mut Problems) {
    let message = format!("`{}` handles one event at a time", kind.name);
    let hint = format!("all events of the flow pass through it one after the other; remove `{key}`");
    problems.report(key, message).focus(Focus::Key).hint(hint);
}

/// Compiles `when`.
fn condition(kind: &KindEntry, text: &str, problems: &mut Problems) -> Option<Arc<Condition>> {
    if kind.role == Role::Source {
        refuse(kind, "when", "put a `filter` behind it, or `when` in the tasks that follow", problems);
        return None;
    }
    if let Some(key) = kind.target_keys.first() {
        let message = format!("`{}` sends only to the tasks it names: it has no `when`", kind.name);
        let hint = format!(
            "no event can pass it by unhandled; put the condition in `{}`",
            key.split('.').next().unwrap_or(key)
        );
        problems.report("when", message).focus(Focus::Key).hint(hint);
        return None;
    }
    match Condition::compile(text) {
        Ok(condition) => Some(Arc::new(condition)),
        Err(error) => {
            error.report("when", problems);
            None
        }
    }
}

/// Checks how many events a task handles at a time, and in which order. What means nothing is accepted anywhere.
fn concurrency(kind: &KindEntry, keys: &TaskKeys, problems: &mut Problems) -> Concurrency {
    let limit = keys.concurrency.unwrap_or(1);
    if limit > 1 && kind.role != Role::Processor {
        let hint = match kind.role {
            Role::Transform if !kind.is_serial => "`parallelism` lets a transform work on several threads",
            _ => "only processors wait for something; remove it",
        };
        refuse(kind, "concurrency", hint, problems);
    } else if limit > 1 && kind.is_serial {
        refuse_several(kind, "concurrency", problems);
    } else {
        let why = "each is an event in memory and an attempt under way";
        check_number("concurrency", limit, MOST_CONCURRENCY, why, problems);
    }
    let is_ordered = keys.ordered.unwrap_or(true);
    if !is_ordered && kind.role != Role::Processor {
        refuse(kind, "ordered", "its events keep their order at no cost; remove it", problems);
    }
    let order = match &keys.key {
        Some(key) => order_by(kind, keys, key, problems).unwrap_or_default(),
        None if is_ordered => Order::Kept,
        None => Order::Free,
    };
    Concurrency { limit, order }
}

/// Compiles `key`.
fn order_by(kind: &KindEntry, keys: &TaskKeys, key: &str, problems: &mut Problems) -> Option<Order> {
    if kind.role != Role::Processor {
        refuse(kind, "key", "its events keep their order, whatever their key; remove it", problems);
        return None;
    }
    if kind.is_serial {
        refuse_several(kind, "key", problems);
        return None;
    }
    if keys.ordered == Some(false) {
        let problem = problems.report("key", "`key` contradicts `ordered: false`");
        problem
            .focus(Focus::Key)
            .hint("`key` keeps the order of the events of one key; remove one of the two");
    }
    if keys.concurrency.unwrap_or(1) == 1 {
        let problem = problems.report("key", "`key` has no effect without `concurrency`");
        problem
            .focus(Focus::Key)
            .hint("all events keep their order where one is handled at a time: give `concurrency` above 1, or remove `key`");
    }
    match Template::compile(key) {
        Ok(template) if template.as_constant().is_some() => {
            let problem = problems.report("key", "`key` is the same for every event");
            problem.hint("name a part of the event, as in `{{ event.data.customer }}`");
            None
        }
        Ok(template) => Some(Order::ByKey(Arc::new(template))),
        Err(error) => {
            error.report("key", problems);
            None
        }
    }
}

/// Checks on how many threads at a time a task works.
fn parallelism(kind: &KindEntry, given: Option<usize>, problems: &mut Problems) -> usize {
    let threads = given.unwrap_or(1);
    if threads > 1 && kind.role != Role::Transform {
        let hint = match kind.role {
            Role::Processor if !kind.is_serial => {
                "`concurrency` lets a processor handle several events at a time"
            }
            _ => "only transforms work on several threads; remove it",
        };
        refuse(kind, "parallelism", hint, problems);
    } else if threads > 1 && kind.is_serial {
        refuse_several(kind, "parallelism", problems);
    } else {
        let why = "threads beyond those of the machine gain nothing";
        check_number("parallelism", threads, MOST_PARALLELISM, why, problems);
    }
    threads
}

/// Reports a number that is zero, or beyond `most` for the reason `why`.
pub(in crate::config) fn check_number(
    key: &str,
    number: usize,
    most: usize,
    why: &str,
    problems: &mut Problems,
) {
    if number == 0 {
        problems.report(key, "must be at least 1");
    } else if number > most {
        problems.report(key, format!("must be at most {most}: {why}"));
    }
}

/// Checks what a task says of its traces, which begin at sources.
fn sample_rate(kind: &KindEntry, keys: Option<TaskTelemetryKeys>, problems: &mut Problems) -> Option<f64> {
    let TaskTelemetryKeys { sample_rate } = keys?;
    if kind.role != Role::Source {
        let hint = "a trace is sampled where it begins, at its source; remove it";
        refuse(kind, "telemetry", hint, problems);
    } else if let Some(rate) = sample_rate {
        check_rate("telemetry.sample_rate", rate, problems);
    }
    sample_rate
}
