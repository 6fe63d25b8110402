//! `cache`: remembers values by key, for later events and other flows.
//!
//! ```yaml
//! flow:
//!   name: latest
//!   tasks:
//!     - generate:
//!         name: prices
//!         count: 3
//!         payload: {item: a-1, price: 12.5}
//!     - cache:
//!         name: remember
//!         operation: put
//!         key: price/{{ event.data.item }}
//!         value: "{{ event.data.price }}"
//!         ttl: 10m
//!     - cache:
//!         name: known
//!         operation: get
//!         key: price/{{ event.data.item }}
//!         to: latest
//!     - stdout:
//!         name: out
//! ```
//!
//! `get` puts what it finds into the event's data, `null` if there is nothing; `put` and `delete` leave the event as it
//! is. All flows of the worker share one cache, which scripts reach as `ctx.cache`: a flow that wants keys of its own
//! begins them with its name. It is in memory, empty at the start, and bounded: what was not used for the longest time is
//! forgotten first, so what must not be forgotten does not belong here.
//!
//! Every task goes at its own pace: an event may look for a key before the one ahead of it has reached a `put` further
//! down. Where an event needs what the one before it left, one `script` does both, as it handles them one by one.
//!
//! An event that fails further down and is brought in again passes here again; what `put` keeps is the same then.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::{
    event::{Event, Payload},
    problem::{Focus, Problems},
    task::{self, BuildContext, BuildError, Kind, Output, Processor, Role, Task, TaskError},
    template::{TEMPLATE, Template, ValueTemplate},
};

/// `error.type` of an event whose data is not what the operation needs.
const TYPE: &str = "type";
/// `error.type` of a value that the cache has no room for.
const TOO_LARGE: &str = "too_large";

/// The `cache` kind.
pub(super) struct Cache;

/// What to do with which key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// What to do.
    operation: Operation,
    /// The key, a template. All flows of the worker share the keys.
    key: String,
    /// What to keep, whose texts are templates; the event's data without it. `put` only.
    #[serde(default, deserialize_with = "given")]
    value: Option<Value>,
    /// How long to keep it; until its room is needed without it. `put` only.
    #[serde(default, with = "humantime_serde::option")]
    #[schemars(with = "Option<String>")]
    ttl: Option<Duration>,
    /// Where in the event's data to put what was found, dotted for a key further down; `cached` without it. `get` only.
    to: Option<String>,
}

/// What is written is given, even if it is `null`.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Operation {
    /// Puts what is kept into the event's data.
    Get,
    /// Keeps a value.
    Put,
    /// Forgets a value.
    Delete,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::Delete => "delete",
        }
    }
}

impl Config {
    fn to(&self) -> Vec<String> {
        self.to.as_deref().unwrap_or("cached").split('.').map(str::to_owned).collect()
    }
}

impl Kind for Cache {
    const NAME: &'static str = "cache";
    const ROLE: Role = Role::Processor;
    const SUMMARY: &'static str = "remembers values by key, for later events and other flows";
    const ERROR_TYPES: &'static [&'static str] = &[TEMPLATE, TOO_LARGE, TYPE];
    type Config = Config;

    fn check(config: &Config, problems: &mut Problems) {
        let Config { operation, key, value, ttl, to } = config;
        if key.is_empty() {
            problems.report("key", "`key` is empty");
        }
        if let Err(error) = Template::compile(key) {
            error.report("key", problems);
        }
        for (name, is_given, wanted) in [
            ("value", value.is_some(), Operation::Put),
            ("ttl", ttl.is_some(), Operation::Put),
            ("to", to.is_some(), Operation::Get),
        ] {
            if is_given && *operation != wanted {
                let message = format!("`{name}` means nothing to `operation: {}`", operation.name());
                problems
                    .report(name, message)
                    .focus(Focus::Key)
                    .hint(format!("it belongs to `operation: {}`", wanted.name()));
            }
        }
        match value {
            Some(Value::Null) => {
                let hint = "`operation: delete` forgets a value; without `value` the event's data is kept";
                problems.report("value", "`null` is what a key without a value gives").hint(hint);
            }
            Some(value) => {
                for (path, error) in ValueTemplate::compile(value).err().into_iter().flatten() {
                    let path = if path.is_empty() { "value".to_owned() } else { format!("value.{path}") };
                    error.report(&path, problems);
                }
            }
            None => {}
        }
        if ttl.is_some_and(|ttl| ttl.is_zero()) {
            problems.report("ttl", "must be longer than zero");
        }
        if config.to().iter().any(String::is_empty) {
            problems.report("to", "`to` has an empty part");
        }
    }

    async fn build(config: &Config, context: &BuildContext) -> Result<Task, BuildError> {
        let key = Template::compile(&config.key)
            .map_err(|error| BuildError::new("cannot compile `key`").with_source(error))?;
        let work = match config.operation {
            Operation::Get => Work::Get { to: config.to() },
            Operation::Put => {
                let value = config.value.as_ref().map(ValueTemplate::compile).transpose();
                let value = value.map_err(|_| BuildError::new("cannot compile `value`"))?;
                Work::Put { value, ttl: config.ttl }
            }
            Operation::Delete => Work::Delete,
        };
        Ok(Task::Processor(Box::new(Keeper { cache: Arc::clone(&context.cache), key, work })))
    }
}

/// Does one thing with the cache.
struct Keeper {
    cache: Arc<dyn task::Cache>,
    key: Template,
    work: Work,
}

enum Work {
    Get { to: Vec<String> },
    Put { value: Option<ValueTemplate>, ttl: Option<Duration> },
    Delete,
}

#[async_trait]
impl Processor for Keeper {
    async fn handle(&self, event: &Event, output: &mut Output) -> Result<(), TaskError> {
        let key = self.key.render(event)?;
        match &self.work {
            Work::Get { to } => {
                let found = self.cache.get(&key);
                let mut data = event.data.clone();
                place(&mut data, to, found.as_deref().cloned().unwrap_or_default())?;
                output.emit(event.with_data(data));
            }
            Work::Put { value, ttl } => {
                let value = match value {
                    Some(value) => value.render(event)?,
                    None => event.data.json().cloned().ok_or_else(|| {
                        TaskError::permanent(TYPE, "the data is raw bytes, and the cache keeps JSON")
                    })?,
                };
                self.cache.put(&key, value, *ttl).map_err(|error| {
                    TaskError::permanent(TOO_LARGE, "cannot keep the value").with_source(error)
                })?;
                output.forward();
            }
            Work::Delete => {
                self.cache.delete(&key);
                output.forward();
            }
        }
        Ok(())
    }
}

/// Puts `value` where `to` leads within `data`, through mappings that are made where there are none.
fn place(data: &mut Payload, to: &[String], value: Value) -> Result<(), TaskError> {
    let no_mapping = |parents: &[String]| {
        let path = parents.iter().fold("event.data".to_owned(), |path, key| format!("{path}.{key}"));
        TaskError::permanent(TYPE, format!("`{path}` is no mapping that could hold what was found"))
    };
    let mut at = data.json_mut().ok_or_else(|| no_mapping(&[]))?;
    for (depth, key) in to.iter().enumerate() {
        if at.is_null() && depth > 0 {
            *at = Value::Object(Map::new());
        }
        let mapping = at.as_object_mut().ok_or_else(|| no_mapping(&to[..depth]))?;
        at = mapping.entry(key).or_insert(Value::Null);
    }
    *at = value;
    Ok(())
}

#[cfg(test)]
mod tests;
