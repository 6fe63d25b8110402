//! Log lines on stderr: text for people, JSON for programs, each with the task it comes from.
//!
//! A layer of our own rather than `tracing_subscriber::fmt`, because it looks at events only: spans cost
//! it nothing, and the task is read from the current-hop cell.

use std::{
    cell::RefCell,
    fmt::{self, Write as _},
    io::{IsTerminal, Write as _},
    sync::{Arc, OnceLock},
};

use jiff::Timestamp;
use serde_json::Value;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    EnvFilter, Layer,
    layer::{Context, SubscriberExt},
    util::SubscriberInitExt,
};

use super::{LogFormat, LoggingConfig, Pipeline, callsites::CallsiteFilter, hop, stderr};
use crate::trace::TraceContext;

/// How lines are written, once logging has started.
static FORMAT: OnceLock<Format> = OnceLock::new();

/// Starts logging and the layers of `pipeline`, once in a process; later calls change nothing.
///
/// `directives`, those of `RUST_LOG`, win over the configured level unless they are empty. They are about log
/// lines only. `use_color` is about text on a terminal.
pub fn init(
    config: &LoggingConfig,
    directives: Option<&str>,
    service: &str,
    use_color: bool,
    pipeline: &Pipeline,
) {
    let style = if is_json(config) {
        Style::Json
    } else {
        Style::Text { use_color: use_color && std::io::stderr().is_terminal() }
    };
    let directives = directives.map(str::trim).filter(|directives| !directives.is_empty());
    let (filter, unusable) = match directives.map(EnvFilter::try_new) {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (EnvFilter::new(config.level.as_str()), Some(error)),
        None => (EnvFilter::new(config.level.as_str()), None),
    };
    let format = Format { style, service: service.into() };
    let registry = tracing_subscriber::registry()
        .with(CallsiteFilter::new(filter, pipeline))
        .with(LogLayer(format.clone()))
        .with(pipeline.span_metrics())
        .with(pipeline.recorder());
    if registry.try_init().is_ok() {
        FORMAT.get_or_init(|| format);
        std::panic::set_hook(Box::new(log_panic));
    }
    if let Some(error) = unusable {
        tracing::warn!(error.message = %error, "`RUST_LOG` is not usable and is ignored");
    }
}

/// Returns whether log lines are JSON: then nothing else should be written among them.
pub fn is_json(config: &LoggingConfig) -> bool {
    match config.format {
        LogFormat::Json => true,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
        LogFormat::Text => false,
    }
}

/// Logs a panic where it happens; the supervisor says later which task it ended.
fn log_panic(info: &std::panic::PanicHookInfo<'_>) {
    let message = info.payload_as_str().unwrap_or("no message");
    let location = info.location().map(ToString::to_string);
    tracing::error!(error.message = message, error.type = "panic", location, "panicked");
}

/// Returns how lines are written; `None` before logging has started.
pub(super) fn format() -> Option<&'static Format> {
    FORMAT.get()
}

/// How lines are written, those of the log and those that look like them.
#[derive(Clone)]
pub(super) struct Format {
    style: Style,
    service: Arc<str>,
}

#[derive(Clone, Copy)]
enum Style {
    Text { use_color: bool },
    Json,
}

struct LogLayer(Format);

impl<S: Subscriber> Layer<S> for LogLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        thread_local! {
            static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        LINE.with(|line| {
            // Formatting a field may log in turn: that line gets a buffer of its own.
            let Ok(mut line) = line.try_borrow_mut() else { return self.write(event, &mut Vec::new()) };
            self.write(event, &mut line);
        });
    }
}

impl LogLayer {
    fn write(&self, event: &Event<'_>, line: &mut Vec<u8>) {
        line.clear();
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        self.0.line(*metadata.level(), metadata.target(), &fields, line);
        stderr::write(line);
    }
}

impl Format {
    /// Returns whether lines are JSON.
    pub(super) fn is_json(&self) -> bool {
        matches!(self.style, Style::Json)
    }

    /// Adds a line, with its end.
    pub(super) fn line(&self, level: Level, target: &str, fields: &Fields, lines: &mut Vec<u8>) {
        let now = Timestamp::now();
        match self.style {
            Style::Json => self.json(level, target, fields, now, lines),
            Style::Text { use_color } => text(level, fields, now, use_color, lines),
        }
        lines.push(b'\n');
    }

    fn json(&self, level: Level, target: &str, fields: &Fields, now: Timestamp, line: &mut Vec<u8>) {
        let mut object = Object { line };
        object.line.push(b'{');
        object.string("timestamp", &format!("{now:.6}"));
        object.string("level", level.as_str());
        object.string("target", target);
        object.string("message", &fields.message);
        for (name, value) in &fields.rest {
            object.value(name, value);
        }
        object.string("service", &self.service);
        hop::current(|identity| {
            if let Some(identity) = identity {
                object.string("flow", &identity.flow);
                object.string("task", &identity.task);
                object.string("task_type", identity.task_type);
            }
        });
        hop::current_event(|event| {
            let Some(event) = event else { return };
            object.string("event_id", &event.id.to_string());
            let TraceContext { trace_id, span_id, flags } = event.trace;
            if event.trace.is_valid() {
                object.string("trace_id", &format!("{trace_id:032x}"));
                object.string("span_id", &format!("{span_id:016x}"));
                object.string("trace_flags", &format!("{flags:02x}"));
            }
        });
        object.line.push(b'}');
    }
}

fn text(level: Level, fields: &Fields, now: Timestamp, use_color: bool, line: &mut Vec<u8>) {
    let (on, dim, off) = match (use_color, level) {
        (false, _) => ("", "", ""),
        (true, Level::ERROR) => ("\x1b[31m", "\x1b[2m", "\x1b[0m"),
        (true, Level::WARN) => ("\x1b[33m", "\x1b[2m", "\x1b[0m"),
        (true, Level::INFO) => ("\x1b[32m", "\x1b[2m", "\x1b[0m"),
        (true, _) => ("\x1b[34m", "\x1b[2m", "\x1b[0m"),
    };
    // Writing to a vector cannot fail.
    let _ = write!(line, "{dim}{now:.6}{off} {on}{:>5}{off} ", level.as_str());
    hop::current(|identity| {
        if let Some(identity) = identity {
            let _ = write!(line, "{}/{}: ", identity.flow, identity.task);
        }
    });
    let _ = write!(line, "{}", OneLine(&fields.message));
    for (name, value) in &fields.rest {
        let _ = match value {
            Value::String(value) if value.is_empty() || value.contains([' ', '"', '=']) => {
                write!(line, " {dim}{name}={off}{value:?}")
            }
            Value::String(value) => write!(line, " {dim}{name}={off}{}", OneLine(value)),
            value => write!(line, " {dim}{name}={off}{value}"),
        };
    }
    hop::current_event(|event| {
        let Some(event) = event else { return };
        let _ = write!(line, " {dim}event_id={off}{}", OneLine(&event.id.to_string()));
        let TraceContext { trace_id, span_id, flags } = event.trace;
        if event.trace.is_valid() {
            let _ = write!(line, " {dim}trace_id={off}{trace_id:032x} {dim}span_id={off}{span_id:016x}");
            let _ = write!(line, " {dim}trace_flags={off}{flags:02x}");
        }
    });
}

/// Shows text with its control characters escaped: a line stays a line, and data moves no cursor.
pub(super) struct OneLine<'a>(pub(super) &'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            if character.is_control() {
                write!(f, "{}", character.escape_default())?
            } else {
                f.write_char(character)?
            }
        }
        Ok(())
    }
}

/// A JSON object that is being written.
struct Object<'a> {
    line: &'a mut Vec<u8>,
}

impl Object<'_> {
    fn string(&mut self, name: &str, value: &str) {
        self.field(name, |line| drop(serde_json::to_writer(line, value)));
    }

    fn value(&mut self, name: &str, value: &Value) {
        self.field(name, |line| drop(serde_json::to_writer(line, value)));
    }

    fn field(&mut self, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
        if self.line.last() != Some(&b'{') {
            self.line.push(b',');
        }
        let _ = serde_json::to_writer(&mut *self.line, name);
        self.line.push(b':');
        write(self.line);
    }
}

/// The fields of a line, in order, the message apart.
#[derive(Default)]
pub(super) struct Fields {
    pub(super) message: String,
    pub(super) rest: Vec<(&'static str, Value)>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
        } else {
            self.rest.push((field.name(), Value::String(format!("{value:?}"))));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else {
            self.rest.push((field.name(), Value::from(value)));
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.rest.push((field.name(), Value::from(value)));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.rest.push((field.name(), Value::from(value)));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.rest.push((field.name(), Value::from(value)));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.rest.push((field.name(), Value::from(value)));
    }
}
