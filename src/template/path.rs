//! A path into an event, such as `event.data.items[0]["a b"]`.

use std::borrow::Cow;

use serde_json::Value;

use crate::event::{Event, Payload};

/// A path into an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path {
    text: String,
    field: Field,
    steps: Vec<Step>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Data,
    Meta,
    Id,
    Subject,
    Timestamp,
    Error,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

impl Path {
    /// Reads a path; `None` if the text is something else.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (field, mut rest) = take_name(text.strip_prefix("event.")?)?;
        let field = match field {
            "data" => Field::Data,
            "meta" => Field::Meta,
            "id" => Field::Id,
            "subject" => Field::Subject,
            "timestamp" => Field::Timestamp,
            "error" => Field::Error,
            _ => return None,
        };
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let (step, behind) = take_step(rest)?;
            steps.push(step);
            rest = behind;
        }
        Some(Self { text: text.to_owned(), field, steps })
    }

    /// Returns the path as it was written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Returns whether the event has something there.
    pub(super) fn is_in(&self, event: &Event) -> bool {
        self.resolve(event).is_some()
    }

    /// Returns what the event has there.
    pub(super) fn resolve<'a>(&self, event: &'a Event) -> Option<Cow<'a, Value>> {
        let text = |text: String| self.steps.is_empty().then(|| Cow::Owned(Value::String(text)));
        match self.field {
            Field::Data => match &event.data {
                Payload::Json(_) => walk(event.data.json()?, &self.steps).map(Cow::Borrowed),
                Payload::Bytes(bytes) => text(String::from_utf8_lossy(bytes).into_owned()),
            },
            Field::Meta => match (event.meta.entries(), self.steps.split_first()) {
                (Some(entries), Some((Step::Key(key), rest))) => {
                    walk(entries.get(key)?, rest).map(Cow::Borrowed)
                }
                (entries, None) => Some(Cow::Owned(Value::Object(entries.cloned().unwrap_or_default()))),
                _ => None,
            },
            Field::Id => text(event.id.to_string()),
            Field::Subject => text(event.subject.to_string()),
            Field::Timestamp => text(event.timestamp.to_string()),
            Field::Error => walk(&event.error_json(), &self.steps).cloned().map(Cow::Owned),
        }
    }
}

/// Goes down a tree.
pub(super) fn walk<'a>(mut value: &'a Value, steps: &[Step]) -> Option<&'a Value> {
    for step in steps {
        value = match step {
            Step::Key(key) => value.as_object()?.get(key)?,
            Step::Index(index) => value.as_array()?.get(*index)?,
        };
    }
    Some(value)
}

fn take_step(text: &str) -> Option<(Step, &str)> {
    if let Some(rest) = text.strip_prefix('.') {
        let (name, rest) = take_name(rest)?;
        return Some((Step::Key(name.to_owned()), rest));
    }
    let inner = text.strip_prefix('[')?;
    for quote in ['"', '\''] {
        if let Some(inner) = inner.strip_prefix(quote) {
            let (key, rest) = inner.split_once(quote)?;
            let rest = rest.strip_prefix(']')?;
            return (!key.contains('\\')).then(|| (Step::Key(key.to_owned()), rest));
        }
    }
    let (index, rest) = inner.split_once(']')?;
    Some((Step::Index(index.parse().ok()?), rest))
}

fn take_name(text: &str) -> Option<(&str, &str)> {
    let is_part = |c: char| c == '_' || c.is_ascii_alphanumeric();
    let end = text.find(|c| !is_part(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let starts_well = name.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic());
    starts_well.then_some((name, rest))
}
