//! What a Collector has received, as its file exporter wrote it: OTLP in JSON, one request a line.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

pub(crate) type Attributes = BTreeMap<String, Value>;

/// Everything that arrived at one Collector.
pub(crate) struct Received {
    pub(crate) spans: Vec<Span>,
    pub(crate) points: Vec<Point>,
    /// What it printed: the debug exporter's output among it.
    pub(crate) printed: String,
}

pub(crate) struct Span {
    pub(crate) trace: String,
    pub(crate) id: String,
    /// Empty in a root.
    pub(crate) parent: String,
    pub(crate) name: String,
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// The number of OTLP: 1 is `INTERNAL`.
    pub(crate) kind: u64,
    /// The number of OTLP: 2 is `ERROR`.
    pub(crate) status: u64,
    /// How many links it has, those among them that were left out because of their number.
    pub(crate) links: u64,
    pub(crate) attributes: Attributes,
    pub(crate) resource: Attributes,
}

/// One data point of one export.
pub(crate) struct Point {
    pub(crate) metric: String,
    pub(crate) unit: String,
    /// The key of its OTLP message: `sum`, `gauge`, `histogram` or `exponentialHistogram`.
    pub(crate) shape: &'static str,
    /// The value of a sum or a gauge, the count of a histogram.
    pub(crate) value: f64,
    /// Of a histogram, the counts of its buckets.
    pub(crate) buckets: Vec<u64>,
    pub(crate) is_cumulative: bool,
    /// The trace and the span of each exemplar.
    pub(crate) exemplars: Vec<(String, String)>,
    pub(crate) start: u64,
    pub(crate) is_monotonic: bool,
    pub(crate) time: u64,
    pub(crate) attributes: Attributes,
    pub(crate) resource: Attributes,
}

impl Received {
    pub(crate) fn parse(traces: &str, metrics: &str, printed: String) -> Self {
        let requests = |text: &str| -> Vec<Value> {
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        Self {
            spans: requests(traces).iter().flat_map(spans).collect(),
            points: requests(metrics).iter().flat_map(points).collect(),
            printed,
        }
    }

    pub(crate) fn spans_named(&self, name: &str) -> Vec<&Span> {
        self.spans.iter().filter(|span| span.name == name).collect()
    }

    /// Returns the `task.handle` spans of one task.
    pub(crate) fn handled_by(&self, task: &str) -> Vec<&Span> {
        let mut spans = self.spans_named("task.handle");
        spans.retain(|span| span.attributes["task"] == task);
        spans
    }

    pub(crate) fn metric_names(&self) -> BTreeSet<&str> {
        self.points.iter().map(|point| point.metric.as_str()).collect()
    }

    /// Returns the last point of each series of a metric.
    pub(crate) fn series(&self, metric: &str) -> Vec<&Point> {
        let mut last = BTreeMap::<String, &Point>::new();
        for point in self.points.iter().filter(|point| point.metric == metric) {
            let key = serde_json::to_string(&point.attributes).unwrap();
            let kept = last.entry(key).or_insert(point);
            if kept.time < point.time {
                *kept = point;
            }
        }
        last.into_values().collect()
    }

    /// Returns the sum over the series of a metric that have these attributes.
    pub(crate) fn total(&self, metric: &str, attributes: &[(&str, &str)]) -> f64 {
        let mut series = self.series(metric);
        series.retain(|point| attributes.iter().all(|(key, value)| point.attributes[*key] == *value));
        assert!(!series.is_empty(), "no series of `{metric}` has {attributes:?}");
        series.iter().map(|point| point.value).sum()
    }

    /// Panics unless every id is there once, and every parent is in the same trace and began no later.
    pub(crate) fn assert_whole_traces(&self) {
        let by_id: BTreeMap<_, _> = self.spans.iter().map(|span| ((&span.trace, &span.id), span)).collect();
        assert_eq!(by_id.len(), self.spans.len(), "span ids are not unique");
        for span in &self.spans {
            assert!(span.start <= span.end, "{} ends before it starts", span.name);
            if !span.parent.is_empty() {
                let parent = by_id.get(&(&span.trace, &span.parent));
                let parent = parent.unwrap_or_else(|| panic!("{} {} has no parent", span.name, span.id));
                assert!(parent.start <= span.start, "{} starts before its parent", span.name);
            }
        }
    }
}

fn spans(request: &Value) -> Vec<Span> {
    let mut spans = Vec::new();
    for group in list(&request["resourceSpans"]) {
        let resource = attributes(&group["resource"]);
        for scope in list(&group["scopeSpans"]) {
            spans.extend(list(&scope["spans"]).iter().map(|span| Span {
                trace: text(&span["traceId"]),
                id: text(&span["spanId"]),
                parent: text(&span["parentSpanId"]),
                name: text(&span["name"]),
                start: integer(&span["startTimeUnixNano"]),
                end: integer(&span["endTimeUnixNano"]),
                kind: integer(&span["kind"]),
                status: integer(&span["status"]["code"]),
                links: list(&span["links"]).len() as u64 + integer(&span["droppedLinksCount"]),
                attributes: attributes(span),
                resource: resource.clone(),
            }));
        }
    }
    spans
}

fn points(request: &Value) -> Vec<Point> {
    let mut points = Vec::new();
    for group in list(&request["resourceMetrics"]) {
        let resource = attributes(&group["resource"]);
        for scope in list(&group["scopeMetrics"]) {
            for metric in list(&scope["metrics"]) {
                points.extend(points_of_metric(metric, &resource));
            }
        }
    }
    points
}

fn points_of_metric(metric: &Value, resource: &Attributes) -> Vec<Point> {
    let shape = ["sum", "gauge", "histogram", "exponentialHistogram"]
        .into_iter()
        .find(|shape| metric[shape].is_object());
    let shape = shape.unwrap_or_else(|| panic!("neither sum nor gauge nor histogram: {metric}"));
    let point = |point: &Value| Point {
        metric: text(&metric["name"]),
        unit: text(&metric["unit"]),
        shape,
        value: value(point),
        buckets: buckets(point).iter().map(integer).collect(),
        exemplars: list(&point["exemplars"])
            .iter()
            .map(|it| (text(&it["traceId"]), text(&it["spanId"])))
            .collect(),
        start: integer(&point["startTimeUnixNano"]),
        is_cumulative: metric[shape]["aggregationTemporality"] == 2,
        is_monotonic: metric[shape]["isMonotonic"] == true,
        time: integer(&point["timeUnixNano"]),
        attributes: attributes(point),
        resource: resource.clone(),
    };
    list(&metric[shape]["dataPoints"]).iter().map(point).collect()
}

/// Returns the counts of the buckets of a histogram of either kind; that of zeros is not among them.
fn buckets(point: &Value) -> &[Value] {
    let explicit = list(&point["bucketCounts"]);
    if explicit.is_empty() { list(&point["positive"]["bucketCounts"]) } else { explicit }
}

/// Returns the one number of a point, whatever it is called.
#[expect(clippy::cast_precision_loss, reason = "no count of a test comes near 2^53")]
fn value(point: &Value) -> f64 {
    match (&point["asDouble"], &point["asInt"]) {
        (Value::Null, Value::Null) => integer(&point["count"]) as f64,
        (Value::Null, number) => integer(number) as f64,
        (number, _) => number.as_f64().unwrap(),
    }
}

fn attributes(holder: &Value) -> Attributes {
    let plain = |value: &Value| match value.as_object().and_then(|value| value.iter().next()) {
        Some((kind, number)) if kind == "intValue" => integer(number).into(),
        Some((_, value)) => value.clone(),
        None => Value::Null,
    };
    let pairs = list(&holder["attributes"]).iter();
    pairs.map(|pair| (text(&pair["key"]), plain(&pair["value"]))).collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Reads a whole number: those of 64 bits are text in OTLP's JSON, and a zero is left out.
fn integer(value: &Value) -> u64 {
    match value {
        Value::Null => 0,
        Value::String(digits) => digits.parse().unwrap(),
        number => number.as_u64().unwrap_or_else(|| panic!("{number}")),
    }
}
