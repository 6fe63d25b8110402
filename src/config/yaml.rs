//! YAML text to a tree of JSON values, with everything that JSON cannot say refused.

use std::path::Path;

use serde_json::{Map, Number, Value};

use super::locate;
use crate::problem::{Focus, KeyPath, Origin, Problem};

/// Says which whole numbers there are.
const WHOLE_NUMBERS: &str =
    "from -9223372036854775808 to 18446744073709551615; put it in quotes if it is meant as text";

/// Parses `text`. Anchors and merge keys are resolved; an empty text is `null`.
pub(super) fn parse(file: &Path, text: &str) -> Result<Value, Vec<Problem>> {
    let parsed = serde_yaml::from_str::<serde_yaml::Value>(text).and_then(|mut value| {
        value.apply_merge()?;
        Ok(value)
    });
    match parsed {
        Ok(value) => {
            let mut problems = Vec::new();
            let tree = convert(value, &KeyPath::default(), &mut problems);
            if problems.is_empty() { Ok(tree) } else { Err(problems) }
        }
        Err(error) => Err(syntax(file, text, &error)),
    }
}

/// Parses one value, as an environment variable holds it.
pub(super) fn parse_value(text: &str) -> Option<Value> {
    let value = serde_yaml::from_str(text).ok()?;
    let mut problems = Vec::new();
    let value = convert(value, &KeyPath::default(), &mut problems);
    problems.is_empty().then_some(value)
}

fn convert(value: serde_yaml::Value, path: &KeyPath, problems: &mut Vec<Problem>) -> Value {
    match value {
        serde_yaml::Value::Null => Value::Null,
        serde_yaml::Value::Bool(value) => Value::Bool(value),
        serde_yaml::Value::String(value) => Value::String(value),
        serde_yaml::Value::Number(number) => {
            let converted = number
                .as_u64()
                .map(Number::from)
                .or_else(|| number.as_i64().map(Number::from))
                .or_else(|| number.as_f64().and_then(Number::from_f64));
            converted.map_or_else(
                || {
                    problems
                        .push(Problem::new(path.clone(), format!("`{number}` is no number that JSON has")));
                    Value::Null
                },
                Value::Number,
            )
        }
        serde_yaml::Value::Sequence(items) => {
            let items = items.into_iter().enumerate();
            Value::Array(items.map(|(n, item)| convert(item, &path.index(n), problems)).collect())
        }
        serde_yaml::Value::Mapping(mapping) => Value::Object(object(mapping, path, problems)),
        serde_yaml::Value::Tagged(tagged) => {
            problems.push(Problem::new(path.clone(), format!("the tag `{}` is not supported", tagged.tag)));
            Value::Null
        }
    }
}

fn object(mapping: serde_yaml::Mapping, path: &KeyPath, problems: &mut Vec<Problem>) -> Map<String, Value> {
    let mut object = Map::new();
    for (key, value) in mapping {
        let name = match key {
            serde_yaml::Value::String(name) => name,
            other => {
                let shown = match other {
                    serde_yaml::Value::Null => "~".to_owned(),
                    serde_yaml::Value::Bool(key) => key.to_string(),
                    serde_yaml::Value::Number(key) => key.to_string(),
                    _ => String::new(),
                };
                let below = if shown.is_empty() { path.clone() } else { path.key(&*shown) };
                let mut problem = Problem::new(below, "a key must be text");
                problem.focus(Focus::Key);
                if !shown.is_empty() {
                    problem.hint(format!("write it in quotes: `\"{shown}\"`"));
                }
                problems.push(problem);
                continue;
            }
        };
        let value = convert(value, &path.key(&*name), problems);
        object.insert(name, value);
    }
    object
}

/// Tells a syntax error with its place.
fn syntax(file: &Path, text: &str, error: &serde_yaml::Error) -> Vec<Problem> {
    let message = error.to_string();
    let begin = context_mark(&message).filter(|_| message.contains("while parsing a flow"));
    if message.contains("duplicate entry") {
        let found = duplicates(file, text);
        if !found.is_empty() {
            return found;
        }
    }
    let (mut line, mut column) = error.location().map_or((1, 1), |at| (at.line().max(1), at.column().max(1)));
    let shown = text.lines().nth(line - 1).unwrap_or_default();
    let (message, hint) = if message.contains("more than one document") {
        let second = text.lines().enumerate().skip(1).find(|(n, line)| {
            line.starts_with("---")
                && text.lines().take(*n).any(|line| !line.trim().is_empty() && !line.starts_with('#'))
        });
        (line, column) = second.map_or((1, 1), |(n, _)| (n + 1, 1));
        ("a second YAML document".into(), Some("put the flows into a list below `flows`"))
    } else if let Some(number) = beyond_64_bits(&message) {
        (format!("`{number}` is beyond what a whole number can be"), Some(WHOLE_NUMBERS))
    } else if message.contains("while scanning a quoted scalar") {
        (line, column) = context_mark(&message).unwrap_or((line, column));
        ("a quote is never closed".into(), None)
    } else {
        let hint = if shown.contains('\t') {
            Some("indent with spaces: YAML allows no tabs there")
        } else if message.contains("mapping values are not allowed") {
            Some("put text that holds `: ` in quotes, or mend the indentation")
        } else if message.contains("could not find expected ':'") {
            Some("a key ends with `:`")
        } else if message.contains("did not find expected key") || message.contains("block mapping") {
            Some("mend the indentation: keys of one mapping start in the same column")
        } else if message.contains("unknown anchor") {
            Some(
                "an alias (`*name`) needs an anchor (`&name`) before it; put text that starts with `*` in quotes",
            )
        } else if message.contains("cannot start any token") {
            Some("put text that starts with a special character in quotes")
        } else {
            None
        };
        (format!("invalid YAML: {}", without_marks(&message)), hint)
    };
    let begin = begin
        .filter(|_| hint.is_none())
        .map(|(line, column)| format!("what is not closed begins at {}:{line}:{column}", file.display()));
    let mut problem = Problem::new(KeyPath::default(), message);
    problem.hint_opt(hint.map(str::to_owned).or(begin));
    problem.origin = Some(Origin::Place(locate::at(file, text, line, column, 1)));
    vec![problem]
}

fn duplicates(file: &Path, text: &str) -> Vec<Problem> {
    let found = locate::marks(text).map(|marks| marks.duplicates()).unwrap_or_default();
    found
        .into_iter()
        .map(|duplicate| {
            let [(first, first_column), (line, column)] = duplicate.places;
            let mut problem =
                Problem::new(KeyPath::default(), format!("the key `{}` stands twice", duplicate.key));
            problem.hint(format!("first at {}:{first}:{first_column}", file.display()));
            let width = duplicate.key.chars().count();
            problem.origin = Some(Origin::Place(locate::at(file, text, line, column, width)));
            problem
        })
        .collect()
}

/// Returns the whole number that is refused for its size.
fn beyond_64_bits(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("invalid type: integer `")?;
    let (number, rest) = rest.split_once('`')?;
    (rest.starts_with(" as u128") || rest.starts_with(" as i128")).then_some(number)
}

/// Returns the second position that libyaml names: where the construct began.
fn context_mark(message: &str) -> Option<(usize, usize)> {
    let (_, mark) = message.rsplit_once(" at line ")?;
    let (line, column) = mark.split_once(" column ")?;
    Some((line.parse().ok()?, column.parse().ok()?))
}

/// Removes the positions from a message; the report shows them.
fn without_marks(message: &str) -> String {
    let mut parts = message.split(" at line ");
    let mut clean = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (_, rest) = part.split_once(" column ").unwrap_or((part, ""));
        clean.push_str(rest.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    clean
}
