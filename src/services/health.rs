//! Answers the probes of whoever watches over the worker, on an address of its own.
//!
//! Owns the listener, its connections, and what of HTTP a probe needs: GET and HEAD of three paths. What the answers are, it
//! asks whoever serves. Few connections at once, each for a short time and for one request: a client that is slow, or many of
//! them, keep no probe waiting.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use hyper::{
    Method, Request, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use tokio::{
    net::TcpStream,
    task::{AbortHandle, JoinSet, yield_now},
    time::{sleep, timeout},
};

/// Whether the process works.
pub const LIVE: &str = "/health/live";
/// Whether the worker takes in events.
pub const READY: &str = "/health/ready";
/// How the worker is, in full.
pub const WHOLE: &str = "/health";

/// Connections at once. One more takes the place of the oldest: a probe is answered long before it is that.
const MOST_CONNECTIONS: usize = 64;
/// How long the head of a request may take to come, and the whole connection.
const HEAD_TIME: Duration = Duration::from_secs(5);
const WHOLE_TIME: Duration = Duration::from_secs(10);
/// The most bytes of a head; the least that hyper can do with.
const HEAD_BYTES: usize = 8 << 10;
/// How long to wait when the process may open no more files.
const PAUSE: Duration = Duration::from_millis(100);

/// What a probe asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Does the process work?
    Live,
    /// Does the worker take in events?
    Ready,
    /// How is the worker, in full?
    Whole,
}

/// The answer to a probe.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Whether it is 200, and not 503.
    pub is_ok: bool,
    /// What it says, by the draft `application/health+json`.
    pub body: Value,
}

/// Answers a question, at once.
pub type Ask = Arc<dyn Fn(Question) -> Answer + Send + Sync>;

/// A server that listens, and answers while it is served.
#[derive(Debug)]
pub struct HealthServer {
    /// Taken when it is served for the first time.
    bound: Option<TcpListener>,
    listener: Option<tokio::net::TcpListener>,
    /// Here, so that none is cut off between one time that it is served and the next.
    connections: JoinSet<()>,
    by_age: VecDeque<AbortHandle>,
}

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}, the `health.address`")]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

impl HealthServer {
    /// Listens on this address.
    ///
    /// # Errors
    /// It is taken, or not of this machine.
    pub fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let bound = TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            tracing::info!(address = %listener.local_addr()?, "health can be asked");
            Ok(listener)
        });
        let bound = bound.map_err(|source| BindError { address, source })?;
        Ok(Self { bound: Some(bound), listener: None, connections: JoinSet::new(), by_age: VecDeque::new() })
    }

    /// Answers for as long as it is polled, on a runtime that no task keeps busy: each time on the same one.
    ///
    /// # Errors
    /// The runtime cannot wait for connections.
    pub async fn serve(&mut self, ask: Ask) -> io::Result<Infallible> {
        if let Some(bound) = self.bound.take() {
            self.listener = Some(tokio::net::TcpListener::from_std(bound)?);
        }
        let Self { listener: Some(listener), connections, by_age, .. } = self else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        loop {
            tokio::select! {
                biased;
                Some(_) = connections.join_next() => by_age.retain(|connection| !connection.is_finished()),
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        if by_age.len() >= MOST_CONNECTIONS && let Some(oldest) = by_age.pop_front() {
                            oldest.abort();
                        }
                        by_age.push_back(connections.spawn(connection(stream, Arc::clone(&ask))));
                    }
                    Err(error) => {
                        tracing::debug!(error.message = %error, "a probe cannot be answered");
                        sleep(PAUSE).await;
                    }
                },
            }
            // Each is looked at before the next one comes, and could take its place.
            yield_now().await;
        }
    }
}

/// Answers the request of one connection.
async fn connection(stream: TcpStream, ask: Ask) {
    let answered = service_fn(move |request| {
        let response = respond(&request, &ask);
        async move { Ok::<_, Infallible>(response) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answered);
    // What goes wrong with a connection shows at its other end.
    let _ = timeout(WHOLE_TIME, served).await;
}

fn respond<B>(request: &Request<B>, ask: &Ask) -> Response<String> {
    let question = match request.uri().path() {
        LIVE => Question::Live,
        READY => Question::Ready,
        WHOLE => Question::Whole,
        _ => return empty(StatusCode::NOT_FOUND),
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = empty(StatusCode::METHOD_NOT_ALLOWED);
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let Answer { is_ok, body } = ask(question);
    let mut response = Response::new(format!("{body}\n"));
    *response.status_mut() = if is_ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/health+json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn empty(status: StatusCode) -> Response<String> {
    let mut response = Response::new(String::new());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests;
