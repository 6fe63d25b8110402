//! Deltas of made-up collections, with a collector that takes some of them.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value},
    metrics::v1::{
        Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint,
        NumberDataPoint, Sum, exponential_histogram_data_point::Buckets, number_data_point::Value as Number,
    },
};
use proptest::prelude::*;

use super::{super::chunk::Chunk, *};

const START: u64 = 100;

fn deltas() -> Deltas {
    Deltas::new(Temporality::Delta, |_| panic!("a delta asks nobody")).unwrap()
}

fn task(name: &str) -> Vec<KeyValue> {
    let value = Some(AnyValue { value: Some(any_value::Value::StringValue(name.into())) });
    vec![KeyValue { key: "task".into(), value, ..KeyValue::default() }]
}

fn point(name: &str, value: Number, start: u64, time: u64) -> NumberDataPoint {
    NumberDataPoint {
        attributes: task(name),
        start_time_unix_nano: start,
        time_unix_nano: time,
        value: Some(value),
        ..NumberDataPoint::default()
    }
}

fn metric(name: &str, data: Data) -> Metric {
    Metric { name: name.into(), data: Some(data), ..Metric::default() }
}

fn sum(name: &str, is_monotonic: bool, data_points: Vec<NumberDataPoint>) -> Metric {
    let aggregation_temporality = AggregationTemporality::Cumulative.into();
    metric(name, Data::Sum(Sum { data_points, aggregation_temporality, is_monotonic }))
}

/// A collection of one counter with these tasks and values.
fn counted(time: u64, values: &[(&str, i64)]) -> Vec<Metric> {
    let points = values.iter().map(|(name, value)| point(name, Number::AsInt(*value), START, time));
    vec![sum("count", true, points.collect())]
}

fn histogram(data_points: Vec<HistogramDataPoint>) -> Vec<Metric> {
    let aggregation_temporality = AggregationTemporality::Cumulative.into();
    vec![metric("duration", Data::Histogram(Histogram { data_points, aggregation_temporality }))]
}

fn exponential(data_points: Vec<ExponentialHistogramDataPoint>) -> Vec<Metric> {
    let aggregation_temporality = AggregationTemporality::Cumulative.into();
    let data = ExponentialHistogram { data_points, aggregation_temporality };
    vec![metric("duration", Data::ExponentialHistogram(data))]
}

fn name(attributes: &[KeyValue]) -> String {
    match attributes[0].value.clone().unwrap().value.unwrap() {
        any_value::Value::StringValue(name) => name,
        other => panic!("{other:?}"),
    }
}

/// What a delta of a collection of counters tells: the task, the value, and since when to when.
fn told(metrics: &[Metric]) -> Vec<(String, i64, u64, u64)> {
    let points = metrics.iter().flat_map(|metric| match metric.data.as_ref().unwrap() {
        Data::Sum(sum) => {
            assert_eq!(sum.aggregation_temporality(), AggregationTemporality::Delta);
            &sum.data_points
        }
        other => panic!("{other:?}"),
    });
    let told = |point: &NumberDataPoint| {
        let Some(Number::AsInt(value)) = point.value else { panic!("{point:?}") };
        (name(&point.attributes), value, point.start_time_unix_nano, point.time_unix_nano)
    };
    points.map(told).collect()
}

/// Applies a collection of counters, and has the collector take it.
fn taken(deltas: &mut Deltas, mut metrics: Vec<Metric>) -> Vec<(String, i64, u64, u64)> {
    deltas.apply(&mut metrics);
    deltas.accepted(&metrics);
    told(&metrics)
}

fn is(told: Vec<(String, i64, u64, u64)>, expected: &[(&str, i64, u64, u64)]) {
    let told: Vec<_> =
        told.iter().map(|(name, value, start, time)| (&**name, *value, *start, *time)).collect();
    assert_eq!(told, expected);
}

#[test]
fn a_delta_begins_where_the_last_one_ended_and_what_did_not_change_is_left_out() {
    let mut deltas = deltas();
    let zeros = counted(200, &[("a", 0), ("b", 7)]);
    is(taken(&mut deltas, zeros), &[("a", 0, START, 200), ("b", 7, START, 200)]);
    is(taken(&mut deltas, counted(300, &[("a", 0), ("b", 9)])), &[("b", 2, 200, 300)]);
    is(taken(&mut deltas, counted(400, &[("a", 0), ("b", 9)])), &[]);
    is(taken(&mut deltas, counted(500, &[("a", 1), ("b", 10)])), &[("a", 1, 200, 500), ("b", 1, 300, 500)]);
}

#[test]
fn what_the_collector_did_not_take_is_in_the_next_one() {
    let mut deltas = deltas();
    let mut lost = counted(200, &[("a", 0)]);
    deltas.apply(&mut lost);
    is(taken(&mut deltas, counted(300, &[("a", 0)])), &[("a", 0, START, 300)]);
    for time in [400, 500] {
        deltas.apply(&mut counted(time, &[("a", time as i64)]));
    }
    is(taken(&mut deltas, counted(600, &[("a", 600)])), &[("a", 600, 300, 600)]);
    is(taken(&mut deltas, counted(700, &[("a", 601)])), &[("a", 1, 600, 700)]);
}

#[test]
fn a_base_advances_with_the_piece_that_was_taken() {
    let mut deltas = deltas();
    let mut metrics = counted(200, &[("a", 1), ("b", 2), ("c", 3), ("d", 4)]);
    deltas.apply(&mut metrics);
    let mut halves = Chunk::of(metrics).halve();
    let quarters = halves.remove(0).halve();
    deltas.accepted(quarters[1].metrics());
    deltas.accepted(halves[0].metrics());
    let next = counted(300, &[("a", 10), ("b", 10), ("c", 10), ("d", 10)]);
    is(
        taken(&mut deltas, next),
        &[("a", 10, START, 300), ("b", 8, 200, 300), ("c", 7, 200, 300), ("d", 6, 200, 300)],
    );
}

#[test]
fn seconds_are_subtracted_as_whole_numbers_are() {
    let mut deltas = deltas();
    let seconds =
        |value, time| vec![sum("blocked", true, vec![point("a", Number::AsDouble(value), 1, time)])];
    deltas.apply(&mut seconds(0.5, 2));
    let mut first = seconds(0.75, 3);
    deltas.apply(&mut first);
    deltas.accepted(&first);
    let mut second = seconds(1.0, 4);
    deltas.apply(&mut second);
    let Some(Data::Sum(sum)) = &second[0].data else { panic!("{second:?}") };
    assert_eq!(sum.data_points, [point("a", Number::AsDouble(0.25), 3, 4)]);
}

#[test]
fn gauges_and_what_can_go_down_stay_as_they_are() {
    let mut deltas = deltas();
    let gauge = Gauge { data_points: vec![point("a", Number::AsInt(7), 0, 200)] };
    let up_down = sum("inflight", false, vec![point("a", Number::AsInt(-7), START, 200)]);
    let metrics = vec![metric("depth", Data::Gauge(gauge)), up_down];
    for _ in 0..3 {
        let mut same = metrics.clone();
        deltas.apply(&mut same);
        deltas.accepted(&same);
        assert_eq!(same, metrics);
    }
}

#[test]
fn low_memory_leaves_observed_counters_cumulative() {
    let mut deltas = Deltas::new(Temporality::LowMemory, |name| name == "observed").unwrap();
    let one = |name, value| sum(name, true, vec![point("a", Number::AsInt(value), START, 200)]);
    let bucket = HistogramDataPoint { bucket_counts: vec![1], count: 1, ..HistogramDataPoint::default() };
    let collection =
        |value| [vec![one("observed", value), one("count", value)], histogram(vec![bucket.clone()])];
    let mut first = collection(7).concat();
    deltas.apply(&mut first);
    deltas.accepted(&first);
    let mut second = collection(9).concat();
    deltas.apply(&mut second);
    assert_eq!(second[0], one("observed", 9));
    is(told(&second[1..2]), &[("a", 2, 200, 200)]);
    let Some(Data::Histogram(histogram)) = &second[2].data else { panic!("{second:?}") };
    assert_eq!(histogram.aggregation_temporality(), AggregationTemporality::Delta);
    assert_eq!(histogram.data_points, []);
    assert!(Deltas::new(Temporality::Cumulative, |_| true).is_none());
}

#[test]
fn a_series_that_came_again_is_told_as_a_whole() {
    let restarted =
        |start, value| vec![sum("count", true, vec![point("a", Number::AsInt(value), start, 400)])];
    // The start moved; the value shrank.
    for (again, from) in [(restarted(350, 9), 350), (restarted(START, 3), 300)] {
        let mut deltas = deltas();
        taken(&mut deltas, counted(200, &[("a", 5)]));
        taken(&mut deltas, counted(300, &[("a", 6)]));
        let Some(Data::Sum(sum)) = &again[0].data else { panic!("{again:?}") };
        let Some(Number::AsInt(all)) = sum.data_points[0].value else { panic!("{sum:?}") };
        is(taken(&mut deltas, again), &[("a", all, from, 400)]);
    }
    let mut deltas = deltas();
    taken(&mut deltas, counted(200, &[("a", 5)]));
    is(taken(&mut deltas, restarted(350, 0)), &[("a", 0, 350, 400)]);
}

#[test]
fn a_clock_that_is_set_back_counts_nothing_twice() {
    let mut deltas = deltas();
    let at =
        |start, time, value| vec![sum("count", true, vec![point("a", Number::AsInt(value), start, time)])];
    is(taken(&mut deltas, at(100, 200, 5)), &[("a", 5, 100, 200)]);
    // The start is no later than the time, whatever it was.
    is(taken(&mut deltas, at(50, 50, 6)), &[("a", 1, 50, 50)]);
    is(taken(&mut deltas, at(60, 60, 8)), &[("a", 2, 60, 60)]);
    is(taken(&mut deltas, at(100, 300, 9)), &[("a", 1, 100, 300)]);
}

#[test]
fn the_base_of_a_series_that_is_no_longer_collected_goes() {
    let mut deltas = deltas();
    taken(&mut deltas, counted(200, &[("a", 5), ("b", 5)]));
    taken(&mut deltas, counted(300, &[("b", 6)]));
    assert_eq!(deltas.bases["count"].len(), 1);
    is(taken(&mut deltas, counted(400, &[("a", 6), ("b", 6)])), &[("a", 6, START, 400)]);
    deltas.apply(&mut []);
    assert!(deltas.bases.is_empty());
}

/// Scenario: all series of a metric end, those beyond a limit included, and there are others later. Guarantee: what is
/// beyond the limit goes on, and nothing of it is told a second time.
#[test]
fn the_base_of_what_is_beyond_a_limit_stays() {
    let mut deltas = deltas();
    let beyond = |value, time| {
        let is_beyond = Some(AnyValue { value: Some(any_value::Value::BoolValue(true)) });
        let attribute =
            KeyValue { key: "otel.metric.overflow".into(), value: is_beyond, ..KeyValue::default() };
        let point = point("", Number::AsInt(value), START, time);
        vec![sum("count", true, vec![NumberDataPoint { attributes: vec![attribute], ..point }])]
    };
    let mut first = beyond(5, 200);
    deltas.apply(&mut first);
    deltas.accepted(&first);
    deltas.apply(&mut []);
    let mut again = beyond(7, 400);
    deltas.apply(&mut again);
    let Some(Data::Sum(sum)) = &again[0].data else { panic!("{again:?}") };
    let told: Vec<_> = sum.data_points.iter().map(|it| (it.value, it.start_time_unix_nano)).collect();
    assert_eq!(told, [(Some(Number::AsInt(2)), 200)]);
}

#[test]
fn histograms_are_subtracted_bucket_by_bucket() {
    let bounds = vec![0.1, 1.0];
    let exemplar = Exemplar { span_id: vec![7], ..Exemplar::default() };
    let duration = |buckets: [u64; 3], sum: f64, time| HistogramDataPoint {
        attributes: task("a"),
        start_time_unix_nano: START,
        time_unix_nano: time,
        count: buckets.iter().sum(),
        sum: Some(sum),
        bucket_counts: buckets.to_vec(),
        explicit_bounds: bounds.clone(),
        exemplars: vec![exemplar.clone()],
        ..HistogramDataPoint::default()
    };
    let mut deltas = deltas();
    let mut first = histogram(vec![duration([1, 2, 3], 7.5, 200)]);
    deltas.apply(&mut first);
    deltas.accepted(&first);
    let extremes = HistogramDataPoint { min: Some(0.01), max: Some(9.0), ..duration([1, 4, 4], 8.0, 300) };
    let mut second = histogram(vec![extremes]);
    deltas.apply(&mut second);
    let expected = HistogramDataPoint { start_time_unix_nano: 200, ..duration([0, 2, 1], 0.5, 300) };
    let Some(Data::Histogram(told)) = &second[0].data else { panic!("{second:?}") };
    assert_eq!(told.data_points, [expected]);
    deltas.accepted(&second);
    let other_bounds = HistogramDataPoint { bucket_counts: vec![9; 4], ..duration([9, 9, 9], 9.0, 400) };
    let mut third = histogram(vec![other_bounds.clone()]);
    deltas.apply(&mut third);
    let Some(Data::Histogram(told)) = &third[0].data else { panic!("{third:?}") };
    assert_eq!(told.data_points, [HistogramDataPoint { start_time_unix_nano: 300, ..other_bounds }]);
}

#[test]
fn histograms_whose_bounds_have_changed_are_subtracted_between_those_that_both_have() {
    let duration = |bounds: &[f64], buckets: &[u64], time| HistogramDataPoint {
        attributes: task("a"),
        start_time_unix_nano: START,
        time_unix_nano: time,
        count: buckets.iter().sum(),
        sum: Some(time as f64),
        bucket_counts: buckets.to_vec(),
        explicit_bounds: bounds.to_vec(),
        ..HistogramDataPoint::default()
    };
    let mut deltas = deltas();
    let mut told = |point| {
        let mut metrics = histogram(vec![point]);
        deltas.apply(&mut metrics);
        deltas.accepted(&metrics);
        let Some(Data::Histogram(told)) = &metrics[0].data else { panic!("{metrics:?}") };
        told.data_points[0].clone()
    };
    let since = |bounds: &[f64], buckets: &[u64], start, time| HistogramDataPoint {
        start_time_unix_nano: start,
        sum: Some((time - start) as f64),
        ..duration(bounds, buckets, time)
    };
    told(duration(&[0.1, 0.3, 1.0], &[1, 2, 3, 4], 200));
    assert_eq!(
        told(duration(&[0.1, 0.5, 1.0], &[1, 1, 5, 6], 300)),
        since(&[0.1, 1.0], &[0, 1, 2], 200, 300)
    );
    assert_eq!(
        told(duration(&[0.1, 0.5, 1.0], &[1, 3, 5, 6], 400)),
        since(&[0.1, 0.5, 1.0], &[0, 2, 0, 0], 300, 400)
    );
}

#[test]
fn exponential_histograms_are_subtracted_at_the_scale_of_the_newer_one() {
    let duration = |scale, offset, buckets: &[u64], zero_count, time| ExponentialHistogramDataPoint {
        attributes: task("a"),
        start_time_unix_nano: START,
        time_unix_nano: time,
        count: buckets.iter().sum::<u64>() + zero_count,
        sum: Some(time as f64),
        scale,
        zero_count,
        positive: Some(Buckets { offset, bucket_counts: buckets.to_vec() }),
        ..ExponentialHistogramDataPoint::default()
    };
    let mut deltas = deltas();
    let mut first = exponential(vec![duration(3, -3, &[1, 0, 2, 3], 1, 200)]);
    deltas.apply(&mut first);
    deltas.accepted(&first);
    // The buckets -3 to 0 are -1 and 0 at a scale that is lower by 2.
    let mut second = exponential(vec![duration(1, -1, &[5, 4, 0, 7], 3, 300)]);
    deltas.apply(&mut second);
    let expected = duration(1, -1, &[2, 1, 0, 7], 2, 300);
    let expected = ExponentialHistogramDataPoint { start_time_unix_nano: 200, sum: Some(100.0), ..expected };
    let Some(Data::ExponentialHistogram(told)) = &second[0].data else { panic!("{second:?}") };
    assert_eq!(told.data_points, [expected]);
    assert_eq!(told.aggregation_temporality(), AggregationTemporality::Delta);
    // A scale never goes up again: this is another series.
    deltas.accepted(&second);
    let finer = duration(2, 0, &[9, 9], 9, 400);
    let mut third = exponential(vec![finer.clone()]);
    deltas.apply(&mut third);
    let Some(Data::ExponentialHistogram(told)) = &third[0].data else { panic!("{third:?}") };
    assert_eq!(told.data_points, [ExponentialHistogramDataPoint { start_time_unix_nano: 300, ..finer }]);
}

/// What happens between two collections, and what becomes of the pieces of the second.
#[derive(Clone, Debug)]
struct Round {
    counts: Vec<(usize, i64)>,
    restarts: Vec<usize>,
    are_taken: [bool; 4],
}

fn rounds() -> impl Strategy<Value = Vec<Round>> {
    let counts = prop::collection::vec((0..6usize, 0..5i64), 0..8);
    let restarts = prop::collection::vec(0..6usize, 0..2);
    let round = (counts, restarts, any::<[bool; 4]>());
    let round = round.prop_map(|(counts, restarts, are_taken)| Round { counts, restarts, are_taken });
    prop::collection::vec(round, 1..20)
}

proptest! {
    /// Scenario: counters go up and begin anew; some pieces of some collections are taken. Guarantee: once all of one is
    /// taken, the collector has counted what the worker has.
    #[test]
    fn nothing_is_lost_and_nothing_told_twice(rounds in rounds()) {
        const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
        let mut deltas = deltas();
        let mut series = NAMES.map(|_| (START, 0));
        let (mut expected, mut received) = (BTreeMap::new(), BTreeMap::new());
        let last = Round { counts: vec![], restarts: vec![], are_taken: [true; 4] };
        for (round, now) in rounds.into_iter().chain([last]).zip(1..) {
            let time = START + now * 100;
            for task in round.restarts {
                // What nobody has collected before the end is not there to be told.
                let untold = series[task].1 - received.get(NAMES[task]).copied().unwrap_or(0);
                if untold == 0 {
                    series[task] = (time - 50, 0);
                    received.insert(NAMES[task].to_owned(), 0);
                }
            }
            for (task, count) in round.counts {
                series[task].1 += count;
            }
            let points =
                NAMES.iter().zip(series).map(|(name, (start, value))| point(name, Number::AsInt(value), start, time));
            let mut metrics = vec![sum("count", true, points.collect())];
            deltas.apply(&mut metrics);
            let pieces = Chunk::of(metrics).halve().into_iter().flat_map(Chunk::halve);
            for (piece, _) in pieces.zip(round.are_taken).filter(|(_, is_taken)| *is_taken) {
                deltas.accepted(piece.metrics());
                for (name, value, start, end) in told(piece.metrics()) {
                    prop_assert!(start < end && end == time);
                    *received.entry(name).or_default() += value;
                }
            }
            expected = NAMES.iter().zip(series).map(|(name, (_, value))| ((*name).to_owned(), value)).collect();
        }
        prop_assert_eq!(received, expected);
    }
}
