//! `validate`: lets events pass whose data conforms to a JSON Schema; any other fails.
//!
//! ```yaml
//! flow:
//!   name: check
//!   tasks:
//!     - generate:
//!         name: orders
//!         count: 3
//!         payload: {id: 7, total: 12.5}
//!     - validate:
//!         name: shape
//!         schema:
//!           type: object
//!           required: [id, total]
//!           properties:
//!             total: {type: number, minimum: 0}
//!     - drop:
//!         name: nowhere
//! ```
//!
//! The draft is the one that `$schema` names, else 2020-12. A `$ref` leads to a place in the schema itself; nothing is
//! ever fetched. Whatever the draft, a `format` is checked and one that is not known is a mistake, unless
//! `assert_formats` is false: then formats say nothing.
//!
//! The failure names the first keyword that is not met and where, and shows nothing of the data: of the keys on the way
//! only those that stand in the schema.

mod schema;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use self::schema::Schema;
use crate::{
    event::Event,
    problem::Problems,
    task::{BuildContext, BuildError, Kind, Needs, Output, Role, Task, TaskError, Transform},
};

/// `error.type` of an event whose data does not conform.
const SCHEMA: &str = "schema";

/// The `validate` kind.
pub(super) struct Validate(Schema);

/// What the data has to be like.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// The JSON Schema, or `{resource: <path>}` for the JSON file below `resources.path` that it is in.
    schema: Value,
    /// Whether `format` is checked; a format that is not known is a mistake then.
    #[serde(default = "yes")]
    assert_formats: bool,
}

fn yes() -> bool {
    true
}

impl Config {
    /// Returns the path of the file that the schema is in, if it is in one.
    fn resource(&self) -> Option<&str> {
        let keys = self.schema.as_object().filter(|keys| keys.len() == 1)?;
        keys.get("resource")?.as_str()
    }
}

impl Kind for Validate {
    const NAME: &'static str = "validate";
    const ROLE: Role = Role::Transform;
    const SUMMARY: &'static str = "lets events pass whose data conforms to a JSON Schema";
    const ERROR_TYPES: &'static [&'static str] = &[SCHEMA];
    type Config = Config;

    fn check(config: &Config, problems: &mut Problems) {
        match config.resource() {
            Some("") => {
                problems.report("schema.resource", "the path of the schema is empty");
            }
            Some(_) => {}
            None => {
                if let Err(error) = Schema::compile(&config.schema, config.assert_formats) {
                    error.report("schema", problems);
                }
            }
        }
    }

    fn needs(config: &Config) -> Needs {
        Needs { resources: config.resource().map(|_| "schema.resource"), ..Needs::default() }
    }

    fn demands(config: &Config) -> Option<&Value> {
        config.resource().is_none().then_some(&config.schema)
    }

    async fn build(config: &Config, context: &BuildContext) -> Result<Task, BuildError> {
        let schema = match config.resource() {
            None => Schema::compile(&config.schema, config.assert_formats)
                .map_err(|error| BuildError::new("cannot compile `schema`").with_source(error))?,
            Some(resource) => {
                let resources = context.resources.as_ref().ok_or_else(|| {
                    BuildError::new(format!("cannot read schema `{resource}` without `resources.path`"))
                })?;
                let text = resources.read(resource).map_err(|error| {
                    BuildError::new(format!("cannot read schema `{resource}`")).with_source(error)
                })?;
                let schema: Value = serde_json::from_str(&text).map_err(|error| {
                    BuildError::new(format!("schema `{resource}` is not JSON")).with_source(error)
                })?;
                Schema::compile(&schema, config.assert_formats).map_err(|error| {
                    BuildError::new(format!("cannot compile schema `{resource}`")).with_source(error)
                })?
            }
        };
        Ok(Task::Transform(Box::new(Self(schema))))
    }
}

impl Transform for Validate {
    fn apply(&mut self, event: &mut Event, output: &mut Output) -> Result<(), TaskError> {
        let Some(data) = event.data.json() else {
            return Err(TaskError::permanent(SCHEMA, "the data is raw bytes, not JSON"));
        };
        self.0.check(data).map_err(|mistake| TaskError::permanent(SCHEMA, mistake))?;
        output.forward();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
