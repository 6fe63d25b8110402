//! Connections: accepted within limits, served by HTTP/1.1 or HTTP/2, and ended in good order.

use std::{convert::Infallible, error::Error, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use futures_util::{
    FutureExt,
    stream::{FuturesUnordered, StreamExt},
};
use http::StatusCode;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::coop::unconstrained,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{
    activity::Activity,
    room,
    sending::{Sending, Streams},
    server::Shared,
    timely::{Limits, Timely},
};
use crate::telemetry::{FailureLog, spawn_blocking};

/// How long to wait when no connection can be accepted for want of something that others may give back.
const PAUSE: Duration = Duration::from_millis(100);

/// How long connections are still accepted when the worker stops, and read from if no request is under way: whatever was
/// sent before is there by then.
const LINGER: Duration = Duration::from_millis(100);

/// The most streams that a client may have open at a time on one connection of HTTP/2.
const MOST_STREAMS: u32 = 250;

/// How often a silent connection of HTTP/2 is asked whether anybody is there, and how long that may take.
const PING: Duration = Duration::from_secs(20);

/// How much a client of HTTP/2 may send of one body, and of all on a connection, before it is read.
const WINDOWS: (u32, u32) = (256 << 10, 512 << 10);

/// The longest head of a request.
const MOST_HEAD: usize = 64 << 10;

/// Accepts connections until the worker stops.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let room = Arc::new(Semaphore::new(room::connections(shared.settings.max_connections)));
    let mut log = FailureLog::default();
    let mut over = pin!(async {
        shared.stop.stopped().await;
        // Who has come before that is not sent away, but not known yet.
        sleep(LINGER).await;
    });
    loop {
        let accepted = async {
            // Whoever finds no room waits outside.
            let permit = Arc::clone(&room).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            biased;
            () = &mut over => break,
            accepted = accepted => accepted,
        };
        let Ok(permit) = permit else { return };
        match accepted {
            Ok((stream, peer)) => {
                let serving = serve(stream, peer, Arc::clone(&shared), permit);
                shared.tracker.spawn(serving);
            }
            Err(error) => {
                if is_of_all(&error) {
                    if let Some(suppressed) = log.admit("accept") {
                        let suppressed = (suppressed > 0).then_some(suppressed);
                        tracing::error!(error.message = %error, suppressed, "no connection can be accepted for now");
                    }
                    sleep(PAUSE).await;
                }
            }
        }
    }
    while let Ok(permit) = Arc::clone(&room).try_acquire_owned()
        && let Some(accepted) = unconstrained(listener.accept()).now_or_never()
    {
        match accepted {
            Ok((stream, peer)) => {
                drop(shared.tracker.spawn(serve(stream, peer, Arc::clone(&shared), permit)))
            }
            Err(error) if is_of_all(&error) => break,
            Err(_) => {}
        }
    }
}

/// Returns whether an error is not of the one connection that was to be accepted.
fn is_of_all(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Serves one connection to its end.
async fn serve(stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>, _room: OwnedSemaphorePermit) {
    // A response is written at once; waiting for more only delays it.
    let _ = stream.set_nodelay(true);
    let limits = Limits { head: shared.settings.header_timeout, write: shared.settings.write_timeout };
    let activity = Activity::new();
    let Some(acceptor) = acceptor(&shared).await else {
        return exchange(Timely::new(stream, limits, Arc::clone(&activity)), activity, peer, &shared).await;
    };
    // How it fails is the client's business.
    if let Ok(Ok(stream)) = timeout(limits.head, acceptor.accept(stream)).await {
        exchange(Timely::new(stream, limits, Arc::clone(&activity)), activity, peer, &shared).await;
    }
}

/// Returns what encrypts a new connection, if that is wanted.
async fn acceptor(shared: &Arc<Shared>) -> Option<TlsAcceptor> {
    shared.tls.get()?;
    let shared = Arc::clone(shared);
    // It may look at files.
    let config = spawn_blocking(move || shared.tls.get().map(|tls| tls.current(Instant::now()))).await;
    config.ok().flatten().map(TlsAcceptor::from)
}

async fn exchange(
    io: impl AsyncRead + AsyncWrite + Unpin + 'static,
    activity: Arc<Activity>,
    peer: SocketAddr,
    shared: &Arc<Shared>,
) {
    let write_timeout = shared.settings.write_timeout;
    let mut builder = auto::Builder::new(Streams { tracker: shared.tracker.clone(), write_timeout });
    builder
        .http1()
        // A head that has begun has a limit of its own, and so has the time between requests.
        .header_read_timeout(None)
        .max_buf_size(MOST_HEAD)
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .initial_stream_window_size(WINDOWS.0)
        .initial_connection_window_size(WINDOWS.1)
        .max_header_list_size(MOST_HEAD as u32)
        .max_concurrent_streams(MOST_STREAMS);
    let service = service_fn(|request: http::Request<Incoming>| {
        let (shared, under_way) = (Arc::clone(shared), activity.request(request.version()));
        async move {
            let answer = shared.answer(request, peer).await;
            Ok::<_, Infallible>(Sending::begin(answer, under_way))
        }
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    // Looked at only when it has something to say, unlike the connection, which has much more often.
    let mut over = FuturesUnordered::from_iter([async {
        tokio::select! {
            () = shared.stop.stopped() => {}
            () = activity.idle(shared.settings.idle_timeout) => {}
        }
    }]);
    let mut ended = tokio::select! {
        biased;
        ended = connection.as_mut() => Some(ended),
        _ = over.next() => None,
    };
    if ended.is_none() && shared.stop.is_stopped() {
        ended = tokio::select! {
            biased;
            ended = connection.as_mut() => Some(ended),
            () = activity.begun() => None,
            () = sleep(LINGER) => None,
        };
    }
    if ended.is_none() {
        connection.as_mut().graceful_shutdown();
        ended = tokio::select! {
            ended = connection => Some(ended),
            // All was answered, and the client takes nothing of it.
            () = activity.idle(write_timeout) => None,
        };
    }
    // How a connection ends is the client's business otherwise.
    if let Some(status) = ended.and_then(Result::err).and_then(|error| refusal(&*error)) {
        shared.malformed(status);
    }
}

/// Returns what the parser has answered by itself before the connection ended with this error, if it has.
fn refusal(error: &(dyn Error + 'static)) -> Option<StatusCode> {
    let error = error.downcast_ref::<hyper::Error>()?;
    if !error.is_parse() || error.is_parse_version_h2() {
        return None;
    }
    Some(match error.to_string().as_str() {
        // There is no other word for it.
        "URI too long" => StatusCode::URI_TOO_LONG,
        _ if error.is_parse_too_large() => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        _ => StatusCode::BAD_REQUEST,
    })
}
