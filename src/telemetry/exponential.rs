//! A histogram of durations whose buckets follow the data: many threads record into it at once, and one reads.
//!
//! It is the base-2 exponential histogram of OpenTelemetry's data model. Durations come in nanoseconds; its buckets are
//! those of seconds, so that whole powers of two of a second are bounds at every scale. All that 64 bits can hold lies
//! within 65 octaves, which fit at scale 1: the lowest scale of the data model, -10, is never needed.

mod buckets;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub(super) use buckets::Buckets;

use super::sharded::{MAX_SHARDS, shard};
use buckets::MAX_SCALE;

/// Counts durations. Every thread has a shard that it seldom shares with another.
#[derive(Debug)]
pub(super) struct Exponential {
    shards: Box<[Shard]>,
}

/// On cache lines of its own: processors fetch a pair at once.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard(Mutex<Recorded>);

#[derive(Debug, Default)]
struct Recorded {
    zero_count: u64,
    buckets: Buckets,
    nanos: u128,
}

/// What an exponential histogram holds at one moment.
#[derive(Debug, PartialEq)]
pub(super) struct ExponentialSnapshot {
    /// How wide buckets are; never more than before.
    pub(super) scale: i32,
    /// How many durations were zero. They are in no bucket.
    pub(super) zero_count: u64,
    /// The index of the first bucket.
    pub(super) offset: i32,
    /// The counts of buckets, from the first that was ever needed to the last.
    pub(super) buckets: Vec<u64>,
    /// How many durations there were.
    pub(super) count: u64,
    /// The sum of all durations, in seconds.
    pub(super) sum: f64,
}

impl Exponential {
    /// Makes an empty one for about so many threads. More of them share shards, which costs time and no count.
    pub(super) fn new(shards: usize) -> Self {
        Self { shards: (0..shards.next_power_of_two().min(MAX_SHARDS)).map(|_| Shard::default()).collect() }
    }

    /// Records a duration.
    pub(super) fn record(&self, nanos: u64) {
        let index = (nanos > 0).then(|| index(nanos));
        let mut recorded = self.shards[shard(self.shards.len())].lock();
        match index {
            Some(index) => recorded.buckets.record(index),
            None => recorded.zero_count += 1,
        }
        recorded.nanos += u128::from(nanos);
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        self.shards.iter().for_each(|shard| *shard.lock() = Recorded::default());
    }

    /// Reads everything that was recorded before. The count is that of all buckets, always.
    pub(super) fn snapshot(&self) -> ExponentialSnapshot {
        let mut all = Recorded::default();
        for shard in &self.shards {
            let recorded = shard.lock();
            all.zero_count += recorded.zero_count;
            all.nanos += recorded.nanos;
            all.buckets.add(&recorded.buckets);
        }
        let Buckets { scale, offset, counts } = all.buckets;
        #[expect(clippy::cast_precision_loss, reason = "a sum of seconds is a double in OTLP")]
        let sum = all.nanos as f64 / 1e9;
        let count = all.zero_count + counts.iter().sum::<u64>();
        ExponentialSnapshot { scale, zero_count: all.zero_count, offset, buckets: counts, count, sum }
    }
}

impl Shard {
    fn lock(&self) -> MutexGuard<'_, Recorded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the bucket of a duration above zero at the highest scale.
///
/// Exact at powers of two, the only bounds that a duration can be equal to; beside others as exact as a double, which
/// is less than a nanosecond up to 52 days.
fn index(nanos: u64) -> i32 {
    const FRACTION: u64 = (1 << 52) - 1;
    #[expect(clippy::cast_precision_loss, reason = "no less exact than told above")]
    let seconds = (nanos as f64 / 1e9).to_bits();
    let octave = ((seconds >> 52) as i32 - 1023) << MAX_SCALE;
    if seconds & FRACTION == 0 {
        // A bound belongs to the bucket below it.
        return octave - 1;
    }
    let above_octave = f64::from_bits((seconds & FRACTION) | 1f64.to_bits()).log2();
    let within = (above_octave * f64::from(1 << MAX_SCALE)) as i32;
    octave + within.min((1 << MAX_SCALE) - 1)
}

#[cfg(test)]
mod tests;
