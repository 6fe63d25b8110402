//! The metric of HTTP clients, by their semantic conventions: `http.client.request.duration`.

use std::sync::Arc;

use reqwest::{Request, StatusCode};

use super::{failure, span};
use crate::{
    task::BuildContext,
    telemetry::{Labels, Timers, instruments::HTTP_CLIENT_REQUEST_DURATION},
    trace::{Moment, Ticks, TraceContext},
};

/// Times the requests of one task, to the end of the response's headers.
pub(super) struct Durations {
    timers: Timers,
    is_on: bool,
    task: Labels,
}

/// A request that is on its way.
pub(super) struct Timing<'a> {
    durations: &'a Durations,
    /// `None` while nobody wants to know.
    begun: Option<(Ticks, Labels)>,
}

impl Durations {
    pub(super) fn new(context: &BuildContext) -> Self {
        let task = Labels::default()
            .with("flow", Arc::clone(&context.flow))
            .with("task", Arc::clone(&context.task));
        let timers = context.meter.timers(&HTTP_CLIENT_REQUEST_DURATION);
        Self { timers, is_on: context.meter.is_on(), task }
    }

    pub(super) fn begin(&self, request: &Request) -> Timing<'_> {
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
        Timing { durations: self, begun }
    }
}

impl Timing<'_> {
    /// Ends it with the status of the response, or the type of the error that kept one from coming.
    pub(super) fn end(self, context: TraceContext, response: Result<StatusCode, &'static str>) {
        let Some((start, mut labels)) = self.begun else { return };
        let error_type = match response {
            Ok(status) => {
                labels = labels.with("http.response.status_code", status.as_u16());
                (status.is_client_error() || status.is_server_error()).then(|| failure::error_type(status))
            }
            Err(error_type) => Some(error_type),
        };
        if let Some(error_type) = error_type {
            labels = labels.with("error.type", error_type);
        }
        let at = Ticks::now();
        self.durations.timers.get(labels).record(at.since(start), Moment { at, context });
    }
}
