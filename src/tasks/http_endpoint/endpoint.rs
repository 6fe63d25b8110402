//! The server's side: refuses what must not come in, hands on the rest, and waits for its outcome.

use std::{
    mem,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response,
    header::{ACCEPT_ENCODING, ORIGIN},
};
use jiff::Timestamp;
use serde_json::Map;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{
    ResponseMode,
    auth::{Auth, Principal},
    cors::Cors,
    exchange::{Outputs, Place, Slip},
    kept::Kept,
    media::RequestType,
    rate_limit::RateLimit,
    record,
    refused::{Refused, saturated, unserved},
    source::Arrived,
    span::Seen,
    stream::Streaming,
    waiting::{Open, Waiting},
};
use crate::{
    event::{EventId, Meta},
    services::http::{
        body::{self, Limits},
        encoding,
    },
    shutdown::Stop,
    task::{
        Answering, Incoming, Record, TraceContextMode,
        http::{Answer, Body, Handler, Request, Route},
    },
    trace::Remote,
};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const BAGGAGE: HeaderName = HeaderName::from_static("baggage");

/// How large a response may be whose client need not have taken it before another request gets its place.
const MOST_UNCOUNTED: usize = 64 << 10;

/// Answers the requests of one route.
pub(super) struct Endpoint {
    pub(super) auth: Option<Auth>,
    pub(super) rate_limit: Option<RateLimit>,
    pub(super) cors: Option<Cors>,
    pub(super) route: Route,
    pub(super) response: ResponseMode,
    pub(super) ack_timeout: Duration,
    pub(super) is_streaming: bool,
    pub(super) request_type: RequestType,
    pub(super) limits: Limits,
    /// What the outputs of an event may take until its answer is made of them.
    pub(super) max_response_bytes: usize,
    /// The headers that events have.
    pub(super) headers: Vec<HeaderName>,
    pub(super) trace_context: TraceContextMode,
    /// Room for events in flight.
    pub(super) room: Arc<Semaphore>,
    /// Where requests go, as long as their source takes any.
    pub(super) requests: mpsc::WeakSender<Box<Arrived>>,
    /// Stopped when the worker is.
    pub(super) stop: Stop,
}

#[async_trait]
impl Handler for Endpoint {
    async fn handle(&self, mut request: Box<Request>) -> Result<Answer, Box<Request>> {
        // As long as it is there, the source waits for it.
        let Some(requests) = self.requests.upgrade() else { return Err(request) };
        let headers = deciding(&request.head.headers);
        let is_head = request.head.method == Method::HEAD;
        let mut reading = Reading::Ahead;
        let (mut answer, place) = match self.admit(&mut request, requests, &mut reading).await {
            Ok(waiting) => {
                // It may take long.
                drop(request);
                waiting.answer(self.response, self.ack_timeout).await
            }
            Err(refused) => {
                let Request { head, body, .. } = *request;
                let unread = match reading {
                    Reading::Ahead => body::unread(body, &head.headers),
                    Reading::Begun => Some(body),
                    Reading::Done => None,
                };
                (Answer { unread, ..refused.into_response().into() }, None)
            }
        };
        if encoding::is_worth_it(&answer.response) {
            answer.response = Box::pin(encoding::compress(&headers, answer.response)).await;
        }
        if let Some(cors) = &self.cors {
            cors.apply(&headers, answer.response.headers_mut());
        }
        if is_head {
            strip(&mut answer.response);
        }
        if let Some(place) = place {
            keep(place, &mut answer.response);
        }
        Ok(answer)
    }

    fn preflight(&self, headers: &HeaderMap) -> Option<HeaderMap> {
        self.cors.as_ref().and_then(|cors| cors.preflight(headers))
    }
}

/// Returns the headers of a request that its response depends on.
fn deciding(headers: &HeaderMap) -> HeaderMap {
    let mut deciding = HeaderMap::new();
    for name in [ACCEPT_ENCODING, ORIGIN] {
        for value in headers.get_all(&name) {
            deciding.append(&name, value.clone());
        }
    }
    deciding
}

/// Leaves only the head of a response.
fn strip(response: &mut Response<Body>) {
    if let Body::Full(bytes) = mem::take(response.body_mut()) {
        response.headers_mut().insert(http::header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    }
}

/// Keeps the place of a request until the client has taken the response, if that may take long: the network holds short
/// ones.
fn keep(place: Place, response: &mut Response<Body>) {
    if let Body::Full(bytes) = response.body_mut()
        && bytes.len() > MOST_UNCOUNTED
    {
        *bytes = Bytes::from_owner(Placed { bytes: mem::take(bytes), _place: place });
    }
}

/// How far the body of a request was read.
#[derive(Clone, Copy, Debug)]
enum Reading {
    Ahead,
    Begun,
    Done,
}

/// A body that takes a place.
struct Placed {
    bytes: Bytes,
    _place: Place,
}

impl AsRef<[u8]> for Placed {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Endpoint {
    /// Lets a request in, or says why not, and how far its body was read.
    async fn admit(
        &self,
        request: &mut Request,
        requests: mpsc::Sender<Box<Arrived>>,
        reading: &mut Reading,
    ) -> Result<Waiting, Refused> {
        let Request { head, body, params, received, peer, scheme } = request;
        let now = Timestamp::now();
        let principal = self.identify(*peer, &head.headers, now).await?;
        // There is no use in reading what is refused then.
        if self.room.available_permits() == 0 {
            return Err(saturated().into());
        }
        *reading = Reading::Begun;
        let body = body::read(body, &head.headers, &self.limits, &self.stop).await?;
        *reading = Reading::Done;
        if let Some(auth) = self.auth.as_ref().filter(|auth| auth.needs_body()) {
            auth.verify_body(&head.headers, &body.bytes, now)?;
            self.limit(true, *peer, principal.as_ref(), &head.headers).map_err(Refused::too_often)?;
        }
        let body = body::decoded(body, &head.headers, &self.limits).await?;
        let size = body.bytes.len();
        // Whoever is slow to send takes no place from others.
        let place = Arc::clone(&self.room).try_acquire_owned().map_err(|_| saturated())?;
        let (payload, memory) = self.request_type.kind(&head.headers).decode(body).await?;
        let data = record::data(head, &self.route, params, &self.headers, payload)?;
        let id = EventId::unique();
        let (done, outcome) = oneshot::channel();
        let (opened, span) = oneshot::channel();
        let (outputs, chunks) = match self.response {
            ResponseMode::Result if self.is_streaming => {
                let (streaming, chunks) = Streaming::new();
                (Outputs::Sent(Arc::new(streaming)), Some(chunks))
            }
            ResponseMode::Result => (Outputs::Kept(Mutex::new(Kept::new(self.max_response_bytes))), None),
            ResponseMode::Ack | ResponseMode::Accepted => (Outputs::Ignored, None),
        };
        let arrived = Arrived {
            incoming: Incoming {
                id: id.clone(),
                remote: self.remote(&head.headers).map(Box::new),
                receipt: Some(Box::new(Slip { done, outputs, place, _memory: memory })),
                answering: Some(Answering { since: *received, span: opened }),
            },
            record: Record { data, meta: meta(principal), timestamp: None },
        };
        let method = if head.method == Method::HEAD { "HEAD" } else { self.method() };
        let seen = Seen::of(head, scheme, &self.route.template, method, size);
        requests.try_send(Box::new(arrived)).map_err(|_| unserved())?;
        Ok(Waiting { id, outcome, chunks, open: Open::new(span, seen) })
    }

    /// Tells who calls, and refuses those who may not, or have called too often.
    async fn identify(
        &self,
        peer: SocketAddr,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Result<Option<Principal>, Refused> {
        self.limit(false, peer, None, headers).map_err(Refused::too_often)?;
        let principal = match &self.auth {
            // It may fetch keys, which takes more room than most requests ever need.
            Some(auth) => Some(Box::pin(auth.admit(headers, now)).await?),
            None => None,
        };
        // Whom the body has to tell is not known yet.
        if !self.auth.as_ref().is_some_and(Auth::needs_body) {
            self.limit(true, peer, principal.as_ref(), headers).map_err(Refused::too_often)?;
        }
        Ok(principal)
    }

    /// Counts a request, before it is known whose it is or afterwards, as the rate wants it. The error is how long to wait.
    fn limit(
        &self,
        is_identified: bool,
        peer: SocketAddr,
        caller: Option<&Principal>,
        headers: &HeaderMap,
    ) -> Result<(), Duration> {
        match &self.rate_limit {
            Some(limit) if limit.needs_identity() == is_identified => limit.admit(peer, caller, headers),
            Some(_) | None => Ok(()),
        }
    }

    fn method(&self) -> &'static str {
        const KNOWN: [(&Method, &str); 5] = [
            (&Method::GET, "GET"),
            (&Method::POST, "POST"),
            (&Method::PUT, "PUT"),
            (&Method::DELETE, "DELETE"),
            (&Method::PATCH, "PATCH"),
        ];
        KNOWN.iter().find(|(known, _)| **known == self.route.method).map_or("_OTHER", |(_, name)| name)
    }

    fn remote(&self, headers: &HeaderMap) -> Option<Remote> {
        if !self.trace_context.is_wanted() {
            return None;
        }
        let text = |name: &HeaderName| {
            let mut values = headers.get_all(name).iter();
            // More than one says nothing: which of them is meant?
            let only = values.next().filter(|_| values.next().is_none());
            only.and_then(|value| value.to_str().ok())
        };
        self.trace_context.remote(text(&TRACEPARENT), text(&TRACESTATE), text(&BAGGAGE))
    }
}

/// Returns what an event's metadata tells of who called.
fn meta(principal: Option<Principal>) -> Meta {
    let auth = principal.map(|principal| ("auth".to_owned(), principal.into_meta()));
    Meta::new(Map::from_iter(auth))
}
