use std::sync::Arc;

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::Span,
};
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::{
    event::EventId,
    telemetry::{Identity, SpanKind, series::Series},
    trace::Ticks,
};

fn series(identity: bool) -> Arc<Series> {
    let identity = identity.then(|| {
        Arc::new(Identity { flow: "orders".into(), task: "map".into(), task_type: "script", task_id: 3 })
    });
    Arc::new(Series::new("task.handle", SpanKind::Client, identity, &["io"]))
}

fn context(trace_id: u128, span_id: u64) -> TraceContext {
    TraceContext { trace_id, span_id, flags: TraceContext::SAMPLED }
}

fn record(span_id: u64) -> Box<SpanRecord> {
    Box::new(SpanRecord::new(series(true), context(7, span_id), 0, Ticks::now()))
}

/// Decodes one body, which has one resource and one scope.
fn decoded(body: &Body) -> Vec<Span> {
    let mut request = ExportTraceServiceRequest::decode(body.bytes.clone()).unwrap();
    assert_eq!(request.resource_spans.len(), 1);
    let mut of_resource = request.resource_spans.remove(0);
    assert_eq!(of_resource.resource.unwrap(), resource());
    assert_eq!(of_resource.scope_spans.len(), 1);
    let of_scope = of_resource.scope_spans.remove(0);
    assert_eq!(of_scope.scope.unwrap().name, "flowgen");
    assert_eq!(of_scope.spans.len() as u64, body.items);
    of_scope.spans
}

fn resource() -> Resource {
    let attributes = vec![KeyValue { key: "service.name".into(), ..KeyValue::default() }];
    Resource { attributes, ..Resource::default() }
}

fn encoded(spans: &[Box<SpanRecord>], limit: usize) -> Vec<Body> {
    bodies(spans, &resource().encode_to_vec(), limit)
}

fn attributes(span: &Span) -> Vec<(&str, Value)> {
    let value = |attribute: &KeyValue| attribute.value.clone().unwrap().value.unwrap();
    span.attributes.iter().map(|attribute| (&*attribute.key, value(attribute))).collect()
}

fn text(text: &str) -> Value {
    Value::StringValue(text.to_owned())
}

#[test]
fn a_span_arrives_with_all_that_is_known_of_it() {
    let mut span = record(9);
    span.parent = 8;
    span.end = Ticks::now();
    span.outcome = SpanOutcome::Failed;
    span.error_type = Some("io");
    span.set_event(EventId::Sequence(5).child(2), span.start);
    let mut own = crate::telemetry::Attributes::default();
    own.set("file.offset", 12_i64);
    own.set("is", true);
    own.set("ratio", 0.5);
    own.set("list", AttributeValue::Texts(vec!["a".into(), "b".into()]));
    span.add_attributes(own);
    span.link(context(70, 90));
    let spans = decoded(&encoded(std::slice::from_ref(&span), usize::MAX)[0]);
    let [decoded] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!(decoded.trace_id, 7_u128.to_be_bytes());
    assert_eq!(decoded.span_id, 9_u64.to_be_bytes());
    assert_eq!(decoded.parent_span_id, 8_u64.to_be_bytes());
    assert_eq!((&*decoded.name, decoded.kind, decoded.flags), ("task.handle", 3, 0x101));
    assert_eq!(decoded.start_time_unix_nano, span.start.unix_nanos());
    assert_eq!(decoded.end_time_unix_nano, span.end.unix_nanos());
    assert_eq!(decoded.status.as_ref().map(|status| status.code), Some(2));
    let link = &decoded.links[0];
    assert_eq!((&*link.trace_id, &*link.span_id), (&70_u128.to_be_bytes()[..], &90_u64.to_be_bytes()[..]));
    let found = attributes(decoded);
    let array = match &found.iter().find(|(key, _)| *key == "list").unwrap().1 {
        Value::ArrayValue(array) => array.values.iter().map(|value| value.value.clone().unwrap()).collect(),
        other => vec![other.clone()],
    };
    assert_eq!(array, [text("a"), text("b")]);
    for expected in [
        ("flow", text("orders")),
        ("task", text("map")),
        ("task_id", Value::IntValue(3)),
        ("task_type", text("script")),
        ("flowgen.event.id", text("5-2")),
        ("outcome", text("failed")),
        ("flowgen.queue.duration", Value::DoubleValue(0.0)),
        ("error.type", text("io")),
        ("file.offset", Value::IntValue(12)),
        ("is", Value::BoolValue(true)),
        ("ratio", Value::DoubleValue(0.5)),
    ] {
        assert!(found.contains(&expected), "{expected:?} in {found:?}");
    }
    assert_eq!(found.len(), 12);
}

#[test]
fn what_a_span_does_not_have_is_left_out() {
    let span = Box::new(SpanRecord::new(series(false), context(7, 9), 0, Ticks::now()));
    let spans = decoded(&encoded(&[span], usize::MAX)[0]);
    assert!(
        spans[0].parent_span_id.is_empty() && spans[0].attributes.len() == 1 && spans[0].links.is_empty()
    );
    assert_eq!(spans[0].status, None);
}

#[test]
fn links_beyond_the_limit_are_counted() {
    let mut span = record(1);
    (0..130).for_each(|n| span.link(context(1, n + 1)));
    let spans = decoded(&encoded(&[span], usize::MAX)[0]);
    assert_eq!((spans[0].links.len(), spans[0].dropped_links_count), (128, 2));
}

#[test]
fn nothing_makes_no_body() {
    assert!(encoded(&[], 1).is_empty());
}

proptest! {
    #[test]
    fn bodies_hold_every_span_once_in_order_and_keep_the_limit(
        texts in prop::collection::vec(0usize..300, 1..40),
        limit in 200usize..3000,
    ) {
        let mut spans = Vec::new();
        for (n, length) in texts.iter().enumerate() {
            let mut span = record(n as u64 + 1);
            let mut own = crate::telemetry::Attributes::default();
            own.set("text", String::from_iter(std::iter::repeat_n('x', *length)));
            span.add_attributes(own);
            spans.push(span);
        }
        let bodies = encoded(&spans, limit);
        let ids: Vec<_> = bodies.iter().flat_map(decoded).map(|span| span.span_id).collect();
        let expected: Vec<_> = (1..=spans.len() as u64).map(|id| id.to_be_bytes().to_vec()).collect();
        prop_assert_eq!(ids, expected);
        for body in bodies {
            prop_assert!(body.items == 1 || body.bytes.len() <= limit, "{} spans in {}", body.items, body.bytes.len());
        }
    }
}
