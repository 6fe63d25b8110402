//! The JSON Schema of a whole file, and the keys of a kind as people read them: both from the types that
//! the files are read into.

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::{
    keys::{Period, ResourcesKeys, RetryKeys, TaskKeys},
    schema::{Shape, generator},
};
use crate::{
    problem::Segment,
    registry::{KindEntry, Registry},
    telemetry::{LoggingConfig, TelemetryConfig},
};

/// A key of a kind.
#[derive(Clone, Debug)]
pub struct Key {
    /// The key; below a mapping or a list, with the keys above: `cases[].when`.
    pub name: String,
    /// What it may be.
    pub expected: String,
    /// Its default, if it has one that says something.
    pub default: Option<Value>,
    /// Whether it must be given.
    pub is_required: bool,
    /// What it does.
    pub description: String,
}

/// Returns the keys of a kind.
pub fn keys(kind: &KindEntry) -> Vec<Key> {
    let shape = Shape::of_kind(kind);
    shape.view().described("")
}

/// Returns the JSON Schema of a file, for editors.
pub fn document(registry: Registry) -> Value {
    let mut generator = generator();
    let tasks: Vec<_> = registry.kinds().iter().map(|kind| task(kind, &mut generator)).collect();
    let flow = json!({
        "type": "object",
        "description": "A directed acyclic graph of tasks.",
        "properties": {
            "name": {"type": "string", "description": "Unique in the worker; by default the file's stem."},
            "labels": {"description": "Anything, shown by `list`; never a metric label."},
            "tasks": {
                "type": "array",
                "description": "The tasks, each following the one before it unless it says otherwise.",
                "minItems": 1,
                "items": {"oneOf": tasks},
            },
        },
        "required": ["tasks"],
        "additionalProperties": false,
    });
    let worker = json!({
        "telemetry": block::<TelemetryConfig>(&mut generator),
        "logging": block::<LoggingConfig>(&mut generator),
        "retry": block::<RetryKeys>(&mut generator),
        "resources": block::<ResourcesKeys>(&mut generator),
        "shutdown_timeout": described::<Period>(&mut generator, "How long a graceful shutdown may take in all; by default `25s`."),
        "channel_capacity": {
            "type": "integer", "minimum": 1, "default": 1024,
            "description": "Events that a channel between two tasks holds.",
        },
        "flow": {"$ref": "#/$defs/Flow"},
        "flows": {"type": "array", "items": {"$ref": "#/$defs/Flow"}, "description": "Several flows."},
    });
    let mut definitions = generator.take_definitions(true);
    definitions.insert("Flow".into(), flow);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "flowgen",
        "description": "Event flows and the settings of the worker that runs them.",
        "type": "object",
        "properties": worker,
        "patternProperties": {"^x-": {"description": "Free, for anchors."}},
        "additionalProperties": false,
        "$defs": definitions,
    })
}

/// Returns the schema of `- <kind>: {...}`: the kind's own keys with those of every task.
fn task(kind: &KindEntry, generator: &mut SchemaGenerator) -> Value {
    let own = Shape::of_kind(kind).into_value();
    let common = Shape::of::<TaskKeys>().into_value();
    let mut merged = Map::new();
    let mut required = Vec::new();
    let mut is_open = false;
    for (mut part, is_own) in [(common, false), (own, true)] {
        let definitions = part["$defs"].take();
        let root = resolve(&part["allOf"][0], &definitions);
        if let Value::Object(definitions) = definitions {
            for (name, definition) in definitions {
                // The part itself stands inline; what it refers to is shared.
                if root != definition {
                    generator.definitions_mut().insert(name, definition);
                }
            }
        }
        if let Some(properties) = root.get("properties").and_then(Value::as_object) {
            merged.extend(properties.clone());
        }
        required.extend(root.get("required").and_then(Value::as_array).into_iter().flatten().cloned());
        is_open |= is_own
            && root.get("properties").is_none()
            && root.get("additionalProperties").is_none()
            && root.get("type") != Some(&json!("object"));
    }
    let mut body = json!({
        "type": if required.is_empty() { json!(["object", "null"]) } else { json!("object") },
        "properties": merged,
        "additionalProperties": is_open,
    });
    if !required.is_empty() {
        body["required"] = required.into();
    }
    json!({
        "type": "object",
        "description": format!("{}: {}", kind.role, kind.summary),
        "properties": {kind.name: body},
        "required": [kind.name],
        "additionalProperties": false,
    })
}

fn resolve(node: &Value, definitions: &Value) -> Value {
    let name = node.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next());
    name.and_then(|name| definitions.get(name)).unwrap_or(node).clone()
}

fn block<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().to_value()
}

fn described<T: JsonSchema>(generator: &mut SchemaGenerator, description: &str) -> Value {
    let mut schema = block::<T>(generator);
    if let Value::Object(object) = &mut schema {
        object.insert("description".into(), description.into());
    }
    schema
}

impl super::schema::View<'_> {
    /// Returns the keys that stand here and below, each with the keys above it.
    fn described(&self, above: &str) -> Vec<Key> {
        let mut found: Vec<Key> = Vec::new();
        for (name, node, is_required) in self.properties() {
            let full = format!("{above}{name}");
            if found.iter().any(|key| key.name == full) {
                continue;
            }
            let child = self.child(&Segment::Key(name.to_owned()));
            let description = node.get("description").or_else(|| child.description());
            let description = description.and_then(Value::as_str).unwrap_or_default().replace('\n', " ");
            let default = node.get("default").filter(|default| !default.is_null()).cloned();
            let expected = match child.expected() {
                expected if expected.is_empty() => "any value".to_owned(),
                expected => expected,
            };
            found.push(Key { name: full.clone(), expected, default, is_required, description });
            if above.matches('.').count() < 3 {
                found.extend(child.described(&format!("{full}.")));
                found.extend(child.child(&Segment::Index(0)).described(&format!("{full}[].")));
            }
        }
        found
    }
}
