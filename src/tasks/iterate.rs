//! `iterate`: makes an event of each element of an array.
//!
//! ```yaml
//! flow:
//!   name: items
//!   tasks:
//!     - generate:
//!         name: orders
//!         count: 1
//!         payload: {items: [{sku: a}, {sku: b}]}
//!     - iterate:
//!         name: each_item
//!         iterate_key: items
//!     - drop:
//!         name: nowhere
//! ```

use std::mem;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    event::{Event, Payload},
    problem::Problems,
    task::{BuildContext, BuildError, Kind, Output, Role, Task, TaskError, Transform},
};

/// The `iterate` kind.
pub(super) struct Iterate {
    /// The keys that lead to the array.
    path: Vec<String>,
}

/// What is iterated.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// The key of the array, dotted for one further down; without it the data itself is the array.
    iterate_key: Option<String>,
}

impl Config {
    fn path(&self) -> Vec<String> {
        self.iterate_key.iter().flat_map(|key| key.split('.')).map(str::to_owned).collect()
    }
}

impl Kind for Iterate {
    const NAME: &'static str = "iterate";
    const ROLE: Role = Role::Transform;
    const SUMMARY: &'static str = "makes an event of each element of an array";
    const ERROR_TYPES: &'static [&'static str] = &["type"];
    type Config = Config;

    fn check(config: &Config, problems: &mut Problems) {
        if config.path().iter().any(String::is_empty) {
            problems
                .report("iterate_key", "`iterate_key` has an empty part")
                .hint("leave it out to iterate over the data itself");
        }
    }

    async fn build(config: &Config, _: &BuildContext) -> Result<Task, BuildError> {
        Ok(Task::Transform(Box::new(Self { path: config.path() })))
    }
}

impl Transform for Iterate {
    fn apply(&mut self, event: &mut Event, output: &mut Output) -> Result<(), TaskError> {
        let found = event.data.json().and_then(|data| self.find(data));
        if !matches!(found, Some(Value::Array(_))) {
            return Err(self.no_array(found));
        }
        // Nothing can fail any more, so the elements may be taken out of the event.
        let mut data = mem::take(&mut event.data).into_json().unwrap_or_default();
        let array = self.path.iter().try_fold(&mut data, |value, key| value.get_mut(key));
        if let Some(Value::Array(items)) = array.map(Value::take) {
            for (index, item) in items.into_iter().enumerate() {
                output.emit(event.derive(index, Payload::from(item)));
            }
        }
        Ok(())
    }
}

impl Iterate {
    fn find<'a>(&self, data: &'a Value) -> Option<&'a Value> {
        self.path.iter().try_fold(data, |value, key| value.get(key))
    }

    fn no_array(&self, found: Option<&Value>) -> TaskError {
        let name =
            if self.path.is_empty() { "the data".to_owned() } else { format!("`{}`", self.path.join(".")) };
        let what = match found {
            None if self.path.is_empty() => "raw bytes",
            None => return TaskError::permanent("type", format!("{name} is missing")),
            Some(Value::Null) => "null",
            Some(Value::Bool(_)) => "a bool",
            Some(Value::Number(_)) => "a number",
            Some(Value::String(_)) => "a string",
            Some(_) => "an object",
        };
        TaskError::permanent("type", format!("{name} is {what}, not an array"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{event::EventId, task::Emission};

    fn iterate(key: Option<&str>, event: &mut Event) -> Result<Vec<(String, Value)>, TaskError> {
        let config = Config { iterate_key: key.map(str::to_owned) };
        let mut output = Output::default();
        Iterate { path: config.path() }.apply(event, &mut output)?;
        let events = output.drain().map(|(_, emission)| match emission {
            Emission::Event(event) => (event.id.to_string(), event.data.into_json().unwrap()),
            other => panic!("nothing else goes on: {other:?}"),
        });
        Ok(events.collect())
    }

    fn event(data: Value) -> Event {
        Event::new(EventId::Sequence(7), "s".into(), Payload::from(data))
    }

    #[test]
    fn each_element_becomes_a_derived_event() {
        let expected = [("7-0".to_owned(), json!(1)), ("7-1".to_owned(), json!({"a": 2}))];
        assert_eq!(iterate(None, &mut event(json!([1, {"a": 2}]))).unwrap(), expected);
        let mut nested = event(json!({"x": {"items": [1, {"a": 2}]}}));
        assert_eq!(iterate(Some("x.items"), &mut nested).unwrap(), expected);
        assert!(iterate(None, &mut event(json!([]))).unwrap().is_empty());
    }

    #[test]
    fn what_is_no_array_is_an_error_that_leaves_the_event_alone() {
        for (key, data, message) in [
            (None, json!({"a": 1}), "the data is an object, not an array"),
            (Some("a"), json!({"a": "x"}), "`a` is a string, not an array"),
            (Some("a.b"), json!({"a": 1}), "`a.b` is missing"),
        ] {
            let mut event = event(data.clone());
            let error = iterate(key, &mut event).unwrap_err();
            assert_eq!((error.to_string().as_str(), error.error_type()), (message, "type"));
            assert_eq!(event.data.json(), Some(&data));
        }
        let mut bytes =
            Event::new(EventId::Sequence(0), "s".into(), Payload::Bytes(b"[1]".as_slice().into()));
        assert_eq!(iterate(None, &mut bytes).unwrap_err().to_string(), "the data is raw bytes, not an array");
    }

    #[test]
    fn a_shared_payload_is_not_emptied_for_the_others() {
        let mut event = event(json!([1]));
        let other = event.data.clone();
        iterate(None, &mut event).unwrap();
        assert_eq!(other.json(), Some(&json!([1])));
    }
}
