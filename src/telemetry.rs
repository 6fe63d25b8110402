//! What the worker shows of itself: its settings, and the log lines on stderr.

mod config;
mod failures;
mod hop;
mod logs;
pub mod stderr;

pub use config::{LogFormat, LoggingConfig, TelemetryConfig};
pub use failures::{FailureLog, error_chain};
pub use hop::{Identity, Scoped, current};
pub use logs::init;
