//! What is sent to see whether it is taken: one span and one data point.

use std::sync::Arc;

use bytes::Bytes;
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, metric::Data, number_data_point::Value,
};
use prost::Message;

use crate::{
    telemetry::{
        Settings, Signal, SpanKind, encode,
        export::{BODY_LIMIT, chunk::Chunk, resource},
        ids,
        record::SpanRecord,
        series::Series,
    },
    trace::{Ticks, TraceContext},
};

/// The name of the span.
pub(crate) const SPAN_NAME: &str = "flowgen.doctor";
/// The name of the metric.
pub(crate) const METRIC_NAME: &str = "flowgen.doctor.probe";

/// An encoded request for each signal.
#[derive(Clone, Debug)]
pub(crate) struct Probes {
    trace_id: u128,
    span: Bytes,
    metric: Bytes,
}

impl Probes {
    /// Makes a span and a data point of the service that the settings name.
    pub(crate) fn new(settings: &Settings) -> Self {
        let resource = resource(&settings.service_name, &settings.resource_attributes);
        let trace_id = ids::trace_id();
        let context = TraceContext { trace_id, span_id: ids::span_id(), flags: TraceContext::SAMPLED };
        let series = Series::new(SPAN_NAME, SpanKind::Internal, None, &[]);
        let span = SpanRecord::new(Arc::new(series), context, 0, Ticks::now());
        let mut spans = encode::bodies(&[Box::new(span)], &resource.encode_to_vec(), BODY_LIMIT);
        let span = spans.pop().map(|body| body.bytes).unwrap_or_default();
        let metric = Chunk::of(vec![metric()]).encode(&resource);
        Self { trace_id, span, metric }
    }

    /// Returns the request of a signal.
    pub(crate) fn body(&self, signal: Signal) -> Bytes {
        match signal {
            Signal::Traces => self.span.clone(),
            Signal::Metrics => self.metric.clone(),
        }
    }

    /// Returns the id of the span's trace, as tools for traces search for it.
    pub(crate) fn trace_id(&self) -> String {
        format!("{:032x}", self.trace_id)
    }
}

fn metric() -> Metric {
    let now = Ticks::now().unix_nanos();
    let point =
        NumberDataPoint { time_unix_nano: now, value: Some(Value::AsInt(1)), ..NumberDataPoint::default() };
    Metric {
        name: METRIC_NAME.into(),
        unit: "1".into(),
        description: "Says that `flowgen doctor` was run.".into(),
        data: Some(Data::Gauge(Gauge { data_points: vec![point] })),
        ..Metric::default()
    }
}
