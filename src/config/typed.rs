//! Types a value: unknown keys first, all of them; then the rest, to the first mistake.

mod words;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment as Step;

pub(super) use self::words::{describe, how_to_write};
use self::words::{wanted, whole_number};
use super::{
    interpolate::{self, Substitution},
    schema::{Shape, View},
    yaml,
};
use crate::problem::{Focus, KeyPath, Problem, Segment, did_you_mean};

/// A key that no type has.
#[derive(Debug)]
pub(super) struct Unknown {
    /// The key with its full path.
    pub(super) path: KeyPath,
    pub(super) key: String,
    pub(super) value: Value,
    /// The keys that are known there.
    pub(super) known: Vec<String>,
    /// The keys that are planned there.
    pub(super) planned: Vec<&'static str>,
    /// Whether it stands directly in the value that was looked at.
    pub(super) is_top: bool,
}

impl Unknown {
    /// Tells it, with what was probably meant.
    pub(super) fn problem(&self, elsewhere: impl Fn(&str) -> Option<String>) -> Problem {
        let known = || self.known.iter().map(String::as_str);
        let hint = did_you_mean(&self.key, known().chain(self.planned.iter().copied()))
            .or_else(|| elsewhere(&self.key))
            .or_else(|| {
                let list: Vec<_> = known().map(|key| format!("`{key}`")).collect();
                match list.len() {
                    0 => Some("no keys are known here".into()),
                    1..=16 => Some(format!("known here: {}", list.join(", "))),
                    _ => None,
                }
            });
        let mut problem = Problem::new(self.path.clone(), format!("unknown field `{}`", self.key));
        problem.focus(Focus::Key).hint_opt(hint);
        problem
    }
}

/// Removes unknown keys from `value` and returns them; makes numbers and booleans of substituted texts
/// where the shape wants them.
pub(super) fn clean(
    value: &mut Value,
    shape: &Shape,
    path: &KeyPath,
    substitutions: &[Substitution],
) -> Vec<Unknown> {
    let mut unknown = Vec::new();
    Cleaner { substitutions, depth: path.0.len(), unknown: &mut unknown }.value(value, shape.view(), path);
    unknown
}

/// Returns whether a missing field is missing because one of the `unknown` keys is a misspelling of it.
pub(super) fn explains(unknown: &[Unknown], problem: &Problem) -> bool {
    let field =
        problem.message.strip_prefix("the field `").and_then(|rest| rest.strip_suffix("` is missing"));
    field.is_some_and(|field| {
        unknown.iter().any(|one| {
            one.path.0.split_last().is_some_and(|(_, above)| above == problem.path.0)
                && did_you_mean(&one.key, [field]).is_some()
        })
    })
}

struct Cleaner<'a> {
    substitutions: &'a [Substitution],
    depth: usize,
    unknown: &'a mut Vec<Unknown>,
}

impl Cleaner<'_> {
    fn value(&mut self, value: &mut Value, view: View<'_>, path: &KeyPath) {
        match value {
            Value::Object(object) => {
                if !view.allows("object") {
                    return;
                }
                let view = view.narrowed(object);
                let keys = view.keys();
                object.retain(|key, value| {
                    let below = path.key(&**key);
                    let child = view.child(&Segment::Key(key.clone()));
                    if child.is_nothing() {
                        if let Some(known) = &keys {
                            self.unknown.push(Unknown {
                                is_top: path.0.len() == self.depth,
                                path: below,
                                key: key.clone(),
                                value: value.take(),
                                known: known.iter().map(|key| (*key).to_owned()).collect(),
                                planned: vec![],
                            });
                            return false;
                        }
                    } else {
                        self.value(value, child, &below);
                    }
                    true
                });
            }
            Value::Array(items) => {
                for (n, item) in items.iter_mut().enumerate() {
                    let segment = Segment::Index(n);
                    self.value(item, view.child(&segment), &path.index(n));
                }
            }
            Value::String(_) => self.substituted(value, &view, path),
            _ => {}
        }
    }

    fn substituted(&self, value: &mut Value, view: &View<'_>, path: &KeyPath) {
        let Value::String(text) = value else { return };
        if view.is_nothing() || view.allows("string") || !self.substitutions.iter().any(|s| s.path == *path) {
            return;
        }
        if let Some(parsed) = scalar(text, view) {
            *value = parsed;
        }
    }
}

/// Makes a number, a boolean or nothing of every text at or below `path` that a reference gave and that
/// reads as one: for keys whose type is not known.
pub(super) fn settle(value: &mut Value, path: &KeyPath, substitutions: &[Substitution]) {
    match value {
        Value::Object(object) => {
            object.iter_mut().for_each(|(key, value)| settle(value, &path.key(&**key), substitutions));
        }
        Value::Array(items) => {
            items.iter_mut().enumerate().for_each(|(n, item)| settle(item, &path.index(n), substitutions));
        }
        Value::String(text) if interpolate::written(path, substitutions).is_some() => {
            let parsed = yaml::parse_value(text.trim());
            if let Some(parsed) = parsed.filter(|value| !value.is_object() && !value.is_array()) {
                *value = parsed;
            }
        }
        _ => {}
    }
}

/// Parses a text as the number, boolean or null that a place wants.
pub(super) fn scalar(text: &str, view: &View<'_>) -> Option<Value> {
    let parsed = yaml::parse_value(text.trim())?;
    let is_scalar = parsed.is_null() || parsed.is_boolean() || parsed.is_number();
    (is_scalar && view.takes(&parsed)).then_some(parsed)
}

/// Types a value that [`clean`] went over.
pub(super) fn deserialize<T: DeserializeOwned + JsonSchema>(
    value: Value,
    shape: &Shape,
    path: &KeyPath,
    substitutions: &[Substitution],
) -> Result<T, Box<Problem>> {
    if let Some(problem) = misplaced_list(&value, shape, path) {
        return Err(Box::new(problem));
    }
    serde_path_to_error::deserialize(value.clone())
        .map_err(|error| Box::new(mistake(&error, &value, shape, path, substitutions)))
}

/// Tells the first list that stands where only a mapping may. Derived deserializers take the items of such a
/// list for the values of the keys, in the order of the type.
pub(super) fn misplaced_list(value: &Value, shape: &Shape, path: &KeyPath) -> Option<Problem> {
    let is_misplaced =
        |value: &Value, view: &View<'_>| value.is_array() && view.allows("object") && !view.allows("array");
    let spot = Spot { path: path.clone(), found: Some(value), view: shape.view() };
    let spot = spot.first(&is_misplaced)?;
    let mut problem = Problem::new(spot.path, format!("expected {}, found a list", spot.view.expected()));
    problem.hint_opt(how_to_write(&spot.view, None));
    Some(problem)
}

/// A value with its place and with what may stand there.
struct Spot<'a> {
    path: KeyPath,
    found: Option<&'a Value>,
    view: View<'a>,
}

impl<'a> Spot<'a> {
    /// Follows the path of an error as far as it leads into `value`.
    fn of(
        error: &serde_path_to_error::Error<serde_json::Error>,
        value: &'a Value,
        shape: &'a Shape,
        base: &KeyPath,
    ) -> Self {
        let mut spot = Self { path: base.clone(), found: Some(value), view: shape.view() };
        for step in error.path() {
            let segment = match step {
                Step::Seq { index } => Segment::Index(*index),
                Step::Map { key } => Segment::Key(key.clone()),
                Step::Enum { variant } => Segment::Key(variant.clone()),
                Step::Unknown => continue,
            };
            let below = spot.below(segment);
            // The name of an enum's variant is not always a key of the file.
            if below.found.is_some() || !matches!(step, Step::Enum { .. }) {
                spot = below;
            }
        }
        spot
    }

    fn below(&self, segment: Segment) -> Self {
        let found = self.found.and_then(|value| match &segment {
            Segment::Index(index) => value.get(index),
            Segment::Key(key) => value.get(key),
        });
        let view = match self.found {
            Some(Value::Object(object)) => self.view.narrowed(object).child(&segment),
            _ => self.view.child(&segment),
        };
        let mut path = self.path.clone();
        path.0.push(segment);
        Self { path, found, view }
    }

    /// Returns the first value, this one or one below it, that is as asked for.
    fn first(self, is_it: &impl Fn(&Value, &View<'_>) -> bool) -> Option<Self> {
        let value = self.found?;
        if is_it(value, &self.view) {
            return Some(self);
        }
        match value {
            Value::Object(object) => {
                object.keys().find_map(|key| self.below(Segment::Key(key.clone())).first(is_it))
            }
            Value::Array(items) => {
                (0..items.len()).find_map(|index| self.below(Segment::Index(index)).first(is_it))
            }
            _ => None,
        }
    }

    /// Goes down to the first value of a type that may not stand where it does. Of a mapping that is read as a
    /// whole, such as one with a key that says what it is, errors do not say which part they mean.
    fn misfit(self) -> Self {
        let Self { path, found, view } = &self;
        let copy = Self { path: path.clone(), found: *found, view: view.clone() };
        copy.first(&|value, view| !view.is_nothing() && !view.takes(value)).unwrap_or(self)
    }
}

/// Tells a type error.
pub(super) fn mistake(
    error: &serde_path_to_error::Error<serde_json::Error>,
    value: &Value,
    shape: &Shape,
    base: &KeyPath,
    substitutions: &[Substitution],
) -> Problem {
    let text = error.inner().to_string();
    let mut spot = Spot::of(error, value, shape, base);
    if text.starts_with("invalid type") {
        spot = spot.misfit();
    }
    let Spot { path, found, view } = spot;
    let is_written_otherwise = interpolate::written(&path, substitutions).is_some();
    let shown = found.map_or_else(|| "nothing".into(), |value| describe(value, &path, substitutions));
    if let Some(rest) = text.strip_prefix("missing field `") {
        let field = rest.trim_end_matches('`');
        let mut problem = Problem::new(path, format!("the field `{field}` is missing"));
        let expected = view.child(&Segment::Key(field.to_owned())).expected();
        problem.focus(Focus::Key);
        if !expected.is_empty() {
            problem.hint(format!("`{field}` is {expected}"));
        }
        return problem;
    }
    let constants = view.constants();
    if let (Some(Value::String(given)), false) = (found, constants.is_empty()) {
        let mut problem = Problem::new(path, format!("unknown value {shown}"));
        let list: Vec<_> = constants.iter().map(|name| format!("`{name}`")).chain(view.forms()).collect();
        let hint = did_you_mean(given, constants.iter().copied());
        problem.hint_opt(hint.or_else(|| Some(format!("known here: {}", list.join(", ")))));
        return problem;
    }
    if !constants.is_empty() && text.contains("expected") {
        return Problem::new(path, format!("expected {}, found {shown}", view.expected()));
    }
    if text.contains("did not match any variant") {
        return Problem::new(path, format!("expected {}, found {shown}", view.expected()));
    }
    let is_serde = text.starts_with("invalid type") || text.starts_with("invalid value");
    match text.rsplit_once(", expected ") {
        Some((_, expected)) if is_serde => {
            let (expected, hint) = match whole_number(expected, found) {
                Some(expected) => (expected, None),
                None => wanted(expected, &view, found.filter(|_| !is_written_otherwise)),
            };
            let mut problem = Problem::new(path, format!("expected {expected}, found {shown}"));
            problem.hint_opt(hint);
            problem
        }
        // What a deserializer says in its own words may hold any part of the value.
        _ if is_written_otherwise => {
            Problem::new(path, format!("{shown} does not become a value of this key"))
        }
        _ => Problem::new(path, text),
    }
}
