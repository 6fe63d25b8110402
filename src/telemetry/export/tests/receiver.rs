//! A receiver that follows a script, on a thread of its own.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use async_trait::async_trait;
use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::{
            ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    metrics::v1::Metric,
    resource::v1::Resource,
};
use tonic::{
    Request, Response, Status,
    codec::CompressionEncoding,
    metadata::MetadataMap,
    transport::{Server, ServerTlsConfig, server::TcpIncoming},
};

use super::super::chunk;

/// What the receiver does with one call.
pub(super) enum Answer {
    Take,
    /// Takes it but for so many items.
    TakeAllBut(i64),
    Fail(Status),
    /// Never answers.
    Hang,
}

/// A call as it was received, whatever the answer.
pub(super) struct Call {
    /// The ids of spans as numbers, or the names of metrics, once for each point.
    pub(super) items: Vec<String>,
    pub(super) resource: Option<Resource>,
    pub(super) metadata: MetadataMap,
    /// What a call of metrics carries.
    pub(super) metrics: Vec<Metric>,
    pub(super) was_taken: bool,
}

type Script = dyn Fn(&[String]) -> Answer + Send + Sync;

#[derive(Clone)]
struct Service {
    script: Arc<Script>,
    calls: mpsc::Sender<Call>,
}

pub(super) struct Receiver {
    pub(super) address: SocketAddr,
    calls: mpsc::Receiver<Call>,
}

impl Receiver {
    /// Answers each call as `script` says, which sees the items of the call.
    pub(super) fn start(script: impl Fn(&[String]) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_with(None, script)
    }

    pub(super) fn start_with(
        tls: Option<ServerTlsConfig>,
        script: impl Fn(&[String]) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let (calls, received) = mpsc::channel();
        let service = Service { script: Arc::new(script), calls };
        let (address, bound) = mpsc::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into()).unwrap();
                address.send(incoming.local_addr().unwrap()).unwrap();
                let mut server = Server::builder();
                if let Some(tls) = tls {
                    server = server.tls_config(tls).unwrap();
                }
                let gzip = CompressionEncoding::Gzip;
                let traces = TraceServiceServer::new(service.clone()).accept_compressed(gzip);
                let metrics = MetricsServiceServer::new(service).accept_compressed(gzip);
                server.add_service(traces).add_service(metrics).serve_with_incoming(incoming).await.unwrap();
            });
        });
        Self { address: bound.recv().unwrap(), calls: received }
    }

    /// Gives these answers one after the other, and takes everything after that.
    pub(super) fn answering(answers: impl IntoIterator<Item = Answer>) -> Self {
        let answers: Mutex<VecDeque<_>> = Mutex::new(answers.into_iter().collect());
        Self::start(move |_| answers.lock().unwrap().pop_front().unwrap_or(Answer::Take))
    }

    /// Waits for the next call.
    pub(super) fn call(&self) -> Call {
        self.calls.recv_timeout(Duration::from_secs(60)).expect("no call came")
    }

    /// Returns the calls that were not looked at yet.
    pub(super) fn calls(&self) -> Vec<Call> {
        self.calls.try_iter().collect()
    }
}

impl Service {
    async fn answer(
        &self,
        items: Vec<String>,
        resource: Option<Resource>,
        metadata: MetadataMap,
        metrics: Vec<Metric>,
    ) -> Result<i64, Status> {
        let answer = (self.script)(&items);
        let was_taken = matches!(answer, Answer::Take | Answer::TakeAllBut(_));
        // The test may have ended.
        let _ = self.calls.send(Call { items, resource, metadata, metrics, was_taken });
        match answer {
            Answer::Take => Ok(0),
            Answer::TakeAllBut(rejected) => Ok(rejected),
            Answer::Fail(status) => Err(status),
            Answer::Hang => std::future::pending().await,
        }
    }
}

#[async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let (metadata, _, mut request) = request.into_parts();
        let resource = request.resource_spans.first_mut().and_then(|spans| spans.resource.take());
        let scopes = request.resource_spans.into_iter().flat_map(|spans| spans.scope_spans);
        let number = |id: Vec<u8>| u64::from_be_bytes(id.try_into().unwrap()).to_string();
        let items = scopes.flat_map(|scope| scope.spans).map(|span| number(span.span_id)).collect();
        let rejected_spans = self.answer(items, resource, metadata, Vec::new()).await?;
        let partial = ExportTracePartialSuccess { rejected_spans, error_message: "no".into() };
        Ok(Response::new(ExportTraceServiceResponse { partial_success: Some(partial) }))
    }
}

#[async_trait]
impl MetricsService for Service {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let (metadata, _, mut request) = request.into_parts();
        let resource = request.resource_metrics.first_mut().and_then(|metrics| metrics.resource.take());
        let scopes = request.resource_metrics.into_iter().flat_map(|metrics| metrics.scope_metrics);
        let metrics: Vec<_> = scopes.flat_map(|scope| scope.metrics).collect();
        let items = metrics.iter().flat_map(|it| vec![it.name.clone(); chunk::points(it)]).collect();
        let rejected_data_points = self.answer(items, resource, metadata, metrics).await?;
        let partial = ExportMetricsPartialSuccess { rejected_data_points, error_message: "no".into() };
        Ok(Response::new(ExportMetricsServiceResponse { partial_success: Some(partial) }))
    }
}
