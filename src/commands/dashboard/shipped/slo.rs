//! Service levels: what flows promise, and how much of what may go wrong is left. Made of what the rules that `flowgen rules`
//! writes record.

use super::{
    super::{
        model::{Dashboard, Panel, Row, Unit},
        promql::{recorded, recorded_by_window},
    },
    Choice,
};
use crate::commands::rules::recorded::{BAD_EVENTS, BUDGET, ERRORS, OBJECTIVE};

const LEGEND: &str = "{{job}} {{flow}}: {{sli}}";
const LEGEND_WINDOW: &str = "{{job}} {{flow}}: {{sli}}, {{window}}";

/// From which burn rate on somebody is woken: all that may go wrong in 30 days would in five.
const PAGED_FROM: f64 = 6.0;

pub(super) fn dashboard() -> Dashboard {
    let description = "What flows promise by `slo`, and how much of what may go wrong is left. It needs the rules that \
                       `flowgen rules` writes of the same flows; without them it is empty.";
    let rows = vec![Row::new("Budget", budget()), Row::new("Burn", burn())];
    super::dashboard("slo", "Service levels", description, &[Choice::Job, Choice::Flow], rows)
}

fn budget() -> Vec<Panel> {
    let left = format!("sum by (job, flow, sli) ({})", recorded(BUDGET, &["job", "flow"]));
    let promised = recorded(OBJECTIVE, &["flow"]);
    vec![
        Panel::table(
            "Promises",
            "The share of events that is to be good, and what is left of those that may be bad: 100 % is all of them, below 0 \
             more were bad than may be. A deployment is known by its job; each has a budget of its own.",
        )
        .wide(10)
        // What is promised is the same in all deployments: it has no job.
        .column(format!("0 * {left} + on (flow, sli) group_left () {promised}"), "promised", Unit::Share)
        .column(left.clone(), "left", Unit::Share),
        Panel::lines(
            "Budget that is left",
            Unit::Share,
            "What is left of the events that may be bad, over the whole window of the promise. What is over leaves the window \
             some day: it may grow. Prometheus has to keep metrics for as long as the window is.",
        )
        .wide(14)
        .high(9)
        .signed()
        .query(left, LEGEND),
    ]
}

fn burn() -> Vec<Panel> {
    let errors = recorded_by_window(ERRORS);
    vec![
        Panel::lines(
            "Burn rate",
            Unit::Count,
            "How many times as many events are bad as may be, in each of the windows that alerts look at. At 1 the budget is \
             spent exactly when the window of the promise is over. From 14.4 in an hour or 6 in six hours on somebody is woken, \
             unless it is but a few events.",
        )
        .wide(24)
        .red_from(PAGED_FROM)
        .query(
            format!("{errors} / on (flow, sli) group_left () (1 - {})", recorded(OBJECTIVE, &["flow"])),
            LEGEND_WINDOW,
        ),
        Panel::lines(
            "Bad events",
            Unit::Count,
            "How many events were bad, about, in the longer windows. Of fewer than ten no alert comes, however large a share \
             they are.",
        )
        .wide(12)
        .query(recorded_by_window(BAD_EVENTS), LEGEND_WINDOW),
        Panel::lines(
            "Alerts",
            Unit::Count,
            "Alerts of budgets that are being spent too fast, while they fire.",
        )
        .wide(12)
        .query(
            "sum by (job, flow, alertname, severity) (ALERTS{alertname=~\"Flowgen.*BudgetBurn\",alertstate=\"firing\",\
             job=~\"$job\",flow=~\"$flow\"})"
                .to_owned(),
            "{{job}} {{flow}}: {{alertname}} ({{severity}})",
        ),
    ]
}
