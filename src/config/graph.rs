//! Who feeds whom: names to indices, and everything that makes no graph of it.

use std::collections::HashMap;

use serde_json::Value;

use super::keys::Names;
use crate::{
    problem::{Focus, KeyPath, Problem, Problems, did_you_mean},
    task::{Needs, Role, Target},
};

/// A task as far as the graph is concerned.
#[derive(Debug)]
pub(super) struct Draft {
    /// Its name, if it has one.
    pub(super) name: Option<String>,
    /// Whether that name is what it was meant to be called.
    pub(super) is_name_certain: bool,
    /// Its kind as written.
    pub(super) kind: String,
    /// Its role, if its kind is known.
    pub(super) role: Option<Role>,
    /// The names in `depends_on`.
    pub(super) depends_on: Option<Names>,
    /// The keys that name its targets, if its kind has such.
    pub(super) target_keys: &'static [&'static str],
    /// The tasks that its configuration names, as far as they are known.
    pub(super) targets: Vec<Target>,
    /// The task that `on_error` names, if it names one.
    pub(super) route: Option<Target>,
    /// Whether that is what was meant to be named.
    pub(super) is_route_certain: bool,
    /// Whether nothing in it is unknown or of the wrong type.
    pub(super) is_typed: bool,
    /// What it needs of its worker.
    pub(super) needs: Needs,
    /// The path of its kind's key.
    pub(super) path: KeyPath,
}

impl Draft {
    /// Returns whether the tasks that it names are all there are.
    fn has_all_targets(&self) -> bool {
        self.is_route_certain && (self.is_typed || (self.role.is_some() && self.target_keys.is_empty()))
    }

    fn sends_to_targets_only(&self) -> bool {
        !self.target_keys.is_empty()
    }

    /// Reads the targets of a configuration that could not be typed.
    pub(super) fn targets_in(keys: &[&str], config: &Value) -> Vec<Target> {
        let mut targets = Vec::new();
        for key in keys {
            let mut found = vec![(String::new(), config)];
            for part in key.split('.') {
                found = found.into_iter().flat_map(|(path, value)| below(&path, value, part)).collect();
            }
            let texts = found.into_iter().filter_map(|(path, value)| Some((path, value.as_str()?)));
            targets.extend(texts.map(|(path, task)| Target { task: task.to_owned(), path }));
        }
        targets
    }
}

/// Returns what `part` means below a value, each with its dotted path.
fn below<'a>(path: &str, value: &'a Value, part: &str) -> Vec<(String, &'a Value)> {
    let join = |step: &str| if path.is_empty() { step.to_owned() } else { format!("{path}.{step}") };
    match (part, value) {
        ("*", Value::Array(items)) => {
            items.iter().enumerate().map(|(n, item)| (join(&n.to_string()), item)).collect()
        }
        _ => value.get(part).map(|value| (join(part), value)).into_iter().collect(),
    }
}

/// The edges of one task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Links {
    /// The tasks that depend on it.
    pub(super) downstream: Vec<usize>,
    /// The tasks that its configuration names, in that order.
    pub(super) targets: Vec<usize>,
    /// The task that `on_error` names.
    pub(super) route: Option<usize>,
}

impl Links {
    fn names(&self, task: usize) -> bool {
        self.route == Some(task) || self.targets.contains(&task)
    }
}

/// Resolves the edges of a flow's tasks. The links are to be used only if no problem is reported.
pub(super) fn link(drafts: &[Draft], problems: &mut Problems) -> Vec<Links> {
    Graph::new(drafts, problems).link()
}

struct Graph<'a> {
    drafts: &'a [Draft],
    names: HashMap<&'a str, usize>,
    /// For each task, the tasks it gets events from.
    upstream: Vec<Vec<usize>>,
    links: Vec<Links>,
    /// The tasks that may have further targets.
    is_open: Vec<bool>,
    problems: &'a mut Problems,
}

impl<'a> Graph<'a> {
    fn new(drafts: &'a [Draft], problems: &'a mut Problems) -> Self {
        let names = drafts.iter().enumerate().rev();
        let names = names.filter_map(|(n, draft)| Some((draft.name.as_deref()?, n))).collect();
        let count = drafts.len();
        Self {
            drafts,
            names,
            upstream: vec![vec![]; count],
            links: vec![Links::default(); count],
            is_open: drafts.iter().map(|draft| !draft.has_all_targets()).collect(),
            problems,
        }
    }

    fn link(mut self) -> Vec<Links> {
        self.targets();
        self.explicit();
        // A target that is not known seems to follow the task before it: no cycle may come of that.
        if self.is_any_open() {
            self.cycles();
            self.implicit();
        } else {
            self.implicit();
            self.cycles();
        }
        self.starts();
        self.links
    }

    fn is_any_open(&self) -> bool {
        self.is_open.contains(&true)
    }

    fn targets(&mut self) {
        for (n, draft) in self.drafts.iter().enumerate() {
            for target in &draft.targets {
                let to = self.target(n, target);
                self.links[n].targets.extend(to);
            }
            if let Some(target) = &draft.route {
                self.links[n].route = self.target(n, target);
            }
        }
    }

    /// Leads an edge from the task `n` to one that it names.
    fn target(&mut self, n: usize, target: &Target) -> Option<usize> {
        let path = target.path.split('.').filter(|part| !part.is_empty());
        let path = path.fold(self.drafts[n].path.clone(), |path, part| match part.parse() {
            Ok(index) => path.index(index),
            Err(_) => path.key(part),
        });
        let mut to = self.resolve(n, &target.task, &path);
        if to.is_some_and(|to| self.drafts[to].role == Some(Role::Source)) {
            let message = format!("`{}` is a source: nothing can be sent to it", target.task);
            self.problems.push(Problem::new(path, message));
            to = None;
        }
        match to {
            Some(to) => self.connect(n, to),
            None => self.is_open[n] = true,
        }
        to
    }

    fn explicit(&mut self) {
        for (n, draft) in self.drafts.iter().enumerate() {
            let Some(given) = &draft.depends_on else { continue };
            let names = given.as_slice();
            let path = draft.path.key("depends_on");
            if draft.role == Some(Role::Source) && !names.is_empty() {
                let message = format!("`{}` is a source: it depends on no task", draft.kind);
                self.problems.push(Problem::new(path, message)).focus(Focus::Key).hint("remove `depends_on`");
                continue;
            }
            for (m, name) in names.iter().enumerate() {
                let path = given.path(&path, m);
                let Some(from) = self.resolve(n, name, &path) else { continue };
                if names[..m].contains(name) {
                    self.problems.push(Problem::new(path, format!("`{name}` is named twice")));
                    continue;
                }
                if !self.drafts[from].sends_to_targets_only() {
                    self.links[from].downstream.push(n);
                } else if !self.is_open[from] && !self.links[from].names(n) {
                    self.refuse_follower(from, n, path, Focus::Value);
                }
                self.connect(from, n);
            }
        }
    }

    /// Reports a task that waits for events from one that sends it none.
    fn refuse_follower(&mut self, from: usize, to: usize, path: KeyPath, focus: Focus) {
        let from = &self.drafts[from];
        let keys: Vec<_> = from
            .target_keys
            .iter()
            .map(|key| format!("`{}`", key.split('.').next().unwrap_or(key)))
            .collect();
        let message = format!("`{}` sends only to the tasks it names", from.kind);
        let hint = format!("name `{}` in {}", self.name(to), keys.join(" or "));
        self.problems.push(Problem::new(path, message)).focus(focus).hint(hint);
    }

    /// Lets the tasks that neither name nor are named follow the task before them.
    fn implicit(&mut self) {
        let is_target: Vec<bool> =
            (0..self.drafts.len()).map(|n| self.links.iter().any(|links| links.names(n))).collect();
        for (n, draft) in self.drafts.iter().enumerate().skip(1) {
            if draft.role == Some(Role::Source) || draft.depends_on.is_some() || is_target[n] {
                continue;
            }
            if !self.drafts[n - 1].sends_to_targets_only() {
                self.links[n - 1].downstream.push(n);
            } else if draft.is_typed && !self.is_any_open() {
                self.refuse_follower(n - 1, n, draft.path.clone(), Focus::Key);
            }
            self.connect(n - 1, n);
        }
        for links in &mut self.links {
            links.downstream.sort_unstable();
        }
    }

    /// Reports tasks that no event can reach.
    fn starts(&mut self) {
        for (n, draft) in self.drafts.iter().enumerate() {
            let is_told = draft.depends_on.as_ref().is_some_and(|names| !names.as_slice().is_empty());
            let Some(role) = draft.role.filter(|role| *role != Role::Source) else { continue };
            if is_told || !self.upstream[n].is_empty() || (n > 0 && self.is_any_open()) {
                continue;
            }
            let name = self.name(n);
            let role = role.to_string();
            let (message, hint) = if n == 0 {
                let article = if role.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
                (
                    format!("the first task must be a source; `{}` is {article} {role}", draft.kind),
                    "start with a source such as `generate`, `file` or `stdin`",
                )
            } else {
                (format!("nothing feeds the task `{name}`"), "name the tasks before it in `depends_on`")
            };
            self.problems.push(Problem::new(draft.path.clone(), message)).focus(Focus::Key).hint(hint);
        }
    }

    fn cycles(&mut self) {
        let mut state = vec![Visit::New; self.drafts.len()];
        for n in 0..self.drafts.len() {
            let mut trail = Vec::new();
            self.visit(n, &mut state, &mut trail);
        }
    }

    fn visit(&mut self, n: usize, state: &mut [Visit], trail: &mut Vec<usize>) {
        match state[n] {
            Visit::Done => return,
            Visit::Open => {
                let from = trail.iter().position(|on| *on == n).unwrap_or(0);
                // The trail runs upstream; events run the other way.
                let mut cycle: Vec<_> = trail[from..].iter().rev().copied().collect();
                let first = cycle.iter().position(|on| on == cycle.iter().min().unwrap_or(on)).unwrap_or(0);
                cycle.rotate_left(first);
                cycle.push(cycle[0]);
                let names: Vec<_> = cycle.iter().map(|on| self.name(*on)).collect();
                let path = self.drafts[cycle[0]].path.clone();
                let message = format!("the tasks form a cycle: {}", names.join(" → "));
                self.problems.push(Problem::new(path, message)).focus(Focus::Key);
                return;
            }
            Visit::New => {}
        }
        state[n] = Visit::Open;
        trail.push(n);
        for from in self.upstream[n].clone() {
            self.visit(from, state, trail);
        }
        trail.pop();
        state[n] = Visit::Done;
    }

    fn name(&self, n: usize) -> &str {
        self.drafts[n].name.as_deref().unwrap_or(&self.drafts[n].kind)
    }

    /// Finds the task that `name` means at `path` in the task `at`.
    fn resolve(&mut self, at: usize, name: &str, path: &KeyPath) -> Option<usize> {
        match self.names.get(name) {
            Some(n) if *n == at => {
                self.problems.push(Problem::new(path.clone(), format!("the task `{name}` names itself")));
                None
            }
            Some(n) => Some(*n),
            // One of the tasks may be meant to be called that.
            None if self.drafts.iter().any(|draft| !draft.is_name_certain) => None,
            None => {
                let hint = did_you_mean(name, self.names.keys().copied()).or_else(|| {
                    let mut names: Vec<_> = self.drafts.iter().filter_map(|d| d.name.as_deref()).collect();
                    names.truncate(12);
                    Some(format!(
                        "the tasks are {}",
                        names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
                    ))
                });
                self.problems
                    .push(Problem::new(path.clone(), format!("there is no task `{name}`")))
                    .hint_opt(hint);
                None
            }
        }
    }

    fn connect(&mut self, from: usize, to: usize) {
        self.upstream[to].push(from);
    }
}

#[derive(Clone, Copy)]
enum Visit {
    New,
    Open,
    Done,
}

#[cfg(test)]
mod tests;
