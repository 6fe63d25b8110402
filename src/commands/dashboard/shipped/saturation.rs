//! Saturation: which task is the limit, and what waits for it.

use super::{
    super::{
        model::{Dashboard, Panel, Row, Unit},
        panels,
        promql::Scope,
    },
    Choice, flows, tasks,
};
use crate::telemetry::instruments::{
    DURABLE_BYTES, DURABLE_DEPTH, DURABLE_OLDEST, HTTP_SERVER_ACTIVE_REQUESTS, TASK_ACTIVE, TASK_BLOCKED,
    TASK_INFLIGHT, TASK_QUEUE_CAPACITY, TASK_QUEUE_DEPTH, TASK_QUEUE_DURATION,
};

const LEGEND: &str = "{{flow}}/{{task}}";
const TASK: &[&str] = &["flow", "task"];

pub(super) fn dashboard() -> Dashboard {
    let description = "Where events wait. The bottleneck is the task whose queue is full while the tasks after it have room; \
                       those before it are blocked.";
    let rows = vec![
        Row::new("Queues", queues(&tasks())),
        Row::new("In flight", in_flight(&tasks())),
        Row::new("Before the flow", before(&flows())),
    ];
    let choices = [Choice::Job, Choice::Flow, Choice::Task];
    super::dashboard("saturation", "Saturation", description, &choices, rows)
}

fn queues(scope: &Scope) -> Vec<Panel> {
    let (depth, capacity) = (scope.metric(&TASK_QUEUE_DEPTH), scope.metric(&TASK_QUEUE_CAPACITY));
    vec![
        Panel::lines(
            "Queue by capacity",
            Unit::Share,
            "How full the channel of each task is, in the worker where it is the fullest. It is looked at once an export: \
             what fills and empties between two of them is not seen.",
        )
        .red_from(0.9)
        .query(format!("max by (flow, task) ({} / {})", depth.series(), capacity.series()), LEGEND),
        Panel::lines("Queue depth", Unit::Count, "Events that wait in the channel of each task, over all workers.")
            .query(depth.sum(TASK), LEGEND),
        Panel::lines(
            "Blocked",
            Unit::Share,
            "Which part of the time each task waits for room in a full channel after it; of several workers and threads the \
             sum.",
        )
        .query(scope.metric(&TASK_BLOCKED).rate(TASK), LEGEND),
        Panel::lines(
            "Wait, p50",
            Unit::Seconds,
            "How long half of the events wait for each task. Those that still wait are not in it.",
        )
        .histogram(scope.metric(&TASK_QUEUE_DURATION).quantile(0.5, TASK), LEGEND),
        Panel::lines(
            "Wait, p95",
            Unit::Seconds,
            "How long events wait for each task, but for one of twenty. Those that still wait are not in it.",
        )
        .histogram(scope.metric(&TASK_QUEUE_DURATION).quantile(0.95, TASK), LEGEND),
        Panel::lines(
            "Loops",
            Unit::Count,
            "How many loops of each task run: one for each worker, source and instance. A task that is built again after a \
             panic has none meanwhile.",
        )
        .query(scope.metric(&TASK_ACTIVE).sum(TASK), LEGEND),
    ]
}

fn in_flight(scope: &Scope) -> Vec<Panel> {
    vec![
        panels::flow_inflight(scope).wide(12),
        Panel::lines(
            "In flight by task",
            Unit::Count,
            "Events that each task has taken from its channel and is not done with, also those of a batch that has not left. \
             Near `concurrency` the task can do no more.",
        )
        .wide(12)
        .query(scope.metric(&TASK_INFLIGHT).sum(TASK), LEGEND),
    ]
}

fn before(scope: &Scope) -> Vec<Panel> {
    vec![
        Panel::lines(
            "Durable queues",
            Unit::Count,
            "Events that were accepted and have not entered their flow. Flows that are not durable have none.",
        )
        .wide(6)
        .query(scope.metric(&DURABLE_DEPTH).sum(&["flow"]), "{{flow}}"),
        Panel::lines(
            "Durable queues on the disk",
            Unit::Bytes,
            "What the queues take: more than the events in them do, since whole files are freed. At `durable.max_bytes` the \
             source takes nothing more.",
        )
        .wide(6)
        .query(scope.metric(&DURABLE_BYTES).max(&["flow"]), "{{flow}}"),
        Panel::lines(
            "Oldest in a durable queue",
            Unit::Seconds,
            "How long ago the first event that waits was accepted, in the worker where it is the oldest.",
        )
        .wide(6)
        .query(scope.metric(&DURABLE_OLDEST).max(&["flow"]), "{{flow}}"),
        Panel::lines(
            "Open requests",
            Unit::Count,
            "HTTP requests that have come in and are not answered. Where a flow is saturated further ones are refused with \
             503 at once, which is not seen here.",
        )
        .wide(6)
        .query(scope.metric(&HTTP_SERVER_ACTIVE_REQUESTS).sum(TASK), LEGEND),
    ]
}
