//! `flowgen list`: the kinds of tasks, from the registry.

use std::{fmt::Write as _, process::ExitCode};

use serde_json::{Value, json};

use super::{NOT_STARTED, Output, print, print_json};
use crate::{
    config::{self, Key},
    problem::{KeyPath, Origin, Problem, did_you_mean},
    registry::{KindEntry, Registry},
    report, tasks,
};

/// Lists all kinds, or tells all about one.
pub(crate) fn execute(kind: Option<&str>, output: Output) -> ExitCode {
    let registry = tasks::registry();
    let Some(name) = kind else {
        return match output {
            Output::Text => print(&overview(registry)),
            Output::Json => print_json(&registry.kinds().iter().map(summary).collect()),
        };
    };
    match (registry.get(name), output) {
        (Some(kind), Output::Text) => print(&detail(kind)),
        (Some(kind), Output::Json) => print_json(&detail_json(kind)),
        (None, _) => {
            let mut problem = Problem::new(KeyPath::default(), format!("unknown kind `{name}`"));
            let known = registry.kinds().iter().map(|kind| kind.name);
            let hint = did_you_mean(name, known).unwrap_or_else(|| "`flowgen list` shows all kinds".into());
            problem.hint(hint).origin = Some(Origin::Argument(name.to_owned()));
            report::problems(&[problem]);
            ExitCode::from(NOT_STARTED)
        }
    }
}

fn overview(registry: Registry) -> String {
    let width = registry.kinds().iter().map(|kind| kind.name.len()).max().unwrap_or(0);
    registry.kinds().iter().fold(String::new(), |mut text, kind| {
        let _ = writeln!(text, "{:width$}  {:9}  {}", kind.name, kind.role.to_string(), kind.summary);
        text
    })
}

fn detail(kind: &KindEntry) -> String {
    let mut text = format!("{} ({}): {}\n", kind.name, kind.role, kind.summary);
    let keys = config::keys(kind);
    text.push_str(if keys.is_empty() { "\nNo keys of its own.\n" } else { "\nKeys:\n" });
    for key in &keys {
        let _ = writeln!(text, "  {}: {}{}", key.name, key.expected, remark(key));
        if !key.description.is_empty() {
            let _ = writeln!(text, "      {}", key.description);
        }
    }
    if !kind.error_types.is_empty() {
        let _ = writeln!(text, "\nError types: {}", kind.error_types.join(", "));
    }
    let telemetry = kind.telemetry();
    if !telemetry.is_empty() {
        let _ = writeln!(text, "\nTelemetry: {telemetry}");
    }
    let example = kind.example();
    if !example.is_empty() {
        text.push_str("\nExample:\n");
        for line in example.lines() {
            let _ = writeln!(text, "{}", format!("  {line}").trim_end());
        }
    }
    text
}

fn remark(key: &Key) -> String {
    match (&key.default, key.is_required) {
        (_, true) => " (required)".into(),
        (Some(Value::String(default)), _) => format!(" (default {default})"),
        (Some(default), _) => format!(" (default {default})"),
        (None, false) => String::new(),
    }
}

fn summary(kind: &KindEntry) -> Value {
    json!({"kind": kind.name, "role": kind.role.to_string(), "summary": kind.summary})
}

fn detail_json(kind: &KindEntry) -> Value {
    let mut told = summary(kind);
    let keys = config::keys(kind).into_iter().map(|key| {
        json!({
            "key": key.name,
            "expected": key.expected,
            "default": key.default,
            "required": key.is_required,
            "description": key.description,
        })
    });
    told["keys"] = keys.collect();
    told["error_types"] = kind.error_types.into();
    told["telemetry"] = kind.telemetry().into();
    told["example"] = kind.example().into();
    told
}
