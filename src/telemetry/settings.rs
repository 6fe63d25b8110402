//! The effective settings of telemetry: what the configuration, the variables of OpenTelemetry and the
//! defaults amount to, each with where it came from.
//!
//! [`Configured::resolve`] makes them, in the order that `docs/telemetry.md` promises. Must not read
//! the environment itself.

mod ambient;
mod exports;
mod resolve;
mod show;
mod traces;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use super::{Compression, Histogram, KeepTraces, Secret, SpanQueue, Temporality, TlsConfig, endpoint};
use crate::{event::Event, trace::Remote};

pub(crate) use resolve::Configured;

/// What is exported, how, and where to.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether anything is exported at all.
    pub enabled: bool,
    /// The name of the service, also in log lines.
    pub service_name: String,
    /// Further attributes of the resource; never `service.name`.
    pub resource_attributes: BTreeMap<String, String>,
    /// Where traces go, if they go anywhere.
    pub traces: Option<Export>,
    /// Where metrics go, if they go anywhere.
    pub metrics: Option<Export>,
    /// How often metrics are exported.
    pub metrics_export_interval: Duration,
    /// The share of traces that is exported: 0.0 to 1.0.
    pub trace_sample_rate: f64,
    /// Whether the decision of a remote parent stands, instead of one by the rate.
    pub is_parent_based: bool,
    /// The traces that are exported even when they were not sampled.
    pub keep_traces: KeepTraces,
    /// Since when points count.
    pub temporality: Temporality,
    /// The buckets of histograms.
    pub histogram: Histogram,
    /// How many points one metric has at most, if there is a limit.
    pub cardinality_limit: Option<usize>,
    /// The queue of spans before the exporter.
    pub span_queue: SpanQueue,
    /// Which measurements become exemplars.
    pub exemplars: ExemplarFilter,
    /// What is passed on to others and taken from them.
    pub propagators: Propagators,
    /// Every setting above as people may see it, in the order of the documentation.
    pub sources: Vec<Resolved>,
}

impl Default for Settings {
    fn default() -> Self {
        Configured { config: super::TelemetryConfig::default(), source: &|_| None, written: &|_| None }
            .resolve(&|_| None, &|_| Err(std::io::ErrorKind::NotFound.into()), &mut Vec::new())
    }
}

impl Settings {
    /// Returns the settings that matter, as people may see them: all, or while telemetry is off the few that do
    /// then. Context is passed on nevertheless.
    pub fn shown(&self) -> impl Iterator<Item = &Resolved> {
        let is_shown =
            |row: &&Resolved| self.enabled || matches!(row.key, "enabled" | "service_name" | "propagators");
        self.sources.iter().filter(is_shown)
    }

    /// Logs what came from variables, one line each.
    pub fn log_sources(&self) {
        for one in self.shown() {
            if let Source::Variable(variable) = &one.source {
                let signal = one.signal.map(Signal::name);
                tracing::info!(
                    key = one.key,
                    signal,
                    value = one.value,
                    source = variable,
                    "telemetry setting from a variable"
                );
            }
        }
    }
}

/// Where one signal is exported to, and how.
#[derive(Clone, PartialEq, Eq)]
pub struct Export {
    /// A URL with a scheme; no path.
    pub endpoint: String,
    /// The metadata of every call, names in lowercase.
    pub headers: BTreeMap<String, Secret>,
    /// The compression of calls.
    pub compression: Compression,
    /// How long one call may take.
    pub timeout: Duration,
    /// The certificates of the connection.
    pub tls: TlsConfig,
}

impl Export {
    /// Returns the endpoint as people may see it: without a name and a password.
    pub fn endpoint_shown(&self) -> String {
        endpoint::without_userinfo(&self.endpoint)
    }
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export")
            .field("endpoint", &self.endpoint_shown())
            .field("headers", &self.headers)
            .field("compression", &self.compression)
            .field("timeout", &self.timeout)
            .field("tls", &self.tls)
            .finish()
    }
}

/// Which measurements become exemplars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExemplarFilter {
    /// Those of spans that are exported.
    #[default]
    TraceBased,
    /// All.
    AlwaysOn,
    /// None.
    AlwaysOff,
}

/// The formats in which context goes from one process to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Propagators {
    /// W3C Trace Context: `traceparent` and `tracestate`.
    pub trace_context: bool,
    /// W3C Baggage.
    pub baggage: bool,
}

impl Default for Propagators {
    fn default() -> Self {
        Self { trace_context: true, baggage: true }
    }
}

impl Propagators {
    /// Returns the headers with which an event is handed to another process: names in lowercase, values that are
    /// printable ASCII.
    pub fn headers(self, event: &Event) -> impl Iterator<Item = (&'static str, String)> {
        let remote = event.trail.remote();
        let of_trace = self.trace_context && event.trace.is_valid();
        let traceparent = of_trace.then(|| event.trace.traceparent().to_string());
        let tracestate = remote.filter(|_| of_trace).and_then(Remote::tracestate).map(str::to_owned);
        let baggage = remote.filter(|_| self.baggage).and_then(Remote::baggage).map(str::to_owned);
        let headers = [("traceparent", traceparent), ("tracestate", tracestate), ("baggage", baggage)];
        headers.into_iter().filter_map(|(name, value)| Some((name, value?)))
    }

    /// Returns what is taken of what came with an event.
    pub fn receive(self, remote: Remote) -> Option<Remote> {
        remote.only(self.trace_context, self.baggage)
    }
}

/// What is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Metrics.
    Metrics,
}

impl Signal {
    /// Returns its name in lowercase.
    pub fn name(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
        }
    }
}

/// One effective setting as people may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Its key below `telemetry`, or a name of its own if only a variable sets it.
    pub key: &'static str,
    /// The signal it is for, if it is not the same for all that are exported.
    pub signal: Option<Signal>,
    /// Its value; secrets are masked.
    pub value: String,
    /// Where it came from.
    pub source: Source,
}

/// Where a setting came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nothing says otherwise.
    Default,
    /// A line of a file.
    File {
        /// The file as the user named it.
        file: PathBuf,
        /// From 1.
        line: usize,
    },
    /// An environment variable.
    Variable(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { file, line } => write!(f, "{}:{line}", file.display()),
            Self::Variable(name) => f.write_str(name),
        }
    }
}
