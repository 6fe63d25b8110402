//! What can be wrong with a configuration, told so that a person can mend it.
//!
//! Checks say what is wrong and at which key; where that key stands in which file is added later, by
//! whoever holds the text. Must not know YAML.

use std::{
    fmt::{self, Write as _},
    path::PathBuf,
};

/// A step into a configuration tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// The value of a key.
    Key(String),
    /// An item of a list, from 0.
    Index(usize),
}

/// The path of keys to a value, shown as `flow.tasks[0].generate.interval`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPath(pub Vec<Segment>);

impl KeyPath {
    /// Returns the path one key further.
    #[must_use]
    pub fn key(&self, key: impl Into<String>) -> Self {
        self.then(Segment::Key(key.into()))
    }

    /// Returns the path one list item further.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.then(Segment::Index(index))
    }

    /// Returns this path with `rest` behind it.
    #[must_use]
    pub fn join(&self, rest: &Self) -> Self {
        Self(self.0.iter().chain(&rest.0).cloned().collect())
    }

    fn then(&self, segment: Segment) -> Self {
        let mut segments = self.0.clone();
        segments.push(segment);
        Self(segments)
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Key(key) => {
                    f.write_str(if n > 0 { "." } else { "" })?;
                    // A path is one line, whatever a file has for a key.
                    for c in key.chars() {
                        if c.is_control() { write!(f, "{}", c.escape_debug())? } else { f.write_char(c)? }
                    }
                }
                Segment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// Which part of a `key: value` pair a problem points at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Focus {
    /// The key: it is unknown, or what stands below it is incomplete.
    Key,
    /// The value.
    #[default]
    Value,
    /// A place inside a text value: line and column, both from 1, the column in characters.
    Inside {
        /// Line within the value.
        line: usize,
        /// Column within that line.
        column: usize,
    },
}

/// Where in a file a problem is, with the line of text it points at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file as the user named it.
    pub file: PathBuf,
    /// From 1; 0 where there is no line to show.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// How many characters to underline; at least 1.
    pub width: usize,
    /// The text of the line.
    pub text: String,
}

/// Where a problem comes from, if it is not a place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A place in a file.
    Place(Place),
    /// An environment variable.
    Variable(String),
    /// The command line.
    Argument(String),
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong: lowercase, no full stop, user text in backticks.
    pub message: String,
    /// The key it is about.
    pub path: KeyPath,
    /// The part of that key.
    pub focus: Focus,
    /// How to mend it.
    pub hint: Option<String>,
    /// Where it is; filled in by whoever holds the text.
    pub origin: Option<Origin>,
}

impl Problem {
    /// Makes a problem with the value at `path`.
    pub fn new(path: KeyPath, message: impl Into<String>) -> Self {
        Self { message: message.into(), path, focus: Focus::default(), hint: None, origin: None }
    }

    /// Points at the key or at a place inside the value.
    pub fn focus(&mut self, focus: Focus) -> &mut Self {
        self.focus = focus;
        self
    }

    /// Says how to mend it.
    pub fn hint(&mut self, hint: impl Into<String>) -> &mut Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says how to mend it, if there is anything to say.
    pub fn hint_opt(&mut self, hint: Option<String>) -> &mut Self {
        self.hint = hint.or(self.hint.take());
        self
    }
}

/// What is wrong with a value, wherever it comes from, and how to mend it.
#[derive(Debug)]
pub(crate) struct Fault {
    /// What is wrong, as in [`Problem`].
    pub(crate) message: String,
    /// How to mend it.
    pub(crate) hint: Option<String>,
}

impl Fault {
    /// Makes a fault without a hint.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    /// Says how to mend it.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Reports it as a problem of the value at the dotted path `key`.
    pub(crate) fn report(self, key: &str, problems: &mut Problems) {
        problems.report(key, self.message).hint_opt(self.hint);
    }
}

/// Collects problems below one path of the configuration.
#[derive(Debug, Default)]
pub struct Problems {
    base: KeyPath,
    found: Vec<Problem>,
}

impl Problems {
    /// Collects problems whose paths are relative to `base`.
    pub fn below(base: KeyPath) -> Self {
        Self { base, found: Vec::new() }
    }

    /// Returns the path that all others are relative to.
    pub fn base(&self) -> &KeyPath {
        &self.base
    }

    /// Adds a problem with the value at the dotted `path` (`""` is the base itself; list items are
    /// written as numbers: `cases.0.when`), and returns it to be given a focus or a hint.
    pub fn report(&mut self, path: &str, message: impl Into<String>) -> &mut Problem {
        let mut full = self.base.clone();
        for part in path.split('.').filter(|part| !part.is_empty()) {
            full = match part.parse() {
                Ok(index) => full.index(index),
                Err(_) => full.key(part),
            };
        }
        self.push(Problem::new(full, message))
    }

    /// Adds a problem that knows its whole path.
    pub fn push(&mut self, problem: Problem) -> &mut Problem {
        self.found.push(problem);
        self.found.last_mut().expect("one was just pushed")
    }

    /// Takes over the problems of another collection.
    pub fn extend(&mut self, other: Self) {
        self.found.extend(other.found);
    }

    /// Returns whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Returns what was found.
    pub fn into_vec(self) -> Vec<Problem> {
        self.found
    }
}

/// Returns the hint `did you mean ...?` if one of the `known` names is close enough to `given`.
pub fn did_you_mean<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let given = given.to_lowercase();
    let limit = given.chars().count().div_ceil(3).max(1);
    known
        .into_iter()
        .map(|name| (strsim::osa_distance(&given, &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| format!("did you mean `{name}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dotted_path_becomes_keys_and_items_below_the_base() {
        let mut problems = Problems::below(KeyPath::default().key("flow").key("tasks").index(2));
        problems.report("switch.cases.0.when", "is empty");
        assert_eq!(problems.into_vec()[0].path.to_string(), "flow.tasks[2].switch.cases[0].when");
    }

    #[test]
    fn a_path_is_one_line_whatever_its_keys_are() {
        let path = KeyPath::default().key("labels").key("a\nb\u{1b}").index(0).key("größe");
        assert_eq!(path.to_string(), "labels.a\\nb\\u{1b}[0].größe");
    }

    #[test]
    fn suggests_what_is_close_and_nothing_that_is_not() {
        let known = ["interval", "cron", "count"];
        assert_eq!(did_you_mean("intreval", known).as_deref(), Some("did you mean `interval`?"));
        assert_eq!(did_you_mean("Cron", known).as_deref(), Some("did you mean `cron`?"));
        assert_eq!(did_you_mean("payload", known), None);
    }
}
