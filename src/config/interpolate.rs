//! `${VAR}`, `${VAR:-default}`, `${file:path}` and `{{ env.VAR }}` in the text values of a tree.
//!
//! Keys and Rhai code are left alone. What was put in is remembered by place, so that a key that wants
//! a number can have one and so that no report ever shows it.

use std::path::Path;

use serde_json::Value;

use super::environment::Environment;
use crate::problem::{Focus, KeyPath, Problem, Segment};

/// Keys whose text is Rhai.
const CODE_KEYS: [&str; 3] = ["code", "when", "condition"];

/// A text value that was changed.
#[derive(Clone, Debug)]
pub(super) struct Substitution {
    /// Where it is.
    pub(super) path: KeyPath,
    /// As the file has it.
    pub(super) written: String,
    /// As it is now.
    pub(super) text: String,
    /// What came from outside, with the form that brought it in.
    pub(super) secrets: Vec<Secret>,
}

/// A text from outside.
#[derive(Clone, Debug)]
pub(super) struct Secret {
    pub(super) form: String,
    pub(super) text: String,
}

/// Resolves every text value of `tree` in place. `base` is the directory of relative `${file:}` paths.
pub(super) fn resolve(
    tree: &mut Value,
    base: &Path,
    environment: &dyn Environment,
    problems: &mut Vec<Problem>,
) -> Vec<Substitution> {
    let mut walk = Walk { base, environment, problems, done: Vec::new() };
    walk.value(tree, &KeyPath::default());
    walk.done
}

/// Returns how the file writes the value at `path`, if that is not how it is now.
pub(super) fn written<'a>(path: &KeyPath, substitutions: &'a [Substitution]) -> Option<&'a str> {
    substitutions.iter().find(|one| one.path == *path).map(|one| one.written.as_str())
}

struct Walk<'a> {
    base: &'a Path,
    environment: &'a dyn Environment,
    problems: &'a mut Vec<Problem>,
    done: Vec<Substitution>,
}

impl Walk<'_> {
    fn value(&mut self, value: &mut Value, path: &KeyPath) {
        match value {
            Value::Object(object) => {
                for (key, value) in object.iter_mut() {
                    self.value(value, &path.key(&**key));
                }
            }
            Value::Array(items) => {
                for (n, item) in items.iter_mut().enumerate() {
                    self.value(item, &path.index(n));
                }
            }
            Value::String(text) if !is_code(path) && (text.contains("${") || text.contains("env")) => {
                self.text(text, path);
            }
            _ => {}
        }
    }

    fn text(&mut self, text: &mut String, path: &KeyPath) {
        let mut scan = Scan::new(text, self.base, self.environment);
        scan.run();
        let Scan { output, secrets, mistakes, .. } = scan;
        let is_resolved = mistakes.is_empty();
        for mistake in mistakes {
            let (line, column) = position(text, mistake.offset);
            let mut problem = Problem::new(path.clone(), mistake.message);
            problem.focus(Focus::Inside { line, column }).hint(mistake.hint);
            self.problems.push(problem);
        }
        if is_resolved && output != *text {
            let written = std::mem::replace(text, output.clone());
            self.done.push(Substitution { path: path.clone(), written, text: output, secrets });
        }
    }
}

/// Returns whether the text at `path` is Rhai: a code key of a task, or of an item of a task's list.
fn is_code(path: &KeyPath) -> bool {
    let Some(tasks) = path.0.iter().position(|s| *s == Segment::Key("tasks".into())) else { return false };
    let is_code_key = |segment: &Segment| matches!(segment, Segment::Key(key) if CODE_KEYS.contains(&&**key));
    match &path.0[tasks + 1..] {
        [Segment::Index(_), Segment::Key(_), key] => is_code_key(key),
        [Segment::Index(_), Segment::Key(_), Segment::Key(_), Segment::Index(_), key] => is_code_key(key),
        _ => false,
    }
}

/// Returns line and column, both from 1, of a byte offset.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..offset];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

struct Mistake {
    offset: usize,
    message: String,
    hint: String,
}

struct Scan<'a> {
    input: &'a str,
    at: usize,
    base: &'a Path,
    environment: &'a dyn Environment,
    output: String,
    secrets: Vec<Secret>,
    mistakes: Vec<Mistake>,
}

impl<'a> Scan<'a> {
    fn new(input: &'a str, base: &'a Path, environment: &'a dyn Environment) -> Self {
        Self { input, at: 0, base, environment, output: String::new(), secrets: vec![], mistakes: vec![] }
    }

    fn rest(&self) -> &'a str {
        &self.input[self.at..]
    }

    fn copy(&mut self, bytes: usize) {
        self.output.push_str(&self.rest()[..bytes]);
        self.at += bytes;
    }

    fn run(&mut self) {
        while let Some(next) = self.rest().chars().next() {
            if !self.dollar() {
                let end = match self.rest().get(..2) {
                    Some("{{") => Some("}}"),
                    Some("{%") => Some("%}"),
                    _ => None,
                };
                match end {
                    Some(end) => self.expression(end),
                    None => self.copy(next.len_utf8()),
                }
            }
        }
    }

    /// Takes `$${` or `${...}`, if one is next.
    fn dollar(&mut self) -> bool {
        if self.rest().starts_with("$${") {
            self.output.push_str("${");
            self.at += 3;
            return true;
        }
        let Some(body) = self.rest().strip_prefix("${") else { return false };
        let Some(end) = body.find('}') else {
            self.mistake(self.at, "`${` is never closed", "write `${NAME}`, or `$${` for a literal `${`");
            self.copy(2);
            return true;
        };
        let offset = self.at;
        let body = &body[..end];
        self.at += end + 3;
        self.reference(offset, body);
        true
    }

    /// Resolves the inner of `${...}`.
    fn reference(&mut self, offset: usize, body: &str) {
        if body.contains("${") {
            self.mistake(offset, format!("`${{{body}` is nested"), "references cannot hold one another");
        } else if let Some(path) = body.strip_prefix("file:") {
            match self.environment.read(&self.base.join(path)) {
                Ok(text) => {
                    let text = text.strip_suffix('\n').unwrap_or(&text);
                    let text = text.strip_suffix('\r').unwrap_or(text).to_owned();
                    self.insert(format!("${{{body}}}"), text);
                }
                Err(error) => {
                    let hint = super::sources::cause(&error);
                    self.mistake(offset, format!("cannot read the file of `${{{body}}}`"), hint);
                }
            }
        } else {
            let (name, default) = match body.split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (body, None),
            };
            if !is_name(name) {
                let hint = "write `${NAME}`, `${NAME:-default}` or `${file:path}`; `$${` is a literal `${`";
                self.mistake(offset, format!("`${{{body}}}` is no reference"), hint);
                return;
            }
            match (self.environment.variable(name), default) {
                (Some(value), None) => self.insert(format!("${{{name}}}"), value),
                (Some(value), Some(_)) if !value.is_empty() => self.insert(format!("${{{name}}}"), value),
                (_, Some(default)) => self.output.push_str(default),
                (None, None) => {
                    let hint = format!("set it, or give a default: `${{{name}:-...}}`");
                    self.mistake(offset, format!("the environment has no variable `{name}`"), hint);
                }
            }
        }
    }

    /// Copies a template expression up to and including `end`, with `env.NAME` replaced by its value.
    fn expression(&mut self, end: &str) {
        self.copy(2);
        let mut before = ' ';
        while let Some(next) = self.rest().chars().next() {
            if self.rest().starts_with(end) {
                self.copy(2);
                return;
            }
            if self.dollar() {
                before = ' ';
            } else if next == '"' || next == '\'' {
                self.copy(quoted_len(self.rest()));
                before = next;
            } else if next == '_' || next.is_alphabetic() {
                let word = self.rest().find(|c: char| c != '_' && !c.is_alphanumeric());
                let word = &self.rest()[..word.unwrap_or(self.rest().len())];
                let variable =
                    (word == "env" && before != '.').then(|| variable_of(&self.rest()[3..])).flatten();
                match variable {
                    Some((name, length)) => self.template_variable(name, 3 + length),
                    None => self.copy(word.len()),
                }
                before = 'x';
            } else {
                self.copy(next.len_utf8());
                if !next.is_whitespace() {
                    before = next;
                }
            }
        }
    }

    fn template_variable(&mut self, name: &str, length: usize) {
        let offset = self.at;
        self.at += length;
        match self.environment.variable(name) {
            Some(value) => {
                let literal = literal(&value);
                self.secrets.push(Secret { form: format!("env.{name}"), text: value });
                self.insert(format!("env.{name}"), literal);
            }
            None => {
                let hint = "set it; `env` is resolved when the flow is loaded".to_owned();
                self.mistake(offset, format!("the environment has no variable `{name}`"), hint);
            }
        }
    }

    fn insert(&mut self, form: String, text: String) {
        self.output.push_str(&text);
        self.secrets.push(Secret { form, text });
    }

    fn mistake(&mut self, offset: usize, message: impl Into<String>, hint: impl Into<String>) {
        self.mistakes.push(Mistake { offset, message: message.into(), hint: hint.into() });
    }
}

/// Returns the name in `.NAME`, `["NAME"]` or `['NAME']` at the start of `text`, and the bytes it takes.
fn variable_of(text: &str) -> Option<(&str, usize)> {
    if let Some(rest) = text.strip_prefix('.') {
        let name = &rest[..rest.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(rest.len())];
        return is_name(name).then_some((name, name.len() + 1));
    }
    let rest = text.strip_prefix("[\"").or_else(|| text.strip_prefix("['"))?;
    let name = &rest[..rest.find(['"', '\''])?];
    let is_closed = rest[name.len() + 1..].starts_with(']');
    (is_name(name) && is_closed).then_some((name, name.len() + 4))
}

/// Returns the length of the quoted text at the start of `text`, to its end if it is never closed.
fn quoted_len(text: &str) -> usize {
    let mut chars = text.char_indices();
    let quote = chars.next().map(|(_, c)| c);
    while let Some((n, c)) = chars.next() {
        if c == '\\' {
            chars.next();
        } else if Some(c) == quote {
            return n + c.len_utf8();
        }
    }
    text.len()
}

/// Writes a value as a string literal of the template language that holds no brace.
fn literal(value: &str) -> String {
    let quoted = Value::String(value.to_owned()).to_string();
    quoted.replace('{', "\\u007b").replace('}', "\\u007d")
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic())
        && name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests;
