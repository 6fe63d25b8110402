//! What the worker shows of itself: its settings, and the log lines on stderr.

mod config;
mod logs;

pub use config::{LogFormat, LoggingConfig, TelemetryConfig};
pub use logs::{Hop, Identity, init};
