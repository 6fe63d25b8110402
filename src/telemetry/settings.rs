//! stand-in
use super::{Compression, Histogram, Secret, SpanQueue, TlsConfig};
use std::{collections::BTreeMap, time::Duration};
/// e
#[derive(Clone, Debug)]
pub struct Export {
    /// e
    pub endpoint: String,
    /// e
    pub headers: BTreeMap<String, Secret>,
    /// e
    pub compression: Compression,
    /// e
    pub timeout: Duration,
    /// e
    pub tls: TlsConfig,
}
/// s
#[derive(Clone, Debug)]
pub struct Settings {
    /// s
    pub enabled: bool,
    /// s
    pub traces: Option<Export>,
    /// s
    pub metrics: Option<Export>,
    /// s
    pub metrics_export_interval: Duration,
    /// s
    pub trace_sample_rate: f64,
    /// s
    pub histogram: Histogram,
    /// s
    pub span_queue: SpanQueue,
    /// s
    pub service_name: String,
    /// s
    pub resource_attributes: BTreeMap<String, String>,
}
