//! The plan: what a configuration amounts to once nothing in it is left to check.
//!
//! Nodes and edges by index, policies typed, kinds prepared. Owns no text of the configuration except
//! names. Built by `config`, run by `runtime`.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use serde_json::Value;

use crate::{
    registry::{KindEntry, Prepared},
    retry::RetryPolicy,
    script::{self, Condition},
    telemetry::{self, LoggingConfig},
    template::{TEMPLATE, Template, TraceAttribute},
};

/// Where a worker is asked how it is, if nothing else is said.
pub const HEALTH_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8081);

/// What one worker runs.
#[derive(Debug, Default)]
pub struct Plan {
    /// The settings that all flows share.
    pub worker: Worker,
    /// The flows, in the order they were named.
    pub flows: Vec<Flow>,
}

/// The settings that all flows of a worker share.
#[derive(Debug)]
pub struct Worker {
    /// What is exported.
    pub telemetry: telemetry::Settings,
    /// What the spans of every event say besides; empty unless traces are exported.
    pub trace_attributes: Arc<[TraceAttribute]>,
    /// What is logged.
    pub logging: LoggingConfig,
    /// Where the worker is asked how it is. Nobody can ask without it.
    pub health: Option<SocketAddr>,
    /// What the cache holds at most.
    pub cache: CacheLimits,
    /// The directory of resources.
    pub resources: Option<PathBuf>,
    /// The directory of what outlives the worker. Nothing does without it.
    pub state: Option<PathBuf>,
    /// Where requests come in, and within which limits.
    pub http_server: HttpServer,
    /// How long a graceful shutdown may take in all.
    pub shutdown_timeout: Duration,
    /// Events that a channel between two tasks holds; at least 1.
    pub channel_capacity: usize,
}

impl Default for Worker {
    fn default() -> Self {
        Self {
            telemetry: telemetry::Settings::default(),
            trace_attributes: Arc::default(),
            logging: LoggingConfig::default(),
            health: None,
            cache: CacheLimits::default(),
            resources: None,
            state: None,
            http_server: HttpServer::default(),
            shutdown_timeout: Duration::from_secs(25),
            channel_capacity: 1024,
        }
    }
}

/// Where the worker's HTTP server listens, and the limits of its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpServer {
    /// The address.
    pub address: SocketAddr,
    /// Its certificate; without one it speaks plain HTTP.
    pub tls: Option<HttpTls>,
    /// The most connections at a time; further ones wait outside.
    pub max_connections: usize,
    /// How long the head of a request may take once it has begun, and the first one from the connection's begin on.
    pub header_timeout: Duration,
    /// How long a connection is kept without a request.
    pub idle_timeout: Duration,
    /// How long the body of a request may take.
    pub body_timeout: Duration,
    /// How long a client may take nothing of what it is sent.
    pub write_timeout: Duration,
    /// The memory that requests may take at a time, about.
    pub max_buffered_bytes: usize,
}

impl Default for HttpServer {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 3000)),
            tls: None,
            max_connections: 16_384,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            max_buffered_bytes: 256 << 20,
        }
    }
}

/// The files of a server's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpTls {
    /// The certificate, with those between it and a root.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
    /// Who has signed the certificates of clients; they need none without it.
    pub client_ca_file: Option<PathBuf>,
}

/// How much a cache holds before it forgets what was not used for the longest time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheLimits {
    /// Keys; at least 1.
    pub max_entries: usize,
    /// What the keys and their values take in memory, about.
    pub max_bytes: usize,
    /// Whether the next run has it too. The worker has state.
    pub is_kept: bool,
}

impl Default for CacheLimits {
    fn default() -> Self {
        Self { max_entries: 100_000, max_bytes: 64 << 20, is_kept: false }
    }
}

/// One flow: a directed acyclic graph of tasks.
#[derive(Debug)]
pub struct Flow {
    /// Unique in the worker.
    pub name: Arc<str>,
    /// Shown by `validate --output json`, never a metric label.
    pub labels: Value,
    /// The file it stands in.
    pub file: PathBuf,
    /// The directory that its relative paths start from.
    pub base_dir: PathBuf,
    /// What happens when a task panics, or a source cannot go on for now.
    pub on_task_panic: OnTaskPanic,
    /// An event that entered longer ago than this is not handled any more, and not tried again. An attempt that runs is
    /// not cut short.
    pub deadline: Option<Duration>,
    /// The queue on the disk behind each of its sources, if there is one. The worker has state then.
    pub durable: Option<Durable>,
    /// How many there are of each task that can be there more than once; at least 1.
    pub parallel_instances: usize,
    /// What it promises, if it does.
    pub slo: Option<Slo>,
    /// The tasks, in the order of the file. An index into it is a `task_id`.
    pub tasks: Vec<Node>,
}

impl Flow {
    /// Returns how long its events are to take at most, if it promises that. It is a bound of the histogram of their
    /// durations.
    pub fn threshold(&self) -> Option<Duration> {
        Some(self.slo?.latency?.under)
    }

    /// Returns how many there are of a task that is no source: one of what all events have to pass through one after the
    /// other, and of what keeps the order of each key.
    pub fn instances(&self, node: &Node) -> usize {
        let is_single = node.kind.is_serial || matches!(node.concurrency.order, Order::ByKey(_));
        if is_single { 1 } else { self.parallel_instances }
    }
}

/// The service-level objectives of a flow: at least one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slo {
    /// The share of its events that end well, above 0 and below 1.
    pub success: Option<f64>,
    /// How many of its completed events take how long.
    pub latency: Option<LatencyObjective>,
    /// Over how many days that holds: 7 to 90.
    pub days: u32,
}

/// How many events take how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LatencyObjective {
    /// Above 0 and below 1.
    pub share: f64,
    /// How long they take at most, 100 microseconds to a day.
    pub under: Duration,
}

impl LatencyObjective {
    /// Returns the most that they take in seconds, as it stands in metrics.
    pub fn seconds(self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a day of nanoseconds fits")]
        let nanos = self.under.as_nanos() as f64;
        nanos / 1e9
    }
}

/// A queue on the disk behind a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durable {
    /// When what was accepted outlasts a crash of the machine.
    pub fsync: Fsync,
    /// What it takes on the disk at most, about; beyond that the source waits.
    pub max_bytes: u64,
}

impl Default for Durable {
    fn default() -> Self {
        Self { fsync: Fsync::Always, max_bytes: 1 << 30 }
    }
}

/// When what a queue accepted outlasts a crash of the machine. It outlasts the worker in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// From then on.
    Always,
    /// After so long.
    Interval(Duration),
}

/// What happens when a task panics, or a source cannot go on for now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnTaskPanic {
    /// The task is built anew after a while and goes on with what waits for it.
    #[default]
    Restart,
    /// Its flow stops.
    Stop,
}

/// One task of a flow.
pub struct Node {
    /// Unique in the flow.
    pub name: Arc<str>,
    /// Its kind.
    pub kind: &'static KindEntry,
    /// Its kind's configuration, ready to build.
    pub prepared: Arc<dyn Prepared>,
    /// What to do when handling fails.
    pub policy: Policy,
    /// Which events it handles; the others pass by. All without it.
    pub when: Option<Arc<Condition>>,
    /// How many events it handles at a time; processors only.
    pub concurrency: Concurrency,
    /// On how many threads at a time it works, in order; transforms only, at least 1.
    pub parallelism: usize,
    /// The share of the traces that begin here, if it is not that of the worker; sources only.
    pub sample_rate: Option<f64>,
    /// The tasks that depend on this one, by index.
    pub downstream: Vec<usize>,
    /// The tasks that this one's configuration names, by index, in the order of `Kind::targets`.
    pub targets: Vec<usize>,
}

impl Node {
    /// Returns every `error.type` that the handling of an event can report: what comes of the kind, and of what the
    /// task has besides.
    pub fn error_types(&self) -> Vec<&'static str> {
        let mut error_types = self.kind.error_types.to_vec();
        if self.when.is_some() {
            error_types.extend(script::ERROR_TYPES);
        }
        if matches!(self.concurrency.order, Order::ByKey(_)) {
            error_types.push(TEMPLATE);
        }
        error_types
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("policy", &self.policy)
            .field("when", &self.when)
            .field("concurrency", &self.concurrency)
            .field("parallelism", &self.parallelism)
            .field("sample_rate", &self.sample_rate)
            .field("downstream", &self.downstream)
            .field("targets", &self.targets)
            .finish_non_exhaustive()
    }
}

/// What to do when handling an event fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// How often a transient failure is tried again; processors only.
    pub retry: RetryPolicy,
    /// How long one attempt may take; processors only.
    pub timeout: Option<Duration>,
    /// What becomes of the event in the end.
    pub on_error: OnError,
}

/// What becomes of an event whose handling failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// It is failed, and its source learns that.
    #[default]
    Fail,
    /// It is counted as dropped, and its source is told that it is dealt with.
    Drop,
    /// It is stored as it came, to be looked at and tried once more. The worker has state.
    DeadLetter,
    /// It is passed on as it came, with the error.
    Continue,
    /// It is passed on as it came, with the error, to the task of this index and to no other.
    Route(usize),
}

/// How many events a task handles at a time, and in which order they leave it. Besides, as many may wait in it or 64, the
/// greater of both; then the channel before it fills.
#[derive(Clone, Debug)]
pub struct Concurrency {
    /// At most so many; at least 1.
    pub limit: usize,
    /// In which order they leave.
    pub order: Order,
}

impl Default for Concurrency {
    fn default() -> Self {
        Self { limit: 1, order: Order::Kept }
    }
}

/// In which order events leave a task that handles several at a time.
#[derive(Clone, Debug, Default)]
pub enum Order {
    /// In that in which they came.
    #[default]
    Kept,
    /// As they are done.
    Free,
    /// As they are done, but those of one key one after the other, in the order in which they came.
    ByKey(Arc<Template>),
}
