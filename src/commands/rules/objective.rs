//! One objective of one flow, and the rules that come of it.

use std::time::Duration;

use super::{
    indicator::{Buckets, Indicator, Scope},
    promql::duration,
    recorded,
    windows::{Burn, Severity, Windows},
};
use crate::plan::{Flow, Slo};

/// How many events have to be bad in the long window for an alert. Where few events come a single one is a large share, and
/// that is no trouble yet. What goes on is told in the next longer window, and what little there is by the budget.
pub(super) const LEAST_BAD_EVENTS: u32 = 10;

/// Where each alert has its section. Whoever keeps it elsewhere replaces the beginning.
const RUNBOOK: &str = "https://docs.example.com/flowgen/runbook.md";

/// One thing that a flow promises.
#[derive(Clone, Copy, Debug)]
pub(super) struct Objective<'a> {
    scope: Scope<'a>,
    indicator: Indicator,
    /// The share of events that are good.
    share: f64,
    days: u32,
    windows: Windows,
}

/// A rule of Prometheus.
pub(super) enum Rule {
    Record {
        name: String,
        expr: String,
    },
    Alert {
        name: &'static str,
        expr: String,
        severity: Severity,
        summary: &'static str,
        description: String,
        runbook: String,
    },
}

impl<'a> Objective<'a> {
    /// Returns what a flow promises.
    pub(super) fn of(
        flow: &'a Flow,
        job: Option<&'a str>,
        buckets: Buckets,
        export_interval: Duration,
    ) -> impl Iterator<Item = Self> {
        let scope = Scope { flow: &flow.name, job };
        let of_slo = move |Slo { success, latency, days }| {
            let windows = Windows::new(days, export_interval);
            let objective = move |indicator, share| Self { scope, indicator, share, days, windows };
            let success = success.map(|share| objective(Indicator::Success, share));
            let latency =
                latency.map(|latency| objective(Indicator::Latency(latency, buckets), latency.share));
            success.into_iter().chain(latency)
        };
        flow.slo.into_iter().flat_map(of_slo)
    }

    pub(super) fn flow(&self) -> &'a str {
        self.scope.flow
    }

    pub(super) fn indicator(&self) -> &'static str {
        self.indicator.name()
    }

    /// Returns what stands in the file.
    pub(super) fn written(&self) -> String {
        match self.indicator {
            Indicator::Success => format!("success: {}", self.share),
            Indicator::Latency(latency, _) => {
                format!(
                    "latency: {{p: {}, under: {}}}",
                    self.share,
                    humantime::format_duration(latency.under)
                )
            }
        }
    }

    /// Returns whether it can be missed by so much that somebody is woken.
    pub(super) fn can_page(&self) -> bool {
        self.burns(Severity::Page).next().is_some()
    }

    /// Returns the burns of a severity that can be reached: no more than all events are bad.
    fn burns(&self, severity: Severity) -> impl Iterator<Item = Burn> {
        let budget = 1.0 - self.share;
        let burns = self.windows.burns().into_iter();
        burns.filter(move |burn| burn.severity == severity && burn.rate * budget < 1.0)
    }

    /// Returns the rules that pages need.
    pub(super) fn fast_rules(&self) -> Vec<Rule> {
        let (windows, _) = self.windows.distinct();
        let mut rules = self.records(&windows);
        let name = recorded::OBJECTIVE.into();
        rules.push(Rule::Record { name, expr: format!("vector({})\n", self.share) });
        rules.extend(self.alert(Severity::Page));
        rules
    }

    /// Returns the others, which read many days.
    pub(super) fn slow_rules(&self) -> Vec<Rule> {
        let (_, windows) = self.windows.distinct();
        let mut rules = self.records(&windows);
        let whole = self.indicator.ratio(self.scope, &duration(self.windows.whole()));
        let indented: String = whole.lines().map(|line| format!("  {line}\n")).collect();
        let name = recorded::BUDGET.into();
        rules.push(Rule::Record { name, expr: format!("1 - (\n{indented}) / {}\n", self.budget()) });
        rules.extend(self.alert(Severity::Ticket));
        rules
    }

    fn records(&self, windows: &[u64]) -> Vec<Rule> {
        let is_long = |window: &u64| self.windows.burns().iter().any(|burn| burn.long == *window);
        let ratio = |window: &u64| {
            let window = duration(*window);
            Rule::Record { name: ratio_name(&window), expr: self.indicator.ratio(self.scope, &window) }
        };
        let bad = |window: &u64| {
            let window = duration(*window);
            Rule::Record { name: bad_name(&window), expr: self.indicator.bad(self.scope, &window) }
        };
        windows.iter().map(ratio).chain(windows.iter().filter(|window| is_long(window)).map(bad)).collect()
    }

    /// Returns the share of events that may be bad.
    fn budget(&self) -> String {
        format!("(1 - {})", self.share)
    }

    fn alert(&self, severity: Severity) -> Option<Rule> {
        let burns: Vec<_> = self.burns(severity).map(|burn| self.condition(burn)).collect();
        let expr = match &*burns {
            [] => return None,
            [one] => one.clone(),
            several => {
                let indent =
                    |burn: &String| burn.lines().map(|line| format!("  {line}\n")).collect::<String>();
                let blocks: Vec<_> = several.iter().map(|burn| format!("(\n{})\n", indent(burn))).collect();
                blocks.join("or\n")
            }
        };
        let (name, summary, what) = match self.indicator {
            Indicator::Success => (
                "FlowgenErrorBudgetBurn",
                "Too many events of {{ $labels.flow }} fail for what it promises",
                "fail",
            ),
            Indicator::Latency(..) => (
                "FlowgenLatencyBudgetBurn",
                "Too many events of {{ $labels.flow }} take too long for what it promises",
                "take too long",
            ),
        };
        let description = format!(
            "{{{{ $value | printf \"%.1f\" }}}} times as many events of flow {{{{ $labels.flow }}}} of {{{{ $labels.job }}}} {what} \
             as may. It promises {} over {} days.",
            self.written(),
            self.days
        );
        let runbook = format!("{RUNBOOK}#{}", name.to_ascii_lowercase());
        Some(Rule::Alert { name, expr, severity, summary, description, runbook })
    }

    fn condition(&self, Burn { rate, long, short, .. }: Burn) -> String {
        let matchers = self.scope.matchers(&format!(r#"sli="{}""#, self.indicator.name()));
        let (long, short) = (duration(long), duration(short));
        let burns = |window: &str| format!("{}{matchers} / {} > {rate}", ratio_name(window), self.budget());
        format!(
            "{}\nand {}\nand {}{matchers} >= {LEAST_BAD_EVENTS}\n",
            burns(&long),
            burns(&short),
            bad_name(&long)
        )
    }
}

fn ratio_name(window: &str) -> String {
    format!("{}{window}", recorded::ERRORS)
}

fn bad_name(window: &str) -> String {
    format!("{}{window}", recorded::BAD_EVENTS)
}
