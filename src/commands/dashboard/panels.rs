//! Panels of one flow and of one task, which several dashboards have: what they ask for, and when an answer is not what it
//! seems. The scope says of which flow and which task.

use super::{
    model::{Panel, Unit},
    promql::{Metric, Scope, share},
};
use crate::telemetry::instruments::{
    CACHE_LOOKUPS, CHECKPOINT_DURATION, DEAD_LETTERS, DEAD_LETTERS_DEPTH, DURABLE_BYTES, DURABLE_DEPTH,
    DURABLE_OLDEST, FLOW_ENTERED, FLOW_EVENT_DURATION, FLOW_EVENTS, FLOW_INFLIGHT, FLOW_STATE,
    HTTP_CIRCUIT_STATE, HTTP_CLIENT_REQUEST_DURATION, HTTP_SERVER_ACTIVE_REQUESTS,
    HTTP_SERVER_REQUEST_DURATION, SCHEDULE_TRIGGERS, SOURCE_REDELIVERIES, SPAN_COUNT, SPAN_DURATION,
    SPAN_ERRORS, TASK_BLOCKED, TASK_DEADLINE_SKIPS, TASK_INFLIGHT, TASK_QUEUE_CAPACITY, TASK_QUEUE_DEPTH,
    TASK_RETRIES, TASK_TIMEOUTS,
};

/// The span of an event at a task.
pub(super) const HANDLE: &str = "task.handle";
/// The span of a batch that leaves a task.
const FLUSH: &str = "task.flush";

/// The outcomes of events whose work was not done. What `on_error: drop` drops, its author wants dropped.
pub(super) const FAILED: &str = "failed|dead_lettered";

const QUANTILES: [(f64, &str); 3] = [(0.5, "p50"), (0.95, "p95"), (0.99, "p99")];

/// Adds a line for each of the usual quantiles.
pub(super) fn quantiles(panel: Panel, metric: &Metric) -> Panel {
    let add =
        |panel: Panel, (quantile, name): &(f64, &str)| panel.histogram(metric.quantile(*quantile, &[]), name);
    QUANTILES.iter().fold(panel, add)
}

/// Returns which part of the events that came to an end have failed, by attributes.
pub(super) fn failed_share(scope: &Scope, by: &[&str]) -> String {
    let events = scope.metric(&FLOW_EVENTS);
    share(&events.clone().like("outcome", FAILED).rate(by), &events.rate(by))
}

/// What enters the flow.
pub(super) fn entered(scope: &Scope) -> Panel {
    Panel::stack(
        "Entered",
        Unit::PerSecond,
        "Events that entered, by where from: a source, a replay of dead letters, or a durable queue after a restart. What \
         was refused or waits before the flow, in a durable queue or outside of it, has not entered.",
    )
    .query(scope.metric(&FLOW_ENTERED).rate(&["origin"]), "{{origin}}")
}

/// What becomes of the flow's events.
pub(super) fn ended(scope: &Scope) -> Panel {
    Panel::stack(
        "Outcomes",
        Unit::PerSecond,
        "Events that came to an end, each once, by the worst that became of any part of it. An event that is brought in \
         again has not come to an end.",
    )
    .query(scope.metric(&FLOW_EVENTS).rate(&["outcome"]), "{{outcome}}")
}

/// How long the flow takes over an event.
pub(super) fn event_duration(scope: &Scope) -> Panel {
    let panel = Panel::lines(
        "End to end",
        Unit::Seconds,
        "The time from the entry of an event until all that came of it was settled, whatever became of it. Events that are \
         still in flight are not in it: while a flow is stuck this is empty or looks fine. Above the last bucket it stays \
         at that bucket's bound.",
    );
    quantiles(panel, &scope.metric(&FLOW_EVENT_DURATION))
}

/// How old what is in the flow is.
pub(super) fn event_age(scope: &Scope) -> Panel {
    let (inflight, ended) = (scope.metric(&FLOW_INFLIGHT), scope.metric(&FLOW_EVENTS));
    Panel::lines(
        "Event age",
        Unit::Seconds,
        "In the flow: how long an event stays on average, as events in flight by events that end in a second, so also while \
         none ends; infinite then, which is not drawn. Waiting: the age of the oldest event in a durable queue.",
    )
    .query(format!("{} / {}", inflight.sum(&["flow"]), ended.rate(&["flow"])), "{{flow}}: in the flow")
    .query(scope.metric(&DURABLE_OLDEST).max(&["flow"]), "{{flow}}: waiting")
}

/// What is in the flow.
pub(super) fn flow_inflight(scope: &Scope) -> Panel {
    Panel::lines(
        "In flight",
        Unit::Count,
        "Events that entered and have not come to an end. What a worker that was killed said last counts for five minutes \
         more.",
    )
    .query(scope.metric(&FLOW_INFLIGHT).sum(&["flow"]), "{{flow}}")
}

/// How many workers have the flow in which state.
pub(super) fn states(scope: &Scope) -> Panel {
    Panel::stack(
        "State",
        Unit::Count,
        "In how many workers the flow is in each state. What a worker that was killed said last counts for five minutes \
         more, and a state shorter than an export interval may not be seen.",
    )
    .query(scope.metric(&FLOW_STATE).sum(&["state"]), "{{state}}")
}

/// How much waits in the flow's durable queues.
pub(super) fn durable_depth(scope: &Scope) -> Panel {
    Panel::lines(
        "Durable queue",
        Unit::Count,
        "Events that were accepted and have not entered, and what the queue takes on the disk: more than its events do, \
         since it frees whole files.",
    )
    .query(scope.metric(&DURABLE_DEPTH).sum(&["flow"]), "{{flow}}: events")
    .column(scope.metric(&DURABLE_BYTES).sum(&["flow"]), "{{flow}}: bytes", Unit::Bytes)
}

/// What a task handles.
pub(super) fn handled(scope: &Scope) -> Panel {
    Panel::stack(
        "Handled",
        Unit::PerSecond,
        "Events that the task was done with, by outcome, exact at every sample rate. An event that is handled again after a \
         redelivery counts again.",
    )
    .query(scope.of_span(HANDLE, &SPAN_COUNT).rate(&["outcome"]), "{{outcome}}")
}

/// What a task fails at.
pub(super) fn errors(scope: &Scope) -> Panel {
    Panel::stack(
        "Errors",
        Unit::PerSecond,
        "Events that the task failed at after all retries, by the type of the error. Also those that `on_error` hides from \
         the outcome of the flow.",
    )
    .query(scope.of_span(HANDLE, &SPAN_ERRORS).rate(&["error.type"]), "{{error_type}}")
}

/// How long a task takes.
pub(super) fn duration(scope: &Scope) -> Panel {
    let panel = Panel::lines(
        "Duration",
        Unit::Seconds,
        "The time that the task took over an event, with its retries, without waiting in its queue or for room further on. \
         An attempt that hangs is not in it before it ends. Above the last bucket it stays at that bucket's bound.",
    );
    quantiles(panel, &scope.of_span(HANDLE, &SPAN_DURATION))
}

/// What waits for a task.
pub(super) fn queue(scope: &Scope) -> Panel {
    Panel::lines(
        "Queue",
        Unit::Count,
        "Events in the task's channel and the room in it, over all workers. It is looked at once an export: what fills and \
         empties between two of them is not seen. A task whose queue is full while those after it are empty is the \
         bottleneck.",
    )
    .query(scope.metric(&TASK_QUEUE_DEPTH).sum(&[]), "waiting")
    .query(scope.metric(&TASK_QUEUE_CAPACITY).sum(&[]), "room")
    .query(scope.metric(&TASK_INFLIGHT).sum(&[]), "in flight")
}

/// How long a task waits for those after it.
pub(super) fn blocked(scope: &Scope) -> Panel {
    Panel::lines(
        "Blocked",
        Unit::Share,
        "Which part of the time the task waited for room in a full channel after it; of several workers and threads the \
         sum. The cause is further on in the flow: the last task of the flow that is not blocked.",
    )
    .query(scope.metric(&TASK_BLOCKED).rate(&[]), "blocked")
}

/// What a task tries again or gives up for want of time.
pub(super) fn attempts(scope: &Scope) -> Panel {
    Panel::lines(
        "Retries and timeouts",
        Unit::PerSecond,
        "Second and later attempts by the error before them, attempts that took too long, and events that were too old \
         (`flow.deadline`). A retry that helps leaves no error.",
    )
    .query(scope.metric(&TASK_RETRIES).rate(&["error.type"]), "retry: {{error_type}}")
    .query(scope.metric(&TASK_TIMEOUTS).rate(&[]), "timeout")
    .query(scope.metric(&TASK_DEADLINE_SKIPS).rate(&[]), "too old")
}

/// What a task has stored because it failed at it.
pub(super) fn dead_letters(scope: &Scope) -> Panel {
    Panel::lines(
        "Dead letters",
        Unit::Count,
        "Dead letters that are stored, also from earlier runs, and how many become stored in a second.",
    )
    .query(scope.metric(&DEAD_LETTERS_DEPTH).sum(&[]), "stored")
    .column(scope.metric(&DEAD_LETTERS).rate(&["error.type"]), "new: {{error_type}}", Unit::PerSecond)
}

/// How far a source is behind.
pub(super) fn source(scope: &Scope) -> Panel {
    Panel::lines(
        "Lag",
        Unit::Share,
        "Which part of the time the source waited for the flow, and events that it brought in again because they had failed \
         for now. How old an event was when it came in is not known; a source that has nothing to read looks like one that \
         keeps up.",
    )
    .query(scope.metric(&TASK_BLOCKED).rate(&[]), "blocked")
    .column(scope.metric(&SOURCE_REDELIVERIES).rate(&[]), "brought in again", Unit::PerSecond)
}

/// How long it takes to keep how far a source is done.
pub(super) fn checkpoints(scope: &Scope) -> Panel {
    let panel = Panel::lines(
        "Checkpoints",
        Unit::Seconds,
        "The time from the sync of what the sinks wrote until the source's position is on the disk. It is not part of the \
         time that an event takes.",
    );
    quantiles(panel, &scope.metric(&CHECKPOINT_DURATION))
}

/// What becomes of the times of a schedule.
pub(super) fn schedule(scope: &Scope) -> Panel {
    Panel::stack(
        "Schedule",
        Unit::PerSecond,
        "Times of the schedule that came: `fired`, `skipped` because the flow was busy, or `failed`. Without a schedule \
         there is nothing.",
    )
    .query(scope.metric(&SCHEDULE_TRIGGERS).rate(&["outcome"]), "{{outcome}}")
}

/// What an endpoint answers.
pub(super) fn server_statuses(scope: &Scope) -> Panel {
    Panel::stack(
        "Answers",
        Unit::PerSecond,
        "Requests that were answered, by status, also those that were refused and became no event; without a status those \
         of clients that went away. A status has no series before its first answer, so that the first one is not seen as \
         a rise.",
    )
    .query(
        scope.metric(&HTTP_SERVER_REQUEST_DURATION).rate(&["http.response.status_code"]),
        "{{http_response_status_code}}",
    )
}

/// How long an endpoint takes.
pub(super) fn server_duration(scope: &Scope) -> Panel {
    let panel = Panel::lines(
        "Time to answer",
        Unit::Seconds,
        "From the head of a request to that of its response, also of requests that were refused at once. Of what is \
         streamed the rest is not in it.",
    );
    quantiles(panel, &scope.metric(&HTTP_SERVER_REQUEST_DURATION))
}

/// What an endpoint has not answered.
pub(super) fn server_active(scope: &Scope) -> Panel {
    Panel::lines("Open requests", Unit::Count, "Requests that have come in and are not answered.")
        .query(scope.metric(&HTTP_SERVER_ACTIVE_REQUESTS).sum(&[]), "open")
}

/// What is answered to a task that calls others.
pub(super) fn client_statuses(scope: &Scope) -> Panel {
    Panel::stack(
        "Responses",
        Unit::PerSecond,
        "Requests that were made, every attempt and every page, by the status of the response, or by the error where none \
         came.",
    )
    .query(
        scope.metric(&HTTP_CLIENT_REQUEST_DURATION).rate(&["http.response.status_code", "error.type"]),
        "{{http_response_status_code}} {{error_type}}",
    )
}

/// How long others take to answer a task.
pub(super) fn client_duration(scope: &Scope) -> Panel {
    let panel = Panel::lines(
        "Time of a request",
        Unit::Seconds,
        "The duration of single requests to the end of the response. The task takes longer where it tries again or reads \
         several pages.",
    );
    quantiles(panel, &scope.metric(&HTTP_CLIENT_REQUEST_DURATION))
}

/// Which hosts a task does not call.
pub(super) fn circuits(scope: &Scope) -> Panel {
    Panel::lines(
        "Circuits",
        Unit::Count,
        "Hosts that are not called, or only on trial, because requests to them fail. Every worker has circuits of its own. \
         Without a circuit breaker there is nothing.",
    )
    .query(scope.metric(&HTTP_CIRCUIT_STATE).sum(&["state"]), "{{state}}")
}

/// What a flow finds in the cache.
pub(super) fn cache(scope: &Scope) -> Panel {
    Panel::stack(
        "Cache",
        Unit::PerSecond,
        "Keys that the flow looked for, found or not, by all its tasks and scripts together. There is no series before the \
         first one.",
    )
    .query(scope.metric(&CACHE_LOOKUPS).rate(&["result"]), "{{result}}")
}

/// How batches leave a task.
pub(super) fn batches(scope: &Scope) -> Panel {
    let panel = Panel::lines(
        "Batches",
        Unit::Seconds,
        "How long a batch took to leave, and how many left in a second. How long its events waited for it is not in it.",
    );
    quantiles(panel, &scope.of_span(FLUSH, &SPAN_DURATION)).column(
        scope.of_span(FLUSH, &SPAN_COUNT).rate(&[]),
        "batches",
        Unit::PerSecond,
    )
}
