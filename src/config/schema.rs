//! Reads JSON Schemas of configuration types: which keys a place has and what their values may be.

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value};

use crate::{problem::Segment, registry::KindEntry};

/// The schema of one type, with its definitions.
#[derive(Debug)]
pub(super) struct Shape(Value);

impl Shape {
    /// Returns the shape of a type.
    pub(super) fn of<T: JsonSchema>() -> Self {
        let mut generator = generator();
        let schema = generator.subschema_for::<T>();
        Self::with_definitions(schema.to_value(), &mut generator)
    }

    /// Returns the shape of a kind's own keys.
    pub(super) fn of_kind(kind: &KindEntry) -> Self {
        let mut generator = generator();
        let schema = kind.schema(&mut generator);
        Self::with_definitions(schema.to_value(), &mut generator)
    }

    fn with_definitions(schema: Value, generator: &mut SchemaGenerator) -> Self {
        let mut root = Map::new();
        root.insert("$defs".into(), Value::Object(generator.take_definitions(true)));
        root.insert("allOf".into(), Value::Array(vec![schema]));
        Self(Value::Object(root))
    }

    /// Returns what the value itself may be.
    pub(super) fn view(&self) -> View<'_> {
        View { root: &self.0, nodes: vec![] }.of(&self.0)
    }
}

/// Returns the generator of all schemas: as values are read, not as they are written.
pub(super) fn generator() -> SchemaGenerator {
    SchemaSettings::draft2020_12().into_generator()
}

/// What a value may be: the alternatives at one place of a schema, references and unions resolved.
#[derive(Clone, Debug)]
pub(super) struct View<'a> {
    root: &'a Value,
    nodes: Vec<&'a Value>,
}

impl<'a> View<'a> {
    fn of(&self, node: &'a Value) -> Self {
        let mut nodes = Vec::new();
        flatten(self.root, node, &mut nodes, 0);
        Self { root: self.root, nodes }
    }

    /// Returns whether nothing may stand here.
    pub(super) fn is_nothing(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Returns whether a value of this JSON type may stand here; anything may where no type is given.
    pub(super) fn allows(&self, name: &str) -> bool {
        self.nodes.iter().any(|node| match node.get("type") {
            Some(Value::String(one)) => one == name,
            Some(Value::Array(several)) => several.iter().any(|one| one == name),
            _ => match node.get("const").or_else(|| node.get("enum")?.get(0)) {
                Some(constant) => constant.is_string() && name == "string",
                None => true,
            },
        })
    }

    /// Returns whether a value of the type of this one may stand here.
    pub(super) fn takes(&self, value: &Value) -> bool {
        match value {
            Value::Null => self.allows("null"),
            Value::Bool(_) => self.allows("boolean"),
            Value::Number(number) => self.allows("number") || (!number.is_f64() && self.allows("integer")),
            Value::String(_) => self.allows("string"),
            Value::Array(_) => self.allows("array"),
            Value::Object(_) => self.allows("object"),
        }
    }

    /// Returns the keys with the texts that tell the alternatives of a mapping here from one another.
    pub(super) fn tags(&self) -> Vec<(&'a str, &'a str)> {
        let properties = |node: &&'a Value| node.get("properties").and_then(Value::as_object);
        let properties = self.nodes.iter().filter_map(properties).flatten();
        properties.filter_map(|(key, of)| Some((key.as_str(), of.get("const")?.as_str()?))).collect()
    }

    /// Returns the texts that may stand here, if only certain ones may.
    pub(super) fn constants(&self) -> Vec<&'a str> {
        let constants = self.nodes.iter().flat_map(|node| {
            let several = node.get("enum").and_then(Value::as_array).into_iter().flatten();
            node.get("const").into_iter().chain(several)
        });
        constants.filter_map(Value::as_str).collect()
    }

    /// Returns the alternatives that `object` can be meant to be: those whose constant keys it matches.
    pub(super) fn narrowed(&self, object: &Map<String, Value>) -> Self {
        let score = |node: &Value| -> i32 {
            let properties = node.get("properties").and_then(Value::as_object).into_iter().flatten();
            let constants = properties.filter_map(|(key, of)| Some((of.get("const")?, object.get(key)?)));
            constants.map(|(wanted, given)| if wanted == given { 1 } else { -1 }).sum()
        };
        let best = self.nodes.iter().map(|node| score(node)).max().unwrap_or(0);
        let nodes = self.nodes.iter().copied().filter(|node| score(node) == best || best <= 0).collect();
        Self { root: self.root, nodes }
    }

    /// Returns the keys that a mapping here may have, unless it may have any.
    pub(super) fn keys(&self) -> Option<Vec<&'a str>> {
        let mut keys = Vec::new();
        for node in self.nodes.iter().filter(|node| is_object(node)) {
            let properties = node.get("properties").and_then(Value::as_object);
            let is_closed = match node.get("additionalProperties") {
                Some(rest) => *rest == Value::Bool(false),
                None => properties.is_some(),
            };
            if !is_closed {
                return None;
            }
            for (key, _) in properties.into_iter().flatten() {
                if !keys.contains(&key.as_str()) {
                    keys.push(key.as_str());
                }
            }
        }
        Some(keys)
    }

    /// Says which keys a mapping here may have, if they are few.
    pub(super) fn known_here(&self) -> Option<String> {
        let keys = self.keys()?;
        let list: Vec<_> = keys.iter().map(|key| format!("`{key}`")).collect();
        (1..=12).contains(&list.len()).then(|| format!("known here: {}", list.join(", ")))
    }

    /// Returns what may stand one step further.
    pub(super) fn child(&self, segment: &Segment) -> Self {
        let mut nodes = Vec::new();
        for node in &self.nodes {
            let below = match segment {
                Segment::Key(key) => node
                    .get("properties")
                    .and_then(|properties| properties.get(key))
                    .or_else(|| node.get("additionalProperties").filter(|rest| rest.is_object())),
                Segment::Index(_) => node.get("items"),
            };
            if let Some(below) = below {
                nodes.extend(self.of(below).nodes);
            }
        }
        Self { root: self.root, nodes }
    }

    /// Returns the keys that are named here, each with its schema and whether it must be given.
    pub(super) fn properties(&self) -> Vec<(&'a str, &'a Value, bool)> {
        let mut found = Vec::new();
        for node in &self.nodes {
            let required = node.get("required").and_then(Value::as_array);
            for (key, of) in node.get("properties").and_then(Value::as_object).into_iter().flatten() {
                let is_required = required.is_some_and(|required| required.iter().any(|name| name == key));
                found.push((key.as_str(), of, is_required));
            }
        }
        found
    }

    /// Returns the description of what may stand here.
    pub(super) fn description(&self) -> Option<&'a Value> {
        self.nodes.iter().find_map(|node| node.get("description"))
    }

    /// Returns how the mappings are written that may stand here beside certain texts: those of one key.
    pub(super) fn forms(&self) -> Vec<String> {
        let key = |node: &&'a Value| {
            let keys = node.get("properties")?.as_object()?;
            keys.keys().next().filter(|_| keys.len() == 1)
        };
        if self.constants().is_empty() {
            return vec![];
        }
        self.nodes.iter().filter_map(key).map(|key| format!("`{{{key}: ...}}`")).collect()
    }

    /// Says what may stand here: ``text``, `a whole number`, ``a list of text``.
    pub(super) fn expected(&self) -> String {
        let mut parts: Vec<String> = Vec::new();
        for node in &self.nodes {
            let constant = node.get("const").and_then(Value::as_str).map(|text| format!("`{text}`"));
            let several = node.get("enum").and_then(Value::as_array);
            let types = match node.get("type") {
                Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
                Some(Value::String(one)) => vec![one.as_str()],
                _ => vec![],
            };
            match (constant, several) {
                (Some(constant), _) => parts.push(constant),
                (_, Some(several)) => {
                    parts.extend(several.iter().filter_map(Value::as_str).map(|text| format!("`{text}`")));
                }
                _ => parts.extend(types.into_iter().filter_map(|name| self.named(name))),
            }
        }
        let forms = self.forms();
        if !forms.is_empty() {
            parts.retain(|part| part != "a mapping");
            parts.extend(forms);
        }
        let mut known = std::collections::HashSet::new();
        parts.retain(|part| known.insert(part.clone()));
        parts.join(" or ")
    }

    fn named(&self, json_type: &str) -> Option<String> {
        Some(match json_type {
            "string" => "text".into(),
            "integer" => "a whole number".into(),
            "number" => "a number".into(),
            "boolean" => "`true` or `false`".into(),
            "array" => match self.child(&Segment::Index(0)).expected() {
                items if items.is_empty() => "a list".into(),
                items => format!(
                    "a list of {}",
                    items
                        .replace("a whole number", "whole numbers")
                        .replace("a number", "numbers")
                        .replace("a mapping", "mappings")
                ),
            },
            "object" => "a mapping".into(),
            _ => return None,
        })
    }
}

fn is_object(node: &Value) -> bool {
    match node.get("type") {
        Some(Value::String(one)) => one == "object",
        Some(Value::Array(several)) => several.iter().any(|one| one == "object"),
        _ => node.get("const").is_none() && node.get("enum").is_none(),
    }
}

fn flatten<'a>(root: &'a Value, node: &'a Value, nodes: &mut Vec<&'a Value>, depth: usize) {
    if depth > 16 {
        return;
    }
    let mut is_union = false;
    if let Some(reference) = node.get("$ref").and_then(Value::as_str) {
        is_union = true;
        if let Some(target) = root.pointer(reference.trim_start_matches('#')) {
            flatten(root, target, nodes, depth + 1);
        }
    }
    for key in ["anyOf", "oneOf", "allOf"] {
        for part in node.get(key).and_then(Value::as_array).into_iter().flatten() {
            is_union = true;
            flatten(root, part, nodes, depth + 1);
        }
    }
    if !is_union || node.get("properties").is_some() {
        nodes.push(node);
    }
}
