//! Which traces are sampled.

use super::sharded::ShardedCounter;
use crate::trace::TraceContext;

/// The number of random bits of a trace id, the lowest ones (W3C Trace Context, level 2).
const RANDOM_BITS: u32 = 56;

/// Decides whether a trace is sampled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sampling {
    /// A trace that begins here is sampled if its random bits are not below this.
    threshold: u64,
    /// Whether a trace that begins elsewhere is sampled if it was there.
    is_parent_based: bool,
}

impl Sampling {
    /// Samples at this rate, 0.0 to 1.0.
    pub(super) fn new(rate: f64, is_parent_based: bool) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "between 0 and 2^56, where a double is exact enough"
        )]
        let threshold = ((1.0 - rate) * (1u64 << RANDOM_BITS) as f64).round() as u64;
        Self { threshold, is_parent_based }
    }

    /// Returns the same at another rate.
    pub(super) fn at(self, rate: f64) -> Self {
        Self::new(rate, self.is_parent_based)
    }

    /// Returns whether a trace is sampled which begins here, or goes on from `parent` if that is valid: by the highest
    /// values, so that all who sample at a rate agree (OpenTelemetry, consistent probability sampling).
    pub(super) fn samples(self, trace_id: u128, parent: TraceContext) -> bool {
        if self.is_parent_based && parent.is_valid() {
            return parent.is_sampled();
        }
        #[expect(clippy::cast_possible_truncation, reason = "the lowest bits are the random ones")]
        let random = trace_id as u64 & ((1 << RANDOM_BITS) - 1);
        random >= self.threshold
    }
}

/// Counts the spans that were started.
#[derive(Debug, Default)]
pub(super) struct Started {
    sampled: ShardedCounter,
    unsampled: ShardedCounter,
}

impl Started {
    pub(super) fn count(&self, is_sampled: bool) {
        if is_sampled { self.sampled.increment() } else { self.unsampled.increment() }
    }

    /// Returns how many were sampled, and how many were not.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.sampled.sum(), self.unsampled.sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::ids;

    fn share(sampling: Sampling, parent: TraceContext) -> f64 {
        let sampled = (0..20_000).filter(|_| sampling.samples(ids::trace_id(), parent)).count();
        sampled as f64 / 20_000.0
    }

    #[test]
    fn a_rate_is_the_share_of_the_traces_that_begin_here() {
        for rate in [0.0, 0.01, 0.5, 1.0] {
            let found = share(Sampling::new(rate, true), TraceContext::default());
            // Five standard deviations.
            let slack = 5.0 * (rate * (1.0 - rate) / 20_000.0_f64).sqrt();
            assert!((found - rate).abs() <= slack, "{found} at {rate}");
        }
    }

    #[test]
    fn a_trace_from_elsewhere_is_sampled_if_it_was_there_unless_it_is_not_asked() {
        let parent = |flags| TraceContext { trace_id: 7, span_id: 8, flags };
        let (sampled, unsampled) = (parent(TraceContext::SAMPLED), parent(0));
        let based = Sampling::new(0.0, true);
        assert!(based.samples(7, sampled) && !based.at(1.0).samples(7, unsampled));
        let own = Sampling::new(0.0, false);
        assert!(!own.samples(u128::MAX, sampled) && own.at(1.0).samples(7, unsampled));
    }
}
