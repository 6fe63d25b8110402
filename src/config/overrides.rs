//! `FLOWGEN_<BLOCK>__<KEY>`: variables that win over the YAML of the worker's blocks.
//!
//! Their values are taken as they stand: they are not interpolated.

use serde_json::{Map, Value};

use super::{
    environment::Environment,
    interpolate::{Secret, Substitution},
    keys::{HttpServerKeys, StateKeys, WORKER_KEYS},
    schema::{Shape, View},
    typed,
    worker::HealthKeys,
    yaml,
};
use crate::{
    problem::{KeyPath, Origin, Problem, Segment, did_you_mean},
    telemetry::{LoggingConfig, TelemetryConfig},
};

/// The blocks that variables can set.
const BLOCKS: [&str; 5] = ["telemetry", "logging", "health", "http_server", "state"];

/// A value that a variable gives a key.
#[derive(Debug)]
pub(super) struct Override {
    /// The variable.
    pub(super) variable: String,
    /// The key, from the top of a file.
    pub(super) path: KeyPath,
    value: Value,
    text: String,
}

impl Override {
    /// Returns what it puts in as substitutions, one for each value: no message is to show any of it.
    pub(super) fn substitutions(&self) -> Vec<Substitution> {
        let form = format!("${{{}}}", self.variable);
        let mut texts = Vec::new();
        let mut places = Vec::new();
        texts_of(&self.value, &self.path, &mut texts, &mut places);
        let secret = |text: &String| Secret { form: form.clone(), text: text.clone() };
        let secrets = |own: &String| texts.iter().chain([own]).map(secret).collect();
        let one = |(path, text)| Substitution { path, written: form.clone(), secrets: secrets(&text), text };
        places.into_iter().chain([(self.path.clone(), self.text.clone())]).map(one).collect()
    }
}

/// Collects the keys and values of a tree as texts, and the values with their paths.
fn texts_of(value: &Value, path: &KeyPath, texts: &mut Vec<String>, places: &mut Vec<(KeyPath, String)>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                texts.push(key.clone());
                texts_of(value, &path.key(&**key), texts, places);
            }
        }
        Value::Array(items) => {
            for (n, item) in items.iter().enumerate() {
                texts_of(item, &path.index(n), texts, places);
            }
        }
        scalar => {
            let text = scalar.as_str().map_or_else(|| scalar.to_string(), str::to_owned);
            texts.push(text.clone());
            places.push((path.clone(), text));
        }
    }
}

/// Reads all overrides of the environment, sorted by variable.
pub(super) fn read(environment: &dyn Environment, problems: &mut Vec<Problem>) -> Vec<Override> {
    let mut variables: Vec<_> = environment.variables();
    variables.retain(|(name, _)| name.starts_with("FLOWGEN_"));
    variables.sort();
    let mut found = Vec::new();
    for (variable, text) in variables {
        let parsed =
            if variable.contains("__") { parse(&variable, &text) } else { one_underscore(&variable) };
        match parsed {
            Ok(Some(one)) => found.push(one),
            Ok(None) => {}
            Err(mut problem) => {
                problem.origin = Some(Origin::Variable(variable));
                problems.push(*problem);
            }
        }
    }
    found
}

/// Puts the values of `overrides` for `block` into its tree. What is no mapping stays, to be refused, if a
/// variable sets a key below it.
pub(super) fn apply(block: &str, value: &mut Value, overrides: &[Override]) {
    'overrides: for one in overrides {
        let [Segment::Key(first), rest @ ..] = one.path.0.as_slice() else { continue };
        if first != block {
            continue;
        }
        let mut at = &mut *value;
        for segment in rest {
            let Segment::Key(key) = segment else { continue };
            if at.is_null() {
                *at = Value::Object(Map::new());
            } else if !at.is_object() {
                continue 'overrides;
            }
            at = &mut at[key.as_str()];
        }
        *at = one.value.clone();
    }
}

/// Refuses a variable that would set a key if it had the second underscore; any other is somebody's own.
fn one_underscore(variable: &str) -> Result<Option<Override>, Box<Problem>> {
    let name = variable.to_lowercase();
    for (block, shape) in [
        ("telemetry", Shape::of::<TelemetryConfig>()),
        ("logging", Shape::of::<LoggingConfig>()),
        ("http_server", Shape::of::<HttpServerKeys>()),
        ("health", Shape::of::<HealthKeys>()),
        ("state", Shape::of::<StateKeys>()),
    ] {
        let Some(key) = name.strip_prefix(&format!("flowgen_{block}_")) else { continue };
        let known = shape.view().keys().unwrap_or_default();
        if known.iter().any(|known| key == *known || key.starts_with(&format!("{known}_"))) {
            let (start, rest) = variable.split_at("FLOWGEN_".len() + block.len());
            let hint = format!("write `{start}_{rest}`, with two underscores before each key");
            return Err(refuse(KeyPath::default(), "this variable sets nothing".into(), Some(hint)));
        }
    }
    Ok(None)
}

fn parse(variable: &str, text: &str) -> Result<Option<Override>, Box<Problem>> {
    let rest = variable.strip_prefix("FLOWGEN_").unwrap_or_default().to_lowercase();
    let mut keys = rest.split("__");
    let block = keys.next().unwrap_or_default();
    if !BLOCKS.contains(&block) {
        let hint = if WORKER_KEYS.contains(&block) {
            Some(format!("`{block}` is set in YAML only"))
        } else {
            did_you_mean(block, BLOCKS)
        };
        // A variable that resembles no block is somebody's own, for `${...}`.
        return match hint {
            Some(hint) => Err(refuse(KeyPath::default(), format!("no variable sets `{block}`"), Some(hint))),
            None => Ok(None),
        };
    }
    let mut path = KeyPath::default().key(block);
    let shape = match block {
        "telemetry" => Some(Shape::of::<TelemetryConfig>()),
        "logging" => Some(Shape::of::<LoggingConfig>()),
        "http_server" => Some(Shape::of::<HttpServerKeys>()),
        "health" => Some(Shape::of::<HealthKeys>()),
        "state" => Some(Shape::of::<StateKeys>()),
        _ => None,
    };
    let Some(shape) = shape else {
        path = keys.fold(path, |path, key| path.key(key));
        let value = yaml::parse_value(text).unwrap_or_else(|| text.into());
        return Ok(Some(Override { variable: variable.to_owned(), path, value, text: text.to_owned() }));
    };
    let mut view = shape.view();
    for key in keys {
        let child = view.child(&Segment::Key(key.to_owned()));
        if child.is_nothing() {
            let known = view.keys().unwrap_or_default();
            let hint = did_you_mean(key, known.iter().copied()).or_else(|| view.known_here());
            return Err(refuse(path.key(key), format!("unknown field `{key}`"), hint));
        }
        path = path.key(key);
        view = child;
    }
    let value = value(text, &view).ok_or_else(|| {
        refuse(path.clone(), format!("expected {}", view.expected()), typed::how_to_write(&view, None))
    })?;
    Ok(Some(Override { variable: variable.to_owned(), path, value, text: text.to_owned() }))
}

/// Parses the text as what the key wants. No message shows it: it may be a secret.
fn value(text: &str, view: &View<'_>) -> Option<Value> {
    if let Some(scalar) = typed::scalar(text, view).filter(|_| !view.allows("string")) {
        return Some(scalar);
    }
    if view.allows("string") {
        return Some(if text == "null" && view.allows("null") { Value::Null } else { text.into() });
    }
    let value = yaml::parse_value(text)?;
    let is_wanted =
        (value.is_object() && view.allows("object")) || (value.is_array() && view.allows("array"));
    is_wanted.then_some(value)
}

fn refuse(path: KeyPath, message: String, hint: Option<String>) -> Box<Problem> {
    let mut problem = Problem::new(path, message);
    problem.hint_opt(hint);
    Box::new(problem)
}
