//! The exporter: one thread with a runtime of its own, which nothing of the flows runs on.
//!
//! So it goes on exporting while tasks keep every other thread busy, and whoever flushes it is a plain
//! thread that waits for an answer, with a deadline, and never for the runtime it stands on.

use std::{
    io,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::resource::v1::Resource;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use super::{
    accounts::{Accounts, Totals},
    client::Client,
    collector::Collector,
    error::ClientError,
    flush::{Flush, FlushOrder},
    metrics::{Collect, Metrics},
    sender::Sender,
    traces::Traces,
};
use crate::telemetry::{Export, Meter, Signal, Temporality, queue::SpanQueue};

/// The share of the time to flush that spans leave to metrics, one of so many: the last metrics tell how
/// many spans were dropped, and a collector that takes 2 s for a call is to have them.
const SHARE_OF_METRICS: u32 = 2;

/// The export of spans.
pub(in crate::telemetry) struct TracesExport {
    /// Where to, and how.
    pub(in crate::telemetry) export: Export,
    /// The queue that they come from.
    pub(in crate::telemetry) queue: Arc<SpanQueue>,
    /// How many go into one batch.
    pub(in crate::telemetry) batch: usize,
    /// How long a span waits for others.
    pub(in crate::telemetry) delay: Duration,
}

/// The export of metrics.
pub(in crate::telemetry) struct MetricsExport {
    /// Where to, and how.
    pub(in crate::telemetry) export: Export,
    /// What they are collected from.
    pub(in crate::telemetry) collect: Collect,
    /// How long after the start the first time.
    pub(in crate::telemetry) first: Duration,
    /// How often from then on.
    pub(in crate::telemetry) interval: Duration,
    /// How many points each metric has at most, if there is a limit.
    pub(in crate::telemetry) cardinality_limit: Option<usize>,
    /// Since when points count.
    pub(in crate::telemetry) temporality: Temporality,
    /// Whether the metric of this name is a counter that is observed, not counted.
    pub(in crate::telemetry) is_observed: fn(&str) -> bool,
}

/// Why the exporter does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The client of a signal cannot be made.
    #[error("cannot export {signal}")]
    Client {
        /// The name of the signal.
        signal: &'static str,
        /// Why.
        source: ClientError,
    },
    /// There is no thread for it.
    #[error("cannot start the thread of the exporter")]
    Thread(#[source] io::Error),
}

/// What became of everything that was to be exported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::telemetry) struct Outcome {
    /// Spans.
    pub(in crate::telemetry) spans: Totals,
    /// Data points of metrics.
    pub(in crate::telemetry) points: Totals,
}

/// The running exporter. Dropped without a shutdown it ends without a flush.
#[derive(Debug)]
pub(in crate::telemetry) struct Exporter {
    thread: JoinHandle<()>,
    done: mpsc::Receiver<()>,
    traces: FlushOrder,
    metrics: FlushOrder,
    has_metrics: bool,
    pub(super) accounts: Arc<Accounts>,
}

impl Exporter {
    /// Starts it, and times its calls with `meter`. It connects when there is something to export.
    pub(in crate::telemetry) fn start(
        traces: Option<TracesExport>,
        metrics: Option<MetricsExport>,
        resource: &Resource,
        meter: Meter,
    ) -> Result<Self, StartError> {
        let accounts = Arc::new(Accounts::new(traces.as_ref().map(|traces| Arc::clone(&traces.queue))));
        let has_metrics = metrics.is_some();
        let (traces_order, flush) = FlushOrder::new();
        let (metrics_order, metrics_flush) = FlushOrder::new();
        let mut collectors = Collectors { known: Vec::new(), accounts: Arc::clone(&accounts) };
        let traces = match traces {
            None => None,
            Some(it) => {
                let (client, collector) = collectors.client(Signal::Traces, &it.export)?;
                let sender =
                    Sender::new(client, collector, Arc::clone(&accounts), flush.clone(), meter.clone());
                Some(Traces::new(sender, it.queue, it.batch, it.delay, resource))
            }
        };
        let metrics = match metrics {
            None => None,
            Some(it) => {
                let (client, collector) = collectors.client(Signal::Metrics, &it.export)?;
                let sender = Sender::new(client, collector, Arc::clone(&accounts), metrics_flush, meter);
                Some(Metrics::new(sender, it, resource))
            }
        };
        let runtime = Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
        let (is_done, done) = mpsc::sync_channel(1);
        let run = move || {
            run(runtime, flush, traces, metrics);
            // Nobody may be waiting.
            let _ = is_done.send(());
        };
        let thread = thread::Builder::new().name("flowgen-otlp".into()).spawn(run);
        let thread = thread.map_err(StartError::Thread)?;
        Ok(Self { thread, done, traces: traces_order, metrics: metrics_order, has_metrics, accounts })
    }

    /// Returns what became of everything so far.
    pub(in crate::telemetry) fn accounts(&self) -> Arc<Accounts> {
        Arc::clone(&self.accounts)
    }

    /// Returns what tells how many spans wait for the exporter or are in its hands.
    pub(in crate::telemetry) fn spans_left(&self) -> impl Fn() -> u64 + use<> {
        let accounts = Arc::clone(&self.accounts);
        move || accounts.spans_left()
    }

    /// Flushes spans, then metrics, and ends. Whatever is left at the deadline is dropped, and so is what
    /// a thread leaves that panicked. Spans that end from here on count no more.
    ///
    /// Blocks: not to be called from a future.
    pub(in crate::telemetry) fn shutdown(self, deadline: Instant) -> Outcome {
        let time = deadline.saturating_duration_since(Instant::now());
        let share_of_metrics = if self.has_metrics { time / SHARE_OF_METRICS } else { Duration::ZERO };
        self.traces.give((deadline - share_of_metrics).into());
        self.metrics.give(deadline.into());
        if self.done.recv_timeout(time).is_ok() {
            // It has nothing left to do but to return.
            let _ = self.thread.join();
        }
        self.accounts.close();
        Outcome { spans: self.accounts.spans(), points: self.accounts.points() }
    }
}

/// The collectors by endpoint: signals that go to the same one share what is known of it.
struct Collectors {
    known: Vec<Arc<Collector>>,
    accounts: Arc<Accounts>,
}

impl Collectors {
    fn client(&mut self, signal: Signal, export: &Export) -> Result<(Client, Arc<Collector>), StartError> {
        let client = Client::new(signal, export)
            .map_err(|source| StartError::Client { signal: signal.name(), source })?;
        let known = self.known.iter().find(|known| known.endpoint() == client.endpoint());
        let collector = match known {
            Some(known) => Arc::clone(known),
            None => {
                let collector = Arc::new(Collector::new(client.endpoint(), Arc::clone(&self.accounts)));
                self.known.push(Arc::clone(&collector));
                collector
            }
        };
        collector.serve(signal);
        Ok((client, collector))
    }
}

/// Runs until both signals are flushed.
fn run(runtime: Runtime, mut flush: Flush, traces: Option<Traces>, metrics: Option<Metrics>) {
    let spans_are_flushed = CancellationToken::new();
    runtime.block_on(async {
        tokio::join!(
            async {
                match traces {
                    Some(traces) => traces.run().await,
                    None => drop(flush.begun().await),
                }
                spans_are_flushed.cancel();
            },
            async {
                if let Some(metrics) = metrics {
                    metrics.run(spans_are_flushed.clone()).await;
                }
            },
        );
    });
    // A name that is still being looked up holds up nobody.
    runtime.shutdown_background();
}
