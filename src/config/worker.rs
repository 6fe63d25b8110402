//! The settings that all flows share: found in any one of the files, overridden by variables.

mod health;
mod telemetry;

use std::time::Duration;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

pub(super) use self::health::{HEALTH, Health, HealthKeys};
use super::{
    File,
    environment::Environment,
    fingerprint::Fingerprint,
    footprint::{self, Block},
    keys::{CacheKeys, HttpServerKeys, Period, ResourcesKeys, RetryKeys, StateKeys, WORKER_KEYS, elsewhere},
    mask,
    overrides::{self, Override},
    planned::{self, Place},
    schema::Shape,
    typed::{self, Unknown},
};
use crate::{
    plan::{CacheLimits, Worker},
    problem::{Focus, KeyPath, Origin, Problem, Problems, Segment},
    retry::RetryPolicy,
    telemetry::LoggingConfig,
};

/// The longest that anybody waits for a worker to end; clocks overflow far beyond.
const MAX_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// The most events that a channel may hold; it is also far below what a channel can count.
pub(super) const MOST_CAPACITY: usize = 1_000_000;

/// The settings of the worker, with what flows fall back to.
#[derive(Debug, Default)]
pub(super) struct Settings {
    pub(super) worker: Worker,
    pub(super) retry: RetryPolicy,
    /// Whether there is a block `resources`, usable or not.
    pub(super) has_resources: bool,
    /// Whether there is a block `state`, usable or not.
    pub(super) has_state: bool,
    /// The blocks that stay what they are for as long as the worker lives.
    pub(super) blocks: footprint::Blocks,
}

/// The blocks that a worker can take over while it runs.
const ADAPTABLE: [&str; 3] = ["retry", "shutdown_timeout", "channel_capacity"];

/// Types the worker's blocks of all files.
pub(super) fn settings(
    files: &mut [File],
    overrides: &[Override],
    environment: &dyn Environment,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Problem>,
) -> Settings {
    refuse_unknown(files);
    let mut blocks = Blocks { files, overrides, problems, warnings, fixed: footprint::Blocks::new() };
    for key in planned::keys(Place::Worker) {
        blocks.planned(key);
    }
    let mut settings = Settings::default();
    (settings.worker.telemetry, settings.worker.trace_attributes) = blocks.telemetry(environment);
    settings.worker.logging = blocks.logging();
    settings.worker.health = blocks.health().filter(|health| health.is_enabled).map(|health| health.address);
    settings.retry = blocks.retry();
    settings.has_resources =
        blocks.files.iter().any(|file| file.tree.get("resources").is_some_and(|block| !block.is_null()));
    if let Some((resources, owner)) = blocks.take::<ResourcesKeys>("resources") {
        settings.worker.resources = Some(blocks.base_of(owner).join(resources.path));
    }
    if let Some((keys, owner)) = blocks.take::<HttpServerKeys>("http_server") {
        let mut problems = Problems::below(top("http_server"));
        settings.worker.http_server = keys.settings(&blocks.base_of(owner), &mut problems);
        for problem in problems.into_vec() {
            blocks.tell(Some(owner), problem);
        }
    }
    settings.has_state = blocks.find("state").is_some();
    settings.worker.cache = blocks.cache(settings.has_state);
    if let Some((state, owner)) = blocks.take::<StateKeys>("state") {
        if state.path.as_os_str().is_empty() {
            blocks.blame(Some(owner), top("state").key("path"), "the path is empty");
        }
        settings.worker.state = Some(blocks.base_of(owner).join(state.path));
    }
    if let Some((Period(timeout), owner)) = blocks.take("shutdown_timeout") {
        settings.worker.shutdown_timeout = timeout;
        if timeout == Duration::ZERO {
            blocks.blame(Some(owner), top("shutdown_timeout"), "must be longer than zero");
        }
        if timeout > MAX_SHUTDOWN_TIMEOUT {
            blocks.blame(Some(owner), top("shutdown_timeout"), "must not be longer than a day");
        }
    }
    if let Some((capacity, owner)) = blocks.take("channel_capacity") {
        settings.worker.channel_capacity = capacity;
        if capacity == 0 {
            blocks.blame(Some(owner), top("channel_capacity"), "must be at least 1");
        } else if capacity > MOST_CAPACITY {
            let message = format!("must be at most {MOST_CAPACITY}: what waits in a channel waits in memory");
            blocks.blame(Some(owner), top("channel_capacity"), &message);
        }
    }
    settings.blocks = blocks.fixed;
    settings
}

/// Types the block `health` of all files alone.
pub(super) fn health(
    files: &mut [File],
    overrides: &[Override],
    problems: &mut Vec<Problem>,
) -> Option<Health> {
    let mut warnings = Vec::new();
    Blocks { files, overrides, problems, warnings: &mut warnings, fixed: footprint::Blocks::new() }.health()
}

fn top(key: &str) -> KeyPath {
    KeyPath::default().key(key)
}

/// Refuses the keys at the top of the files that nothing is known of.
fn refuse_unknown(files: &mut [File]) {
    for file in files {
        let Value::Object(tree) = &file.tree else { continue };
        let planned: Vec<_> = planned::keys(Place::Worker).collect();
        let known: Vec<String> =
            ["flow", "flows"].into_iter().chain(WORKER_KEYS).map(str::to_owned).collect();
        for key in tree.keys().filter(|key| !known.contains(key) && !planned.contains(&key.as_str())) {
            let unknown = Unknown {
                path: top(key),
                key: key.clone(),
                value: Value::Null,
                known: known.clone(),
                planned: planned.clone(),
                is_top: true,
            };
            // Text that starts a line without being a key of ours may hold anchors: `x-` keys are free.
            if !key.starts_with("x-") {
                file.problems.push(unknown.problem(elsewhere));
            }
        }
    }
}

struct Blocks<'a> {
    files: &'a mut [File],
    overrides: &'a [Override],
    problems: &'a mut Vec<Problem>,
    warnings: &'a mut Vec<Problem>,
    /// Those that were found and stay what they are.
    fixed: footprint::Blocks,
}

impl Blocks<'_> {
    /// Finds the one definition of a block, with the file that it stands in, overrides applied.
    fn find(&mut self, key: &str) -> Option<(Value, Option<usize>)> {
        let mut found: Option<(Value, usize)> = None;
        for n in 0..self.files.len() {
            let Some(value) = self.files[n].tree.get(key).filter(|value| !value.is_null()) else { continue };
            match &found {
                None => found = Some((value.clone(), n)),
                Some((first, _)) if first == value => {}
                Some((_, first)) => {
                    let path = top(key);
                    let place = self.files[*first].source.position(&path, Focus::Key);
                    let mut problem = Problem::new(path, format!("a second, different `{key}`"));
                    problem.focus(Focus::Key).hint(format!("the worker has one; the first is at {place}"));
                    self.files[n].problems.push(problem);
                }
            }
        }
        let is_overridden =
            self.overrides.iter().any(|one| one.path.0.first() == Some(&Segment::Key(key.to_owned())));
        let (mut value, owner) = match found {
            Some((value, owner)) => (value, Some(owner)),
            None if is_overridden => (Value::Object(Map::new()), None),
            None => return None,
        };
        overrides::apply(key, &mut value, self.overrides);
        if !ADAPTABLE.contains(&key) {
            self.fix(key, &value, owner);
        }
        Some((value, owner))
    }

    /// Notes what a block is made of. Its paths start where its file is.
    fn fix(&mut self, key: &str, value: &Value, owner: Option<usize>) {
        let tree = Fingerprint::of_tree(value);
        let base = owner.map(|owner| self.base_of(owner)).unwrap_or_default();
        let fingerprint = Fingerprint::of_parts([tree.bytes(), base.as_os_str().as_encoded_bytes()]);
        self.fixed.insert(key.to_owned(), Block { fingerprint, owner });
    }

    /// Types a block.
    fn take<T: DeserializeOwned + JsonSchema>(&mut self, key: &str) -> Option<(T, usize)> {
        let (value, owner) = self.find(key)?;
        self.typed(key, value, owner).map(|typed| (typed, owner.unwrap_or(0)))
    }

    fn typed<T: DeserializeOwned + JsonSchema>(
        &mut self,
        key: &str,
        mut value: Value,
        owner: Option<usize>,
    ) -> Option<T> {
        let shape = Shape::of::<T>();
        let path = top(key);
        // What a variable puts in comes first: it is what stands there in the end.
        let mut substitutions: Vec<_> = self.overrides.iter().flat_map(Override::substitutions).collect();
        substitutions.extend(owner.iter().flat_map(|owner| self.files[*owner].substitutions.iter().cloned()));
        let unknown = typed::clean(&mut value, &shape, &path, &substitutions);
        for unknown in &unknown {
            self.tell(owner, unknown.problem(elsewhere));
        }
        match typed::deserialize(value, &shape, &path, &substitutions) {
            Ok(typed) => Some(typed),
            Err(problem) => {
                if !typed::explains(&unknown, &problem) {
                    self.tell(owner, *problem);
                }
                None
            }
        }
    }

    fn logging(&mut self) -> LoggingConfig {
        let Some((value, owner)) = self.find("logging") else { return LoggingConfig::default() };
        let Some(config) = self.typed::<LoggingConfig>("logging", value, owner) else {
            return LoggingConfig::default();
        };
        let mut problems = Problems::below(top("logging"));
        config.check(&mut problems);
        for problem in problems.into_vec() {
            self.tell(owner, problem);
        }
        config
    }

    fn retry(&mut self) -> RetryPolicy {
        let Some((keys, owner)) = self.take::<RetryKeys>("retry") else { return RetryPolicy::default() };
        let mut problems = Problems::below(top("retry"));
        keys.check(RetryPolicy::default(), &mut problems);
        for problem in problems.into_vec() {
            self.tell(Some(owner), problem);
        }
        keys.over(RetryPolicy::default())
    }

    fn cache(&mut self, has_state: bool) -> CacheLimits {
        let Some((mut value, owner)) = self.find("cache") else { return CacheLimits::default() };
        let place = top("cache").key("type");
        if let Some(given) = value.get("type").filter(|given| planned::is_cache_type(given)) {
            if let Some(owner) = owner {
                let mut problem = planned::refusal(&self.files[owner], place, "type", given);
                problem.focus(Focus::Value).hint("there are `memory` and `embedded`");
                self.tell(Some(owner), problem);
            }
            value["type"] = "memory".into();
        }
        let Some(keys) = self.typed::<CacheKeys>("cache", value, owner) else {
            return CacheLimits::default();
        };
        let mut problems = Problems::below(top("cache"));
        let limits = keys.limits(&mut problems);
        if limits.is_kept && !has_state {
            problems.report("type", "`type: embedded` needs `state`").hint(
                "add `state: {path: .flowgen}` at the top of the file: the directory that it is kept in",
            );
        }
        for problem in problems.into_vec() {
            self.tell(owner, problem);
        }
        limits
    }

    fn planned(&mut self, key: &str) {
        let Some((mut value, owner)) = self.find(key) else { return };
        if let Some(owner) = owner {
            typed::settle(&mut value, &top(key), &self.files[owner].substitutions);
        }
        if planned::key(Place::Worker, key, &value) == Some(planned::Verdict::NotYet) {
            let mut problem = Problem::new(top(key), planned::message(format_args!("`{key}`")));
            problem.focus(Focus::Key);
            self.tell(owner, problem);
        }
    }

    fn base_of(&self, owner: usize) -> std::path::PathBuf {
        self.files.get(owner).map(|file| file.source.base_dir()).unwrap_or_default()
    }

    fn blame(&mut self, owner: Option<usize>, path: KeyPath, message: &str) {
        self.tell(owner, Problem::new(path, message));
    }

    /// Adds a problem to the variable or the file that the value came from.
    fn tell(&mut self, owner: Option<usize>, mut problem: Problem) {
        let at = &problem.path.0;
        let cause = self.overrides.iter().find(|one| {
            let set = &one.path.0;
            at.starts_with(set) || (owner.is_none() && set.starts_with(at))
        });
        match (cause, owner) {
            (None, Some(owner)) => self.files[owner].problems.push(problem),
            (Some(cause), _) => {
                let substitutions = cause.substitutions();
                for text in [&mut problem.message].into_iter().chain(&mut problem.hint) {
                    *text = mask::mask(text, &cause.path, &substitutions);
                }
                // The rest of the path is of the variable's text.
                problem.path.0.truncate(cause.path.0.len());
                problem.origin = Some(Origin::Variable(cause.variable.clone()));
                self.problems.push(problem);
            }
            (None, None) => self.problems.push(problem),
        }
    }
}
