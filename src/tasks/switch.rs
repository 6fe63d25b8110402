//! `switch`: sends each event to the task of the first case that is true.
//!
//! ```yaml
//! flow:
//!   name: lanes
//!   tasks:
//!     - generate:
//!         name: orders
//!         count: 3
//!         payload: {amount: 120}
//!     - switch:
//!         name: by_amount
//!         cases:
//!           - {when: event.data.amount >= 100, to: large}
//!         default: small
//!     - drop:
//!         name: large
//!     - drop:
//!         name: small
//! ```

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    event::Event,
    problem::Problems,
    script::{self, Condition},
    task::{BuildContext, BuildError, Edge, Kind, Output, Role, Target, Task, TaskError, Transform},
};

/// The `switch` kind.
pub(super) struct Switch {
    /// In the order of the targets.
    cases: Vec<Condition>,
    default: Option<Edge>,
}

/// Where events go.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// Tried in order; the first that is true takes the event.
    cases: Vec<Case>,
    /// The task for events that no case is true for; without it they are filtered.
    default: Option<String>,
}

/// One way out.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Case {
    /// A Rhai expression.
    when: String,
    /// The name of a task.
    to: String,
}

impl Kind for Switch {
    const NAME: &'static str = "switch";
    const ROLE: Role = Role::Transform;
    const SUMMARY: &'static str = "sends each event to the task of the first case that is true";
    const ERROR_TYPES: &'static [&'static str] = script::ERROR_TYPES;
    const TARGET_KEYS: &'static [&'static str] = &["cases.*.to", "default"];
    type Config = Config;

    fn check(config: &Config, problems: &mut Problems) {
        if config.cases.is_empty() {
            problems.report("cases", "`cases` is empty").hint("list at least one `{when, to}`");
        }
        for (n, case) in config.cases.iter().enumerate() {
            if let Err(error) = Condition::compile(&case.when) {
                error.report(&format!("cases.{n}.when"), problems);
            }
        }
    }

    fn targets(config: &Config) -> Vec<Target> {
        let case =
            |(n, case): (usize, &Case)| Target { task: case.to.clone(), path: format!("cases.{n}.to") };
        let default = |task: &String| Target { task: task.clone(), path: "default".to_owned() };
        config.cases.iter().enumerate().map(case).chain(config.default.iter().map(default)).collect()
    }

    async fn build(config: &Config, _: &BuildContext) -> Result<Task, BuildError> {
        let compile = |case: &Case| {
            Condition::compile(&case.when).map_err(|error| {
                BuildError::new(format!("cannot compile `{}`", case.when)).with_source(error)
            })
        };
        let cases: Vec<_> = config.cases.iter().map(compile).collect::<Result<_, _>>()?;
        let default = config.default.as_ref().map(|_| Edge(cases.len()));
        Ok(Task::Transform(Box::new(Self { cases, default })))
    }
}

impl Transform for Switch {
    fn apply(&mut self, event: &mut Event, output: &mut Output) -> Result<(), TaskError> {
        for (n, case) in self.cases.iter().enumerate() {
            if case.is_true(event)? {
                output.forward_to(Edge(n));
                return Ok(());
            }
        }
        if let Some(default) = self.default {
            output.forward_to(default);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        event::{EventId, Payload},
        problem::KeyPath,
        task::Route,
    };

    fn config(value: Value) -> Config {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_first_true_case_takes_the_event_and_the_default_the_rest() {
        let case = |when: &str| Condition::compile(when).unwrap();
        let cases = vec![case("event.data > 5"), case("event.data > 2")];
        let mut switch = Switch { cases, default: Some(Edge(2)) };
        let mut route = |data: i64| {
            let mut output = Output::default();
            let mut event = Event::new(EventId::Sequence(0), "s".into(), Payload::from(json!(data)));
            switch.apply(&mut event, &mut output).unwrap();
            output.drain().map(|(route, _)| route).collect::<Vec<_>>()
        };
        assert_eq!(route(9), [Route::To(Edge(0))]);
        assert_eq!(route(3), [Route::To(Edge(1))]);
        assert_eq!(route(1), [Route::To(Edge(2))]);
        switch.default = None;
        let mut event = Event::new(EventId::Sequence(0), "s".into(), Payload::from(json!(1)));
        let mut output = Output::default();
        switch.apply(&mut event, &mut output).unwrap();
        assert!(output.is_empty());
    }

    #[test]
    fn the_targets_are_those_of_the_cases_and_then_the_default() {
        let config = config(json!({"cases": [{"when": "true", "to": "a"}], "default": "b"}));
        let targets: Vec<_> =
            Switch::targets(&config).into_iter().map(|target| (target.task, target.path)).collect();
        assert_eq!(targets, [("a".into(), "cases.0.to".into()), ("b".into(), "default".into())]);
        assert_eq!(Switch::TARGET_KEYS, ["cases.*.to", "default"]);
    }

    #[test]
    fn each_bad_case_is_reported_at_its_place() {
        let mut problems = Problems::below(KeyPath::default());
        Switch::check(&config(json!({"cases": []})), &mut problems);
        let cases = json!({"cases": [{"when": "true", "to": "a"}, {"when": "1 +", "to": "a"}]});
        Switch::check(&config(cases), &mut problems);
        let found: Vec<_> = problems.into_vec().into_iter().map(|problem| problem.path.to_string()).collect();
        assert_eq!(found, ["cases", "cases[1].when"]);
    }
}
