//! What the worker shows of itself: spans, the metrics derived from them, and the log lines on stderr.

mod answer_span;
mod attributes;
mod callsites;
mod config;
mod durations;
mod encode;
mod endpoint;
mod exemplars;
mod exponential;
pub mod export;
mod failures;
mod flight;
mod guard;
mod histogram;
mod hop;
mod ids;
pub mod instruments;
mod keep;
mod life;
mod logs;
mod meter;
mod open_span;
mod outcome;
mod own;
mod pipeline;
mod points;
mod queue;
mod record;
mod recorder;
mod refuse;
mod registry;
mod sampling;
mod secret;
mod series;
mod settings;
mod sharded;
mod span_kind;
mod span_metrics;
mod spans;
pub mod stderr;

pub use answer_span::AnswerSpan;
pub use attributes::{Attribute, AttributeValue, Attributes, Text};
pub use config::{
    Compression, Histogram, KeepTraces, LogFormat, LoggingConfig, Protocol, SpanQueue, TelemetryConfig,
    Temporality, TlsConfig,
};
pub use failures::{FailureLog, error_chain};
pub use flight::FlightRecorder;
pub use guard::Telemetry;
pub use hop::{Identity, Scoped, inside, inside_async, spawn_blocking};
pub use keep::{Kept, Last};
pub use logs::{init, is_json};
pub use meter::{Asked, Counter, Hold, Level, Meter, Observed, Timer, Timers};
pub use open_span::OpenSpan;
pub use outcome::SpanOutcome;
pub use pipeline::Pipeline;
pub use points::{Label, Labels};
pub use record::{MAX_LINKS, SpanRecord};
pub(crate) use refuse::check_rate;
pub use secret::Secret;
pub(crate) use settings::Configured;
pub use settings::{ExemplarFilter, Export, Propagators, Resolved, Settings, Signal, Source};
pub use span_kind::SpanKind;
pub use spans::{Spans, Tracer};

/// The `error.type` of work in which a task panicked.
pub const PANIC: &str = "panic";

/// The `error.type` of an attempt that took longer than the task's `timeout`.
pub const TIMEOUT: &str = "timeout";

/// The `error.type` of an error that its kind does not declare.
pub const OTHER_ERROR: &str = "_OTHER";

/// The only attribute of a point that tells of all series beyond a limit.
const OVERFLOW: &str = "otel.metric.overflow";

/// The types of the errors that the runtime itself makes, of any task.
pub const RUNTIME_ERRORS: [&str; 2] = [PANIC, TIMEOUT];

/// The instrumentation scope of all spans and metrics, and the version of the service.
const SCOPE: &str = "flowgen";
const VERSION: &str = env!("CARGO_PKG_VERSION");
