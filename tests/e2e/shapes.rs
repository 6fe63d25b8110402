//! Metrics in the other shapes that a collector can be sent: deltas, exponential histograms, and exemplars that lead to
//! spans.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    collector::Collector,
    flowgen,
    otlp::{Point, Received},
    process::Process,
};

const EVENTS: u32 = 300;

const FLOW: &str = "
telemetry: {enabled: true, metrics_export_interval: 100ms, span_queue: {size: 100000}}
flow:
  name: shapes
  tasks:
    - generate: {name: numbers, rate: 500, count: 300}
    - script: {name: picky, code: 'if parse_int(event.id) % 10 == 0 { throw \"a tenth\" } event'}
    - drop: {name: nowhere}
";

/// Runs [`FLOW`] with these variables, and returns what a Collector has of it.
fn run(variables: &[(&str, &str)]) -> Received {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flow.yaml");
    std::fs::write(&path, FLOW).unwrap();
    let collector = Collector::start();
    let mut command = flowgen(&["run", path.to_str().unwrap()]);
    command.env("FLOWGEN_TELEMETRY__OTLP_ENDPOINT", collector.endpoint()).envs(variables.iter().copied());
    let ended = Process::start(&mut command).end();
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    collector.stop()
}

fn of<'a>(received: &'a Received, metric: &str) -> Vec<&'a Point> {
    received.points.iter().filter(|point| point.metric == metric).collect()
}

/// Adds up the points of each series of a metric, each of which has to begin where the one before it ended.
fn added_up(received: &Received, metric: &str) -> BTreeMap<(String, String), f64> {
    let mut points = of(received, metric);
    points.sort_by_key(|point| point.time);
    let mut sums = BTreeMap::<_, (u64, f64)>::new();
    for point in points {
        assert!(!point.is_cumulative, "{metric} at {}", point.time);
        let text = |key: &str| point.attributes[key].as_str().unwrap().to_owned();
        let (end, sum) = sums.entry((text("task"), text("outcome"))).or_insert((point.start, 0.0));
        assert_eq!(point.start, *end, "{metric}");
        (*end, *sum) = (point.time, *sum + point.value);
    }
    sums.into_iter().filter(|(_, (_, sum))| *sum > 0.0).map(|(series, (_, sum))| (series, sum)).collect()
}

fn expected() -> BTreeMap<(String, String), f64> {
    let (all, failed) = (f64::from(EVENTS), f64::from(EVENTS / 10));
    [("numbers", "completed", all), ("picky", "completed", all - failed), ("picky", "failed", failed)]
        .into_iter()
        .chain([("nowhere", "completed", all - failed)])
        .map(|(task, outcome, count)| ((task.to_owned(), outcome.to_owned()), count))
        .collect()
}

#[test]
fn deltas_add_up_to_every_event() {
    let received = run(&[("FLOWGEN_TELEMETRY__TEMPORALITY", "delta")]);
    for metric in ["task.handle.count", "task.handle.duration"] {
        assert_eq!(added_up(&received, metric), expected(), "{metric}");
    }
    let times: BTreeSet<_> = of(&received, "task.handle.count").iter().map(|point| point.time).collect();
    assert!(times.len() > 2, "only {times:?}");
    // What can go down stays what it is.
    assert!(
        of(&received, "flowgen.flow.inflight").iter().all(|point| point.is_cumulative && !point.is_monotonic)
    );
}

#[test]
fn exponential_histograms_hold_every_event() {
    let received = run(&[("FLOWGEN_TELEMETRY__HISTOGRAM", "{type: exponential}")]);
    let series = received.series("task.handle.duration");
    let counts: BTreeMap<_, _> = series
        .iter()
        .map(|point| {
            assert_eq!(point.shape, "exponentialHistogram");
            #[expect(clippy::cast_precision_loss, reason = "there are 300")]
            let counted = point.buckets.iter().sum::<u64>() as f64;
            assert!((counted - point.value).abs() < 0.5, "{counted} in the buckets of {}", point.value);
            let text = |key: &str| point.attributes[key].as_str().unwrap().to_owned();
            ((text("task"), text("outcome")), point.value)
        })
        .collect();
    assert_eq!(counts, expected());
}

#[test]
fn exemplars_lead_to_spans_that_are_there_and_to_those_of_failures() {
    for (rate, tasks) in [("1", ["numbers", "picky", "nowhere"].as_slice()), ("0", &["numbers", "picky"])] {
        let received = run(&[("FLOWGEN_TELEMETRY__TRACE_SAMPLE_RATE", rate)]);
        let spans: BTreeMap<_, _> =
            received.spans.iter().map(|span| ((span.trace.clone(), span.id.clone()), span)).collect();
        let mut led = BTreeSet::new();
        for point in of(&received, "task.handle.duration") {
            for exemplar in &point.exemplars {
                let span =
                    spans.get(exemplar).unwrap_or_else(|| panic!("no span {exemplar:?} at rate {rate}"));
                assert_eq!(span.attributes["task"], point.attributes["task"]);
                led.insert(point.attributes["task"].as_str().unwrap());
            }
        }
        assert_eq!(led, tasks.iter().copied().collect(), "at rate {rate}");
    }
}
