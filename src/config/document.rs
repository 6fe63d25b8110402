//! The JSON Schema of a whole file, and the keys of a kind as people read them: both from the types that
//! the files are read into.

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::{
    keys::{CacheKeys, FlowKeys, HttpServerKeys, Period, ResourcesKeys, RetryKeys, StateKeys, TaskKeys},
    planned::{self, Place},
    schema::{Shape, generator},
    worker::HealthKeys,
};
use crate::{
    problem::Segment,
    registry::{KindEntry, Registry},
    telemetry::{LoggingConfig, TelemetryConfig},
};

/// The pattern of texts that hold a reference.
const REFERENCE: &str = r"\$\{.+\}";

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
    let mut flow = json!({
        "type": "object",
        "description": "A directed acyclic graph of tasks.",
        "properties": {
            "name": {"type": "string", "description": "Unique in the worker; by default the file's stem."},
            "labels": {"description": "Anything, shown by `validate --output json`; never a metric label."},
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
    let mut worker = json!({
        "telemetry": or_empty(block::<TelemetryConfig>(&mut generator)),
        "logging": or_empty(block::<LoggingConfig>(&mut generator)),
        "health": or_empty(block::<HealthKeys>(&mut generator)),
        "retry": or_empty(block::<RetryKeys>(&mut generator)),
        "state": or_empty(block::<StateKeys>(&mut generator)),
        "http_server": or_empty(block::<HttpServerKeys>(&mut generator)),
        "cache": or_empty(block::<CacheKeys>(&mut generator)),
        "resources": or_empty(block::<ResourcesKeys>(&mut generator)),
        "shutdown_timeout": described::<Period>(&mut generator, "How long a graceful shutdown may take in all; by default `25s`."),
        "channel_capacity": {
            "type": "integer", "minimum": 1, "maximum": super::worker::MOST_CAPACITY, "default": 1024,
            "description": "Events that a channel between two tasks holds.",
        },
        "flow": {"$ref": "#/$defs/Flow"},
        "flows": {"type": "array", "items": {"$ref": "#/$defs/Flow"}, "description": "Several flows."},
    });
    let settings = inline(block::<FlowKeys>(&mut generator), &generator);
    extend(&mut flow["properties"], settings["properties"].as_object().cloned().unwrap_or_default());
    extend(&mut flow["properties"], planned::schemas(Place::Flow));
    extend(&mut worker, planned::schemas(Place::Worker));
    let mut definitions = generator.take_definitions(true);
    definitions.insert("Flow".into(), flow);
    let mut document = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "flowgen",
        "description": "Event flows and the settings of the worker that runs them.",
        "type": "object",
        "properties": worker,
        "patternProperties": {"^x-": {"description": "Free, for anchors."}},
        "additionalProperties": false,
        "$defs": definitions,
    });
    prune(&mut document);
    allow_references(&mut document);
    document
}

/// Returns the schema of `- <kind>: {...}`: the kind's own keys with those of every task.
fn task(kind: &KindEntry, generator: &mut SchemaGenerator) -> Value {
    let common = inline(block::<TaskKeys>(generator), generator);
    let own = inline(kind.schema(generator).to_value(), generator);
    let mut properties = Map::new();
    let mut required = Vec::new();
    for part in [&common, &own] {
        properties.extend(part.get("properties").and_then(Value::as_object).cloned().unwrap_or_default());
        required.extend(part.get("required").and_then(Value::as_array).into_iter().flatten().cloned());
    }
    properties.extend(planned::schemas(Place::Task));
    properties.extend(planned::schemas(Place::Kind(kind.name)));
    let body_type = if required.is_empty() { json!(["object", "null"]) } else { json!("object") };
    let mut body = json!({"type": body_type, "properties": properties, "additionalProperties": false});
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

fn extend(properties: &mut Value, further: Map<String, Value>) {
    if let Some(properties) = properties.as_object_mut() {
        properties.extend(further);
    }
}

/// Returns the schema of a block that may be left empty.
fn or_empty(block: Value) -> Value {
    json!({"anyOf": [block, {"type": "null"}]})
}

/// Returns what a reference leads to; what that refers to stays shared.
fn inline(schema: Value, generator: &SchemaGenerator) -> Value {
    let name = schema.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next());
    name.and_then(|name| generator.definitions().get(name)).cloned().unwrap_or(schema)
}

/// Removes the definitions that nothing refers to any more.
fn prune(document: &mut Value) {
    loop {
        let text = document.to_string();
        let Some(definitions) = document["$defs"].as_object_mut() else { return };
        let before = definitions.len();
        definitions.retain(|name, _| text.contains(&format!("\"#/$defs/{name}\"")));
        if definitions.len() == before {
            return;
        }
    }
}

/// Lets a reference such as `${COUNT}` stand wherever a number, a boolean or one of a few texts may.
fn allow_references(schema: &mut Value) {
    let reference = || json!({"type": "string", "pattern": REFERENCE});
    match schema {
        Value::Object(object) => {
            let is_constant = |node: &Value| node.get("const").or_else(|| node.get("enum")).is_some();
            if let Some(several) = object.get_mut("oneOf").and_then(Value::as_array_mut)
                && several.iter().any(is_constant)
            {
                several.iter_mut().for_each(allow_references);
                return several.push(reference());
            }
            if let Some(constants) = object.shift_remove("enum") {
                object.shift_remove("type");
                object.insert("anyOf".into(), json!([{"enum": constants}, reference()]));
                return;
            }
            let is_scalar =
                |name: &Value| ["integer", "number", "boolean"].iter().any(|scalar| name == scalar);
            let types = match object.get("type") {
                Some(Value::Array(several)) => several.clone(),
                Some(one) => vec![one.clone()],
                None => vec![],
            };
            if types.iter().any(is_scalar) && !types.iter().any(|name| name == "string") {
                object.insert("type".into(), types.into_iter().chain([json!("string")]).collect());
                object.insert("pattern".into(), REFERENCE.into());
            }
            object.iter_mut().for_each(|(_, below)| allow_references(below));
        }
        Value::Array(items) => items.iter_mut().for_each(allow_references),
        _ => {}
    }
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
