//! Spans as OTLP: written straight into bytes, because millions of small messages would otherwise be
//! allocated only to be written (`opentelemetry/proto/trace/v1/trace.proto`, version 1.x).

use std::fmt::Write as _;

use bytes::{BufMut, Bytes};
use prost::encoding::{WireType, encode_key, encode_varint};

use super::{AttributeValue, Identity, SpanKind, SpanOutcome, Text, record::SpanRecord};
use crate::trace::{TraceContext, follow_wall_clock};

/// A request of one export call.
#[derive(Clone, Debug)]
pub(super) struct Body {
    /// The encoded message.
    pub(super) bytes: Bytes,
    /// The spans or data points in it.
    pub(super) items: u64,
}

/// The longest event id that is exported, in bytes: a script may make one of any length.
const MAX_EVENT_ID: usize = 1024;
/// `Status.code` of a span that failed.
const STATUS_ERROR: u64 = 2;
/// Set in flags where it is known whether the other span is of another process.
const HAS_IS_REMOTE: u32 = 0x100;
/// Set beside it if that is so.
const IS_REMOTE: u32 = 0x200;

/// Encodes spans as `ExportTraceServiceRequest`s of at most `limit` bytes, or of one span where that alone
/// is larger. `resource` is an encoded `Resource`.
pub(super) fn bodies(spans: &[Box<SpanRecord>], resource: &[u8], limit: usize) -> Vec<Body> {
    follow_wall_clock();
    let scope = scope();
    // Keys and lengths of the messages around the spans take a few bytes each.
    let limit = limit.saturating_sub(resource.len() + scope.len() + 64);
    let mut bodies = Vec::new();
    let mut encoded = Vec::with_capacity(spans.len().saturating_mul(320).min(limit));
    let mut items = 0;
    let mut encoder = Encoder::default();
    for span in spans {
        let message = encoder.span(span);
        if items > 0 && encoded.len() + message.len() + 8 > limit {
            bodies.push(Body { bytes: request(&encoded, resource, &scope), items });
            encoded.clear();
            items = 0;
        }
        put_bytes(&mut encoded, 2, message);
        items += 1;
    }
    if items > 0 {
        bodies.push(Body { bytes: request(&encoded, resource, &scope), items });
    }
    bodies
}

/// Encodes the fields of a `Span` that all spans of one name and one task have in common.
pub(super) fn common(name: &str, kind: SpanKind, identity: Option<&Identity>) -> Vec<u8> {
    let mut encoder = Encoder::default();
    put_bytes(&mut encoder.span, 5, name.as_bytes());
    put_varint(&mut encoder.span, 6, kind as u64);
    if let Some(identity) = identity {
        encoder.text("flow", &identity.flow);
        encoder.text("task", &identity.task);
        encoder.int("task_id", i64::try_from(identity.task_id).unwrap_or(i64::MAX));
        encoder.text("task_type", identity.task_type);
    }
    encoder.span
}

/// Puts the messages around encoded `ScopeSpans.spans`.
fn request(spans: &[u8], resource: &[u8], scope: &[u8]) -> Bytes {
    let mut scope_field = Vec::with_capacity(scope.len() + 8);
    put_bytes(&mut scope_field, 1, scope);
    let mut resource_field = Vec::with_capacity(resource.len() + 16);
    put_bytes(&mut resource_field, 1, resource);
    let scope_spans = scope_field.len() + spans.len();
    put_length(&mut resource_field, 2, scope_spans);
    let mut request = Vec::with_capacity(resource_field.len() + scope_spans + 16);
    put_length(&mut request, 1, resource_field.len() + scope_spans);
    for part in [&resource_field, &scope_field, spans] {
        request.extend_from_slice(part);
    }
    request.into()
}

/// Returns the encoded `InstrumentationScope`.
fn scope() -> Vec<u8> {
    let mut scope = Vec::new();
    put_bytes(&mut scope, 1, super::SCOPE.as_bytes());
    put_bytes(&mut scope, 2, super::VERSION.as_bytes());
    scope
}

/// Encodes one span after the other. Holds buffers for their allocation only.
#[derive(Default)]
struct Encoder {
    span: Vec<u8>,
    message: Vec<u8>,
    value: Vec<u8>,
    text: String,
}

impl Encoder {
    fn span(&mut self, span: &SpanRecord) -> &[u8] {
        self.span.clear();
        put_bytes(&mut self.span, 1, &span.context.trace_id.to_be_bytes());
        put_bytes(&mut self.span, 2, &span.context.span_id.to_be_bytes());
        if let Some(state) = &span.trace_state {
            put_bytes(&mut self.span, 3, state.as_bytes());
        }
        if span.parent != 0 {
            put_bytes(&mut self.span, 4, &span.parent.to_be_bytes());
        }
        self.span.extend_from_slice(&span.series.encoded);
        put_fixed64(&mut self.span, 7, span.start.unix_nanos());
        put_fixed64(&mut self.span, 8, span.end.unix_nanos());
        self.event(span);
        self.text("outcome", span.outcome.name());
        if let Some(kept) = span.kept {
            self.text("flowgen.kept", kept.name());
        }
        for attribute in span.attributes.iter() {
            self.attribute(&attribute.key, &attribute.value);
        }
        if span.attributes.dropped() > 0 {
            put_varint(&mut self.span, 10, span.attributes.dropped().into());
        }
        for (link, is_remote) in &span.links {
            self.link(link, *is_remote);
        }
        if span.dropped_links > 0 {
            put_varint(&mut self.span, 14, span.dropped_links.into());
        }
        if span.outcome == SpanOutcome::Failed {
            self.message.clear();
            put_varint(&mut self.message, 3, STATUS_ERROR);
            put_bytes(&mut self.span, 15, &self.message);
        }
        put_fixed32(&mut self.span, 16, flags(span.context, span.is_parent_remote));
        &self.span
    }

    /// What the spans of events have; those of the worker's life have no event.
    fn event(&mut self, span: &SpanRecord) {
        if let Some(id) = &span.event_id {
            let mut text = std::mem::take(&mut self.text);
            text.clear();
            // Writing to a string cannot fail.
            let _ = write!(text, "{id}");
            self.text("flowgen.event.id", &text[..text.floor_char_boundary(MAX_EVENT_ID)]);
            self.text = text;
        }
        if let Some(nanos) = span.queued {
            #[expect(clippy::cast_precision_loss, reason = "a double of seconds is what the attribute is")]
            self.double("flowgen.queue.duration", nanos as f64 / 1e9);
        }
        if let Some(error_type) = span.error_type {
            self.text("error.type", error_type);
        }
    }

    fn attribute(&mut self, key: &str, value: &AttributeValue) {
        match value {
            AttributeValue::Text(text) => self.text(key, text),
            AttributeValue::Texts(texts) => self.texts(key, texts),
            AttributeValue::Int(int) => self.int(key, *int),
            AttributeValue::Double(double) => self.double(key, *double),
            AttributeValue::Bool(bool) => self.key_value(key, |value| put_varint(value, 2, u64::from(*bool))),
        }
    }

    fn text(&mut self, key: &str, text: &str) {
        self.key_value(key, |value| put_bytes(value, 1, text.as_bytes()));
    }

    fn texts(&mut self, key: &str, texts: &[Text]) {
        let mut array = Vec::new();
        let mut value = Vec::new();
        for text in texts {
            value.clear();
            put_bytes(&mut value, 1, text.as_bytes());
            put_bytes(&mut array, 1, &value);
        }
        self.key_value(key, |value| put_bytes(value, 5, &array));
    }

    fn int(&mut self, key: &str, int: i64) {
        self.key_value(key, |value| put_varint(value, 3, int.cast_unsigned()));
    }

    fn double(&mut self, key: &str, double: f64) {
        self.key_value(key, |value| put_fixed64(value, 4, double.to_bits()));
    }

    /// Adds a `KeyValue` whose `AnyValue` is what `put` writes.
    fn key_value(&mut self, key: &str, put: impl FnOnce(&mut Vec<u8>)) {
        self.value.clear();
        put(&mut self.value);
        self.message.clear();
        put_bytes(&mut self.message, 1, key.as_bytes());
        put_bytes(&mut self.message, 2, &self.value);
        put_bytes(&mut self.span, 9, &self.message);
    }

    fn link(&mut self, link: &TraceContext, is_remote: bool) {
        self.message.clear();
        put_bytes(&mut self.message, 1, &link.trace_id.to_be_bytes());
        put_bytes(&mut self.message, 2, &link.span_id.to_be_bytes());
        put_fixed32(&mut self.message, 6, flags(*link, is_remote));
        put_bytes(&mut self.span, 13, &self.message);
    }
}

/// Returns the flags of a span whose parent, or of a link whose span, is of another process or is not.
fn flags(context: TraceContext, is_remote: bool) -> u32 {
    u32::from(context.flags) | HAS_IS_REMOTE | if is_remote { IS_REMOTE } else { 0 }
}

fn put_length(buffer: &mut Vec<u8>, field: u32, length: usize) {
    encode_key(field, WireType::LengthDelimited, buffer);
    encode_varint(length as u64, buffer);
}

fn put_bytes(buffer: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    put_length(buffer, field, bytes.len());
    buffer.extend_from_slice(bytes);
}

fn put_varint(buffer: &mut Vec<u8>, field: u32, value: u64) {
    encode_key(field, WireType::Varint, buffer);
    encode_varint(value, buffer);
}

fn put_fixed32(buffer: &mut Vec<u8>, field: u32, value: u32) {
    encode_key(field, WireType::ThirtyTwoBit, buffer);
    buffer.put_u32_le(value);
}

fn put_fixed64(buffer: &mut Vec<u8>, field: u32, value: u64) {
    encode_key(field, WireType::SixtyFourBit, buffer);
    buffer.put_u64_le(value);
}

#[cfg(test)]
mod tests;
