//! The metrics of HTTP servers, by their semantic conventions: `http.server.request.duration` and
//! `http.server.active_requests`.

use std::sync::{Arc, PoisonError, RwLock};

use http::{Method, StatusCode, Version};

use crate::{
    task::http::{Claimant, Route},
    telemetry::{
        Hold, Labels, Level, Meter, Timer, Timers,
        instruments::{HTTP_SERVER_ACTIVE_REQUESTS, HTTP_SERVER_REQUEST_DURATION},
    },
    trace::{Moment, Ticks, TraceContext},
};

/// What the convention calls a method that is none of those it names.
const OTHER_METHOD: &str = "_OTHER";

/// Counts and times the requests of one route, or of none.
#[derive(Debug)]
pub(super) struct RequestMeters {
    labels: Labels,
    timers: Timers,
    active: Level,
    is_on: bool,
    /// What was timed so far: there are few combinations, so that looking for one is fast.
    known: RwLock<Vec<(Seen, Timer)>>,
}

/// What is only known of a request when it was answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Seen {
    method: &'static str,
    version: Version,
    /// `None` if there was nobody to answer.
    status: Option<StatusCode>,
}

impl RequestMeters {
    /// Makes those of a server with this scheme, for a route of a task if it is one's.
    pub(super) fn new(meter: &Meter, scheme: &'static str, route: Option<(&Route, &Claimant)>) -> Self {
        let mut labels = Labels::default().with("url.scheme", scheme);
        if let Some((route, Claimant { flow, task })) = route {
            labels = labels
                .with("flow", Arc::clone(flow))
                .with("task", Arc::clone(task))
                .with("http.route", Arc::clone(&route.template));
        }
        let method = route.map_or(OTHER_METHOD, |(route, _)| method(&route.method));
        let active = match route {
            Some((_, Claimant { flow, task })) => meter.level(
                &HTTP_SERVER_ACTIVE_REQUESTS,
                Labels::default()
                    .with("flow", Arc::clone(flow))
                    .with("task", Arc::clone(task))
                    .with("http.request.method", method)
                    .with("url.scheme", scheme),
            ),
            None => Level::default(),
        };
        let timers = meter.timers(&HTTP_SERVER_REQUEST_DURATION);
        Self { labels, timers, active, is_on: meter.is_on(), known: RwLock::default() }
    }

    /// Begins to time a request whose head was read then.
    pub(super) fn begin(&self, received: Ticks, method_of: &Method, version: Version) -> Timing<'_> {
        let hold = self.is_on.then(|| self.active.hold(1));
        Timing { meters: self, received, method: method(method_of), version, hold }
    }

    /// Counts a request of which nothing is known but what it was answered with.
    pub(super) fn count(&self, status: StatusCode) {
        let (received, hold) = (Ticks::now(), self.is_on.then(|| self.active.hold(1)));
        // What it was answered by; what the client speaks may be no version at all.
        let version = Version::HTTP_11;
        let timing = Timing { meters: self, received, method: OTHER_METHOD, version, hold };
        timing.end(status, TraceContext::default());
    }

    fn timer(&self, seen: Seen) -> Timer {
        let find = |known: &[(Seen, Timer)]| {
            known.iter().find(|(one, _)| *one == seen).map(|(_, timer)| timer.clone())
        };
        if let Some(timer) = find(&self.known.read().unwrap_or_else(PoisonError::into_inner)) {
            return timer;
        }
        let mut labels = self.labels.clone().with("http.request.method", seen.method);
        if let Some(version) = version(seen.version) {
            labels = labels.with("network.protocol.version", version);
        }
        labels = match seen.status {
            Some(status) if status.is_server_error() => labels
                .with("http.response.status_code", status.as_u16())
                .with("error.type", status.as_str().to_owned()),
            Some(status) => labels.with("http.response.status_code", status.as_u16()),
            None => labels.with("error.type", "cancelled"),
        };
        let timer = self.timers.get(labels);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.push((seen, timer.clone()));
        timer
    }
}

/// A request that is being answered. Dropped before its end, nobody waits for the answer any more.
#[derive(Debug)]
pub(super) struct Timing<'a> {
    meters: &'a RequestMeters,
    received: Ticks,
    method: &'static str,
    version: Version,
    /// There until the end, if anybody wants to know.
    hold: Option<Hold>,
}

impl Timing<'_> {
    /// Ends it with an answer of this status, in the span of that context.
    pub(super) fn end(mut self, status: StatusCode, trace: TraceContext) {
        self.record(Some(status), trace);
    }

    /// Ends it without an answer, which is somebody else's business.
    pub(super) fn forget(mut self) {
        self.hold = None;
    }

    fn record(&mut self, status: Option<StatusCode>, context: TraceContext) {
        if self.hold.take().is_none() {
            return;
        }
        let at = Ticks::now();
        let seen = Seen { method: self.method, version: self.version, status };
        self.meters.timer(seen).record(at.since(self.received), Moment { at, context });
    }
}

impl Drop for Timing<'_> {
    fn drop(&mut self) {
        self.record(None, TraceContext::default());
    }
}

/// Returns what the convention calls a method.
fn method(method: &Method) -> &'static str {
    const KNOWN: [(Method, &str); 9] = [
        (Method::GET, "GET"),
        (Method::POST, "POST"),
        (Method::PUT, "PUT"),
        (Method::DELETE, "DELETE"),
        (Method::PATCH, "PATCH"),
        (Method::HEAD, "HEAD"),
        (Method::OPTIONS, "OPTIONS"),
        (Method::TRACE, "TRACE"),
        (Method::CONNECT, "CONNECT"),
    ];
    KNOWN.iter().find(|(known, _)| known == method).map_or(OTHER_METHOD, |(_, name)| name)
}

/// Returns what the convention calls a version.
fn version(version: Version) -> Option<&'static str> {
    Some(match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_11 => "1.1",
        Version::HTTP_2 => "2",
        _ => return None,
    })
}
