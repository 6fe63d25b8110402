//! `drop`: counts events and discards them.
//!
//! ```yaml
//! flow:
//!   name: discard
//!   tasks:
//!     - generate:
//!         name: numbers
//!         count: 3
//!     - drop:
//!         name: nowhere
//! ```

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    event::Event,
    task::{BuildContext, BuildError, Kind, Output, Role, Task, TaskError, Transform},
};

/// The `drop` kind.
pub(super) struct Drop;

/// Has no keys of its own.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {}

impl Kind for Drop {
    const NAME: &'static str = "drop";
    const ROLE: Role = Role::Transform;
    const SUMMARY: &'static str = "counts events and discards them";
    const ERROR_TYPES: &'static [&'static str] = &[];
    type Config = Config;

    async fn build(_: &Config, _: &BuildContext) -> Result<Task, BuildError> {
        Ok(Task::Transform(Box::new(Self)))
    }
}

impl Transform for Drop {
    fn apply(&mut self, _: &mut Event, output: &mut Output) -> Result<(), TaskError> {
        output.forward();
        Ok(())
    }
}
