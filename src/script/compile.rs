//! Why a script does not compile, told so that its author can mend it.

use std::fmt;

use rhai::{LexError, ParseError, ParseErrorType, Position};

use super::{
    analysis::{CTX_FIELDS, EVENT_FIELDS, Fault, FaultKind},
    engine::DISABLED,
};
use crate::problem::{Focus, Problems, did_you_mean};

/// Why a script does not compile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileError {
    /// Line within the script, from 1.
    pub line: usize,
    /// Column within that line, from 1, in characters.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub hint: Option<String>,
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at line {}, column {}", self.message, self.line, self.column)?;
        self.hint.iter().try_for_each(|hint| write!(f, " ({hint})"))
    }
}

impl std::error::Error for CompileError {}

impl CompileError {
    /// Reports it as a problem with the script at the dotted `path`.
    pub fn report(self, path: &str, problems: &mut Problems) {
        let focus = Focus::Inside { line: self.line, column: self.column };
        problems.report(path, self.message).focus(focus).hint_opt(self.hint);
    }

    pub(super) fn new(code: &str, position: Position, message: impl Into<String>) -> Self {
        let (line, column) = place(code, position);
        Self { line, column, message: message.into(), hint: None }
    }

    pub(super) fn with_hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Tells what the parser found wrong with `code`, whose variables are `known`.
    pub(super) fn from_parser(code: &str, error: &ParseError, known: &[&str]) -> Self {
        let make = |message: String| Self::new(code, error.position(), message);
        match error.err_type() {
            ParseErrorType::VariableUndefined(name) => make(format!("unknown variable `{name}`"))
                .with_hint(did_you_mean(name, known.iter().copied())),
            ParseErrorType::BadInput(LexError::ImproperSymbol(word, _))
                if DISABLED.contains(&word.as_str()) =>
            {
                reserved(code, error.position(), word)
            }
            ParseErrorType::Reserved(word) => reserved(code, error.position(), word),
            ParseErrorType::PropertyExpected => match word_at(code, error.position()) {
                Some(word) => reserved(code, error.position(), word),
                None => make("a property name is missing".to_owned()),
            },
            ParseErrorType::UnexpectedEOF => make("the script ends too early".to_owned()),
            other => make(lowercase_first(&other.to_string())),
        }
    }

    /// Tells what is wrong with a use of `event` or `ctx`.
    pub(super) fn from_fault(code: &str, fault: &Fault) -> Self {
        match &fault.kind {
            FaultKind::Unknown { root, field } => {
                let fields = if *root == "event" { &EVENT_FIELDS[..] } else { &CTX_FIELDS[..] };
                let known =
                    fields.iter().map(|field| format!("`{root}.{field}`")).collect::<Vec<_>>().join(", ");
                let hint = did_you_mean(field, fields.iter().copied())
                    .unwrap_or_else(|| format!("there are {known}; the payload is in `event.data`"));
                Self::new(code, fault.position, format!("`{root}` has no field `{field}`")).with_hint(hint)
            }
            FaultKind::Fixed(field) => {
                let hint = (field == "error").then(|| "`event.error = ()` clears it".to_owned());
                Self::new(code, fault.position, format!("`event.{field}` cannot be changed")).with_hint(hint)
            }
        }
    }
}

/// A reserved word is often meant as a field.
fn reserved(code: &str, position: Position, word: &str) -> CompileError {
    let error = CompileError::new(code, position, format!("`{word}` is a reserved word"));
    let line = code.lines().nth(error.line - 1).unwrap_or_default();
    let before: String = line.chars().take(error.column - 1).collect();
    let is_path = |c: char| c.is_alphanumeric() || "_.?".contains(c);
    let start = before.trim_end_matches(is_path).len();
    match before[start..].strip_suffix('.') {
        Some(owner) if !owner.is_empty() => {
            let owner = owner.trim_end_matches('?');
            error.with_hint(format!("write `{owner}[\"{word}\"]`"))
        }
        _ if DISABLED.contains(&word) => {
            CompileError { message: format!("`{word}` is not available in scripts"), ..error }
        }
        _ => error,
    }
}

fn word_at(code: &str, position: Position) -> Option<&str> {
    let line = code.lines().nth(position.line()?.checked_sub(1)?)?;
    let (start, _) = line.char_indices().nth(position.position()?.checked_sub(1)?)?;
    let rest = &line[start..];
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    (end > 0).then(|| &rest[..end])
}

/// Line and column, both from 1; the end of the text where the parser knows no better.
pub(super) fn place(code: &str, position: Position) -> (usize, usize) {
    let text = code.trim_end();
    match (position.line(), position.position()) {
        // A newline at the end starts no line that a reader sees.
        (Some(line), column) if line <= text.lines().count() => (line, column.unwrap_or(1).max(1)),
        _ => {
            let last = text.lines().last().unwrap_or_default();
            (text.lines().count().max(1), last.chars().count() + 1)
        }
    }
}

fn lowercase_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}
