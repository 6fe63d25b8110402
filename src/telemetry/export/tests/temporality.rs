//! Deltas and limits on their way to a receiver that takes some of them.

use std::sync::{
    Mutex,
    atomic::{AtomicI64, Ordering},
};

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value},
    metrics::v1::{AggregationTemporality, number_data_point::Value},
};

use super::*;

/// Collects counters of these names, each with the number of collections so far, and says what the last one was.
fn counting(names: &'static [&'static str]) -> (Collect, Arc<AtomicI64>) {
    let collections = Arc::new(AtomicI64::new(0));
    let last = Arc::clone(&collections);
    let collect = Box::new(move |_| {
        let value = Some(Value::AsInt(collections.fetch_add(1, Ordering::Relaxed) + 1));
        let time = Ticks::now().unix_nanos();
        let point = NumberDataPoint { time_unix_nano: time, value, ..NumberDataPoint::default() };
        let sum = Sum { data_points: vec![point], is_monotonic: true, ..Sum::default() };
        let metric = |name: &&str| {
            let data = Some(Data::Sum(sum.clone()));
            Metric { name: (*name).into(), data, ..Metric::default() }
        };
        names.iter().map(metric).collect()
    });
    (collect, last)
}

/// Exports deltas every millisecond until the receiver has answered so many calls. Returns what it took of each
/// counter, and what each has come to.
fn deltas(
    receiver: &Receiver,
    names: &'static [&'static str],
    calls: usize,
) -> (BTreeMap<String, i64>, BTreeMap<String, i64>) {
    let test = Test::new(1);
    let (collect, last) = counting(names);
    let often = Duration::from_millis(1);
    let metrics = test.metrics(export(receiver.address), 0).unwrap();
    let metrics =
        MetricsExport { collect, first: often, interval: often, temporality: Temporality::Delta, ..metrics };
    let exporter = test.start(None, Some(metrics));
    let mut answered: Vec<_> = (0..calls).map(|_| receiver.call()).collect();
    sums(&exporter.shutdown(soon()).points);
    answered.extend(receiver.calls());
    let mut taken = BTreeMap::new();
    for metric in answered.into_iter().filter(|call| call.was_taken).flat_map(|call| call.metrics) {
        let Some(Data::Sum(sum)) = metric.data else { panic!("{metric:?}") };
        assert_eq!(sum.aggregation_temporality(), AggregationTemporality::Delta);
        for point in sum.data_points {
            let Some(Value::AsInt(value)) = point.value else { panic!("{point:?}") };
            *taken.entry(metric.name.clone()).or_default() += value;
        }
    }
    let last = last.load(Ordering::Relaxed);
    (taken, names.iter().map(|name| ((*name).to_owned(), last)).collect())
}

#[test]
fn what_is_refused_is_in_the_next_delta() {
    let refused = || Answer::Fail(Status::invalid_argument("no"));
    let receiver = Receiver::answering([refused(), Answer::Take, refused(), refused(), Answer::Take]);
    let (taken, expected) = deltas(&receiver, &["a", "b"], 6);
    assert_eq!(taken, expected);
}

/// Scenario: bodies are halved until they are taken, and some of the halves are refused. Guarantee: what was in a
/// half that was taken is not told again, and what was in a refused one is.
#[test]
fn halves_of_a_delta_are_taken_or_told_again_by_themselves() {
    let refused = Mutex::new(0);
    let receiver = Receiver::start(move |items| {
        if items.len() > 3 {
            return Answer::Fail(Status::resource_exhausted("received message larger than max (9 vs. 8)"));
        }
        let mut refused = refused.lock().unwrap();
        if *refused < 3 && items.iter().any(|name| name == "e") {
            *refused += 1;
            return Answer::Fail(Status::invalid_argument("no"));
        }
        Answer::Take
    });
    let (taken, expected) = deltas(&receiver, &["a", "b", "c", "d", "e", "f", "g", "h", "i"], 40);
    assert_eq!(taken, expected);
}

#[test]
fn a_collector_that_rejects_all_of_a_call_has_taken_nothing() {
    // It says so in an answer that is no error, which the receiver of this test counts as taken.
    let receiver = Receiver::answering([Answer::Take, Answer::TakeAllBut(2), Answer::Take]);
    let (taken, expected) = deltas(&receiver, &["a", "b"], 4);
    // What was rejected is told again, and so is in the sum a second time.
    for name in ["a", "b"] {
        assert_eq!(taken[name], expected[name] + 1, "{name}");
    }
    let receiver = Receiver::answering([Answer::Take, Answer::TakeAllBut(1), Answer::Take]);
    let (taken, expected) = deltas(&receiver, &["a", "b"], 4);
    assert_eq!(taken, expected, "what was taken, even of a part, is not told again");
}

#[test]
fn a_limit_is_heeded_before_deltas_are_made() {
    let receiver = Receiver::answering([]);
    let test = Test::new(1);
    let point = |task: i64| {
        let value = Some(AnyValue { value: Some(any_value::Value::IntValue(task)) });
        let attributes = vec![KeyValue { key: "task".into(), value, ..KeyValue::default() }];
        NumberDataPoint { attributes, value: Some(Value::AsInt(task)), ..NumberDataPoint::default() }
    };
    let collect = Box::new(move |_| {
        let data = Sum { data_points: (1..=5).map(point).collect(), is_monotonic: true, ..Sum::default() };
        vec![Metric { name: "m".into(), data: Some(Data::Sum(data)), ..Metric::default() }]
    });
    let metrics = MetricsExport {
        collect,
        cardinality_limit: Some(3),
        temporality: Temporality::Delta,
        ..test.metrics(export(receiver.address), 0).unwrap()
    };
    let exporter = test.start(None, Some(metrics));
    assert_eq!(sums(&exporter.shutdown(soon()).points), (3, vec![]));
    let Some(Data::Sum(sum)) = &receiver.call().metrics[0].data else { panic!("no sum") };
    let values: Vec<_> = sum.data_points.iter().map(|point| point.value).collect();
    assert_eq!(values, [1, 2, 12].map(|value| Some(Value::AsInt(value))));
    assert_eq!(sum.aggregation_temporality(), AggregationTemporality::Delta);
}
