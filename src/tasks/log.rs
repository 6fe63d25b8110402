//! `log`: writes events to the log and passes them on.
//!
//! ```yaml
//! flow:
//!   name: show
//!   tasks:
//!     - generate:
//!         name: numbers
//!         count: 3
//!     - log:
//!         name: seen
//!         level: info
//! ```
//!
//! Of an event that goes on after a failure the line also says why: `error.type`, `error.message` and `error.task`.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    event::{Event, Payload},
    task::{BuildContext, BuildError, Kind, Output, Role, Task, TaskError, Transform},
    telemetry::inside,
};

/// The `log` kind.
pub(super) struct Log;

/// How to log.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// The level of the lines.
    #[serde(default)]
    level: Level,
    /// Whether to show the event's metadata, too.
    #[serde(default)]
    include_meta: bool,
}

/// A level of the log.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Level {
    Trace,
    Debug,
    #[default]
    Info,
    Warn,
    Error,
}

impl Kind for Log {
    const NAME: &'static str = "log";
    const ROLE: Role = Role::Transform;
    const SUMMARY: &'static str = "writes events to the log and passes them on";
    const ERROR_TYPES: &'static [&'static str] = &[];
    type Config = Config;

    async fn build(config: &Config, _: &BuildContext) -> Result<Task, BuildError> {
        Ok(Task::Transform(Box::new(*config)))
    }
}

impl Transform for Config {
    #[inline]
    fn apply(&mut self, event: &mut Event, output: &mut Output) -> Result<(), TaskError> {
        // One callsite a level: where nobody listens, it costs a load.
        macro_rules! write {
            ($macro:ident) => {
                tracing::$macro!(
                    target: "flowgen::log",
                    data = %Data(&event.data),
                    subject = %event.subject,
                    meta = self.meta(event),
                    error.type = event.error.as_deref().map(|error| error.error_type),
                    error.message = event.error.as_deref().map(|error| &*error.message),
                    error.task = event.error.as_deref().map(|error| &*error.task),
                    "event"
                )
            };
        }
        inside(event, || match self.level {
            Level::Trace => write!(trace),
            Level::Debug => write!(debug),
            Level::Info => write!(info),
            Level::Warn => write!(warn),
            Level::Error => write!(error),
        });
        output.forward();
        Ok(())
    }
}

impl Config {
    fn meta(self, event: &Event) -> Option<String> {
        let entries = event.meta.entries().filter(|_| self.include_meta)?;
        serde_json::to_string(entries).ok()
    }
}

/// Shows data as JSON text; raw bytes as the text they may be.
struct Data<'a>(&'a Payload);

impl fmt::Display for Data<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.0.text(), self.0.json()) {
            (_, Some(text), _) => f.write_str(text),
            (_, None, Some(value)) => write!(f, "{value}"),
            (Payload::Bytes(bytes), ..) => f.write_str(&String::from_utf8_lossy(bytes)),
            (Payload::Json(_), None, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::json;
    use tracing::field::{Field, Visit};
    use tracing_subscriber::{Layer, filter::LevelFilter, layer::SubscriberExt};

    use super::*;
    use crate::event::{EventError, EventId, Meta};

    type Lines = Arc<Mutex<Vec<Vec<(String, String)>>>>;

    struct Capture(Lines);

    impl<S: tracing::Subscriber> Layer<S> for Capture {
        fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
            struct Fields(Vec<(String, String)>);
            impl Visit for Fields {
                fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
                    self.0.push((field.name().to_owned(), format!("{value:?}")));
                }
                fn record_str(&mut self, field: &Field, value: &str) {
                    self.0.push((field.name().to_owned(), value.to_owned()));
                }
            }
            let mut fields = Fields(vec![("level".to_owned(), event.metadata().level().to_string())]);
            event.record(&mut fields);
            if event.metadata().target() == "flowgen::log" {
                self.0.lock().unwrap().push(fields.0);
            }
        }
    }

    fn logged(config: serde_json::Value) -> Vec<Vec<(String, String)>> {
        logged_after(None, config)
    }

    fn logged_after(error: Option<EventError>, config: serde_json::Value) -> Vec<Vec<(String, String)>> {
        let mut transform: Config = serde_json::from_value(config).unwrap();
        let data = Payload::from_json_line(r#"{"a": 1}"#).unwrap();
        let mut event = Event::new(EventId::Sequence(3), "numbers".into(), data);
        event.meta = Meta::new(serde_json::Map::from_iter([("k".to_owned(), json!("v"))]));
        event.error = error.map(Arc::new);
        let lines = Lines::default();
        let subscriber =
            tracing_subscriber::registry().with(Capture(Arc::clone(&lines)).with_filter(LevelFilter::INFO));
        tracing::subscriber::with_default(subscriber, || {
            let mut output = Output::default();
            transform.apply(&mut event, &mut output).unwrap();
            assert_eq!(output.len(), 1);
        });
        let lines = lines.lock().unwrap();
        lines.clone()
    }

    fn pairs(fields: &[(&str, &str)]) -> Vec<(String, String)> {
        fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn writes_the_data_at_its_level_and_passes_the_event_on() {
        let fields =
            [("level", "WARN"), ("message", "event"), ("data", r#"{"a": 1}"#), ("subject", "numbers")];
        assert_eq!(logged(json!({"level": "warn"})), [pairs(&fields)]);
        let fields = [fields.as_slice(), &[("meta", r#"{"k":"v"}"#)]].concat();
        assert_eq!(logged(json!({"level": "warn", "include_meta": true})), [pairs(&fields)]);
    }

    #[test]
    fn says_which_failure_the_event_goes_on_after() {
        let error = EventError { error_type: "io", message: "it broke".to_owned(), task: "call".into() };
        let lines = logged_after(Some(error), json!({"level": "warn"}));
        let fields = [("error.type", "io"), ("error.message", "it broke"), ("error.task", "call")];
        assert!(lines[0].ends_with(&pairs(&fields)), "{lines:?}");
    }

    #[test]
    fn writes_nothing_below_the_level_that_is_listened_to() {
        assert_eq!(logged(json!({"level": "debug"})), Vec::<Vec<_>>::new());
    }
}
