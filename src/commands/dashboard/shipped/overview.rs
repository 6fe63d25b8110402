//! The overview: is all well, and if not, which flow is it?

use super::{
    super::{
        model::{Dashboard, Panel, Row, Unit, Variable},
        panels::{self, HANDLE, failed_share},
        promql::{Metric, Scope, share},
    },
    Choice, flows,
};
use crate::telemetry::instruments::{
    FLOW_ENTERED, FLOW_EVENT_DURATION, FLOW_EVENTS, FLOW_INFLIGHT, FLOW_STATE, SPAN_COUNT, SPAN_DURATION,
    SPAN_ERRORS, TASK_TIMEOUTS,
};

/// What names a task.
const TASK: &[&str] = &["flow", "task"];

pub(super) fn dashboard() -> Dashboard {
    let scope = flows();
    let rows = vec![
        Row::new("Now", now(&scope)),
        Row::new("Throughput and errors", throughput(&scope)),
        Row::new("Latency", latency(&scope)),
        Row::new("Flows", states(&scope)),
    ];
    let description = "Every flow at a glance: what comes in, what becomes of it, how long it takes, and which tasks are \
                       the slowest.";
    let mut dashboard =
        super::dashboard("overview", "Overview", description, &[Choice::Job, Choice::Flow], rows);
    dashboard.variables.push(Variable::Number { name: "top", label: "Slowest", choices: &[10, 20, 50] });
    dashboard
}

fn now(scope: &Scope) -> Vec<Panel> {
    let state = scope.metric(&FLOW_STATE);
    vec![
        Panel::number("Entered", Unit::PerSecond, "Events that enter all flows in a second.")
            .query(scope.metric(&FLOW_ENTERED).rate(&[]), "entered"),
        Panel::number(
            "Failed",
            Unit::Share,
            "Which part of the events that came to an end has failed or become a dead letter. Nothing where none came to an \
             end.",
        )
        .red_from(0.05)
        .query(failed_share(scope, &[]), "failed"),
        Panel::number(
            "End to end, p95",
            Unit::Seconds,
            "Of 100 events 95 take no longer, over all flows: one with many fast events hides a slow one.",
        )
        .query(scope.metric(&FLOW_EVENT_DURATION).quantile(0.95, &[]), "p95"),
        Panel::number("In flight", Unit::Count, "Events that entered and have not come to an end.")
            .query(scope.metric(&FLOW_INFLIGHT).sum(&[]), "in flight"),
        Panel::number(
            "Flows in trouble",
            Unit::Count,
            "Flows that have failed or restart, counted in each worker. One that stands still is not among them.",
        )
        .red_from(1.0)
        .query(state.clone().like("state", "failed|restarting").sum(&[]), "flows"),
        Panel::number(
            "Workers",
            Unit::Count,
            "Workers that have exported within the last five minutes. Whether as many should be there nobody can know here.",
        )
        .query(format!("count(group by (job, instance) ({}))", state.series()), "workers"),
    ]
}

fn throughput(scope: &Scope) -> Vec<Panel> {
    vec![
        Panel::lines(
            "Entered by flow",
            Unit::PerSecond,
            "Events that entered, from sources, replays and durable queues together.",
        )
        .wide(12)
        .query(scope.metric(&FLOW_ENTERED).rate(&["flow"]), "{{flow}}"),
        panels::ended(scope).wide(12),
        Panel::lines(
            "Failed by flow",
            Unit::Share,
            "Which part of the events that came to an end has failed or become a dead letter. Of few events one makes a \
             great part.",
        )
        .wide(12)
        .red_from(0.05)
        .query(failed_share(scope, &["flow"]), "{{flow}}"),
        Panel::lines(
            "Timeouts by task",
            Unit::PerSecond,
            "Attempts that took too long, whether the next one helped or not. Tasks that wait for nothing have none.",
        )
        .wide(12)
        .query(scope.metric(&TASK_TIMEOUTS).rate(TASK), "{{flow}}/{{task}}"),
    ]
}

fn latency(scope: &Scope) -> Vec<Panel> {
    let duration = scope.metric(&FLOW_EVENT_DURATION);
    let by_flow = |quantile, name: &str, red: &str| {
        Panel::lines(&format!("End to end, {name}"), Unit::Seconds, red)
            .histogram(duration.quantile(quantile, &["flow"]), "{{flow}}")
    };
    let told = "The time from the entry of an event until all that came of it was settled. Events that are still in flight \
                are not in it: while a flow is stuck this is empty or looks fine.";
    vec![by_flow(0.5, "p50", told), by_flow(0.95, "p95", told), by_flow(0.99, "p99", told), slowest(scope)]
}

/// The slowest tasks of all that is on the screen.
fn slowest(scope: &Scope) -> Panel {
    let duration = scope.of_span(HANDLE, &SPAN_DURATION);
    let top = format!("topk($top, {})", duration.quantile_in_range(0.95, TASK));
    let of_top = |expression: String| format!("({expression}) and on (flow, task) {top}");
    let count = |metric: Metric| metric.rate_in_range(TASK);
    let handled = count(scope.of_span(HANDLE, &SPAN_COUNT));
    let errors = count(scope.of_span(HANDLE, &SPAN_ERRORS));
    let timeouts = count(scope.metric(&TASK_TIMEOUTS));
    Panel::table(
        "Slowest tasks",
        "The tasks with the highest p95 of all the time on the screen. A task that waits for others in its queue is not slow \
         here; one of few events may be by chance.",
    )
    .column(of_top(duration.quantile_in_range(0.5, TASK)), "p50", Unit::Seconds)
    .column(top.clone(), "p95", Unit::Seconds)
    .column(of_top(duration.quantile_in_range(0.99, TASK)), "p99", Unit::Seconds)
    .column(of_top(handled.clone()), "handled", Unit::PerSecond)
    .column(of_top(share(&errors, &handled)), "failed", Unit::Share)
    .column(of_top(timeouts), "timeouts", Unit::PerSecond)
}

fn states(scope: &Scope) -> Vec<Panel> {
    let events = scope.metric(&FLOW_EVENTS).increase_in_range(&["flow", "outcome"]);
    let state = scope.metric(&FLOW_STATE);
    vec![
        panels::states(scope).wide(12),
        Panel::table(
            "Flows by state",
            "In how many workers each flow is in which state now. What a worker that was killed said last counts for five \
             minutes more.",
        )
        .wide(12)
        .high(8)
        .query(format!("{} > 0", state.sum(&["job", "flow", "state"])), "workers"),
        Panel::table(
            "Outcomes by flow",
            "How many events came to which end in all the time on the screen. Prometheus makes a rate of exports and \
             multiplies it: of few events these are no whole numbers.",
        )
        .query(format!("{events} > 0"), "events"),
    ]
}
