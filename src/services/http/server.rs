//! The server: one listener for all flows, bound when the first route is reserved.

use std::{
    io,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use http::{
    HeaderValue, Method, Response, StatusCode, Version,
    header::{ACCESS_CONTROL_REQUEST_METHOD, ALLOW, CONNECTION},
};
use hyper::body::Incoming;
use tokio::{
    net::{TcpListener, TcpSocket},
    runtime::Handle,
    sync::{OnceCell, Semaphore},
    time::Instant,
};
use tokio_util::task::TaskTracker;

use super::{
    body, connection, head,
    meters::RequestMeters,
    preflight,
    problem::Problem,
    routes::{Found, Handled, Routes},
    tls::{self, ServerTls},
};
use crate::{
    plan::{HttpServer as Settings, HttpTls},
    shutdown::Stop,
    task::{
        BuildError,
        http::{Answer, Body, Budget, Claim, Claimant, HttpServer, Request, Route},
    },
    telemetry::{Meter, spawn_blocking},
    trace::Ticks,
};

/// The longest that a request waits for a flow that is being replaced.
const HANDOVER: Duration = Duration::from_secs(30);

/// The most requests that do.
const MOST_WAITING: usize = 1_024;

/// What is sooner than the time that most requests are given.
const NEXT: Duration = Duration::from_millis(500);

/// How often a request follows a route from one flow to the next.
const MOST_HANDOVERS: usize = 16;

/// The most connections that wait to be accepted, unless the system has a lower limit: who finds no place there is heard only
/// after a second.
const MOST_UNACCEPTED: u32 = 4_096;

/// The longest that sources go on, once the worker stops, for the sake of requests that are on their way.
const QUIET: Duration = Duration::from_secs(5);

/// The share of a short shutdown that this may take.
const QUIET_SHARE: u32 = 4;

/// The worker's HTTP server. Cheap to clone.
#[derive(Clone)]
pub struct Server(Arc<Shared>);

/// What all connections share.
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) meter: Meter,
    pub(super) stop: Stop,
    routes: Routes,
    /// Of requests that lead to no route.
    unrouted: RequestMeters,
    waiting: Semaphore,
    budget: Budget,
    /// Where it listens, once it does.
    bound: OnceCell<SocketAddr>,
    /// Whether that was said.
    is_announced: AtomicBool,
    /// The certificate, once it listens, if it has one.
    pub(super) tls: OnceCell<ServerTls>,
    /// The listener, and the connections.
    pub(super) tracker: TaskTracker,
    shutdown_timeout: Duration,
}

impl Server {
    /// Makes a server that does not listen yet, of a worker that stops with `stop` and takes so long for that.
    pub fn new(settings: Settings, meter: Meter, stop: Stop, shutdown_timeout: Duration) -> Self {
        let scheme = scheme(&settings);
        let budget = Budget::new(settings.max_buffered_bytes);
        Self(Arc::new(Shared {
            unrouted: RequestMeters::new(&meter, scheme, None),
            settings,
            meter,
            stop,
            routes: Routes::default(),
            waiting: Semaphore::new(MOST_WAITING),
            budget,
            bound: OnceCell::new(),
            is_announced: AtomicBool::new(false),
            tls: OnceCell::new(),
            tracker: TaskTracker::new(),
            shutdown_timeout,
        }))
    }

    /// Forgets the routes of flows that are gone: what comes for them finds nothing from now on.
    pub fn prune(&self) {
        self.0.routes.prune();
    }

    /// Stops listening, and waits until all connections have ended or `deadline` has come.
    pub async fn finish(&self, deadline: Instant) {
        self.0.stop.stop();
        self.0.tracker.close();
        if tokio::time::timeout_at(deadline, self.0.tracker.wait()).await.is_err() {
            tracing::warn!(
                connections = self.0.tracker.len(),
                "connections are cut off: they did not end in time"
            );
        }
    }
}

#[async_trait]
impl HttpServer for Server {
    async fn claim(&self, route: &Route, claimant: Claimant) -> Result<Box<dyn Claim>, BuildError> {
        self.0.bound.get_or_try_init(|| listen(&self.0)).await?;
        Ok(Box::new(self.0.routes.claim(&self.0, route, &claimant)))
    }

    fn stop(&self) -> &Stop {
        &self.0.stop
    }

    fn body_timeout(&self) -> Duration {
        self.0.settings.body_timeout
    }

    fn budget(&self) -> &Budget {
        &self.0.budget
    }
}

/// Begins to listen.
async fn listen(shared: &Arc<Shared>) -> Result<SocketAddr, BuildError> {
    let wanted = shared.settings.address;
    let cannot = |error: io::Error| {
        BuildError::new(format!("cannot listen at `{wanted}` (`http_server.address`)")).with_source(error)
    };
    if let Some(HttpTls { cert_file, key_file, client_ca_file }) = shared.settings.tls.clone() {
        let config = tls::Config { cert_file, key_file, client_ca_file };
        let load = move || ServerTls::load(&config, Path::new(""), Instant::now());
        let loaded = spawn_blocking(load).await.map_err(|error| cannot(error.into()))?;
        let loaded = loaded
            .map_err(|error| BuildError::new("cannot serve HTTPS (`http_server.tls`)").with_source(error))?;
        shared.tls.get_or_init(|| async { loaded }).await;
    }
    let listener = bind(wanted).map_err(cannot)?;
    let address = listener.local_addr().map_err(cannot)?;
    shared.tracker.spawn_on(connection::accept(listener, Arc::clone(shared)), &Handle::current());
    shared.tracker.spawn_on(stay_awake(Arc::clone(shared)), &Handle::current());
    Ok(address)
}

/// Keeps a timer that is due before those of requests. Tokio wakes a thread, by a call of the system, for each new timer that
/// is due before all that there were when it fell asleep.
async fn stay_awake(shared: Arc<Shared>) {
    while tokio::time::timeout(NEXT, shared.stop.stopped()).await.is_err() {}
}

/// Begins to listen, as the standard library does, but with room for more.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Connections of a worker that has just ended are in nobody's way.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(MOST_UNACCEPTED)
}

fn scheme(settings: &Settings) -> &'static str {
    if settings.tls.is_some() { "https" } else { "http" }
}

impl Shared {
    /// Returns `http` or `https`.
    pub(super) fn scheme(&self) -> &'static str {
        scheme(&self.settings)
    }

    /// Says where requests are answered, once.
    pub(super) fn announce(&self) {
        if let Some(address) = self.bound.get().filter(|_| !self.is_announced.swap(true, Ordering::Relaxed)) {
            tracing::info!(address = %address, scheme = self.scheme(), "HTTP server listens");
        }
    }

    /// Waits until no request comes any more, if the worker stops.
    pub(super) async fn quiet(&self) {
        if self.stop.is_stopped() {
            self.tracker.close();
            let _ = tokio::time::timeout(QUIET.min(self.shutdown_timeout / QUIET_SHARE), self.tracker.wait())
                .await;
        }
    }

    /// Answers a request.
    pub(super) async fn answer(&self, request: http::Request<Incoming>, peer: SocketAddr) -> Answer {
        let received = Ticks::now();
        let (mut head, body) = request.into_parts();
        let checked = head::check(&mut head);
        let asked = head.headers.get(ACCESS_CONTROL_REQUEST_METHOD);
        let asked = asked.and_then(|method| Method::from_bytes(method.as_bytes()).ok());
        let mut request =
            Box::new(Request { head, body, params: Vec::new(), received, peer, scheme: self.scheme() });
        if let Err(problem) = checked {
            let response = last(&request, problem.into_response());
            return self.unrouted(request, response);
        }
        // It may come just when the flow that answers it changes, more than once.
        for _ in 0..MOST_HANDOVERS {
            let head = &request.head;
            let (place, params) = match self.routes.find(&head.method, asked.as_ref(), head.uri.path()) {
                Found::Route(place, params) => (place, params),
                Found::OtherMethod(methods) => return self.unrouted(request, other_method(&methods)),
                Found::Nothing => return self.unrouted(request, nothing()),
            };
            let timing = place.meters.begin(received, &head.method, head.version);
            let handler = match place.handled() {
                Handled::Now(_, handler) => Some(handler),
                Handled::Never => None,
                Handled::Soon => self.wait_for(place.handler()).await,
            };
            let Some(handler) = handler else {
                // Another one may have taken its place meanwhile.
                if place.is_over() && !self.stop.is_stopped() && self.routes.has_other(&place, &request.head)
                {
                    timing.forget();
                    continue;
                }
                let response = self.unserved(&request);
                timing.end(response.status(), Default::default());
                return unasked(request, response);
            };
            if head.method == Method::OPTIONS {
                let response = self.options(asked.as_ref(), &request);
                timing.end(response.status(), Default::default());
                return unasked(request, response);
            }
            request.params = params;
            match handler.handle(request).await {
                Ok(answer) => {
                    timing.end(answer.response.status(), answer.trace);
                    return answer;
                }
                Err(back) => {
                    timing.forget();
                    request = back;
                    tokio::task::yield_now().await;
                }
            }
        }
        let response = self.unserved(&request);
        self.unrouted(request, response)
    }

    /// Says what may be asked for at a path, which is up to all who serve it.
    fn options(&self, asked: Option<&Method>, request: &Request) -> Response<Body> {
        let path = request.head.uri.path();
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = StatusCode::NO_CONTENT;
        *response.headers_mut() =
            preflight::answer(asked, &self.routes.handlers(path), &request.head.headers);
        response.headers_mut().insert(ALLOW, allow(&self.routes.methods(path)));
        response
    }

    /// Answers a request that leads to no route.
    fn unrouted(&self, request: Box<Request>, response: Response<Body>) -> Answer {
        let Request { head, received, .. } = &*request;
        self.unrouted.begin(*received, &head.method, head.version).end(response.status(), Default::default());
        unasked(request, response)
    }

    async fn wait_for<T>(&self, handler: impl Future<Output = Option<T>>) -> Option<T> {
        let _waiting = self.waiting.try_acquire().ok()?;
        tokio::select! {
            handler = tokio::time::timeout(HANDOVER, handler) => handler.ok().flatten(),
            // What waits for a flow to begin does so in vain.
            () = self.stop.stopped() => None,
        }
    }

    fn unserved(&self, request: &Request) -> Response<Body> {
        let detail = if self.stop.is_stopped() {
            "the server is stopping"
        } else {
            "the endpoint is not served for now"
        };
        let response = Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(1).into_response();
        if self.stop.is_stopped() { last(request, response) } else { response }
    }

    /// Counts a request whose head was none, and which the parser has answered.
    pub(super) fn malformed(&self, status: StatusCode) {
        self.unrouted.count(status);
    }
}

/// Says that the connection ends with this response, if it is one of a single request at a time.
fn last(request: &Request, mut response: Response<Body>) -> Response<Body> {
    if request.head.version < Version::HTTP_2 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Makes an answer for which the body of the request is not wanted.
fn unasked(request: Box<Request>, response: Response<Body>) -> Answer {
    let Request { head, body, .. } = *request;
    Answer { unread: body::unread(body, &head.headers), ..response.into() }
}

fn nothing() -> Response<Body> {
    Problem::new(StatusCode::NOT_FOUND, "nothing is served at this path").into_response()
}

/// Says which methods there are instead.
fn other_method(methods: &[Method]) -> Response<Body> {
    let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "the path is served, but not by this method");
    let mut response = problem.into_response();
    response.headers_mut().insert(ALLOW, allow(methods));
    response
}

/// Returns the value of `Allow` for these methods.
fn allow(methods: &[Method]) -> HeaderValue {
    let mut names: Vec<_> = methods.iter().map(Method::as_str).collect();
    if methods.contains(&Method::GET) && !methods.contains(&Method::HEAD) {
        names.push("HEAD");
    }
    names.push("OPTIONS");
    names.dedup();
    HeaderValue::from_str(&names.join(", ")).unwrap_or(HeaderValue::from_static("OPTIONS"))
}
