//! Templates in a tree of values: a text that is exactly one `{{ path }}` keeps the type of its value.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::{Template, TemplateError, missing, path::Path};
use crate::{event::Event, task::TaskError};

/// A compiled tree whose texts may be templates. Keys are none.
#[derive(Debug)]
pub struct ValueTemplate(Node);

#[derive(Debug)]
enum Node {
    Constant(Value),
    Path(Path),
    Text(Template),
    Array(Vec<Node>),
    Object(Vec<(String, Node)>),
}

impl ValueTemplate {
    /// Compiles a tree.
    ///
    /// # Errors
    /// All errors in it, each with the dotted path of its text.
    pub fn compile(value: &Value) -> Result<Self, Vec<(String, TemplateError)>> {
        let mut errors = Vec::new();
        let node = Node::compile(value, "", &mut errors);
        if errors.is_empty() { Ok(Self(node)) } else { Err(errors) }
    }

    /// Fills in what `event` has.
    ///
    /// # Errors
    /// As [`Template::render`].
    pub fn render(&self, event: &Event) -> Result<Value, TaskError> {
        self.0.render(event)
    }
}

impl Node {
    fn compile(value: &Value, at: &str, errors: &mut Vec<(String, TemplateError)>) -> Self {
        let below = |key: &str| if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") };
        let node = match value {
            Value::String(text) => match single_path(text) {
                Some(path) => return Self::Path(path),
                None => match Template::compile(text) {
                    Ok(template) if template.as_constant().is_none() => return Self::Text(template),
                    Ok(_) => None,
                    Err(error) => {
                        errors.push((at.to_owned(), error));
                        None
                    }
                },
            },
            Value::Array(items) => Some(Self::Array(
                (0..)
                    .zip(items)
                    .map(|(n, item)| Self::compile(item, &below(&i32::to_string(&n)), errors))
                    .collect(),
            )),
            Value::Object(entries) => Some(Self::Object(
                entries
                    .iter()
                    .map(|(key, value)| (key.clone(), Self::compile(value, &below(key), errors)))
                    .collect(),
            )),
            _ => None,
        };
        match node {
            Some(node) if !node.is_constant() => node,
            _ => Self::Constant(value.clone()),
        }
    }

    fn is_constant(&self) -> bool {
        match self {
            Self::Constant(_) => true,
            Self::Path(_) | Self::Text(_) => false,
            Self::Array(items) => items.iter().all(Self::is_constant),
            Self::Object(entries) => entries.iter().all(|(_, node)| node.is_constant()),
        }
    }

    fn render(&self, event: &Event) -> Result<Value, TaskError> {
        Ok(match self {
            Self::Constant(value) => value.clone(),
            Self::Path(path) => {
                path.resolve(event).map(Cow::into_owned).ok_or_else(|| missing(path.text()))?
            }
            Self::Text(template) => Value::String(template.render(event)?),
            Self::Array(items) => {
                Value::Array(items.iter().map(|node| node.render(event)).collect::<Result<_, _>>()?)
            }
            Self::Object(entries) => {
                let entries = entries.iter().map(|(key, node)| Ok((key.clone(), node.render(event)?)));
                Value::Object(entries.collect::<Result<Map<_, _>, TaskError>>()?)
            }
        })
    }
}

/// Returns the path that a text consists of.
pub(super) fn single_path(text: &str) -> Option<Path> {
    Path::parse(text.trim().strip_prefix("{{")?.strip_suffix("}}")?)
}
