//! How often and how fast a failed attempt is made again.

use std::time::Duration;

/// The policy of retries: exponential backoff with full jitter, capped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all, the first one included; at least 1.
    pub max_attempts: u32,
    /// The ceiling of the first delay.
    pub initial_backoff: Duration,
    /// The ceiling of any delay.
    pub max_backoff: Duration,
    /// The time after the first failure beyond which no attempt starts.
    pub max_elapsed: Option<Duration>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 10,
            initial_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(30),
            max_elapsed: None,
        }
    }
}

impl RetryPolicy {
    /// Returns the ceiling of the delay after `attempts` attempts have failed:
    /// `min(max_backoff, initial_backoff · 2^(attempts − 1))`.
    pub fn ceiling(&self, attempts: u32) -> Duration {
        let doublings = attempts.saturating_sub(1).min(31);
        self.initial_backoff.saturating_mul(1 << doublings).min(self.max_backoff)
    }

    /// Returns how long to wait after `attempts` attempts have failed, however many are allowed: uniform between zero and
    /// the ceiling.
    pub fn jittered(&self, attempts: u32) -> Duration {
        self.ceiling(attempts).mul_f64(fastrand::f64())
    }

    /// Returns how long to wait after `attempts` failed attempts, or `None` to give up.
    ///
    /// `elapsed` is the time since the first attempt failed. `retry_after` is what the other side asked
    /// for: never waited less, even beyond the cap. Full jitter: uniform between zero and the ceiling
    /// (AWS Architecture Blog, "Exponential Backoff And Jitter").
    pub fn delay(&self, attempts: u32, elapsed: Duration, retry_after: Option<Duration>) -> Option<Duration> {
        if attempts >= self.max_attempts {
            return None;
        }
        let delay = self.jittered(attempts).max(retry_after.unwrap_or_default());
        match self.max_elapsed {
            Some(limit) if elapsed.saturating_add(delay) > limit => None,
            _ => Some(delay),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_delay_stays_below_its_ceiling_and_never_below_what_was_asked_for(
            attempts in 1u32..80, initial in 0u64..100_000, cap in 0u64..100_000, asked in prop::option::of(0u64..200_000),
        ) {
            let policy = RetryPolicy {
                max_attempts: 100,
                initial_backoff: Duration::from_millis(initial),
                max_backoff: Duration::from_millis(cap),
                max_elapsed: None,
            };
            let asked = asked.map(Duration::from_millis);
            let delay = policy.delay(attempts, Duration::ZERO, asked).unwrap();
            prop_assert!(delay >= asked.unwrap_or_default());
            prop_assert!(delay <= policy.max_backoff.max(asked.unwrap_or_default()));
            prop_assert!(policy.ceiling(attempts) <= policy.ceiling(attempts + 1));
        }
    }

    #[test]
    fn gives_up_after_the_last_attempt_and_beyond_the_elapsed_limit() {
        let policy =
            RetryPolicy { max_attempts: 3, max_elapsed: Some(Duration::from_secs(60)), ..Default::default() };
        assert!(policy.delay(2, Duration::ZERO, None).is_some());
        assert_eq!(policy.delay(3, Duration::ZERO, None), None);
        assert_eq!(policy.delay(1, Duration::from_secs(61), None), None);
        assert_eq!(policy.delay(1, Duration::from_secs(10), Some(Duration::from_secs(55))), None);
    }
}
