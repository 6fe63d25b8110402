//! How dead letters are shown.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::state::Letter;

/// Returns a line for each letter.
pub(super) fn list(letters: &[Letter]) -> String {
    let rows: Vec<[String; 6]> = letters
        .iter()
        .map(|letter| {
            [
                letter.id.to_string(),
                format!("{:.0}", letter.time),
                letter.flow.clone(),
                letter.task.clone(),
                letter.error_type.clone(),
                letter.errors.first().cloned().unwrap_or_default(),
            ]
        })
        .collect();
    let heads = ["NUMBER", "TIME", "FLOW", "TASK", "ERROR TYPE", "ERROR"];
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).chain([heads[column].len()]).max().unwrap_or(0)
    };
    let widths = [0, 1, 2, 3, 4].map(width);
    let mut text = String::new();
    for row in [heads.map(str::to_owned)].iter().chain(&rows) {
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(text, "{cell:width$}  ");
        }
        let _ = writeln!(text, "{}", row[5]);
    }
    text
}

/// Returns all that is known of each letter.
pub(super) fn whole(letters: &[Letter]) -> String {
    let mut text = String::new();
    for letter in letters {
        let Letter { id, time, flow, task, error_type, errors, attempts, event } = letter;
        let trace = event.trace().map(|trace| format!("{:032x}", { trace.trace_id }));
        let _ = writeln!(text, "dead letter {id}");
        let _ = writeln!(text, "  failed    {time} in task `{task}` of flow `{flow}`");
        let _ = writeln!(text, "  error     {error_type}: {}", errors.first().map_or("", String::as_str));
        for cause in errors.iter().skip(1) {
            let _ = writeln!(text, "  because   {cause}");
        }
        let _ = writeln!(text, "  attempts  {attempts}");
        let _ = writeln!(text, "  event     {}", event.id());
        if let Some(trace) = trace {
            let _ = writeln!(text, "  trace     {trace}");
        }
        if !event.meta().is_empty() {
            let _ = writeln!(text, "  meta      {}", Value::Object(event.meta().clone()));
        }
        let _ = writeln!(text, "  data      {}\n", event.data());
    }
    text
}

/// Returns what [`list`] shows, for programs.
pub(super) fn line(letter: &Letter) -> Value {
    let trace_id = letter.event.trace().map(|trace| format!("{:032x}", { trace.trace_id }));
    json!({
        "number": letter.id,
        "time": letter.time,
        "flow": letter.flow,
        "task": letter.task,
        "error_type": letter.error_type,
        "errors": letter.errors,
        "attempts": letter.attempts,
        "event_id": letter.event.id(),
        "trace_id": trace_id,
    })
}

/// Returns all that is known of a letter, for programs.
pub(super) fn json(letter: &Letter) -> Value {
    let mut shown = line(letter);
    shown["data"] = letter.event.data();
    shown["meta"] = Value::Object(letter.event.meta().clone());
    shown
}
