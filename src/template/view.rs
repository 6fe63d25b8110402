//! How the template engine sees an event: what it looks at is converted, and nothing else.

use std::{fmt, sync::Arc};

use minijinja::value::{Enumerator, Object, ObjectRepr, Value};
use serde_json::Value as Json;

use super::path::{Step, walk};
use crate::event::{Event, EventError, Meta, Payload};

/// The root of what a template sees. Holds shares of the event's parts but not of its ack: a share
/// that is dropped would be a failure.
#[derive(Debug)]
pub(super) struct EventView {
    id: String,
    subject: Arc<str>,
    timestamp: String,
    data: Payload,
    meta: Meta,
    error: Option<Arc<EventError>>,
}

impl EventView {
    /// Returns the context of a rendering: a mapping with `event`.
    pub(super) fn root(event: &Event) -> Value {
        let view = Self {
            id: event.id.to_string(),
            subject: Arc::clone(&event.subject),
            timestamp: event.timestamp.to_string(),
            data: event.data.clone(),
            meta: event.meta.clone(),
            error: event.error.clone(),
        };
        minijinja::context! { event => Value::from_object(view) }
    }
}

/// Returns whether a value is a mapping or list of the event itself.
pub(super) fn is_part(value: &Value) -> bool {
    value.downcast_object_ref::<Node>().is_some()
}

impl Object for EventView {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        Some(match key {
            "data" => match &self.data {
                Payload::Json(_) => Node::new(Root::Data(self.data.clone())).value()?,
                Payload::Bytes(bytes) => Value::from(String::from_utf8_lossy(bytes)),
            },
            "meta" => Node::new(Root::Meta(self.meta.clone())).value()?,
            "id" => Value::from(&self.id),
            "subject" => Value::from(&self.subject),
            "timestamp" => Value::from(&self.timestamp),
            "error" => match &self.error {
                Some(error) => Node::new(Root::Data(Payload::from(error.to_json()))).value()?,
                None => Value::from(()),
            },
            _ => return None,
        })
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Str(&super::EVENT_FIELDS)
    }
}

/// A mapping or list within an event, as the way to it.
#[derive(Clone)]
struct Node {
    root: Root,
    steps: Vec<Step>,
}

#[derive(Clone)]
enum Root {
    Data(Payload),
    Meta(Meta),
}

impl Node {
    fn new(root: Root) -> Self {
        Self { root, steps: Vec::new() }
    }

    fn child(&self, step: Step) -> Option<Value> {
        let mut steps = Vec::with_capacity(self.steps.len() + 1);
        steps.extend(self.steps.iter().cloned());
        steps.push(step);
        Self { root: self.root.clone(), steps }.value()
    }

    /// Returns what the engine works with: a scalar, or this node for what holds others.
    fn value(self) -> Option<Value> {
        Some(match self.json() {
            Some(Json::Null) => Value::from(()),
            Some(Json::Bool(value)) => Value::from(*value),
            Some(Json::String(text)) => Value::from(text),
            Some(Json::Number(number)) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
                (Some(number), ..) => Value::from(number),
                (None, Some(number), _) => Value::from(number),
                (None, None, number) => Value::from(number?),
            },
            Some(Json::Array(_) | Json::Object(_)) => Value::from_object(self),
            None if self.steps.is_empty() => Value::from_object(self),
            None => return None,
        })
    }

    /// Returns the tree below it; metadata as a whole has none.
    fn json(&self) -> Option<&Json> {
        match (&self.root, self.steps.split_first()) {
            (Root::Data(data), _) => walk(data.json()?, &self.steps),
            (Root::Meta(meta), Some((Step::Key(key), rest))) => walk(meta.get(key)?, rest),
            (Root::Meta(_), _) => None,
        }
    }

    fn keys(&self) -> Option<Vec<Value>> {
        let entries = match (&self.root, self.json()) {
            (Root::Meta(meta), None) => meta.entries(),
            (_, json) => json?.as_object(),
        };
        Some(entries.map(|entries| entries.keys().map(Value::from).collect()).unwrap_or_default())
    }
}

impl Object for Node {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        if matches!(self.json(), Some(Json::Array(_))) { ObjectRepr::Seq } else { ObjectRepr::Map }
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match key.as_str() {
            Some(key) => self.get_value_by_str(key),
            None => self.child(Step::Index(key.as_usize()?)),
        }
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        self.child(Step::Key(key.to_owned()))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        match self.json() {
            Some(Json::Array(items)) => Enumerator::Seq(items.len()),
            _ => self.keys().map_or(Enumerator::Empty, Enumerator::Values),
        }
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.root, self.json()) {
            (_, Some(json)) => write!(f, "{json}"),
            (Root::Meta(meta), None) => {
                let entries = meta.entries().cloned().unwrap_or_default();
                write!(f, "{}", Json::Object(entries))
            }
            (Root::Data(_), None) => Ok(()),
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.json())
    }
}
