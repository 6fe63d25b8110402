//! A histogram of durations that many threads record into at once, and one reads.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{
    points::seconds,
    sharded::{MAX_SHARDS, shard},
};

/// Cells in a pair of cache lines, which is what processors fetch at once.
const LINE: usize = 16;

/// The upper bounds of buckets; a value equal to a bound belongs below it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bounds {
    seconds: Vec<f64>,
    nanos: Vec<u64>,
    shards: usize,
}

impl Bounds {
    /// Takes ascending bounds in seconds, for histograms that so many threads record into at once.
    pub(super) fn new(seconds: &[f64], threads: usize) -> Self {
        let seconds = seconds.to_vec();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "saturates, as it should"
        )]
        let nanos = seconds.iter().map(|bound| (bound * 1e9).round() as u64).collect();
        Self { seconds, nanos, shards: threads.next_power_of_two().min(MAX_SHARDS) }
    }

    /// Returns these and one more, if it is not among them.
    pub(super) fn with(&self, nanos: u64) -> Self {
        let mut bounds = self.clone();
        let place = bounds.nanos.partition_point(|bound| *bound < nanos);
        if bounds.nanos.get(place) != Some(&nanos) {
            bounds.nanos.insert(place, nanos);
            bounds.seconds.insert(place, seconds(nanos));
        }
        bounds
    }

    /// Returns the bounds in seconds.
    pub(super) fn seconds(&self) -> &[f64] {
        &self.seconds
    }

    /// Cells of one shard: a bucket more than there are bounds, and the sum.
    fn cells(&self) -> usize {
        self.nanos.len() + 2
    }

    fn stride(&self) -> usize {
        self.cells().next_multiple_of(LINE)
    }
}

/// Counts durations in buckets. Every thread has cells that it seldom shares with another.
#[derive(Debug)]
pub(super) struct Histogram {
    cells: Box<[AtomicU64]>,
}

/// What a histogram holds at one moment.
#[derive(Debug, PartialEq)]
pub(super) struct Snapshot {
    /// One count more than there are bounds.
    pub(super) buckets: Vec<u64>,
    /// Their sum.
    pub(super) count: u64,
    /// The sum of all durations, in seconds.
    pub(super) sum: f64,
}

impl Histogram {
    pub(super) fn new(bounds: &Bounds) -> Self {
        let cells = (0..bounds.shards * bounds.stride()).map(|_| AtomicU64::new(0)).collect();
        Self { cells }
    }

    /// Makes one with other bounds that goes on where this one is. A bucket that is divided counts as above the new
    /// bound: what is below a bound is below it for certain.
    pub(super) fn sorted_anew(&self, from: &Bounds, to: &Bounds) -> Self {
        let anew = Self::new(to);
        for shard in self.cells.chunks_exact(from.stride()) {
            for (n, cell) in shard[..from.cells() - 1].iter().enumerate() {
                let bucket = from
                    .nanos
                    .get(n)
                    .map_or(to.nanos.len(), |upper| to.nanos.partition_point(|bound| bound < upper));
                anew.cells[bucket].fetch_add(cell.load(Ordering::Relaxed), Ordering::Relaxed);
            }
            let nanos = shard[from.cells() - 1].load(Ordering::Relaxed);
            anew.cells[to.cells() - 1].fetch_add(nanos, Ordering::Relaxed);
        }
        anew
    }

    /// Records a duration. `bounds` are those that the histogram was made with.
    pub(super) fn record(&self, nanos: u64, bounds: &Bounds) {
        let bucket = bounds.nanos.partition_point(|bound| *bound < nanos);
        let shard = &self.cells[shard(bounds.shards) * bounds.stride()..];
        shard[bucket].fetch_add(1, Ordering::Relaxed);
        shard[bounds.cells() - 1].fetch_add(nanos, Ordering::Relaxed);
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        self.cells.iter().for_each(|cell| cell.store(0, Ordering::Relaxed));
    }

    /// Reads everything that was recorded before. The count is that of the buckets, always.
    pub(super) fn snapshot(&self, bounds: &Bounds) -> Snapshot {
        let mut buckets = vec![0; bounds.cells() - 1];
        let mut nanos = 0u64;
        for shard in self.cells.chunks_exact(bounds.stride()) {
            for (bucket, cell) in buckets.iter_mut().zip(shard) {
                *bucket += cell.load(Ordering::Relaxed);
            }
            nanos += shard[bounds.cells() - 1].load(Ordering::Relaxed);
        }
        #[expect(clippy::cast_precision_loss, reason = "a sum of seconds is a double in OTLP")]
        let sum = nanos as f64 / 1e9;
        Snapshot { count: buckets.iter().sum(), buckets, sum }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use proptest::prelude::*;

    use super::*;
    use crate::telemetry::instruments::DEFAULT_BUCKETS;

    #[test]
    fn a_value_equal_to_a_bound_belongs_below_it() {
        let bounds = Bounds::new(&[0.001, 0.5], 2);
        let histogram = Histogram::new(&bounds);
        for nanos in [0, 1_000_000, 1_000_001, 500_000_000, 500_000_001, 9_000_000_000] {
            histogram.record(nanos, &bounds);
        }
        let Snapshot { buckets, count, sum } = histogram.snapshot(&bounds);
        assert_eq!((buckets, count), (vec![2, 2, 2], 6));
        assert!((sum - 10.002_000_002).abs() < 1e-12, "{sum}");
    }

    #[test]
    fn a_bound_of_its_own_stands_in_its_place_once() {
        let bounds = Bounds::new(&[0.001, 0.5], 2);
        assert_eq!(bounds.with(400_000_000).seconds(), [0.001, 0.4, 0.5]);
        assert_eq!(bounds.with(75_300_000_000).seconds(), [0.001, 0.5, 75.3]);
        assert_eq!(bounds.with(500_000_000), bounds);
    }

    #[test]
    fn with_other_bounds_nothing_is_lost_and_nothing_is_said_that_is_not_known() {
        let old = Bounds::new(&[0.1, 0.4, 1.0], 2);
        let histogram = Histogram::new(&old);
        for nanos in [50_000_000, 300_000_000, 400_000_000, 700_000_000, 9_000_000_000] {
            histogram.record(nanos, &old);
        }
        let counted = |bounds: &Bounds| {
            let Snapshot { buckets, count, sum } = histogram.sorted_anew(&old, bounds).snapshot(bounds);
            assert!(count == 5 && (sum - 10.45).abs() < 1e-9, "{count} {sum}");
            buckets
        };
        assert_eq!(counted(&old.with(300_000_000)), [1, 0, 2, 1, 1]);
        assert_eq!(counted(&Bounds::new(&[0.1, 1.0], 2)), [1, 3, 1]);
        assert_eq!(counted(&Bounds::new(&[0.2], 2)), [1, 4]);
        assert_eq!(counted(&old.with(5_000_000_000)), [1, 2, 1, 0, 1]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn threads_lose_nothing(values in prop::collection::vec(0u64..100_000_000_000, 0..200)) {
            let bounds = Bounds::new(DEFAULT_BUCKETS, 2);
            let histogram = Histogram::new(&bounds);
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| values.iter().for_each(|value| histogram.record(*value, &bounds)));
                }
            });
            let snapshot = histogram.snapshot(&bounds);
            let mut expected = vec![0; DEFAULT_BUCKETS.len() + 1];
            for value in &values {
                let seconds = *value as f64 / 1e9;
                expected[DEFAULT_BUCKETS.iter().position(|bound| seconds <= *bound).unwrap_or(DEFAULT_BUCKETS.len())] += 4;
            }
            prop_assert_eq!(snapshot.count, 4 * values.len() as u64);
            prop_assert_eq!(snapshot.buckets, expected);
            let sum = values.iter().sum::<u64>() as f64 * 4e-9;
            prop_assert!((snapshot.sum - sum).abs() <= sum * 1e-9);
        }
    }
}
