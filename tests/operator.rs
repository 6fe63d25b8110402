//! What `deploy/` and the documents for operators say, held against what a worker exports and against one another. That the
//! rules fire when they should is checked by `tests/e2e/rules`, by Prometheus's own program.

mod names;
mod promql;
mod rules;
mod runbook;
mod stack;

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the files of a folder that have this ending, by name, with their paths below the repository.
fn files(folder: &str, ending: &str) -> Vec<String> {
    let entries = fs::read_dir(repository().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let named = entries.filter(|path| path.extension().is_some_and(|extension| extension == ending));
    let mut found: Vec<_> = named.map(|path| shown(&path)).collect();
    found.sort();
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(repository()).unwrap().display().to_string()
}

/// Returns a file of rules, of tests of rules, or of anything else that is YAML.
fn document(path: &str) -> Value {
    serde_yaml::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Returns a text of a mapping; an empty one where there is none.
fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}
