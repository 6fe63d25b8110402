//! A compiled JSON Schema, and what may be said of data that does not conform to it.

use std::{collections::HashSet, fmt};

use jsonschema::{
    ValidationError, Validator,
    error::{TypeKind, ValidationErrorKind},
    paths::Location,
};
use serde_json::Value;

use crate::problem::{KeyPath, Problem, Problems, Segment};

/// What stands for a key that the schema does not name: keys of the data are data.
const HIDDEN: &str = "…";

/// A compiled JSON Schema.
pub(super) struct Schema {
    validator: Validator,
    /// Every key that stands in it.
    keys: HashSet<String>,
}

/// Why a schema does not compile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(super) struct SchemaError {
    /// What is wrong.
    message: String,
    /// The place in the schema.
    place: Vec<Segment>,
}

impl SchemaError {
    /// Reports it as a problem with the schema at the key `key`.
    pub(super) fn report(self, key: &str, problems: &mut Problems) {
        let path = problems.base().key(key).join(&KeyPath(self.place));
        problems.push(Problem::new(path, self.message));
    }

    fn new(schema: &Value, error: &ValidationError<'_>) -> Self {
        let text = error.to_string();
        let at = |location| steps(schema, location).collect();
        let (place, message) = match error.kind() {
            // The library does not say where the reference stands.
            ValidationErrorKind::Referencing(_) => {
                let place = reference(schema, &text).unwrap_or_default();
                let what = match place.last() {
                    Some(Segment::Key(key)) => format!("`{key}`"),
                    _ => "a `$ref`".to_owned(),
                };
                return Self {
                    message: format!("{what} leads nowhere: only what is in the schema is found"),
                    place,
                };
            }
            // Found by the compiler: the place is in the schema itself.
            ValidationErrorKind::Custom { .. } => (at(error.schema_path()), text),
            _ => (at(error.instance_path()), text),
        };
        let format = message.strip_prefix("Unknown format: '").and_then(|rest| rest.split_once('\''));
        let message = match format {
            Some((format, _)) => format!("the format `{format}` is not known"),
            None => format!("this is no JSON Schema: {}", lowercase(&message)),
        };
        Self { message, place }
    }
}

impl Schema {
    /// Compiles a schema.
    ///
    /// # Errors
    /// It is none, or names what it does not hold.
    pub(super) fn compile(schema: &Value, asserts_formats: bool) -> Result<Self, SchemaError> {
        let validator = jsonschema::options()
            .offline()
            .should_validate_formats(asserts_formats)
            .should_ignore_unknown_formats(!asserts_formats)
            .build(schema)
            .map_err(|error| SchemaError::new(schema, &error))?;
        let mut keys = HashSet::new();
        collect_keys(schema, &mut keys);
        Ok(Self { validator, keys })
    }

    /// Checks data.
    ///
    /// # Errors
    /// The keyword that is not met and where; nothing of the data.
    pub(super) fn check(&self, data: &Value) -> Result<(), String> {
        self.validator.validate(data).map_err(|error| self.describe(data, &error))
    }

    fn describe(&self, data: &Value, error: &ValidationError<'_>) -> String {
        let place = self.show(data, error.instance_path());
        let (keyword, wanted) = match error.kind() {
            ValidationErrorKind::Required { property } => {
                ("required", format!(": `{}` is missing", property.as_str().unwrap_or_default()))
            }
            ValidationErrorKind::Type { kind } => ("type", format!(": it is not {}", Types(kind))),
            ValidationErrorKind::FalseSchema => ("false", String::new()),
            kind => (kind.keyword(), String::new()),
        };
        format!("the data does not meet `{keyword}` of the schema at {place}{wanted}")
    }

    /// Shows where in the data something is, as far as the schema and the numbers of list items tell.
    fn show(&self, data: &Value, location: &Location) -> String {
        let mut shown = String::new();
        for segment in steps(data, location) {
            shown.push('/');
            match segment {
                Segment::Key(key) if self.keys.contains(&key) => shown.push_str(&key),
                Segment::Key(_) => shown.push_str(HIDDEN),
                Segment::Index(index) => shown.push_str(&index.to_string()),
            }
        }
        if shown.is_empty() { "the top".to_owned() } else { format!("`{shown}`") }
    }
}

/// The types that would have done.
struct Types<'a>(&'a TypeKind);

impl fmt::Display for Types<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            TypeKind::Single(one) => write!(f, "`{one}`"),
            TypeKind::Multiple(several) => {
                for (n, one) in several.iter().enumerate() {
                    write!(f, "{}`{one}`", if n > 0 { " or " } else { "" })?;
                }
                Ok(())
            }
        }
    }
}

/// Goes down a tree along a JSON Pointer.
fn steps<'a>(root: &'a Value, location: &'a Location) -> impl Iterator<Item = Segment> + 'a {
    let mut here = Some(root);
    location.as_str().split('/').skip(1).map(move |step| {
        let index = here.filter(|value| value.is_array()).and_then(|_| step.parse().ok());
        let segment = match index {
            Some(index) => Segment::Index(index),
            None => Segment::Key(step.replace("~1", "/").replace("~0", "~")),
        };
        here = match &segment {
            Segment::Key(key) => here.and_then(|value| value.get(key)),
            Segment::Index(index) => here.and_then(|value| value.get(index)),
        };
        segment
    })
}

/// Finds the first reference in a schema that is part of the `text` of an error.
fn reference(schema: &Value, text: &str) -> Option<Vec<Segment>> {
    let is_meant = |target: &str| target.split('#').any(|part| !part.is_empty() && text.contains(part));
    let below = |step: Segment, value| {
        reference(value, text).map(|mut place| {
            place.insert(0, step);
            place
        })
    };
    match schema {
        Value::Object(entries) => entries.iter().find_map(|(key, value)| match (key.as_str(), value) {
            ("$ref" | "$dynamicRef" | "$schema", Value::String(target)) => {
                is_meant(target).then(|| vec![Segment::Key(key.clone())])
            }
            _ => below(Segment::Key(key.clone()), value),
        }),
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(index, item)| below(Segment::Index(index), item))
        }
        _ => None,
    }
}

fn collect_keys(schema: &Value, keys: &mut HashSet<String>) {
    match schema {
        Value::Object(entries) => {
            for (key, value) in entries {
                keys.insert(key.clone());
                collect_keys(value, keys);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_keys(item, keys)),
        _ => {}
    }
}

/// Makes a sentence of the library one of ours.
fn lowercase(text: &str) -> String {
    let mut letters = text.trim_end_matches('.').chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}
