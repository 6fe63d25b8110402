//! The export of spans and metrics over OTLP/gRPC.
//!
//! Owns the connection to the collector, the thread that exports, and the account of what was exported
//! and dropped. It is handed the queue of spans and a function that collects metrics: it encodes the one's
//! records, and does not know how either came to be. `probe` takes the way to the collector one step at a time.

mod accounts;
mod chunk;
mod client;
mod collector;
mod delta;
mod error;
mod exporter;
mod flush;
mod limit;
mod metrics;
mod points;
pub(crate) mod probe;
mod resource;
mod sender;
mod tls;
mod traces;

pub(super) use accounts::{Accounts, QUEUE_FULL, Totals};
pub use client::{Accepted, Client};
pub use error::{ClientError, ExportError};
pub use exporter::StartError;
pub(super) use exporter::{Exporter, MetricsExport, TracesExport};
pub use resource::resource;

/// The longest body of a call, in bytes: below the 4 MiB that gRPC receivers take by default.
const BODY_LIMIT: usize = 7 * 512 * 1024;

#[cfg(test)]
mod tests;
