//! A worker with a thousand flows: every series of every task arrives, none is folded into another, and every number is
//! exact, although no call may be as long as one collection of them is.

use std::{collections::BTreeMap, fs};

use crate::{
    collector::Collector,
    flowgen,
    otlp::{Point, Received},
    process::Process,
};

const FLOWS: u64 = 1000;

/// What a Collector takes in one call.
const CALL: usize = 4 * 1024 * 1024;

/// The values of a metric by flow, task and one further attribute.
type Values = BTreeMap<(String, String, String), u64>;

/// Long names make long calls.
fn name(flow: u64) -> String {
    format!("flow-{flow:04}-{}", "x".repeat(100))
}

/// How many events a flow has, and how many of them fail in its second task: each third one.
fn events(flow: u64) -> (u64, u64) {
    let events = flow % 7 + 1;
    (events, events.div_ceil(3))
}

fn flows() -> String {
    let flow = |flow| {
        format!(
            "  - name: {}
    tasks:
      - generate: {{name: numbers, count: {}}}
      - script: {{name: picky, code: 'if parse_int(event.id) % 3 == 0 {{ throw \"a third\" }} event'}}
      - drop: {{name: nowhere}}
",
            name(flow),
            events(flow).0
        )
    };
    "telemetry: {enabled: true, trace_sample_rate: 0, keep_traces: {errors: false}}\nflows:\n".to_owned()
        + (0..FLOWS).map(flow).collect::<String>().as_str()
}

/// Returns the last value of each series of a metric.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "they count events")]
fn values(received: &Received, metric: &str, further: &str) -> Values {
    let series = received.series(metric).into_iter();
    let text = |point: &Point, key: &str| point.attributes[key].as_str().unwrap().to_owned();
    let value = |point: &Point| {
        ((text(point, "flow"), text(point, "task"), text(point, further)), point.value as u64)
    };
    series.map(value).collect()
}

/// Returns what counts and durations of handled events must be; `count` has zeros, too.
fn expected() -> (Values, Values) {
    let (mut counts, mut errors) = (Values::new(), Values::new());
    for flow in 0..FLOWS {
        let (events, failed) = events(flow);
        let set = |values: &mut Values, task: &str, further: &str, value| {
            values.insert((name(flow), task.to_owned(), further.to_owned()), value);
        };
        for (task, completed, failed) in
            [("numbers", events, 0), ("picky", events - failed, failed), ("nowhere", events - failed, 0)]
        {
            set(&mut counts, task, "completed", completed);
            set(&mut counts, task, "failed", failed);
        }
        for (task, error_type, value) in [
            ("numbers", "script", 0),
            ("numbers", "limit", 0),
            ("numbers", "schedule", 0),
            ("picky", "script", failed),
            ("picky", "limit", 0),
        ] {
            set(&mut errors, task, error_type, value);
        }
    }
    (counts, errors)
}

/// Returns how long one collection is at least: as long as the attributes of its points.
fn length(received: &Received) -> usize {
    let last = received.points.iter().map(|point| point.time).max().unwrap();
    let points = received.points.iter().filter(|point| point.time == last);
    let attributes = points.flat_map(|point| &point.attributes);
    attributes.map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum()
}

#[test]
fn a_thousand_flows_arrive_with_every_series_and_true_numbers() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("flows.yaml"), flows()).unwrap();
    // Else it prints every point.
    let collector = Collector::start_with("exporters: {debug: {verbosity: basic}}");
    let mut command = flowgen(&["run", "flows.yaml"]);
    command.current_dir(folder.path()).env("FLOWGEN_TELEMETRY__OTLP_ENDPOINT", collector.endpoint());
    let ended = Process::start(&mut command).end();
    assert_eq!(ended.code, Some(3), "events fail: {}", ended.stderr);
    let received = collector.stop();

    let (counts, errors) = expected();
    assert_eq!(values(&received, "task.handle.count", "outcome"), counts);
    let durations = values(&received, "task.handle.duration", "outcome");
    let seen =
        |values: &Values| -> Values { values.clone().into_iter().filter(|(_, value)| *value > 0).collect() };
    assert_eq!(seen(&durations), seen(&counts));
    assert_eq!(values(&received, "task.handle.errors", "error.type"), errors);

    assert!(received.points.iter().all(|point| !point.attributes.contains_key("otel.metric.overflow")));
    let length = length(&received);
    assert!(length > CALL, "{length} bytes fit into one call");
    let flushed = ended.only("telemetry flushed");
    assert_eq!(flushed["points_exported"], received.points.len());
    assert_eq!(flushed["points_dropped"], 0);
    let warnings = ended.lines().filter(|line| line["level"] == "WARN");
    let of_telemetry: Vec<_> =
        warnings.filter(|line| line["target"].as_str().unwrap().starts_with("flowgen::telemetry")).collect();
    assert!(of_telemetry.is_empty(), "{of_telemetry:?}");
}
