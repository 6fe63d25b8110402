//! The `telemetry` and `logging` blocks: their keys and defaults.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::Secret;

/// What is exported, and where to. Leaves over OTLP/gRPC only.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// Switches telemetry on.
    pub enabled: bool,
    /// The collector. Without a scheme it is `http` for localhost and private addresses.
    pub otlp_endpoint: String,
    /// The protocol; there is only one.
    pub protocol: Protocol,
    /// The name of the service in every trace and metric.
    pub service_name: String,
    /// How often metrics are exported, such as `60s`.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("examples" = ["30s", "1m 30s"]))]
    pub metrics_export_interval: Duration,
    /// The share of traces that is exported, decided at the source: 0.0 to 1.0.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub trace_sample_rate: f64,
    /// The traces that are exported even when they were not sampled.
    #[serde(deserialize_with = "or_default")]
    #[schemars(with = "Option<KeepTraces>")]
    pub keep_traces: KeepTraces,
    /// Attributes of the spans of events, as templates: `order.id: "{{ event.data.id }}"`.
    #[serde(deserialize_with = "or_default")]
    #[schemars(
        with = "Option<BTreeMap<String, String>>",
        extend("maxProperties" = super::refuse::MOST_TRACE_ATTRIBUTES)
    )]
    pub trace_attributes: BTreeMap<String, String>,
    /// Attributes of the resource.
    pub resource_attributes: BTreeMap<String, String>,
    /// The metadata of every export call. Values are secrets.
    pub headers: BTreeMap<String, Secret>,
    /// The compression of export calls.
    pub compression: Compression,
    /// How long one export call may take.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("examples" = ["30s", "1m 30s"]))]
    pub timeout: Duration,
    /// The certificates of the connection; public roots are always trusted.
    pub tls: TlsConfig,
    /// Whether a metric counts from the start or since the last export.
    pub temporality: Temporality,
    /// The buckets of histograms.
    pub histogram: Histogram,
    /// How many points one metric has at most; what is beyond them is counted in one that has
    /// `otel.metric.overflow=true`. Without it only series whose attributes come from data are limited: to 2000 of each
    /// task.
    #[schemars(range(min = 1))]
    pub cardinality_limit: Option<usize>,
    /// The queue of spans before the exporter.
    pub span_queue: SpanQueue,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            otlp_endpoint: "http://localhost:4317".into(),
            protocol: Protocol::Grpc,
            service_name: "flowgen".into(),
            metrics_export_interval: Duration::from_secs(60),
            trace_sample_rate: 1.0,
            keep_traces: KeepTraces::default(),
            trace_attributes: BTreeMap::new(),
            resource_attributes: BTreeMap::new(),
            headers: BTreeMap::new(),
            compression: Compression::default(),
            timeout: Duration::from_secs(10),
            tls: TlsConfig::default(),
            temporality: Temporality::default(),
            histogram: Histogram::default(),
            cardinality_limit: None,
            span_queue: SpanQueue::default(),
        }
    }
}

/// Takes a block that nothing stands below for one that is not there.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The protocol of the export.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// OTLP/gRPC.
    #[default]
    Grpc,
}

/// Which traces are exported even when they were not sampled.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct KeepTraces {
    /// Those of events that failed.
    pub errors: bool,
    /// Those of events that took longer than this from their source to their end; `null` for none.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "Option<String>", extend("examples" = ["30s", "1m 30s"]))]
    pub slower_than: Option<Duration>,
    /// How many a second at most; at least 1.
    #[schemars(range(min = 1))]
    pub limit: u32,
}

impl Default for KeepTraces {
    fn default() -> Self {
        Self { errors: true, slower_than: None, limit: 1000 }
    }
}

/// The compression of export calls.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// None.
    #[default]
    None,
    /// gzip.
    Gzip,
}

/// The certificates of the connection to the collector.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// A further root certificate, PEM.
    pub ca_file: Option<PathBuf>,
    /// The worker's own certificate, PEM; needs `key_file`.
    pub cert_file: Option<PathBuf>,
    /// The key of that certificate, PEM.
    pub key_file: Option<PathBuf>,
    /// The name that the collector's certificate must hold, if it is not the endpoint's host.
    pub server_name: Option<String>,
}

/// Whether a metric counts from the start or since the last export.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Temporality {
    /// From the start.
    #[default]
    Cumulative,
    /// Counters and histograms since the last export that the collector took; what can go down stays cumulative.
    Delta,
    /// As `delta`, but for counters that are observed and not counted: they stay cumulative, too.
    LowMemory,
}

/// The buckets of histograms.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Histogram {
    /// Fixed bounds, in seconds.
    Explicit {
        /// Ascending upper bounds, 1,000 at most; the defaults if not given.
        #[serde(default)]
        #[schemars(extend("maxItems" = Histogram::MOST_BOUNDS))]
        buckets: Option<Vec<f64>>,
    },
    /// At most 160 bounds that follow the data: a base-2 exponential histogram.
    Exponential {},
}

impl Histogram {
    /// The most bounds: a collector takes a message of 4 MiB, and a point holds all of them.
    pub(super) const MOST_BOUNDS: usize = 1000;
}

impl Default for Histogram {
    fn default() -> Self {
        Self::Explicit { buckets: None }
    }
}

/// The queue of spans before the exporter. What does not fit is counted and dropped.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SpanQueue {
    /// How many spans it is for; at least 1. Above three quarters of it no trace is begun; what begun traces still
    /// bring may fill twice as much. At most 100,000,000.
    #[schemars(range(min = 1, max = SpanQueue::MOST))]
    pub size: usize,
    /// How many spans one export call takes at most; no more than `size`, and no more than 1,000,000.
    #[schemars(range(min = 1, max = SpanQueue::MOST_BATCH))]
    pub batch: usize,
    /// How long a span waits for others.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("examples" = ["30s", "1m 30s"]))]
    pub delay: Duration,
}

impl SpanQueue {
    /// The most spans that it can be for; it is far below what the memory of any machine holds twice.
    pub(super) const MOST: usize = 100_000_000;

    /// The most spans of one export call, of which a few are encoded at once.
    pub(crate) const MOST_BATCH: usize = 1_000_000;
}

impl Default for SpanQueue {
    fn default() -> Self {
        Self { size: 8192, batch: 2048, delay: Duration::from_secs(1) }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
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
