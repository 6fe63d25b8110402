//! What a flow promises: its service-level objectives.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    plan::{LatencyObjective, Slo},
    problem::Problems,
};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Over how many days an objective holds at least: what is left of a shorter window is too short for metrics that come once
/// a minute.
const LEAST_DAYS: u32 = 7;
/// Over how many days it holds at most: nobody keeps metrics for much longer.
const MOST_DAYS: u32 = 90;

/// The shortest threshold. Shorter ones, and longer ones, have names with exponents in some backends.
const LEAST_THRESHOLD: Duration = Duration::from_micros(100);
/// The longest threshold.
const MOST_THRESHOLD: Duration = DAY;

/// What a flow promises. `flowgen rules` makes alerts of it.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct SloKeys {
    /// The share of its events that end well, such as `0.999`: those that are completed, filtered or dropped, and are not
    /// failed, stored as dead letters, expired or cancelled. Above 0 and below 1.
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    success: Option<f64>,
    /// How many of its completed events take how long.
    latency: Option<LatencyKeys>,
    /// Over how long that holds: whole days, from `7d` to `90d`. By default `30d`.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "Option<String>", extend("examples" = ["7d", "30d"]))]
    window: Option<Duration>,
}

/// How many events take how long.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LatencyKeys {
    /// The share of completed events that take no longer than `under`, such as `0.95`. Above 0 and below 1.
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    p: f64,
    /// How long they take at most, from their entry until all that came of them is settled: `100us` to `1d`. With
    /// explicit buckets it is a bound of `flowgen.flow.event.duration`, of this flow.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("examples" = ["400ms", "2s"]))]
    under: Duration,
}

impl SloKeys {
    /// Returns the objectives, and reports what cannot be right.
    pub(in crate::config) fn slo(&self, problems: &mut Problems) -> Slo {
        let mut found = Problems::below(problems.base().key("slo"));
        if self.success.is_none() && self.latency.is_none() {
            let hint =
                "give `success`, `latency` or both: `{success: 0.999, latency: {p: 0.95, under: 400ms}}`";
            found.report("", "`slo` promises nothing").hint(hint);
        }
        if let Some(success) = self.success {
            check_share("success", success, "0.999", &mut found);
        }
        let latency = self.latency.as_ref().map(|latency| latency.objective(&mut found));
        let days = self.window.map_or(Some(30), whole_days);
        if days.is_none() {
            let message = format!("must be a whole number of days, from `{LEAST_DAYS}d` to `{MOST_DAYS}d`");
            found.report("window", message).hint("`30d` is the default");
        }
        problems.extend(found);
        Slo { success: self.success, latency, days: days.unwrap_or(LEAST_DAYS) }
    }
}

impl LatencyKeys {
    fn objective(&self, problems: &mut Problems) -> LatencyObjective {
        check_share("latency.p", self.p, "0.95", problems);
        if self.under < LEAST_THRESHOLD {
            problems.report("latency.under", "must be at least `100us`");
        } else if self.under > MOST_THRESHOLD {
            problems.report("latency.under", "must not be longer than a day");
        }
        LatencyObjective { share: self.p, under: self.under }
    }
}

fn check_share(key: &str, share: f64, example: &str, problems: &mut Problems) {
    if share <= 0.0 {
        problems.report(key, "must be above 0");
    } else if share == 1.0 {
        let hint = format!("every objective needs a budget of errors: write `{example}`");
        problems.report(key, "must be below 1").hint(hint);
    } else if share > 1.0 {
        problems.report(key, "must be below 1").hint(format!("it is a share, not a percentage: `{example}`"));
    }
}

fn whole_days(window: Duration) -> Option<u32> {
    let days = u32::try_from(window.as_secs() / DAY.as_secs()).ok()?;
    ((LEAST_DAYS..=MOST_DAYS).contains(&days) && DAY * days == window).then_some(days)
}
