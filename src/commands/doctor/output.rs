//! What the doctor found out, for people and for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{
    Examined, Findings,
    checks::{Endpoint, Step},
};
use crate::{
    commands::validate,
    config::Loaded,
    problem::Problem,
    telemetry::{
        Settings, Signal,
        export::probe::{METRIC_NAME, SPAN_NAME},
    },
};

/// The widest that a column of values is; longer ones push what follows.
const VALUE_WIDTH: usize = 24;

/// Writes the settings, and what is not exported.
pub(super) fn settings(settings: &Settings, notes: &[String]) -> String {
    let rows: Vec<_> = settings.shown().map(|row| (label(row.key, row.signal), row)).collect();
    let width = rows.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
    let mut text = String::from("telemetry:\n");
    for (label, row) in rows {
        let value = one_line(&row.value);
        let _ = writeln!(text, "  {label:width$}  {value:VALUE_WIDTH$}  {}", row.source);
    }
    for note in notes {
        let _ = writeln!(text, "\n{note}");
    }
    text
}

/// Writes what stands above the steps to an endpoint.
pub(super) fn headline(endpoint: &Endpoint) -> String {
    format!("\n{} ({}):\n", endpoint.name, signals(endpoint).join(", "))
}

/// Writes a step.
pub(super) fn step(step: &Step) -> String {
    let label = label(step.name, step.signal);
    let took = format!("{} ms", step.took.as_millis());
    match &step.result {
        Ok(found) => format!("  {label:16}  ok      {took:>8}  {found}\n"),
        Err((failure, advice)) => {
            format!("  {label:16}  FAILED  {took:>8}  {}\n    hint: {advice}\n", failure.cause)
        }
    }
}

/// Writes what it all comes to.
pub(super) fn verdict(settings: &Settings, findings: &Findings) -> String {
    if findings.examined.is_empty() {
        return String::new();
    }
    let mut text = String::from(if findings.is_ok() {
        "\nok: everything that was sent was taken\n"
    } else {
        "\nFAILED: not everything arrives; the hints above say what to do\n"
    });
    let service = one_line(&settings.service_name);
    if let Some(trace_id) = &findings.trace_id {
        let _ = writeln!(text, "look for the span `{SPAN_NAME}` of `{service}`: its trace is {trace_id}");
    }
    if steps(findings).any(|step| step.name == "metric" && step.is_ok()) {
        let _ = writeln!(text, "look for the metric `{METRIC_NAME}` of `{service}`");
    }
    text
}

fn steps(findings: &Findings) -> impl Iterator<Item = &Step> {
    findings.examined.iter().flat_map(|examined| &examined.steps)
}

fn signals(endpoint: &Endpoint) -> Vec<&'static str> {
    endpoint.exports.iter().map(|exported| exported.signal.name()).collect()
}

fn label(name: &str, signal: Option<Signal>) -> String {
    signal.map_or_else(|| name.to_owned(), |signal| format!("{name} ({})", signal.name()))
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Writes everything for programs. `docs/telemetry.md` promises its shape.
pub(super) fn json(loaded: &Loaded, notes: &[String], findings: &Findings) -> String {
    let settings = &loaded.plan.worker.telemetry;
    let rows = settings.shown().map(|row| {
        json!({
            "key": row.key,
            "signal": row.signal.map(Signal::name),
            "value": row.value,
            "source": row.source.to_string(),
        })
    });
    pretty(&json!({
        "ok": findings.is_ok(),
        "enabled": settings.enabled,
        "settings": rows.collect::<Vec<_>>(),
        "notes": notes,
        "endpoints": findings.examined.iter().map(json_of_endpoint).collect::<Vec<_>>(),
        "trace_id": findings.trace_id,
        "problems": [],
        "warnings": loaded.warnings.iter().map(validate::problem).collect::<Vec<_>>(),
    }))
}

/// Writes for programs what keeps everything from being tried.
pub(super) fn json_of_refusal(problems: &[Problem]) -> String {
    pretty(&json!({
        "ok": false,
        "enabled": null,
        "settings": [],
        "notes": [],
        "endpoints": [],
        "trace_id": null,
        "problems": problems.iter().map(validate::problem).collect::<Vec<_>>(),
        "warnings": [],
    }))
}

fn json_of_endpoint(examined: &Examined) -> Value {
    let steps = examined.steps.iter().map(|step| {
        let (error, hint) = match &step.result {
            Ok(_) => (None, None),
            Err((failure, advice)) => (Some(failure.kind.name()), Some(advice)),
        };
        let detail = match &step.result {
            Ok(found) => found,
            Err((failure, _)) => &failure.cause,
        };
        json!({
            "step": step.name,
            "signal": step.signal.map(Signal::name),
            "ok": step.is_ok(),
            "seconds": step.took.as_secs_f64(),
            "detail": detail,
            "error": error,
            "hint": hint,
        })
    });
    json!({
        "endpoint": examined.endpoint.name,
        "signals": signals(&examined.endpoint),
        "ok": examined.is_ok(),
        "steps": steps.collect::<Vec<_>>(),
    })
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}
