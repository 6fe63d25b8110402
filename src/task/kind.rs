//! What a task kind says of itself.

use std::{
    error::Error,
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    Cache, NoCache, Task,
    http::{HttpServer, Operation, Route},
};
use crate::{
    problem::Problems,
    telemetry::{Meter, Propagators, SpanKind},
};

/// The three roles a kind can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Brings events in; has no upstream.
    Source,
    /// CPU only.
    Transform,
    /// I/O.
    Processor,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Transform => "transform",
            Self::Processor => "processor",
        })
    }
}

/// A downstream task that a configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The name of the task.
    pub task: String,
    /// The dotted path of the key that names it, within the kind's configuration (`cases.0.to`).
    pub path: String,
}

/// What a task needs of its worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The standard input, which one task of a worker can have.
    pub stdin: bool,
    /// The dotted path of the key that reads files of `resources.path`, if one does.
    pub resources: Option<&'static str>,
    /// The files that it reads when it is built and never again, such as keys, as the configuration names them: when what
    /// they hold changes, so does the task.
    pub files: Vec<PathBuf>,
    /// The route of the HTTP server that it answers, which one task of a worker can have.
    pub route: Option<Route>,
    /// Whether its flow has to be durable.
    pub durable: Durability,
}

/// Whether the flow of a task has to be durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// It may be.
    #[default]
    Any,
    /// It has to be, for the value of this key.
    Required(&'static str),
    /// It must not be, for the value of this key.
    Refused(&'static str),
}

/// Gives tasks the files of the worker's `resources.path`.
pub trait Resources: Send + Sync {
    /// Reads the text of the resource at `path`, relative to the resources' directory.
    ///
    /// # Errors
    /// `NotFound`, or `InvalidInput` for a path that leaves the directory.
    fn read(&self, path: &str) -> io::Result<String>;
}

/// What a task is built from besides its configuration.
#[derive(Clone)]
pub struct BuildContext {
    /// The flow's name.
    pub flow: Arc<str>,
    /// The task's name.
    pub task: Arc<str>,
    /// The directory that relative paths start from: that of the file the flow stands in.
    pub base_dir: PathBuf,
    /// The worker's resources, if it has any.
    pub resources: Option<Arc<dyn Resources>>,
    /// Whether the worker has state that outlives it: what is acknowledged is then not to be lost with the machine either.
    pub has_state: bool,
    /// What the tasks of the worker remember together.
    pub cache: Arc<dyn Cache>,
    /// Counts what only the kind knows of, in instruments of the field's conventions.
    pub meter: Meter,
    /// What is handed to other processes of the trace of an event.
    pub propagators: Propagators,
    /// The worker's HTTP server, if it has one.
    pub http: Option<Arc<dyn HttpServer>>,
}

impl fmt::Debug for BuildContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BuildContext({}, {})", self.flow, self.task)
    }
}

impl BuildContext {
    /// Makes the context of a task of a worker that has no resources, remembers nothing and counts nothing.
    pub fn new(flow: impl Into<Arc<str>>, task: impl Into<Arc<str>>, base_dir: PathBuf) -> Self {
        Self {
            flow: flow.into(),
            task: task.into(),
            base_dir,
            resources: None,
            has_state: false,
            cache: Arc::new(NoCache),
            meter: Meter::default(),
            propagators: Propagators::default(),
            http: None,
        }
    }

    /// Resolves a path of the configuration.
    pub fn resolve(&self, path: impl AsRef<Path>) -> PathBuf {
        self.base_dir.join(path)
    }
}

/// Why a task could not be built. `Display` never includes the source's text.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct BuildError {
    message: String,
    #[source]
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl BuildError {
    /// Makes an error that says what could not be done.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), source: None }
    }

    /// Adds what caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

/// A kind of task. One file below `tasks/` and one line in the registry make one.
pub trait Kind: Send + Sync + 'static {
    /// The YAML tag, the file name and `task_type`.
    const NAME: &'static str;
    /// Its role.
    const ROLE: Role;
    /// One line for `flowgen list`.
    const SUMMARY: &'static str;
    /// Every `error.type` that its tasks can report.
    const ERROR_TYPES: &'static [&'static str];
    /// The keys that [`Self::targets`] reads, dotted, `*` for each item of a list. A kind that has any
    /// sends to the tasks it names and to no others.
    const TARGET_KEYS: &'static [&'static str] = &[];
    /// How the spans of its events relate to what is outside.
    const SPAN_KIND: SpanKind = SpanKind::Internal;
    /// Whether all events of a flow have to pass through the same task, one after the other: it has `concurrency`,
    /// `parallelism` and further instances only without this.
    const IS_SERIAL: bool = false;
    /// Whether it may take any time over an event: it waits for a time and not for something outside, so a processor of
    /// this kind has no `timeout`.
    const IS_PATIENT: bool = false;
    /// Its own keys in YAML. The doc comments of the fields are the help of `list` and `schema`.
    type Config: DeserializeOwned + JsonSchema + Send + Sync + 'static;

    /// Reports what is wrong with `config`, without any I/O. Paths are relative to the configuration.
    fn check(config: &Self::Config, problems: &mut Problems) {
        let _ = (config, problems);
    }

    /// Returns the downstream tasks that `config` names; an `Edge` is an index into them.
    fn targets(config: &Self::Config) -> Vec<Target> {
        let _ = config;
        Vec::new()
    }

    /// Returns what a task of `config` needs of its worker.
    fn needs(config: &Self::Config) -> Needs {
        let _ = config;
        Needs::default()
    }

    /// Returns what a task of `config` offers to those who call it over HTTP, if it does.
    fn operation(config: &Self::Config) -> Option<Operation> {
        let _ = config;
        None
    }

    /// Returns the JSON Schema that `config` demands of the data of every event, if that is known without any I/O.
    fn demands(config: &Self::Config) -> Option<&Value> {
        let _ = config;
        None
    }

    /// Builds a task. May be called again, to restart one.
    ///
    /// # Errors
    /// What cannot be had: a file, a port, a permission.
    fn build(
        config: &Self::Config,
        context: &BuildContext,
    ) -> impl Future<Output = Result<Task, BuildError>> + Send;
}
