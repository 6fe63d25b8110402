//! One flow: what comes in, what becomes of it, and for each task how much, how wrong and how long.

use super::{
    super::{
        model::{Dashboard, Panel, Row, Unit},
        panels::{self, HANDLE},
        promql::Scope,
    },
    Choice, flows, tasks,
};
use crate::telemetry::instruments::{SPAN_COUNT, SPAN_DURATION, SPAN_ERRORS, TASK_QUEUE_DURATION};

pub(super) fn dashboard() -> Dashboard {
    let description = "One flow, and its tasks one after the other. `flowgen dashboard` writes one of your own flows, laid out \
                       like their graphs.";
    let each = Row { repeat: Some("task"), ..Row::new("$task", task(&tasks())) };
    let rows = vec![Row::new("Flow", flow(&flows())), Row::new("All tasks", compared(&tasks())), each];
    let choices = [Choice::Job, Choice::Flow, Choice::Task];
    super::dashboard("flow", "Flow", description, &choices, rows)
}

fn flow(scope: &Scope) -> Vec<Panel> {
    vec![
        panels::entered(scope),
        panels::ended(scope),
        panels::event_duration(scope),
        panels::event_age(scope),
        panels::flow_inflight(scope),
        panels::states(scope),
        panels::durable_depth(scope),
        panels::cache(scope),
    ]
    .into_iter()
    .map(|panel| panel.wide(6))
    .collect()
}

/// The tasks beside one another.
fn compared(scope: &Scope) -> Vec<Panel> {
    let legend = "{{flow}}/{{task}}";
    let by: &[&str] = &["flow", "task"];
    vec![
        Panel::lines("Handled by task", Unit::PerSecond, "Events that each task was done with, whatever became of them.")
            .wide(6)
            .query(scope.of_span(HANDLE, &SPAN_COUNT).rate(by), legend),
        Panel::lines(
            "Errors by task",
            Unit::PerSecond,
            "Events that each task failed at after all retries, also where `on_error` hides it from the flow.",
        )
        .wide(6)
        .query(scope.of_span(HANDLE, &SPAN_ERRORS).rate(by), legend),
        Panel::lines(
            "Duration by task, p95",
            Unit::Seconds,
            "What a task takes over an event, with its retries, without waiting in its queue.",
        )
        .wide(6)
        .histogram(scope.of_span(HANDLE, &SPAN_DURATION).quantile(0.95, by), legend),
        Panel::lines(
            "Wait by task, p95",
            Unit::Seconds,
            "How long events wait for each task. Those that still wait are not in it.",
        )
        .wide(6)
        .histogram(scope.metric(&TASK_QUEUE_DURATION).quantile(0.95, by), legend),
    ]
}

fn task(scope: &Scope) -> Vec<Panel> {
    let all = [panels::handled(scope), panels::errors(scope), panels::duration(scope), panels::queue(scope)];
    all.map(|panel| panel.wide(6)).into()
}
