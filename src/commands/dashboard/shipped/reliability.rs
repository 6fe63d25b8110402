//! Reliability: what fails and is tried again, what was given up, and whether everything is accounted for.

use super::{
    super::{
        model::{Dashboard, Panel, Row, Unit},
        panels::HANDLE,
        promql::{Scope, share},
    },
    Choice, flows, tasks,
};
use crate::telemetry::instruments::{
    CHECKPOINT_DURATION, DEAD_LETTERS, DEAD_LETTERS_DEPTH, FLOW_CANCELLATIONS, FLOW_ENTERED, FLOW_EVENTS,
    FLOW_INFLIGHT, FLOW_STATE, RELOADS, SCHEDULE_TRIGGERS, SOURCE_REDELIVERIES, SPAN_COUNT,
    TASK_ATTEMPT_ERRORS, TASK_DEADLINE_SKIPS, TASK_RETRIES, TASK_RETRY_DELAY, TASK_STARTS, TASK_STOPS,
    TASK_TIMEOUTS,
};

const LEGEND: &str = "{{flow}}/{{task}}";
const LEGEND_ERROR: &str = "{{flow}}/{{task}}: {{error_type}}";
const TASK: &[&str] = &["flow", "task"];
const TASK_AND_ERROR: &[&str] = &["flow", "task", "error.type"];

pub(super) fn dashboard() -> Dashboard {
    let description = "What fails, what is tried again, what was given up and why, and whether every event that entered is \
                       accounted for.";
    let rows = vec![
        Row::new("Attempts", attempts(&tasks())),
        Row::new("Given up", given_up(&tasks())),
        Row::new("Account", account(&flows())),
        Row::new("Restarts", restarts(&tasks())),
    ];
    let choices = [Choice::Job, Choice::Flow, Choice::Task];
    super::dashboard("reliability", "Reliability", description, &choices, rows)
}

fn attempts(scope: &Scope) -> Vec<Panel> {
    let retries = scope.metric(&TASK_RETRIES);
    let handled = scope.of_span(HANDLE, &SPAN_COUNT).rate(TASK);
    vec![
        Panel::lines(
            "Failed attempts",
            Unit::PerSecond,
            "Attempts that failed, by error, whether another one followed or not.",
        )
        .query(scope.metric(&TASK_ATTEMPT_ERRORS).rate(TASK_AND_ERROR), LEGEND_ERROR),
        Panel::lines("Retries", Unit::PerSecond, "Second and later attempts, by the error before them.")
            .query(retries.rate(TASK_AND_ERROR), LEGEND_ERROR),
        Panel::lines(
            "Retries by event",
            Unit::Count,
            "How many retries a task makes for each event that it is done with. Above 1 what it calls has trouble, and is \
             called all the more. While nothing is done there is no line.",
        )
        .red_from(1.0)
        .query(share(&retries.rate(TASK), &handled), LEGEND),
        Panel::lines(
            "Retry delay, p95",
            Unit::Seconds,
            "The time from a failed attempt to the next one: the backoff, or what `Retry-After` asks for.",
        )
        .histogram(scope.metric(&TASK_RETRY_DELAY).quantile(0.95, TASK), LEGEND),
        Panel::lines(
            "Timeouts",
            Unit::PerSecond,
            "Attempts that took longer than the task's `timeout`, or than its kind waits by itself.",
        )
        .query(scope.metric(&TASK_TIMEOUTS).rate(TASK), LEGEND),
        Panel::lines(
            "Brought in again",
            Unit::PerSecond,
            "Events that a source brought in again because they had failed for now. They count as entered once.",
        )
        .query(scope.metric(&SOURCE_REDELIVERIES).rate(TASK), LEGEND),
    ]
}

fn given_up(scope: &Scope) -> Vec<Panel> {
    let events = scope.metric(&FLOW_EVENTS).like("outcome", "failed|cancelled|expired|dropped|dead_lettered");
    vec![
        Panel::lines(
            "Given up",
            Unit::PerSecond,
            "Events whose work was not done, by outcome. What `on_error: drop` drops is among them.",
        )
        .query(events.rate(&["flow", "outcome"]), "{{flow}}: {{outcome}}"),
        Panel::lines("Dead letters", Unit::PerSecond, "Events that failed and were stored, by error.")
            .query(scope.metric(&DEAD_LETTERS).rate(TASK_AND_ERROR), LEGEND_ERROR),
        Panel::lines(
            "Dead letters that are stored",
            Unit::Count,
            "From this run and earlier ones; `flowgen dlq` shows, replays and removes them.",
        )
        .query(scope.metric(&DEAD_LETTERS_DEPTH).sum(TASK), LEGEND),
        Panel::lines(
            "Too old",
            Unit::PerSecond,
            "Events that a task did not handle, or did not try again, because they were older than `flow.deadline`.",
        )
        .query(scope.metric(&TASK_DEADLINE_SKIPS).rate(TASK), LEGEND),
        Panel::lines(
            "Cancellations",
            Unit::PerSecond,
            "Shutdowns that ran out of time: `start` when the rest of a flow was given up, `finish` when all of its tasks had \
             ended. Of a worker that was killed the last ones did not arrive.",
        )
        .query(scope.metric(&FLOW_CANCELLATIONS).rate(&["flow", "phase"]), "{{flow}}: {{phase}}"),
        Panel::lines(
            "Schedules that were missed",
            Unit::PerSecond,
            "Times of a schedule that were skipped because the flow was busy, or failed.",
        )
        .query(
            scope.metric(&SCHEDULE_TRIGGERS).like("outcome", "skipped|failed").rate(&["flow", "task", "outcome"]),
            "{{flow}}/{{task}}: {{outcome}}",
        ),
    ]
}

fn account(scope: &Scope) -> Vec<Panel> {
    let by: &[&str] = &["job", "flow", "instance"];
    let sums = [&FLOW_ENTERED, &FLOW_EVENTS, &FLOW_INFLIGHT].map(|one| scope.metric(one).sum(by)).join(" - ");
    vec![
        Panel::lines(
            "Not accounted for",
            Unit::Count,
            "Events that entered and are neither in flight nor at an end, or the other way round, in each worker. It is 0 in \
             every export; a value between two exports of which one has arrived in part is none of the flow's.",
        )
        .wide(12)
        .red_from(1.0)
        .query(format!("abs({sums})"), "{{flow}} in {{instance}}"),
        Panel::lines(
            "Checkpoints, p95",
            Unit::Seconds,
            "The time from the sync of what the sinks wrote until the source's position is on the disk. Without `state` there \
             are none.",
        )
        .wide(12)
        .histogram(scope.metric(&CHECKPOINT_DURATION).quantile(0.95, TASK), LEGEND),
    ]
}

fn restarts(scope: &Scope) -> Vec<Panel> {
    vec![
        Panel::lines(
            "Starts of tasks",
            Unit::PerSecond,
            "How often loops of tasks started, also at the start of a worker and at a reload. What a new worker counts from \
             its first export on is not seen as a rise.",
        )
        .wide(6)
        .query(scope.metric(&TASK_STARTS).rate(TASK), LEGEND),
        Panel::lines(
            "Ends of tasks",
            Unit::PerSecond,
            "Why loops of tasks ended. After a `panic` the task is built again, unless `on_task_panic` says otherwise.",
        )
        .wide(6)
        .query(scope.metric(&TASK_STOPS).rate(&["flow", "task", "reason"]), "{{flow}}/{{task}}: {{reason}}"),
        Panel::lines("Reloads", Unit::PerSecond, "Reloads of the configuration, by outcome. A failed one changes nothing.")
            .wide(6)
            .query(scope.metric(&RELOADS).rate(&["job", "outcome"]), "{{job}}: {{outcome}}"),
        Panel::lines(
            "Workers",
            Unit::Count,
            "Workers that have exported within the last five minutes. Each start of a process is another one.",
        )
        .wide(6)
        .query(
            format!("count by (job) (group by (job, instance) ({}))", scope.metric(&FLOW_STATE).series()),
            "{{job}}",
        ),
    ]
}
