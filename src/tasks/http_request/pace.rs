//! `rate_limit`: requests wait until the limit lets them go. Waiting is not failing, and counts towards no timeout.

use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::Instant;

use crate::{
    problem::Problems,
    services::limiter::{self, Limiter, Pace},
    template::TemplateError,
};

/// How many requests may go.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// Requests a second; may be a fraction.
    rate: f64,
    /// How many requests may go at once after a quiet time. By default 1: requests are evenly spaced.
    #[serde(default = "limiter::one")]
    burst: u32,
    /// A template: events for which it gives the same text share a rate. By default all do.
    key: Option<String>,
    /// For how many keys rates are kept at once. When all of them are in use, a request of another key waits until one
    /// is not.
    #[serde(default = "limiter::ten_thousand")]
    max_keys: usize,
}

impl Config {
    pub(super) fn check(&self, problems: &mut Problems) {
        let mut inner = Problems::below(problems.base().key("rate_limit"));
        limiter::check("request", self.rate, self.burst, self.max_keys, &mut inner);
        problems.extend(inner);
        Pace::check_key("rate_limit.key", self.key.as_deref(), problems);
    }

    pub(super) fn compile(&self) -> Result<Pace, TemplateError> {
        let limiter = Limiter::new(self.rate, self.burst, self.max_keys, Instant::now());
        Pace::new(limiter, self.key.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::future::join_all;
    use serde_json::{Value, json};

    use super::*;
    use crate::event::{Event, EventId, Payload};

    fn event(data: &str) -> Event {
        Event::new(EventId::Sequence(0), "s".into(), Payload::from(json!(data)))
    }

    fn pace(config: Value) -> Pace {
        serde_json::from_value::<Config>(config).unwrap().compile().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_wait_at_the_same_time_go_one_by_one() {
        let pace = pace(json!({"rate": 10, "burst": 2}));
        let start = Instant::now();
        let event = event("a");
        let times = join_all((0..6).map(|_| async {
            pace.wait(&event).await.unwrap();
            start.elapsed()
        }));
        let mut times = times.await;
        times.sort();
        for (n, time) in times.iter().enumerate() {
            let due = Duration::from_millis(100 * n.saturating_sub(1) as u64);
            assert!(*time >= due && *time <= due + Duration::from_millis(5), "{times:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_key_has_a_rate_of_its_own() {
        let pace = pace(json!({"rate": 1, "key": "{{ event.data }}"}));
        let start = Instant::now();
        for key in ["a", "b", "c"] {
            pace.wait(&event(key)).await.unwrap();
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        pace.wait(&event("a")).await.unwrap();
        assert!(start.elapsed() >= Duration::from_secs(1));
    }

    #[test]
    fn what_cannot_be_a_rate_is_found_at_load() {
        let mut problems = Problems::default();
        let config = json!({"rate": 0, "burst": 0, "max_keys": 0, "key": "{{ x }}"});
        serde_json::from_value::<Config>(config).unwrap().check(&mut problems);
        assert_eq!(problems.into_vec().len(), 4);
    }
}
