//! The `telemetry` and `logging` blocks: their keys, defaults and the refusals that need no I/O.

use schemars::JsonSchema;
use serde::Deserialize;

/// What is exported, and where to.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// Switches telemetry on.
    pub enabled: bool,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One line of text for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged to stderr, and how.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LoggingConfig {
    /// How log lines look.
    pub format: LogFormat,
    /// The least severe level that is logged: `error`, `warn`, `info`, `debug` or `trace`. `RUST_LOG` wins.
    pub level: String,
}

impl Default for LoggingConfig {
    fn default() -> Self {
        Self { format: LogFormat::default(), level: "info".into() }
    }
}
