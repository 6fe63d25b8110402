//! The OTLP/gRPC client of one signal: one call at a time or several, over one connection that is made
//! when it is needed and made again when it does not answer.
//!
//! It encodes nothing and retries nothing. The connection sends no HTTP/2 pings: receivers answer pings
//! that come more often than every five minutes by hanging up (`too_many_pings`). A peer that is gone
//! shows by TCP keep-alive, or as a call without an answer.

use std::{
    str::FromStr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::{Buf, BufMut, Bytes};
use hyper::http::{HeaderMap, HeaderName, HeaderValue, uri::PathAndQuery};
use prost::Message;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::MetadataMap,
    transport::{Channel, Endpoint},
};
use url::Url;

use super::{
    error::{ClientError, ExportError, is_about_client, masked, one_line},
    tls,
};
use crate::telemetry::{Compression, Export, Secret, Signal, TlsConfig};

const USER_AGENT: &str = concat!("flowgen/", env!("CARGO_PKG_VERSION"));

/// How long it may take to connect: name, TCP and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// When a silent connection is probed, how often, and how many times before it is given up.
const TCP_KEEP_ALIVE: (Duration, Duration, u32) = (Duration::from_secs(30), Duration::from_secs(10), 3);

/// What the collector took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// How many spans or points of the body it did not take.
    pub rejected: u64,
    /// What it says about that, or a warning if it took all; mostly empty.
    pub message: String,
}

/// The client of one signal.
#[derive(Debug)]
pub struct Client {
    signal: Signal,
    endpoint: Endpoint,
    name: String,
    metadata: MetadataMap,
    secrets: Vec<Secret>,
    compression: Compression,
    timeout: Duration,
    connection: Mutex<Option<Connection>>,
    /// How connections are encrypted, if they are.
    tls: Option<TlsConfig>,
    /// The collector has answered a call, whatever it said, or is known to take this client.
    has_answered: AtomicBool,
}

#[derive(Clone, Debug)]
struct Connection {
    channel: Channel,
    since: Instant,
}

impl Client {
    /// Makes the client. Reads the files of certificates; connects to nothing yet.
    pub fn new(signal: Signal, export: &Export) -> Result<Self, ClientError> {
        let (url, name) = address(&export.endpoint)?;
        let invalid = |_| ClientError::Endpoint(name.clone());
        let (idle, interval, probes) = TCP_KEEP_ALIVE;
        let mut endpoint = Endpoint::from_shared(url.to_string())
            .and_then(|endpoint| endpoint.user_agent(USER_AGENT))
            .map_err(invalid)?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_keepalive(Some(idle))
            .tcp_keepalive_interval(Some(interval))
            .tcp_keepalive_retries(Some(probes));
        let tls = (url.scheme() == "https").then(|| export.tls.clone());
        if let Some(tls) = &tls {
            endpoint = tls::apply(endpoint, tls)?;
        }
        Ok(Self {
            signal,
            endpoint,
            name,
            metadata: metadata(export)?,
            secrets: export.headers.values().cloned().collect(),
            compression: export.compression,
            timeout: export.timeout,
            connection: Mutex::default(),
            tls,
            has_answered: AtomicBool::new(false),
        })
    }

    /// Takes note that the collector is known to take this client: a connection that ends is not blamed on the
    /// client's certificate.
    #[must_use]
    pub fn known(self) -> Self {
        Self { has_answered: AtomicBool::new(true), ..self }
    }

    /// Returns the signal that it exports.
    pub fn signal(&self) -> Signal {
        self.signal
    }

    /// Returns the endpoint as messages show it.
    pub fn endpoint(&self) -> &str {
        &self.name
    }

    /// Sends an encoded `Export{Trace,Metrics}ServiceRequest`. Needs a tokio runtime around it.
    pub async fn export(&self, body: Bytes) -> Result<Accepted, ExportError> {
        let connection = self.connection();
        let request = Request::from_parts(self.metadata.clone(), Default::default(), body);
        let call = call(connection.channel, method(self.signal), self.compression, request);
        // In a task of its own, since an answer that breaks the protocol can make the libraries panic.
        let mut calls = JoinSet::new();
        calls.spawn(call);
        match timeout(self.timeout, calls.join_next()).await {
            Ok(Some(Ok(Ok(answer)))) => Ok(self.accepted(answer)),
            Ok(Some(Ok(Err(status)))) => Err(self.failed(&status)),
            Ok(Some(Err(_)) | None) => Err(ExportError::panicked()),
            Err(_) => {
                self.give_up(connection.since);
                Err(ExportError::timed_out(self.timeout))
            }
        }
    }

    fn accepted(&self, answer: Answer) -> Accepted {
        self.has_answered.store(true, Ordering::Relaxed);
        let partial = answer.partial_success.unwrap_or_default();
        Accepted {
            rejected: partial.rejected.try_into().unwrap_or(0),
            message: one_line(&masked(&partial.error_message, &self.secrets)),
        }
    }

    fn failed(&self, status: &Status) -> ExportError {
        let error = ExportError::from_status(status, &self.secrets);
        if !error.is_without_answer() {
            self.has_answered.store(true, Ordering::Relaxed);
        }
        let is_new = !self.has_answered.load(Ordering::Relaxed);
        match &self.tls {
            Some(tls) if is_about_client(status, is_new) => error.about_client(tls.cert_file.as_deref()),
            _ => error,
        }
    }

    fn connection(&self) -> Connection {
        let connect = || Connection { channel: self.endpoint.connect_lazy(), since: Instant::now() };
        self.lock().get_or_insert_with(connect).clone()
    }

    /// Leaves the connection that was made at `since`, if it has had the time to be set up: behind it may
    /// be a machine that is gone, which nothing else would tell for minutes.
    fn give_up(&self, since: Instant) {
        let mut connection = self.lock();
        if since.elapsed() > CONNECT_TIMEOUT && connection.as_ref().is_some_and(|it| it.since == since) {
            *connection = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Connection>> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn call(
    channel: Channel,
    method: PathAndQuery,
    compression: Compression,
    request: Request<Bytes>,
) -> Result<Answer, Status> {
    let mut grpc = Grpc::new(channel).accept_compressed(CompressionEncoding::Gzip);
    if compression == Compression::Gzip {
        grpc = grpc.send_compressed(CompressionEncoding::Gzip);
    }
    grpc.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
    Ok(grpc.unary(request, method, EncodedCodec).await?.into_inner())
}

/// Returns the gRPC method that takes a signal.
fn method(signal: Signal) -> PathAndQuery {
    PathAndQuery::from_static(match signal {
        Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    })
}

/// Returns the endpoint without what is before its host and after its port, and as messages show it.
pub(super) fn address(endpoint: &str) -> Result<(Url, String), ClientError> {
    // The text may hold a password: no message repeats it.
    let mut url = Url::parse(endpoint).map_err(|_| ClientError::Endpoint("the endpoint".into()))?;
    let is_cleared = url.set_username("").is_ok() && url.set_password(None).is_ok();
    if !is_cleared || !matches!(url.scheme(), "http" | "https") {
        return Err(ClientError::Endpoint(url.host_str().unwrap_or_default().into()));
    }
    url.set_path("");
    url.set_query(None);
    url.set_fragment(None);
    let name = url.as_str().trim_end_matches('/').to_owned();
    Ok((url, name))
}

fn metadata(export: &Export) -> Result<MetadataMap, ClientError> {
    let mut headers = HeaderMap::new();
    for (name, value) in &export.headers {
        let refused = || ClientError::Header(name.clone());
        let key = HeaderName::from_str(name).map_err(|_| refused())?;
        let mut value = HeaderValue::from_str(value.expose()).map_err(|_| refused())?;
        value.set_sensitive(true);
        headers.insert(key, value);
    }
    Ok(MetadataMap::from_headers(headers))
}

/// `ExportTraceServiceResponse` and `ExportMetricsServiceResponse`, which are the same on the wire.
#[derive(Clone, PartialEq, Message)]
struct Answer {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

/// `ExportTracePartialSuccess` and `ExportMetricsPartialSuccess`.
#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

/// Sends what is encoded already.
#[derive(Clone, Copy, Debug)]
struct EncodedCodec;

impl Codec for EncodedCodec {
    type Encode = Bytes;
    type Decode = Answer;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for EncodedCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, body: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(body.len());
        buffer.put(body);
        Ok(())
    }
}

impl Decoder for EncodedCodec {
    type Item = Answer;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Answer>, Status> {
        let answer = Answer::decode(buffer.copy_to_bytes(buffer.remaining()));
        answer.map(Some).map_err(|error| Status::internal(format!("the answer cannot be read: {error}")))
    }
}
