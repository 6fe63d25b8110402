//! Connections: accepted within limits, served by HTTP/1.1 or HTTP/2, and ended in good order.

use std::{convert::Infallible, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use http::Version;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{
    headers_in_time::{Busy, HeadersInTime},
    room,
    server::Shared,
};
use crate::{
    task::http::Body,
    telemetry::{FailureLog, spawn_blocking},
};

/// How long to wait when no connection can be accepted for want of something that others may give back.
const PAUSE: Duration = Duration::from_millis(100);

/// The most streams that a client may have open at a time on one connection of HTTP/2.
const MOST_STREAMS: u32 = 250;

/// How often a silent connection of HTTP/2 is asked whether anybody is there, and how long that may take.
const PING: Duration = Duration::from_secs(20);

/// The longest head of a request.
const MOST_HEAD: usize = 64 << 10;

/// Accepts connections until the worker stops.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let room = Arc::new(Semaphore::new(room::connections(shared.settings.max_connections)));
    let mut log = FailureLog::default();
    loop {
        let accepted = async {
            // Whoever finds no room waits outside.
            let permit = Arc::clone(&room).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            biased;
            () = shared.stop.stopped() => return,
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
    let limit = shared.settings.header_timeout;
    let busy = Busy::default();
    let Some(acceptor) = acceptor(&shared).await else {
        return exchange(HeadersInTime::new(stream, limit, busy.clone()), busy, peer, &shared).await;
    };
    // How it fails is the client's business.
    if let Ok(Ok(stream)) = timeout(limit, acceptor.accept(stream)).await {
        exchange(HeadersInTime::new(stream, limit, busy.clone()), busy, peer, &shared).await;
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
    busy: Busy,
    peer: SocketAddr,
    shared: &Arc<Shared>,
) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // What counts is the time without any request: a head that has begun has a limit of its own.
        .header_read_timeout(shared.settings.idle_timeout)
        .max_buf_size(MOST_HEAD)
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .max_header_list_size(MOST_HEAD as u32)
        .max_concurrent_streams(MOST_STREAMS);
    let service = service_fn(|request: http::Request<Incoming>| {
        let (shared, busy) = (Arc::clone(shared), busy.clone());
        async move {
            busy.set(true);
            let is_one_at_a_time = request.version() < Version::HTTP_2;
            let response = shared.answer(request, peer).await;
            // What streams goes on after its head.
            if is_one_at_a_time && !matches!(response.body(), Body::Stream(_)) {
                busy.set(false);
            }
            Ok::<_, Infallible>(response)
        }
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    // How it ends is the client's business.
    tokio::select! {
        biased;
        _ = connection.as_mut() => return,
        () = shared.stop.stopped() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
