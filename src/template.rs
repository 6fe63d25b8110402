//! Templates: text with `{{ event.data.x }}` in it, compiled when the flow is loaded.
//!
//! Owns what a template may name and what it makes of it; the syntax is minijinja's. Event data is never
//! evaluated as a template. Must not know the environment: `env.X` is put in before.

mod attribute;
pub(crate) mod bounded;
mod error;
mod path;
mod value;
mod view;

use std::fmt;

use minijinja::{
    Environment, ErrorKind, Output, State, UndefinedBehavior, Value, escape_formatter, syntax::SyntaxConfig,
    value::ValueKind,
};

pub use attribute::TraceAttribute;
pub use error::TemplateError;
pub use value::ValueTemplate;

use self::{bounded::Unrendered, path::Path, view::EventView};
use crate::{event::Event, problem::did_you_mean, task::TaskError};

/// `error.type` of an event that a template cannot be rendered for.
pub const TEMPLATE: &str = "template";

/// What an event has, as templates name it.
const EVENT_FIELDS: [&str; 6] = ["data", "meta", "id", "subject", "timestamp", "error"];

/// Instructions that one rendering may take: loops within loops end as an error, not in memory.
const FUEL: u64 = 1_000_000;

/// How long the front of a template may be that is rendered before there is an event.
const LONGEST_PREFIX: usize = 64 << 10;

/// The name of the one template of an engine.
const NAME: &str = "template";

/// A compiled template.
pub struct Template {
    source: String,
    /// What every rendering starts with, whatever the event.
    prefix: String,
    body: Body,
}

enum Body {
    /// There is nothing to fill in.
    Constant,
    Engine {
        engine: Box<Environment<'static>>,
        /// The paths that it names, to say which one is missing.
        paths: Vec<String>,
    },
}

impl Template {
    /// Compiles a template.
    ///
    /// # Errors
    /// A syntax error, or a name that no event has.
    pub fn compile(source: &str) -> Result<Self, TemplateError> {
        let body = if literal_end(source) < source.len() { engine(source)? } else { Body::Constant };
        Ok(Self { source: source.to_owned(), prefix: prefix(source), body })
    }

    /// Returns the template as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Returns the text, if it is the same for every event.
    pub fn as_constant(&self) -> Option<&str> {
        matches!(self.body, Body::Constant).then_some(&self.source)
    }

    /// Returns the text before anything that comes from an event; what `env.X` became belongs to it.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Fills in what `event` has.
    ///
    /// # Errors
    /// The event lacks a path, or a filter cannot work with it. Permanent; `error.type` is [`TEMPLATE`].
    pub fn render(&self, event: &Event) -> Result<String, TaskError> {
        let Body::Engine { engine, paths } = &self.body else { return Ok(self.source.clone()) };
        let root = EventView::root(event);
        let template = engine.get_template(NAME).map_err(Unrendered::Engine);
        let rendered = template.and_then(|template| bounded::render(&template, root, bounded::MOST_BYTES));
        rendered.map_err(|unrendered| {
            let error = match unrendered {
                Unrendered::Engine(error) => error,
                Unrendered::TooLong => return too_long(),
            };
            let missing = (error.kind() == ErrorKind::UndefinedError)
                .then(|| paths.iter().find(|path| Path::parse(path).is_some_and(|path| !path.is_in(event))))
                .flatten();
            match missing {
                Some(path) => self::missing(path),
                None => TaskError::permanent(TEMPLATE, "cannot render the template")
                    .with_source(error::cause(&error)),
            }
        })
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Template({:?})", self.source)
    }
}

/// Returns where the text ends that is taken as it is.
fn literal_end(source: &str) -> usize {
    ["{{", "{%", "{#"].iter().filter_map(|mark| source.find(mark)).min().unwrap_or(source.len())
}

/// Renders the front of a template as far as it names nothing of an event.
fn prefix(source: &str) -> String {
    let (mut end, mut rendered) = (0, String::new());
    loop {
        let mark = end + literal_end(&source[end..]);
        let next = source[mark..].strip_prefix("{{").and_then(|inner| inner.find("}}"));
        let constant = next.and_then(|inner| {
            let behind = mark + "{{".len() + inner + "}}".len();
            match engine(&source[..behind]) {
                Ok(Body::Engine { engine, paths }) if paths.is_empty() => {
                    let template = engine.get_template(NAME).ok()?;
                    Some((behind, bounded::render(&template, Value::from(()), LONGEST_PREFIX).ok()?))
                }
                _ => None,
            }
        });
        let Some(constant) = constant else { return rendered + &source[end..mark] };
        (end, rendered) = constant;
    }
}

/// The error of an event that lacks a path.
fn missing(path: &str) -> TaskError {
    TaskError::permanent(TEMPLATE, format!("the event has no `{path}`"))
}

/// The error of an event that makes too much of a template.
fn too_long() -> TaskError {
    let message = format!("the template would render more than {} bytes", bounded::MOST_BYTES);
    TaskError::permanent(TEMPLATE, message)
}

fn engine(source: &str) -> Result<Body, TemplateError> {
    let mut engine = Environment::new();
    // It tells the inside of the engine, with all of the event.
    engine.remove_global("debug");
    engine.set_fuel(Some(FUEL));
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build();
    engine.set_syntax(syntax.expect("the delimiters are the default ones"));
    engine.set_formatter(format_value);
    engine
        .add_template_owned(NAME, source.to_owned())
        .map_err(|error| TemplateError::syntax(source, &error))?;
    let template = engine.get_template(NAME).map_err(|error| TemplateError::syntax(source, &error))?;
    let globals: Vec<String> = engine.globals().map(|(name, _): (&str, Value)| name.to_owned()).collect();
    let mut paths: Vec<String> = template.undeclared_variables(true).into_iter().collect();
    paths.sort();
    for path in &paths {
        let mut parts = path.split('.');
        let root = parts.next().unwrap_or_default();
        if globals.iter().any(|global| global == root) {
            continue;
        }
        if root != "event" {
            return Err(TemplateError::unknown_root(source, root));
        }
        if let Some(field) = parts.next().filter(|field| !EVENT_FIELDS.contains(field)) {
            let hint = did_you_mean(field, EVENT_FIELDS).unwrap_or_else(|| {
                "an event has `data`, `meta`, `id`, `subject`, `timestamp` and `error`".to_owned()
            });
            return Err(TemplateError::at(source, path, format!("an event has no `{field}`"), Some(hint)));
        }
    }
    paths.retain(|path| path.starts_with("event"));
    Ok(Body::Engine { engine: Box::new(engine), paths })
}

/// Prints a value: data is JSON, and so is what it prints, except that text has no quotes.
fn format_value(
    out: &mut Output<'_>,
    state: &mut State<'_, '_>,
    value: &Value,
) -> Result<(), minijinja::Error> {
    let text = match value.kind() {
        ValueKind::None => "null",
        ValueKind::Bool if value.is_true() => "true",
        ValueKind::Bool => "false",
        // A part of the event prints itself; this is what a filter made of one.
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable if !view::is_part(value) => {
            let text = serde_json::to_string(value).map_err(|error| {
                minijinja::Error::new(ErrorKind::BadSerialization, "a value is no JSON").with_source(error)
            })?;
            return Ok(out.write_str(&text)?);
        }
        _ => return escape_formatter(out, state, value),
    };
    Ok(out.write_str(text)?)
}

#[cfg(test)]
mod tests;
