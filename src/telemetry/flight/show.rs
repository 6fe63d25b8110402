//! How an entry is shown: as the fields of a line, and as a block of text.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::entry::{Entry, Passed};
use crate::{
    ack::Outcome,
    event::{Attempt, StepKind},
    telemetry::{
        error_chain,
        logs::{Fields, OneLine},
    },
    trace::{Ticks, TraceContext},
};

/// The most characters that are shown of an error with all that caused it, and of an event's id.
const MOST_OF_ERROR: usize = 2000;
const MOST_OF_ID: usize = 200;

/// The most further attempts that a block shows of one task.
const MOST_RETRIES: usize = 8;

/// What became of an event that failed and was passed on.
const PASSED_ON: &str = "passed on";

/// Nanoseconds.
const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;

/// Returns an entry as the fields of a line. Times are in seconds.
pub(super) fn fields(entry: &Entry) -> Fields {
    let mut rest: Vec<(&'static str, Value)> = Vec::new();
    if let Some(identity) = entry.identity() {
        rest.push(("flow", (&*identity.flow).into()));
        rest.push(("task", (&*identity.task).into()));
        rest.push(("task_type", identity.task_type.into()));
    }
    rest.push(("event_id", event_id(entry).into()));
    rest.extend(entry.event_id.position().map(|(path, line)| ("position", format!("{path}:{line}").into())));
    let TraceContext { trace_id, span_id, flags } = entry.trace;
    if entry.trace.is_valid() {
        rest.push(("trace_id", format!("{trace_id:032x}").into()));
        rest.push(("span_id", format!("{span_id:016x}").into()));
        rest.push(("trace_flags", format!("{flags:02x}").into()));
    }
    rest.push(("reason", entry.reason().name().into()));
    rest.push(("at", at(entry).into()));
    rest.push(("duration", seconds(entry.end().since(entry.start()))));
    if let Some(failure) = &entry.failure {
        rest.push(("outcome", failure.outcome.map_or(PASSED_ON, Outcome::name).into()));
        rest.push(("error.type", failure.error_type.into()));
        rest.push(("error.message", clipped(&error_chain(&*failure.error), MOST_OF_ERROR).into()));
    }
    let path = entry.steps.iter().enumerate().map(|(n, passed)| step(entry, n, passed));
    rest.push(("path", path.collect()));
    Fields { message: "flight record".into(), rest }
}

fn step(entry: &Entry, n: usize, passed: &Passed) -> Value {
    let mut shown = Map::new();
    shown.insert("task".into(), passed.identity().map(|identity| &*identity.task).into());
    shown.insert("start".into(), seconds(passed.step.start.since(entry.start())));
    shown.insert("duration".into(), seconds(passed.step.nanos));
    if passed.step.kind == StepKind::Flushed {
        shown.insert("flush".into(), true.into());
    }
    if let Some(nanos) = queued(passed) {
        shown.insert("queued".into(), seconds(nanos));
    }
    let retries: Vec<Value> = entry.attempts_at(n).map(|attempt| retry(entry.start(), attempt)).collect();
    if !retries.is_empty() {
        shown.insert("retries".into(), retries.into());
    }
    shown.into()
}

fn retry(start: Ticks, attempt: &Attempt) -> Value {
    let mut shown = Map::new();
    shown.insert("start".into(), seconds(attempt.step.start.since(start)));
    shown.insert("duration".into(), seconds(attempt.step.nanos));
    if let Some(error_type) = attempt.error_type {
        shown.insert("error.type".into(), error_type.into());
    }
    shown.into()
}

/// Returns an entry as a block of lines, the first of which is not indented.
pub(super) fn text(entry: &Entry) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = block(entry, &mut text);
    text
}

fn block(entry: &Entry, text: &mut String) -> std::fmt::Result {
    match entry.identity() {
        Some(identity) => write!(text, "{}/{}", OneLine(&identity.flow), OneLine(&identity.task))?,
        None => write!(text, "?")?,
    }
    write!(text, ": {}", entry.reason().name())?;
    if let Some(failure) = &entry.failure {
        if !failure.is_panic {
            write!(text, " {}", failure.error_type)?;
        }
        write!(text, ", {}", failure.outcome.map_or(PASSED_ON, Outcome::name))?;
    }
    writeln!(text)?;
    let took = duration(entry.end().since(entry.start()));
    writeln!(text, "    at     {}, {took} after it entered", at(entry))?;
    write!(text, "    event  {}", OneLine(&event_id(entry)))?;
    if let Some((path, line)) = entry.event_id.position() {
        write!(text, ", {}:{line}", OneLine(path))?;
    }
    writeln!(text)?;
    let TraceContext { trace_id, span_id, flags } = entry.trace;
    if entry.trace.is_valid() {
        writeln!(text, "    trace  {trace_id:032x} span {span_id:016x} flags {flags:02x}")?;
    }
    if let Some(failure) = &entry.failure {
        let chain = clipped(&error_chain(&*failure.error), MOST_OF_ERROR);
        writeln!(text, "    error  {}", OneLine(&chain))?;
    }
    writeln!(text, "    path  {:>10} {:>10} {:>10}  task", "start", "took", "queued")?;
    for (n, passed) in entry.steps.iter().enumerate() {
        let task = match passed.step.kind {
            StepKind::Flushed => "  flush",
            _ => passed.identity().map_or("?", |identity| &identity.task),
        };
        let queued = queued(passed).map(duration).unwrap_or_default();
        row(text, entry.start(), passed.step.start, passed.step.nanos, &queued, task)?;
        for attempt in entry.attempts_at(n).take(MOST_RETRIES) {
            let retry = attempt.error_type.map_or("  retry".into(), |error| format!("  retry: {error}"));
            row(text, entry.start(), attempt.step.start, attempt.step.nanos, "", &retry)?;
        }
        let more = entry.attempts_at(n).skip(MOST_RETRIES).count();
        if more > 0 {
            writeln!(text, "{:46}{more} more", "")?;
        }
    }
    Ok(())
}

fn row(
    text: &mut String,
    entered: Ticks,
    start: Ticks,
    nanos: u64,
    queued: &str,
    what: &str,
) -> std::fmt::Result {
    let (start, took) = (duration(start.since(entered)), duration(nanos));
    writeln!(text, "          {start:>10} {took:>10} {queued:>10}  {}", OneLine(what))
}

/// Returns how long the event waited for a task; `None` at a source.
fn queued(passed: &Passed) -> Option<u64> {
    passed.step.queued.is_set().then(|| passed.step.start.since(passed.step.queued))
}

fn event_id(entry: &Entry) -> String {
    clipped(&entry.event_id.to_string(), MOST_OF_ID)
}

/// Returns when an entry was made, as log lines have their time.
fn at(entry: &Entry) -> String {
    let time = Timestamp::from_nanosecond(entry.end().unix_nanos().into()).unwrap_or_default();
    format!("{time:.6}")
}

/// Returns text, or its beginning if it has more characters.
fn clipped(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}… ({} bytes more)", &text[..end], text.len() - end),
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people, who do not miss a nanosecond of three months")]
fn seconds(nanos: u64) -> Value {
    (nanos as f64 / SECOND as f64).into()
}

/// Returns a duration with a unit that suits its size.
fn duration(nanos: u64) -> String {
    let (unit, name) = match nanos {
        0..MILLISECOND => (1000, "µs"),
        MILLISECOND..SECOND => (MILLISECOND, "ms"),
        _ => (SECOND, "s"),
    };
    let tenths = nanos / (unit / 10);
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}
