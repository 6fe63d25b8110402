//! `filter`: passes on the events that a condition is true for.
//!
//! ```yaml
//! flow:
//!   name: even
//!   tasks:
//!     - generate:
//!         name: numbers
//!         count: 4
//!         payload: {n: 2}
//!     - filter:
//!         name: even
//!         condition: event.data.n % 2 == 0
//!     - drop:
//!         name: nowhere
//! ```

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    event::Event,
    problem::Problems,
    script::{self, Condition},
    task::{BuildContext, BuildError, Kind, Output, Role, Task, TaskError, Transform},
};

/// The `filter` kind.
pub(super) struct Filter(Condition);

/// What passes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// A Rhai expression; events it is false for are filtered.
    condition: String,
}

impl Kind for Filter {
    const NAME: &'static str = "filter";
    const ROLE: Role = Role::Transform;
    const SUMMARY: &'static str = "passes on the events that a condition is true for";
    const ERROR_TYPES: &'static [&'static str] = script::ERROR_TYPES;
    type Config = Config;

    fn check(config: &Config, problems: &mut Problems) {
        if let Err(error) = Condition::compile(&config.condition) {
            error.report("condition", problems);
        }
    }

    async fn build(config: &Config, _: &BuildContext) -> Result<Task, BuildError> {
        let condition = Condition::compile(&config.condition)
            .map_err(|error| BuildError::new("cannot compile `condition`").with_source(error))?;
        Ok(Task::Transform(Box::new(Self(condition))))
    }
}

impl Transform for Filter {
    fn apply(&mut self, event: &mut Event, output: &mut Output) -> Result<(), TaskError> {
        if self.0.is_true(event)? {
            output.forward();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::event::{EventId, Payload};

    #[test]
    fn an_event_passes_if_the_condition_is_true_and_fails_if_it_is_no_bool() {
        let mut filter = Filter(Condition::compile("event.data.n").unwrap());
        let mut passed = |n| {
            let mut output = Output::default();
            let mut event = Event::new(EventId::Sequence(0), "s".into(), Payload::from(json!({"n": n})));
            filter.apply(&mut event, &mut output).map(|()| output.len())
        };
        assert_eq!(passed(json!(true)).unwrap(), 1);
        assert_eq!(passed(json!(false)).unwrap(), 0);
        assert_eq!(passed(json!(1)).unwrap_err().error_type(), "script");
    }
}
