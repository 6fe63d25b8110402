//! Spans as tests look at them, and the traces that they make.

use std::{
    collections::{BTreeMap, HashSet},
    ops::Index,
    sync::Arc,
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    trace::v1::{self as proto, span::SpanKind, status::StatusCode},
};
use serde_json::Value;

pub(super) type Attributes = BTreeMap<String, Value>;

/// A span as it came in.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) trace_id: u128,
    pub(crate) span_id: u64,
    pub(crate) parent: Option<u64>,
    /// Whether the parent is a span of another process.
    pub(crate) is_parent_remote: bool,
    pub(crate) name: String,
    pub(crate) kind: SpanKind,
    /// Nanoseconds since 1970.
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) attributes: Attributes,
    pub(crate) status: StatusCode,
    /// The trace and the span that each link leads to.
    pub(crate) links: Vec<(u128, u64)>,
    pub(crate) dropped_links: u32,
    /// The flags of the W3C trace context.
    pub(crate) trace_flags: u8,
    pub(crate) resource: Arc<Attributes>,
    pub(crate) scope: Arc<(String, String)>,
}

impl Span {
    fn read(span: &proto::Span, resource: &Arc<Attributes>, scope: &Arc<(String, String)>) -> Self {
        let parent = (!span.parent_span_id.is_empty()).then(|| span_id(&span.parent_span_id));
        let status = span.status.clone().unwrap_or_default();
        let span = Self {
            trace_id: trace_id(&span.trace_id),
            span_id: span_id(&span.span_id),
            parent,
            is_parent_remote: span.flags & proto::SpanFlags::ContextIsRemoteMask as u32 != 0,
            name: span.name.clone(),
            kind: span.kind(),
            start: span.start_time_unix_nano,
            end: span.end_time_unix_nano,
            attributes: attributes(&span.attributes),
            status: status.code(),
            dropped_links: span.dropped_links_count,
            links: span.links.iter().map(|link| (trace_id(&link.trace_id), span_id(&link.span_id))).collect(),
            trace_flags: u8::try_from(span.flags & proto::SpanFlags::TraceFlagsMask as u32).unwrap(),
            resource: Arc::clone(resource),
            scope: Arc::clone(scope),
        };
        assert!(span.trace_id != 0 && span.span_id != 0 && span.parent != Some(0), "{span:?}");
        assert!(span.start > 0 && span.start <= span.end, "{span:?}");
        span
    }

    /// Returns an attribute as text, empty if it has none of this name.
    pub(crate) fn text(&self, attribute: &str) -> &str {
        self[attribute].as_str().unwrap_or_default()
    }

    /// Returns whether it is exported although its trace was not sampled.
    pub(crate) fn is_kept(&self) -> bool {
        !self["flowgen.kept"].is_null()
    }

    /// Returns whether it has these attributes.
    pub(crate) fn has(&self, attributes: &[(&str, &str)]) -> bool {
        attributes.iter().all(|(name, value)| self.text(name) == *value)
    }
}

/// An attribute, null if there is none of this name.
impl Index<&str> for Span {
    type Output = Value;

    fn index(&self, attribute: &str) -> &Value {
        self.attributes.get(attribute).unwrap_or(&Value::Null)
    }
}

/// Reads the spans of all calls. No two may have the same id.
pub(super) fn read(requests: &[ExportTraceServiceRequest]) -> Vec<Span> {
    let mut spans = Vec::new();
    for resource_spans in requests.iter().flat_map(|request| &request.resource_spans) {
        let resource = resource_spans.resource.as_ref().expect("every span comes with its resource");
        let resource = Arc::new(attributes(&resource.attributes));
        for scope_spans in &resource_spans.scope_spans {
            let scope = Arc::new(scope(scope_spans.scope.as_ref()));
            spans.extend(scope_spans.spans.iter().map(|span| Span::read(span, &resource, &scope)));
        }
    }
    let mut known = HashSet::new();
    for span in &spans {
        assert!(known.insert(span.span_id), "this id came twice: {span:?}");
    }
    spans
}

/// The spans of one trace.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    spans: Vec<Span>,
}

/// Sorts spans into traces, in the order in which they begin.
pub(crate) fn traces(spans: Vec<Span>) -> Vec<Trace> {
    let mut traces: BTreeMap<u128, Trace> = BTreeMap::new();
    for span in spans {
        traces.entry(span.trace_id).or_insert_with(|| Trace { spans: Vec::new() }).spans.push(span);
    }
    let mut traces: Vec<Trace> = traces.into_values().collect();
    traces.sort_by_key(|trace| trace.root().start);
    traces
}

impl Trace {
    /// Returns all of them.
    pub(crate) fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Returns the only span that has no parent.
    pub(crate) fn root(&self) -> &Span {
        let mut roots = self.spans.iter().filter(|span| span.parent.is_none());
        match (roots.next(), roots.next()) {
            (Some(root), None) => root,
            _ => panic!("not one root: {:#?}", self.spans),
        }
    }

    /// Returns the spans below this one.
    pub(crate) fn children(&self, parent: &Span) -> impl Iterator<Item = &Span> {
        let parent = parent.span_id;
        self.spans.iter().filter(move |span| span.parent == Some(parent))
    }

    /// Returns the trace as text: `label` of each span, and in brackets those below it, sorted.
    pub(crate) fn shape(&self, label: impl Fn(&Span) -> String) -> String {
        let mut shown = 0;
        let shape = self.shape_of(self.root(), &label, &mut shown);
        assert_eq!(shown, self.spans.len(), "some hang in the air: {:#?}", self.spans);
        shape
    }

    fn shape_of(&self, span: &Span, label: &impl Fn(&Span) -> String, shown: &mut usize) -> String {
        *shown += 1;
        let children = self.children(span).map(|child| self.shape_of(child, label, shown)).collect();
        shape(label(span), children)
    }
}

/// Makes the text of a tree out of its root's label and what hangs below it.
pub(crate) fn shape(label: String, mut children: Vec<String>) -> String {
    if children.is_empty() {
        return label;
    }
    children.sort();
    format!("{label}({})", children.join(" "))
}

pub(super) fn attributes(list: &[KeyValue]) -> Attributes {
    let mut attributes = Attributes::new();
    for attribute in list {
        let value = value(attribute.value.as_ref());
        let earlier = attributes.insert(attribute.key.clone(), value);
        assert!(earlier.is_none(), "`{}` came twice", attribute.key);
    }
    attributes
}

fn value(value: Option<&AnyValue>) -> Value {
    use any_value::Value as Any;
    match value.and_then(|value| value.value.as_ref()) {
        Some(Any::StringValue(text)) => text.as_str().into(),
        Some(Any::BoolValue(value)) => (*value).into(),
        Some(Any::IntValue(number)) => (*number).into(),
        Some(Any::DoubleValue(number)) => (*number).into(),
        Some(Any::ArrayValue(list)) => list.values.iter().map(|item| self::value(Some(item))).collect(),
        other => panic!("no attribute of ours has such a value: {other:?}"),
    }
}

pub(super) fn scope(scope: Option<&InstrumentationScope>) -> (String, String) {
    let scope = scope.expect("everything comes with its scope");
    (scope.name.clone(), scope.version.clone())
}

pub(super) fn trace_id(bytes: &[u8]) -> u128 {
    u128::from_be_bytes(bytes.try_into().expect("an id of a trace has 16 bytes"))
}

pub(super) fn span_id(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().expect("an id of a span has 8 bytes"))
}
