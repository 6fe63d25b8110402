//! What the worker shows of itself: its settings, and the log lines on stderr.

mod attributes;
mod config;
mod failures;
mod hop;
mod logs;
mod refuse;
mod secret;
mod span_kind;
pub mod stderr;

pub use attributes::{Attribute, AttributeValue, Attributes, Text};
pub use config::{
    Compression, Histogram, KeepTraces, LogFormat, LoggingConfig, Protocol, SpanQueue, TelemetryConfig,
    Temporality, TlsConfig,
};
pub use failures::{FailureLog, error_chain};
pub use hop::{Identity, Scoped, spawn_blocking};
pub use logs::init;
pub use secret::Secret;
pub use span_kind::SpanKind;
