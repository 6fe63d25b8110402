//! Counters that many threads add to at once: each has cells that it seldom shares with another.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// More threads than this share cells. It costs them a little time and never a count.
pub(super) const MAX_SHARDS: usize = 16;

/// A counter on a pair of cache lines of its own, which is what processors fetch at once.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Cell(AtomicU64);

/// Adds up what many threads count.
#[derive(Debug, Default)]
pub(super) struct ShardedCounter([Cell; MAX_SHARDS]);

impl ShardedCounter {
    /// Counts one more.
    pub(super) fn increment(&self) {
        self.0[shard(MAX_SHARDS)].0.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns everything that was counted before.
    pub(super) fn sum(&self) -> u64 {
        self.0.iter().map(|cell| cell.0.load(Ordering::Relaxed)).sum()
    }
}

/// Returns the shard of the current thread, of so many: a power of two.
pub(super) fn shard(shards: usize) -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static THREAD: usize = THREADS.fetch_add(1, Ordering::Relaxed);
    }
    // A span may end while its thread does, when the cell is gone.
    THREAD.try_with(|thread| *thread).unwrap_or(0) & (shards - 1)
}
