//! The registry of task kinds, which knows no kind: object-safe forms of what each says of itself.

use std::fmt;

use async_trait::async_trait;
use schemars::Schema;
use serde_json::Value;

use crate::{
    problem::Problems,
    task::{BuildContext, BuildError, Kind, Needs, Role, Target, Task, http::Operation},
    telemetry::SpanKind,
};

/// A kind whose configuration was typed and checked.
#[async_trait]
pub trait Prepared: Send + Sync {
    /// Returns the downstream tasks that the configuration names.
    fn targets(&self) -> Vec<Target>;

    /// Returns what the task needs of its worker.
    fn needs(&self) -> Needs {
        Needs::default()
    }

    /// Returns what the task offers to those who call it over HTTP, if it does.
    fn operation(&self) -> Option<Operation> {
        None
    }

    /// Returns the JSON Schema that the task demands of the data of every event, if that is known.
    fn demands(&self) -> Option<&Value> {
        None
    }

    /// Builds a task.
    ///
    /// # Errors
    /// What cannot be had.
    async fn build(&self, context: &BuildContext) -> Result<Task, BuildError>;
}

/// Types a configuration. The error is the deserializer's, with the path of the key.
type Prepare = fn(Value) -> Result<Box<dyn Checkable>, serde_path_to_error::Error<serde_json::Error>>;

/// A typed configuration that still has to be checked.
trait Checkable: Send + Sync {
    fn check(&self, problems: &mut Problems);
    fn into_prepared(self: Box<Self>) -> Box<dyn Prepared>;
}

/// A kind of task as the registry holds it.
#[derive(Clone, Copy)]
pub struct KindEntry {
    /// The YAML tag and `task_type`.
    pub name: &'static str,
    /// Its role.
    pub role: Role,
    /// One line for `flowgen list`.
    pub summary: &'static str,
    /// Every `error.type` that its tasks can report.
    pub error_types: &'static [&'static str],
    /// The keys that name downstream tasks; see [`Kind::TARGET_KEYS`].
    pub target_keys: &'static [&'static str],
    /// How the spans of its events relate to what is outside.
    pub span_kind: SpanKind,
    /// Whether there can be only one of it, which handles one event at a time; see [`Kind::IS_SERIAL`].
    pub is_serial: bool,
    /// Whether it may take any time over an event; see [`Kind::IS_PATIENT`].
    pub is_patient: bool,
    /// The source text of its file, whose module doc holds a minimal flow.
    module: &'static str,
    schema: fn(&mut schemars::SchemaGenerator) -> Schema,
    prepare: Prepare,
}

impl KindEntry {
    /// Makes the entry of kind `K`, whose file has the text `module`.
    pub const fn of<K: Kind>(module: &'static str) -> Self {
        Self {
            name: K::NAME,
            role: K::ROLE,
            summary: K::SUMMARY,
            error_types: K::ERROR_TYPES,
            target_keys: K::TARGET_KEYS,
            span_kind: K::SPAN_KIND,
            is_serial: K::IS_SERIAL,
            is_patient: K::IS_PATIENT,
            module,
            schema: |generator| generator.subschema_for::<K::Config>(),
            prepare: |value| {
                let config: K::Config = serde_path_to_error::deserialize(value)?;
                Ok(Box::new(Typed::<K>(config)))
            },
        }
    }

    /// Returns the JSON Schema of the kind's own keys.
    pub fn schema(&self, generator: &mut schemars::SchemaGenerator) -> Schema {
        (self.schema)(generator)
    }

    /// Types and checks a configuration. What is wrong with its types is the error; what its values
    /// get wrong is added to `problems`.
    ///
    /// # Errors
    /// The first key that cannot be typed.
    pub fn prepare(
        &self,
        value: Value,
        problems: &mut Problems,
    ) -> Result<Box<dyn Prepared>, serde_path_to_error::Error<serde_json::Error>> {
        let typed = (self.prepare)(value)?;
        typed.check(problems);
        Ok(typed.into_prepared())
    }

    /// Returns what the kind's module doc says about its spans; empty if it says nothing.
    pub fn telemetry(&self) -> String {
        let lines = self.module.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim);
        let paragraph =
            lines.skip_while(|line| !line.starts_with("Telemetry: ")).take_while(|line| !line.is_empty());
        paragraph.collect::<Vec<_>>().join(" ").trim_start_matches("Telemetry: ").to_owned()
    }

    /// Returns the minimal flow of the kind's module doc: its first `yaml` block.
    pub fn example(&self) -> String {
        self.module
            .lines()
            .map_while(|line| line.strip_prefix("//!"))
            .map(|line| line.strip_prefix(' ').unwrap_or(line))
            .skip_while(|line| *line != "```yaml")
            .skip(1)
            .take_while(|line| *line != "```")
            .fold(String::new(), |text, line| text + line + "\n")
    }
}

impl fmt::Debug for KindEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KindEntry({})", self.name)
    }
}

struct Typed<K: Kind>(K::Config);

impl<K: Kind> Checkable for Typed<K> {
    fn check(&self, problems: &mut Problems) {
        K::check(&self.0, problems);
    }

    fn into_prepared(self: Box<Self>) -> Box<dyn Prepared> {
        self
    }
}

#[async_trait]
impl<K: Kind> Prepared for Typed<K> {
    fn targets(&self) -> Vec<Target> {
        K::targets(&self.0)
    }

    fn needs(&self) -> Needs {
        K::needs(&self.0)
    }

    fn operation(&self) -> Option<Operation> {
        K::operation(&self.0)
    }

    fn demands(&self) -> Option<&Value> {
        K::demands(&self.0)
    }

    async fn build(&self, context: &BuildContext) -> Result<Task, BuildError> {
        K::build(&self.0, context).await
    }
}

/// The kinds that a worker knows.
#[derive(Clone, Copy, Debug)]
pub struct Registry(pub &'static [KindEntry]);

impl Registry {
    /// Returns all kinds, in the order of the registry.
    pub fn kinds(self) -> &'static [KindEntry] {
        self.0
    }

    /// Returns the kind of this name.
    pub fn get(self, name: &str) -> Option<&'static KindEntry> {
        self.0.iter().find(|kind| kind.name == name)
    }
}
