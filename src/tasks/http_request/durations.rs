//! The metric of HTTP clients, by their semantic conventions: `http.client.request.duration`.

use std::sync::Arc;

use reqwest::{Request, StatusCode};

use super::span;
use crate::{
    task::BuildContext,
    telemetry::{Labels, OTHER_ERROR, Timers, instruments::HTTP_CLIENT_REQUEST_DURATION},
    trace::{Moment, Ticks, TraceContext},
};

/// Times the requests of one task, to the end of the response.
pub(super) struct Durations {
    timers: Timers,
    is_on: bool,
    task: Labels,
}

/// A request that is on its way. Dropped before its end it was given up.
pub(super) struct Timing<'a> {
    durations: &'a Durations,
    context: TraceContext,
    /// `None` while nobody wants to know, and after the end.
    begun: Option<(Ticks, Labels)>,
}

impl Durations {
    pub(super) fn new(context: &BuildContext) -> Self {
        let task =
            Labels::default().with("flow", Arc::clone(&context.flow)).with("task", Arc::clone(&context.task));
        let timers = context.meter.timers(&HTTP_CLIENT_REQUEST_DURATION);
        Self { timers, is_on: context.meter.is_on(), task }
    }

    /// Begins to time a request of an event that stands there in its trace.
    pub(super) fn begin(&self, request: &Request, context: TraceContext) -> Timing<'_> {
        let begun = self.is_on.then(|| {
            let mut labels =
                self.task.clone().with("http.request.method", request.method().as_str().to_owned());
            if let Some(host) = request.url().host() {
                labels = labels.with("server.address", span::address(&host));
            }
            if let Some(port) = request.url().port_or_known_default() {
                labels = labels.with("server.port", port);
            }
            (Ticks::now(), labels)
        });
        Timing { durations: self, context, begun }
    }
}

impl Timing<'_> {
    /// Takes note of the head of the response.
    pub(super) fn status(&mut self, status: StatusCode) {
        if let Some((_, labels)) = &mut self.begun {
            *labels = std::mem::take(labels).with("http.response.status_code", status.as_u16());
        }
    }

    /// Ends it, with the type of the error that it failed with.
    pub(super) fn end(&mut self, error_type: Option<&'static str>) {
        let Some((start, mut labels)) = self.begun.take() else { return };
        if let Some(error_type) = error_type {
            labels = labels.with("error.type", error_type);
        }
        let at = Ticks::now();
        let moment = Moment { at, context: self.context };
        self.durations.timers.get(labels).record(at.since(start), moment);
    }
}

impl Drop for Timing<'_> {
    fn drop(&mut self) {
        self.end(Some(OTHER_ERROR));
    }
}
