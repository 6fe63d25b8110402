//! A collector inside the test: an OTLP/gRPC server on a thread and a runtime of its own, every answer of
//! which is scripted. It keeps what it accepts, and in the end sees to it that every metric is a known one.
//!
//! A call larger than 4 MiB is refused, as by any gRPC receiver that is left at its defaults.

mod instruments;
mod metrics;
mod port;
mod spans;
mod status;

use std::{
    net::SocketAddr,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread::JoinHandle,
    time::Duration,
};

use opentelemetry_proto::tonic::collector::{
    metrics::v1::{
        ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
        metrics_service_server::{MetricsService, MetricsServiceServer},
    },
    trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
};
use prost::Message;
use tokio::sync::{oneshot, watch};
use tonic::{
    Code, Request, Response, Status,
    codec::CompressionEncoding,
    metadata::MetadataMap,
    transport::{Server, ServerTlsConfig, server::TcpIncoming},
};

pub(crate) use metrics::{Labels, Metrics, Number, Point, labels};
pub(crate) use port::Port;
pub(crate) use spans::{Span, Trace, shape, traces};

/// The longest call that is taken, in bytes, if the test does not say otherwise.
pub(crate) const LIMIT: usize = 4 * 1024 * 1024;

/// How long a test waits before it says that nothing came.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a call carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Traces,
    Metrics,
}

/// A call as it came in.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) signal: Signal,
    /// Which one of its signal it is, from 0.
    pub(crate) number: usize,
    pub(crate) metadata: MetadataMap,
    /// How many bytes it carries, decompressed.
    pub(crate) size: usize,
}

impl Call {
    /// Returns the value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.metadata.get(name).map(|value| value.to_str().unwrap())
    }
}

/// What the collector does with a call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// Keeps all of it.
    Accept,
    /// Keeps all of it, once [`Collector::release`] is called.
    Hold,
    /// Keeps all of it, this much later.
    Late(Duration),
    /// Keeps all of it but says that it rejected this many of its spans or points.
    RejectSome(i64),
    /// Keeps nothing.
    Refuse(Code),
    /// Keeps nothing, and says when to try again.
    Throttle(Duration),
    /// Keeps all of it, unless it has more bytes than this.
    UpTo(usize),
    /// Keeps nothing, and says nothing until the other side goes away.
    Never,
}

/// What came in and was kept, and every call, kept or not.
#[derive(Debug, Default)]
pub(crate) struct Received {
    pub(crate) calls: Vec<Call>,
    traces: Vec<ExportTraceServiceRequest>,
    metrics: Vec<ExportMetricsServiceRequest>,
}

impl Received {
    /// Returns every span, in the order in which it came.
    pub(crate) fn spans(&self) -> Vec<Span> {
        spans::read(&self.traces)
    }

    /// Returns the last value of every series.
    pub(crate) fn metrics(&self) -> Metrics {
        Metrics::read(&self.metrics)
    }

    /// Returns what came of metrics, as it came.
    pub(crate) fn metric_requests(&self) -> &[ExportMetricsServiceRequest] {
        &self.metrics
    }

    /// Returns each span and metric that holds this text anywhere, in full.
    pub(crate) fn holding(&self, text: &str) -> Vec<String> {
        let spans = self.traces.iter().flat_map(|request| &request.resource_spans);
        let spans = spans.flat_map(|group| &group.scope_spans).flat_map(|group| &group.spans);
        let metrics = self.metrics.iter().flat_map(|request| &request.resource_metrics);
        let metrics = metrics.flat_map(|group| &group.scope_metrics).flat_map(|group| &group.metrics);
        let spans = spans.filter(|span| holds(*span, text)).map(|span| format!("{span:?}"));
        spans
            .chain(metrics.filter(|metric| holds(*metric, text)).map(|metric| format!("{metric:?}")))
            .collect()
    }

    /// Returns the resource of each call, in full.
    pub(crate) fn resources(&self) -> Vec<String> {
        let spans = self.traces.iter().flat_map(|request| &request.resource_spans);
        let metrics = self.metrics.iter().flat_map(|request| &request.resource_metrics);
        let resources = spans.map(|group| &group.resource).chain(metrics.map(|group| &group.resource));
        resources.map(|resource| format!("{resource:?}")).collect()
    }

    /// Returns how many calls with metrics were kept.
    pub(crate) fn metric_calls(&self) -> usize {
        self.metrics.len()
    }

    /// Returns what the last call with metrics said.
    pub(crate) fn latest(&self) -> Metrics {
        Metrics::read(&self.metrics[self.metrics.len().saturating_sub(1)..])
    }

    /// Returns what each collection said, the first one first.
    pub(crate) fn collections(&self) -> Vec<Metrics> {
        Metrics::read_each(&self.metrics)
    }

    fn calls_of(&self, signal: Signal) -> impl Iterator<Item = &Call> {
        self.calls.iter().filter(move |call| call.signal == signal)
    }
}

/// Returns whether a message holds this text: in its bytes, or as a number.
fn holds(message: &(impl Message + std::fmt::Debug), text: &str) -> bool {
    message.encode_to_vec().windows(text.len()).any(|bytes| bytes == text.as_bytes())
        || format!("{message:?}").contains(text)
}

type Script = Box<dyn FnMut(&Call) -> Answer + Send>;

struct Shared {
    received: Mutex<Received>,
    changed: Condvar,
    script: Mutex<Script>,
    is_released: watch::Sender<bool>,
}

/// A collector on a port of its own, until it is dropped.
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    port: Port,
    tls: Option<ServerTlsConfig>,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Collector {
    /// Starts one that accepts everything.
    pub(crate) fn start() -> Self {
        Self::scripted(|_| Answer::Accept)
    }

    /// Starts one that answers each call with what `script` makes of it.
    pub(crate) fn scripted(script: impl FnMut(&Call) -> Answer + Send + 'static) -> Self {
        Self::serve(None, Box::new(script))
    }

    /// Starts one that accepts everything that comes over TLS.
    pub(crate) fn with_tls(tls: ServerTlsConfig) -> Self {
        Self::serve(Some(tls), Box::new(|_| Answer::Accept))
    }

    fn serve(tls: Option<ServerTlsConfig>, script: Script) -> Self {
        let port = Port::reserve();
        let shared = Arc::new(Shared {
            received: Mutex::default(),
            changed: Condvar::new(),
            script: Mutex::new(script),
            is_released: watch::Sender::new(false),
        });
        let mut collector = Self { address: port.address, port, tls, shared, stop: None, thread: None };
        collector.listen();
        collector
    }

    /// Starts to listen, at first or after [`Self::close`].
    pub(crate) fn listen(&mut self) {
        let (listener, tls) = (self.port.listen(), self.tls.clone());
        let service = Service(Arc::clone(&self.shared));
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    served = serve(listener, tls, service) => served.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        (self.stop, self.thread) = (Some(stop), Some(thread));
    }

    /// Stops to listen and hangs up on everybody. The port stays this collector's, and so does what it has.
    pub(crate) fn close(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map_or(Ok(()), JoinHandle::join);
        if !std::thread::panicking() {
            ended.unwrap();
        }
    }

    /// Answers each call from now on with what `script` makes of it.
    pub(crate) fn follow(&self, script: impl FnMut(&Call) -> Answer + Send + 'static) {
        *self.shared.script.lock().unwrap() = Box::new(script);
    }

    /// Returns the endpoint for clients without TLS.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers the calls that are held, and holds none from now on.
    pub(crate) fn release(&self) {
        self.shared.is_released.send_replace(true);
    }

    /// Waits until what has come in is as `is_enough` wants it.
    pub(crate) fn wait_until(&self, is_enough: impl Fn(&Received) -> bool) {
        let received = self.received();
        let (received, timeout) = self
            .shared
            .changed
            .wait_timeout_while(received, PATIENCE, |received| !is_enough(received))
            .unwrap();
        assert!(!timeout.timed_out(), "it never came, but this did: {received:?}");
    }

    /// Returns what came in. No call is answered while this is held.
    pub(crate) fn received(&self) -> MutexGuard<'_, Received> {
        self.shared.received.lock().unwrap()
    }

    /// Returns every call, whether it was accepted or not.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.received().calls.clone()
    }

    /// Returns every span that was accepted.
    pub(crate) fn spans(&self) -> Vec<Span> {
        self.received().spans()
    }

    /// Returns the last value of every series.
    pub(crate) fn metrics(&self) -> Metrics {
        self.received().metrics()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.close();
        if !std::thread::panicking() {
            self.received().metrics.iter().for_each(instruments::assert_known);
        }
    }
}

async fn serve(
    listener: std::net::TcpListener,
    tls: Option<ServerTlsConfig>,
    service: Service,
) -> Result<(), tonic::transport::Error> {
    let incoming = TcpIncoming::from(tokio::net::TcpListener::from_std(listener).unwrap());
    // What is too long is told from what is not where each call is answered.
    let traces = TraceServiceServer::new(service.clone())
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(usize::MAX);
    let metrics = MetricsServiceServer::new(service)
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(usize::MAX);
    let mut server = Server::builder();
    if let Some(tls) = tls {
        server = server.tls_config(tls)?;
    }
    server.add_service(traces).add_service(metrics).serve_with_incoming(incoming).await
}

#[derive(Clone)]
struct Service(Arc<Shared>);

impl Service {
    /// Answers a call as the script says: with the number of items to reject. `keep` keeps what it carries.
    async fn answer(
        &self,
        signal: Signal,
        (metadata, size): (MetadataMap, usize),
        keep: impl FnOnce(&mut Received) + Send,
    ) -> Result<i64, Status> {
        let call = {
            let mut received = self.0.received.lock().unwrap();
            let number = received.calls_of(signal).count();
            let call = Call { signal, number, metadata, size };
            received.calls.push(call.clone());
            call
        };
        self.0.changed.notify_all();
        let answer = (self.0.script.lock().unwrap())(&call);
        let limit = if let Answer::UpTo(limit) = answer { limit } else { LIMIT };
        if size > limit {
            return Err(status::too_large(size, limit));
        }
        let rejected = match answer {
            Answer::Accept | Answer::UpTo(_) => 0,
            Answer::RejectSome(count) => count,
            Answer::Hold => {
                let mut is_released = self.0.is_released.subscribe();
                is_released.wait_for(|is_released| *is_released).await.expect("the sender is in `self`");
                0
            }
            Answer::Late(delay) => {
                // Not a wait for anything: this is how slow the collector is.
                tokio::time::sleep(delay).await;
                0
            }
            Answer::Refuse(code) => return Err(Status::new(code, "as the test wants it")),
            Answer::Throttle(delay) => return Err(status::throttled(delay)),
            Answer::Never => std::future::pending().await,
        };
        keep(&mut self.0.received.lock().unwrap());
        self.0.changed.notify_all();
        Ok(rejected)
    }
}

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let call = (metadata, request.encoded_len());
        let keep = |received: &mut Received| received.traces.push(request);
        let rejected_spans = self.answer(Signal::Traces, call, keep).await?;
        let partial_success = (rejected_spans > 0).then(|| ExportTracePartialSuccess {
            rejected_spans,
            error_message: "as the test wants it".into(),
        });
        Ok(Response::new(ExportTraceServiceResponse { partial_success }))
    }
}

#[tonic::async_trait]
impl MetricsService for Service {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let call = (metadata, request.encoded_len());
        let keep = |received: &mut Received| received.metrics.push(request);
        let rejected_data_points = self.answer(Signal::Metrics, call, keep).await?;
        let partial_success = (rejected_data_points > 0).then(|| ExportMetricsPartialSuccess {
            rejected_data_points,
            error_message: "as the test wants it".into(),
        });
        Ok(Response::new(ExportMetricsServiceResponse { partial_success }))
    }
}
