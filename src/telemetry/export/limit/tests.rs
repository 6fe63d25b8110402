//! Limits on made-up collections.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint,
    NumberDataPoint, Sum, exponential_histogram_data_point::Buckets, number_data_point::Value as Number,
};
use proptest::prelude::*;

use super::*;

/// The name of the overflow, as these tests show it.
const OTHERS: &str = "(others)";

fn task(name: &str) -> Vec<KeyValue> {
    let value = Some(AnyValue { value: Some(any_value::Value::StringValue(name.into())) });
    vec![KeyValue { key: "task".into(), value, ..KeyValue::default() }]
}

fn point(name: &str, value: i64, start: u64) -> NumberDataPoint {
    NumberDataPoint {
        attributes: task(name),
        start_time_unix_nano: start,
        time_unix_nano: 1000,
        value: Some(Number::AsInt(value)),
        ..NumberDataPoint::default()
    }
}

fn points(values: &[(&str, i64)]) -> Vec<NumberDataPoint> {
    values.iter().map(|(name, value)| point(name, *value, 1)).collect()
}

fn metric(data: Data) -> Vec<Metric> {
    vec![Metric { name: "m".into(), data: Some(data), ..Metric::default() }]
}

fn sum(is_monotonic: bool, data_points: Vec<NumberDataPoint>) -> Vec<Metric> {
    metric(Data::Sum(Sum { data_points, is_monotonic, ..Sum::default() }))
}

fn counted(values: &[(&str, i64)]) -> Vec<Metric> {
    sum(true, points(values))
}

fn name(attributes: &[KeyValue]) -> String {
    match attributes {
        [KeyValue { key, value: Some(AnyValue { value: Some(value) }), .. }] => match value {
            any_value::Value::StringValue(name) if key == "task" => name.clone(),
            any_value::Value::BoolValue(true) if key == OVERFLOW => OTHERS.to_owned(),
            other => panic!("{key}: {other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// Limits a collection of numbers, and returns what is left of it.
fn limited(limit: &mut Limit, mut metrics: Vec<Metric>) -> Vec<(String, i64)> {
    limit.apply(&mut metrics);
    let points = metrics.into_iter().flat_map(|metric| match metric.data.unwrap() {
        Data::Sum(sum) => sum.data_points,
        Data::Gauge(gauge) => gauge.data_points,
        other => panic!("{other:?}"),
    });
    let value = |point: NumberDataPoint| match point.value {
        Some(Number::AsInt(value)) => (name(&point.attributes), value),
        other => panic!("{other:?}"),
    };
    points.map(value).collect()
}

fn is(limited: Vec<(String, i64)>, expected: &[(&str, i64)]) {
    let limited: Vec<_> = limited.iter().map(|(name, value)| (&**name, *value)).collect();
    assert_eq!(limited, expected);
}

#[test]
fn what_is_too_many_becomes_one_point() {
    let mut limit = Limit::new(3);
    is(limited(&mut limit, counted(&[("a", 1), ("b", 2)])), &[("a", 1), ("b", 2)]);
    let more = counted(&[("c", 4), ("a", 1), ("d", 8), ("b", 2), ("e", 16)]);
    is(limited(&mut limit, more), &[("a", 1), ("b", 2), (OTHERS, 28)]);
    let grown = counted(&[("c", 5), ("a", 2), ("d", 8), ("b", 2), ("e", 20)]);
    is(limited(&mut limit, grown), &[("a", 2), ("b", 2), (OTHERS, 33)]);
}

#[test]
fn a_limit_of_one_leaves_the_overflow_alone() {
    is(limited(&mut Limit::new(1), counted(&[("a", 1), ("b", 2)])), &[(OTHERS, 3)]);
}

/// Scenario: some series were merged where they were counted. Guarantee: there is one point of those outside, not two.
#[test]
fn what_is_merged_already_is_merged_with_the_others() {
    let merged = NumberDataPoint { attributes: told_as_others(), ..point("", 7, 1) };
    let with = |values: &[(&str, i64)]| sum(true, [vec![merged.clone()], points(values)].concat());
    let mut limit = Limit::new(2);
    is(limited(&mut limit, with(&[("a", 1)])), &[("a", 1), (OTHERS, 7)]);
    is(limited(&mut limit, with(&[("a", 1), ("b", 20)])), &[("a", 1), (OTHERS, 27)]);
}

#[test]
fn metrics_are_limited_one_by_one() {
    let mut metrics = [counted(&[("a", 1), ("b", 2)]), counted(&[("c", 3), ("d", 4)])].concat();
    metrics[1].name = "n".into();
    is(limited(&mut Limit::new(2), metrics), &[("a", 1), (OTHERS, 2), ("c", 3), (OTHERS, 4)]);
}

#[test]
fn the_place_of_a_series_that_ended_is_for_a_new_one_not_for_one_outside() {
    let mut limit = Limit::new(2);
    is(limited(&mut limit, counted(&[("a", 1), ("b", 2)])), &[("a", 1), (OTHERS, 2)]);
    is(limited(&mut limit, counted(&[("b", 3)])), &[(OTHERS, 3)]);
    is(limited(&mut limit, counted(&[("b", 3), ("c", 5)])), &[("c", 5), (OTHERS, 3)]);
    is(limited(&mut limit, counted(&[("a", 9), ("b", 3), ("c", 5)])), &[("c", 5), (OTHERS, 12)]);
    assert_eq!(limit.metrics["m"].inside.len() + limit.metrics["m"].outside.len(), 3);
}

#[test]
fn the_sum_of_the_others_never_goes_back() {
    let mut limit = Limit::new(2);
    is(limited(&mut limit, counted(&[("a", 1), ("b", 20), ("c", 30)])), &[("a", 1), (OTHERS, 50)]);
    // One ends; another comes again before anybody noticed its end; the first comes again, and finds a place.
    is(limited(&mut limit, counted(&[("a", 1), ("c", 31)])), &[("a", 1), (OTHERS, 51)]);
    let again = sum(true, [points(&[("a", 1)]), vec![point("c", 4, 500)]].concat());
    is(limited(&mut limit, again), &[("a", 1), (OTHERS, 55)]);
    let shrunk = sum(true, [points(&[("a", 1)]), vec![point("c", 3, 500)]].concat());
    is(limited(&mut limit, shrunk), &[("a", 1), (OTHERS, 58)]);
    is(limited(&mut limit, counted(&[("b", 2)])), &[("b", 2), (OTHERS, 58)]);
}

#[test]
fn the_point_of_the_others_begins_once_and_is_never_forgotten() {
    let mut limit = Limit::new(2);
    let times = |metrics: &[Metric]| match &metrics[0].data {
        Some(Data::Sum(sum)) => {
            let last = sum.data_points.last().unwrap();
            (last.start_time_unix_nano, last.time_unix_nano)
        }
        other => panic!("{other:?}"),
    };
    for others in [vec![point("b", 2, 7)], vec![point("b", 3, 7), point("c", 1, 900)], vec![]] {
        let mut metrics = sum(true, [vec![point("a", 1, 1)], others].concat());
        limit.apply(&mut metrics);
        assert_eq!(times(&metrics), (7, 1000));
    }
    // Nothing of the metric is there for a while.
    limit.apply(&mut []);
    let again = sum(true, vec![point("a", 1, 1), point("b", 5, 2000)]);
    is(limited(&mut limit, again), &[("a", 1), (OTHERS, 9)]);
}

/// Scenario: seconds are collected in another order than before. Guarantee: the sum is the same, and not one that is
/// less by the last digit, which would look like a restart.
#[test]
fn seconds_do_not_go_back_by_a_digit() {
    let mut limit = Limit::new(1);
    let mut told = |values: [(&str, f64); 3]| {
        let seconds =
            |(name, value)| NumberDataPoint { value: Some(Number::AsDouble(value)), ..point(name, 0, 1) };
        let mut metrics = sum(true, values.map(seconds).to_vec());
        limit.apply(&mut metrics);
        match metrics.pop().unwrap().data {
            Some(Data::Sum(sum)) => sum.data_points[0].value,
            other => panic!("{other:?}"),
        }
    };
    let all = told([("a", 0.3), ("b", 0.2), ("c", 0.1)]);
    assert_ne!(all, Some(Number::AsDouble(0.1 + 0.2 + 0.3)), "the order matters");
    assert_eq!(told([("c", 0.1), ("b", 0.2), ("a", 0.3)]), all);
}

#[test]
fn of_what_goes_up_and_down_the_others_are_those_that_are_there() {
    let mut limit = Limit::new(2);
    let inflight = |values: &[(&str, i64)]| sum(false, points(values));
    is(limited(&mut limit, inflight(&[("a", 1), ("b", 2), ("c", 3)])), &[("a", 1), (OTHERS, 5)]);
    is(limited(&mut limit, inflight(&[("a", 1), ("b", 0), ("c", 3)])), &[("a", 1), (OTHERS, 3)]);
    is(limited(&mut limit, inflight(&[("a", 1), ("b", -4)])), &[("a", 1), (OTHERS, -4)]);
    is(limited(&mut limit, inflight(&[("a", 1)])), &[("a", 1)]);
}

#[test]
fn of_gauges_the_last_one_wins() {
    let mut limit = Limit::new(2);
    let depth = |values: &[(&str, i64)]| metric(Data::Gauge(Gauge { data_points: points(values) }));
    is(limited(&mut limit, depth(&[("a", 1), ("b", 2), ("c", 3)])), &[("a", 1), (OTHERS, 3)]);
    is(limited(&mut limit, depth(&[("a", 1), ("b", 5)])), &[("a", 1), (OTHERS, 5)]);
    is(limited(&mut limit, depth(&[("a", 1)])), &[("a", 1)]);
}

#[test]
fn histograms_become_one_with_the_exemplars_of_the_last() {
    let duration = |name: &str, buckets: [u64; 3], exemplar: Option<u8>| HistogramDataPoint {
        attributes: task(name),
        count: buckets.iter().sum(),
        sum: Some(buckets[2] as f64 / 2.0),
        bucket_counts: buckets.to_vec(),
        explicit_bounds: vec![0.1, 1.0],
        exemplars: exemplar.iter().map(|id| Exemplar { span_id: vec![*id], ..Exemplar::default() }).collect(),
        ..HistogramDataPoint::default()
    };
    let mut limit = Limit::new(2);
    let mut told = |data_points| {
        let mut metrics = metric(Data::Histogram(Histogram { data_points, ..Histogram::default() }));
        limit.apply(&mut metrics);
        match metrics.pop().unwrap().data {
            Some(Data::Histogram(mut histogram)) => histogram.data_points.pop().unwrap(),
            other => panic!("{other:?}"),
        }
    };
    let others = |buckets, sum, exemplar| {
        let mut expected = HistogramDataPoint { sum: Some(sum), ..duration("", buckets, exemplar) };
        expected.attributes = told_as_others();
        expected
    };
    let inside = || duration("a", [9, 9, 9], Some(1));
    let all = [inside(), duration("b", [1, 0, 2], Some(2)), duration("c", [0, 5, 4], Some(3))];
    assert_eq!(told(all.to_vec()), others([1, 5, 6], 3.0, Some(3)));
    let without = [inside(), duration("b", [1, 1, 2], Some(4)), duration("c", [0, 5, 5], None)];
    assert_eq!(told(without.to_vec()), others([1, 6, 7], 3.5, Some(4)));
    // The others have ended; the bounds are still those of the metric.
    assert_eq!(told(vec![inside()]), others([1, 6, 7], 3.5, None));
}

#[test]
fn histograms_with_bounds_of_their_own_become_one_with_those_that_all_have() {
    let duration = |name: &str, bounds: &[f64], buckets: &[u64]| HistogramDataPoint {
        attributes: task(name),
        count: buckets.iter().sum(),
        sum: Some(1.0),
        bucket_counts: buckets.to_vec(),
        explicit_bounds: bounds.to_vec(),
        ..HistogramDataPoint::default()
    };
    let data_points = vec![
        duration("a", &[0.1, 1.0], &[9, 9, 9]),
        duration("b", &[0.1, 0.3, 1.0], &[1, 2, 3, 4]),
        duration("c", &[0.1, 0.5, 1.0], &[1, 2, 3, 4]),
        duration("d", &[0.1, 1.0], &[1, 5, 4]),
    ];
    let mut metrics = metric(Data::Histogram(Histogram { data_points, ..Histogram::default() }));
    Limit::new(2).apply(&mut metrics);
    let Some(Data::Histogram(histogram)) = &metrics[0].data else { panic!("{metrics:?}") };
    let expected = duration("", &[0.1, 1.0], &[3, 15, 12]);
    let expected = HistogramDataPoint { attributes: told_as_others(), sum: Some(3.0), ..expected };
    assert_eq!(histogram.data_points[1], expected);
}

fn told_as_others() -> Vec<KeyValue> {
    let value = Some(AnyValue { value: Some(any_value::Value::BoolValue(true)) });
    vec![KeyValue { key: "otel.metric.overflow".into(), value, ..KeyValue::default() }]
}

#[test]
fn exponential_histograms_become_one_at_the_lowest_scale() {
    let duration = |attributes, scale, offset, buckets: &[u64], zero_count| ExponentialHistogramDataPoint {
        attributes,
        count: buckets.iter().sum::<u64>() + zero_count,
        sum: Some(0.5),
        scale,
        zero_count,
        positive: Some(Buckets { offset, bucket_counts: buckets.to_vec() }),
        ..ExponentialHistogramDataPoint::default()
    };
    let data_points =
        vec![duration(task("a"), 5, 4, &[1, 2, 3, 4], 1), duration(task("b"), 4, 0, &[10, 20, 30], 2)];
    let data = ExponentialHistogram { data_points, ..ExponentialHistogram::default() };
    let mut metrics = metric(Data::ExponentialHistogram(data));
    Limit::new(1).apply(&mut metrics);
    let Some(Data::ExponentialHistogram(told)) = &metrics[0].data else { panic!("{metrics:?}") };
    let expected = duration(told_as_others(), 4, 0, &[10, 20, 33, 7], 3);
    assert_eq!(told.data_points, [ExponentialHistogramDataPoint { sum: Some(1.0), ..expected }]);
}

/// What becomes of a series between two collections.
#[derive(Clone, Copy, Debug)]
enum Change {
    Count(i64),
    End,
    Restart,
}

fn changes() -> impl Strategy<Value = Vec<Vec<(usize, Change)>>> {
    let change = prop_oneof![
        6 => (0..9i64).prop_map(Change::Count),
        2 => Just(Change::End),
        1 => Just(Change::Restart)
    ];
    prop::collection::vec(prop::collection::vec((0..8usize, change), 0..8), 1..20)
}

proptest! {
    /// Scenario: series begin, count, end and begin anew. Guarantee: never more points than the limit; whoever is inside
    /// stays there; all points together tell all that was ever collected.
    #[test]
    fn every_count_is_told_exactly_once(rounds in changes(), most in 1..6usize) {
        const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let mut limit = Limit::new(most);
        let mut series: BTreeMap<usize, (u64, i64)> = BTreeMap::new();
        let (mut collected, mut ended_inside) = (0, 0);
        let (mut inside, mut others) = (BTreeMap::<String, i64>::new(), 0);
        for (changes, now) in rounds.into_iter().zip(1u64..) {
            // The overflow lives as long as its metric: one series is always there.
            series.entry(0).or_insert((now * 10, 0));
            let before = series.clone();
            for (task, change) in changes {
                match change {
                    Change::Count(count) => series.entry(task).or_insert((now * 10, 0)).1 += count,
                    Change::Restart if task > 0 => { series.insert(task, (now * 10 + 1, 0)); }
                    Change::End if task > 0 => { series.remove(&task); }
                    Change::End | Change::Restart => {}
                }
            }
            for (task, (start, value)) in &series {
                let earlier = before.get(task).filter(|(earlier, _)| earlier == start);
                collected += value - earlier.map_or(0, |(_, value)| *value);
            }
            let points = series.iter().map(|(task, (start, value))| point(NAMES[*task], *value, *start));
            let told = limited(&mut limit, sum(true, points.collect()));
            prop_assert!(told.len() <= most, "{} points", told.len());
            let (of_others, of_inside): (Vec<_>, Vec<_>) = told.into_iter().partition(|(name, _)| name == OTHERS);
            let of_inside: BTreeMap<_, _> = of_inside.into_iter().collect();
            // What a series inside had told when it ended, or began anew, is not told again.
            for (task, name) in NAMES.iter().enumerate() {
                let goes_on = before.get(&task).zip(series.get(&task)).is_some_and(|(old, new)| old.0 == new.0);
                if let Some(told) = inside.get(*name) && !goes_on {
                    ended_inside += told;
                }
                let is_collected = series.contains_key(&task);
                prop_assert!(!inside.contains_key(*name) || !is_collected || of_inside.contains_key(*name));
            }
            let now_others = of_others.first().map_or(0, |(_, value)| *value);
            prop_assert!(now_others >= others, "{others} became {now_others}");
            prop_assert_eq!(of_inside.values().sum::<i64>() + now_others + ended_inside, collected);
            (inside, others) = (of_inside, now_others);
        }
    }
}
