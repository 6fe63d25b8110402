//! The histogram against exact arithmetic.

use std::{cmp::Ordering, thread};

use proptest::prelude::*;

use super::{buckets::MAX_BUCKETS, *};

/// Whole numbers of any length, the lowest digits first.
#[derive(Clone)]
struct Whole(Vec<u32>);

impl Whole {
    fn from(number: u64) -> Self {
        Self(vec![number as u32, (number >> 32) as u32])
    }

    fn times(&self, other: &Self) -> Self {
        let mut product = vec![0u32; self.0.len() + other.0.len()];
        for (n, left) in self.0.iter().enumerate() {
            let mut carry = 0;
            for (m, right) in other.0.iter().enumerate() {
                carry += u64::from(*left) * u64::from(*right) + u64::from(product[n + m]);
                product[n + m] = carry as u32;
                carry >>= 32;
            }
            product[n + other.0.len()] = carry as u32;
        }
        Self(product)
    }

    /// To the power of `2^squarings`.
    fn squared(self, squarings: i32) -> Self {
        (0..squarings).fold(self, |number, _| number.times(&number))
    }

    /// Times `2^bits`.
    fn shifted(&self, bits: u32) -> Self {
        let digits = [vec![0; bits as usize / 32], self.0.clone()].concat();
        Self(digits).times(&Self(vec![1 << (bits % 32)]))
    }

    fn compare(&self, other: &Self) -> Ordering {
        let digits = |number: &Self| {
            let length = number.0.iter().rposition(|digit| *digit > 0).map_or(0, |last| last + 1);
            (length, number.0[..length].iter().rev().copied().collect::<Vec<_>>())
        };
        digits(self).cmp(&digits(other))
    }
}

/// Whether `nanos` is above `2^(index / 2^scale)` seconds.
fn is_above(nanos: u64, index: i32, scale: i32) -> bool {
    let value = Whole::from(nanos).squared(scale);
    let second = Whole::from(1_000_000_000).squared(scale);
    let (value, bound) = if index < 0 {
        (value.shifted(index.unsigned_abs()), second)
    } else {
        (value, second.shifted(index.unsigned_abs()))
    };
    value.compare(&bound) == Ordering::Greater
}

fn assert_index(nanos: u64, scale: i32) {
    let index = index(nanos) >> (MAX_SCALE - scale);
    assert!(is_above(nanos, index, scale), "{nanos} ns is below its bucket {index} at scale {scale}");
    assert!(!is_above(nanos, index + 1, scale), "{nanos} ns is above its bucket {index} at scale {scale}");
}

fn recorded(values: &[u64]) -> ExponentialSnapshot {
    let histogram = Exponential::new(1);
    values.iter().for_each(|nanos| histogram.record(*nanos));
    histogram.snapshot()
}

/// Durations from nothing to centuries.
fn nanos() -> impl Strategy<Value = u64> {
    prop_oneof![1 => Just(0), 20 => (0..64u32, any::<u64>()).prop_map(|(bits, nanos)| nanos >> bits)]
}

#[test]
fn nothing_was_recorded() {
    let empty =
        ExponentialSnapshot { scale: 20, zero_count: 0, offset: 0, buckets: vec![], count: 0, sum: 0.0 };
    assert_eq!(recorded(&[]), empty);
}

#[test]
fn what_is_forgotten_is_as_new() {
    let histogram = Exponential::new(2);
    [0, 1, u64::MAX].into_iter().for_each(|nanos| histogram.record(nanos));
    histogram.clear();
    assert_eq!(histogram.snapshot(), recorded(&[]));
    histogram.record(1_000_000_000);
    assert_eq!(histogram.snapshot(), recorded(&[1_000_000_000]));
}

#[test]
fn a_value_equal_to_a_bound_belongs_below_it() {
    // 2^-9 s is the smallest power of two that is a whole number of nanoseconds.
    for power in -9..=34i32 {
        let bound = (1_000_000_000u128 << (power + 9) >> 9) as u64;
        let (below, above) = (recorded(&[bound]), recorded(&[bound + 1]));
        assert_eq!(below.offset, (power << MAX_SCALE) - 1, "2^{power} s");
        // From 52 days on a double does not tell them apart.
        assert_eq!(above.offset >= power << MAX_SCALE, bound < 1 << 53, "2^{power} s and 1 ns");
    }
}

#[test]
fn values_beside_a_bound_are_on_its_sides() {
    for (octave, part) in (-9..=10).flat_map(|octave| (0..64).map(move |part| (octave, part))) {
        let bound = 2f64.powf(f64::from(octave) + f64::from(part) / 64.0) * 1e9;
        (-2..=2).for_each(|aside| assert_index((bound.round() as i64 + aside) as u64, 6));
    }
}

#[test]
fn what_is_zero_and_what_is_not() {
    let snapshot = recorded(&[0, 1_000_000_000, 0, 1, 4_000_000_000]);
    assert_eq!((snapshot.zero_count, snapshot.count), (2, 5));
    assert_eq!(snapshot.buckets.iter().sum::<u64>(), 3);
    assert_eq!((snapshot.sum, snapshot.scale), (5.000_000_001, 2));
}

#[test]
fn all_that_64_bits_hold_fits() {
    let snapshot = recorded(&[1, u64::MAX, u64::MAX]);
    assert_eq!((snapshot.scale, snapshot.count), (1, 3));
    assert!(snapshot.buckets.len() <= MAX_BUCKETS, "{} buckets", snapshot.buckets.len());
    assert_eq!(snapshot.sum, (u128::from(u64::MAX) * 2 + 1) as f64 / 1e9);
}

proptest! {
    #[test]
    fn every_value_is_between_the_bounds_of_its_bucket(nanos in 1u64..1 << 52, scale in 0i32..=6) {
        assert_index(nanos, scale);
    }

    #[test]
    fn buckets_count_what_lies_between_their_bounds(values in prop::collection::vec(nanos(), 1..60)) {
        let snapshot = recorded(&values);
        let above_zero: Vec<_> = values.iter().copied().filter(|nanos| *nanos > 0).collect();
        prop_assert_eq!(snapshot.zero_count as usize, values.len() - above_zero.len());
        prop_assert_eq!(snapshot.count as usize, values.len());
        prop_assert!(snapshot.buckets.len() <= MAX_BUCKETS);
        // Where values lie as close as 52 bits tell, exact arithmetic takes too long.
        if snapshot.scale <= 6 {
            for (index, count) in (snapshot.offset..).zip(&snapshot.buckets) {
                let is_inside = |nanos: &&u64| {
                    is_above(**nanos, index, snapshot.scale) && !is_above(**nanos, index + 1, snapshot.scale)
                };
                prop_assert_eq!(above_zero.iter().filter(is_inside).count() as u64, *count);
            }
        }
        let sum = values.iter().map(|nanos| u128::from(*nanos)).sum::<u128>() as f64 / 1e9;
        prop_assert_eq!(snapshot.sum, sum);
    }

    #[test]
    fn threads_lose_nothing_and_count_as_one_would(
        values in prop::collection::vec(nanos(), 0..200),
        shards in 1usize..6,
    ) {
        let histogram = Exponential::new(shards);
        thread::scope(|scope| {
            for part in values.chunks(values.len().div_ceil(4).max(1)) {
                let histogram = &histogram;
                scope.spawn(move || part.iter().for_each(|nanos| histogram.record(*nanos)));
            }
        });
        prop_assert_eq!(histogram.snapshot(), recorded(&values));
    }
}
