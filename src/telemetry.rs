//! What the worker shows of itself: its settings, and the log lines on stderr.

mod config;
mod logs;
mod refuse;

pub use config::{
    Compression, Histogram, KeepTraces, LogFormat, LoggingConfig, Protocol, SpanQueue, TelemetryConfig,
    Temporality, TlsConfig,
};
pub use logs::{Hop, Identity, init};
