//! What is measured of a flow: how many of its events are bad, and how many there are.

use crate::{
    ack::Outcome,
    plan::LatencyObjective,
    telemetry::instruments::{FLOW_EVENT_DURATION, FLOW_EVENTS},
};

use super::promql::quoted;

/// What the histograms of the worker are in Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Buckets {
    /// A series for each bound; the threshold of an objective is one of them.
    Explicit,
    /// Native histograms: bounds follow the data, and what is below a threshold is an estimate.
    Native,
}

/// What an objective is about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Indicator {
    /// Whether events end well, of all that end.
    Success,
    /// Whether events take too long, of all that are completed.
    Latency(LatencyObjective, Buckets),
}

/// Which series count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope<'a> {
    pub(super) flow: &'a str,
    pub(super) job: Option<&'a str>,
}

impl Scope<'_> {
    /// Returns the matchers, with those of the series besides.
    pub(super) fn matchers(self, more: &str) -> String {
        let job = self.job.map(|job| format!("job={}, ", quoted(job))).unwrap_or_default();
        let separator = if more.is_empty() { "" } else { ", " };
        format!("{{{job}flow={}{separator}{more}}}", quoted(self.flow))
    }
}

/// What several deployments of a flow do is told apart by `job`, which is the name of the service: each of them has a
/// budget of its own.
const SUM: &str = "sum by (job, flow)";

impl Indicator {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Latency(..) => "latency",
        }
    }

    /// Returns the share of bad events over a window; nothing where there are none at all.
    pub(super) fn ratio(self, scope: Scope<'_>, window: &str) -> String {
        match self {
            Self::Success => {
                let count = |more: &str| events("rate", scope, more, window);
                format!("{SUM} ({})\n/ ({SUM} ({}) > 0)\n", count(&bad_outcomes()), count(""))
            }
            Self::Latency(objective, Buckets::Explicit) => {
                let Series { within, all } = series("rate", scope, objective, window);
                format!("1 - {SUM} ({within})\n/ ({SUM} ({all}) > 0)\n")
            }
            Self::Latency(objective, Buckets::Native) => {
                let all = format!("{SUM} ({})", durations("rate", "", "", scope, window));
                let threshold = seconds(objective);
                format!("1 - histogram_fraction(0, {threshold}, {all})\nand histogram_count({all}) > 0\n")
            }
        }
    }

    /// Returns how many bad events there are in a window, about.
    pub(super) fn bad(self, scope: Scope<'_>, window: &str) -> String {
        match self {
            Self::Success => format!("{SUM} ({})\n", events("increase", scope, &bad_outcomes(), window)),
            Self::Latency(objective, Buckets::Explicit) => {
                let Series { within, all } = series("increase", scope, objective, window);
                format!("{SUM} ({all})\n- {SUM} ({within})\n")
            }
            Self::Latency(objective, Buckets::Native) => {
                let all = format!("{SUM} ({})", durations("increase", "", "", scope, window));
                let threshold = seconds(objective);
                format!("histogram_count({all})\n* (1 - histogram_fraction(0, {threshold}, {all}))\n")
            }
        }
    }
}

/// Returns the matcher of the outcomes of bad events.
fn bad_outcomes() -> String {
    let bad = Outcome::ALL.into_iter().filter(|outcome| !outcome.is_good());
    let names: Vec<_> = bad.map(Outcome::name).collect();
    format!(r#"outcome=~"{}""#, names.join("|"))
}

fn events(function: &str, scope: Scope<'_>, more: &str, window: &str) -> String {
    format!("{function}({}{}[{window}])", FLOW_EVENTS.prometheus(), scope.matchers(more))
}

/// What is counted of a histogram with bounds.
struct Series {
    within: String,
    all: String,
}

/// Returns the events that took no longer than the threshold, and all. A worker that does not know the threshold yet has
/// no part in either: its events would all be too long.
fn series(function: &str, scope: Scope<'_>, objective: LatencyObjective, window: &str) -> Series {
    let within = durations(function, "_bucket", &bound(objective), scope, window);
    let all = durations(function, "_count", "", scope, window);
    Series { all: format!("\n  {all}\n  and ignoring (le) {within}\n"), within }
}

fn durations(function: &str, ending: &str, more: &str, scope: Scope<'_>, window: &str) -> String {
    let name = FLOW_EVENT_DURATION.prometheus();
    let completed = format!(
        r#"outcome="{}"{}{more}"#,
        Outcome::Completed.name(),
        if more.is_empty() { "" } else { ", " }
    );
    format!("{function}({name}{ending}{}[{window}])", scope.matchers(&completed))
}

/// Returns the matcher of the bound. A whole number is written with or without a point, as the metrics came to
/// Prometheus.
fn bound(objective: LatencyObjective) -> String {
    let seconds = seconds(objective);
    if seconds.contains('.') {
        format!(r#"le="{seconds}""#)
    } else {
        format!(r#"le=~"{seconds}|{seconds}\\.0""#)
    }
}

fn seconds(objective: LatencyObjective) -> String {
    objective.seconds().to_string()
}
