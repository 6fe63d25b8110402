//! Telemetry itself: whether what all other dashboards show can be believed.

use super::{
    super::{
        model::{Dashboard, Panel, Row, Unit},
        promql::{Histograms, Scope, share},
    },
    Choice,
};
use crate::telemetry::instruments::{
    EXPORT_DURATION, FLOW_STATE, POINT_EXPORTED, SPAN_EXPORTED, SPAN_PROCESSED, SPAN_QUEUE_CAPACITY,
    SPAN_QUEUE_SIZE, SPAN_STARTED, TRACES_KEPT, TRACES_SHED,
};

const JOB_AND_ERROR: &[&str] = &["job", "error.type"];
const LEGEND_ERROR: &str = "{{job}}: {{error_type}}";

pub(super) fn dashboard() -> Dashboard {
    let scope = Scope::all(Histograms::Any);
    let description = "Whether what the other dashboards show can be believed: which workers are heard of, and what of their \
                       telemetry was lost on the way.";
    let rows = vec![
        Row::new("Workers", workers(&scope)),
        Row::new("Spans", spans(&scope)),
        Row::new("Exports", exports(&scope)),
    ];
    super::dashboard("telemetry", "Telemetry health", description, &[Choice::Job], rows)
}

fn workers(scope: &Scope) -> Vec<Panel> {
    let state = scope.metric(&FLOW_STATE);
    let at_work = state.clone().like("state", "starting|running|draining|restarting").series();
    let here = format!("group by (job, instance) ({})", state.series());
    vec![
        Panel::lines(
            "Workers that report",
            Unit::Count,
            "Workers that have exported within the last five minutes.",
        )
        .query(format!("count by (job) ({here})"), "{{job}}"),
        Panel::lines(
            "Lost in the last hour",
            Unit::Count,
            "Workers whose flows were at work in their last export, and that have not been heard of since: they were killed, \
             have crashed, or cannot reach the collector. One that stops in good order says so.",
        )
        .red_from(1.0)
        .query(
            format!(
                "count by (job) (group by (job, instance) (last_over_time({at_work}[1h]) == 1) \
                 unless on (job, instance) {here})"
            ),
            "{{job}}",
        ),
        Panel::lines(
            "Since the last export",
            Unit::Seconds,
            "How long ago each worker was heard of. It goes up to five minutes, and then the worker is absent.",
        )
        .query(format!("time() - max by (job, instance) (timestamp({}))", state.series()), "{{job}} {{instance}}"),
        Panel::table(
            "Absent",
            "Workers that were at work within the last hour and are not heard of any more, with the number of their flows.",
        )
        .query(
            format!(
                "count by (job, instance) (last_over_time({at_work}[1h]) == 1) unless on (job, instance) {here}"
            ),
            "flows",
        ),
    ]
}

fn spans(scope: &Scope) -> Vec<Panel> {
    let (queued, room) = (scope.metric(&SPAN_QUEUE_SIZE), scope.metric(&SPAN_QUEUE_CAPACITY));
    let lost = |metric: &'static _| scope.metric(metric).without("error.type", "").rate(JOB_AND_ERROR);
    vec![
        Panel::stack(
            "Started",
            Unit::PerSecond,
            "Spans that were started, sampled or not. What was not sampled is counted in metrics all the same.",
        )
        .query(scope.metric(&SPAN_STARTED).rate(&["otel.span.sampling_result"]), "{{otel_span_sampling_result}}"),
        Panel::lines(
            "Queue by capacity",
            Unit::Share,
            "How full the queue of spans is. From three quarters on no new traces are begun, so that those that are begun \
             stay whole.",
        )
        .red_from(0.75)
        .query(format!("max by (job) ({} / {})", queued.series(), room.series()), "{{job}}"),
        Panel::lines(
            "Lost spans",
            Unit::PerSecond,
            "Spans that found no room in the queue, and those that the collector did not take, each by its reason. Their \
             traces have holes; metrics and events have none.",
        )
        .red_from(1.0)
        .query(lost(&SPAN_PROCESSED), "{{job}}: {{error_type}}, not queued")
        .query(lost(&SPAN_EXPORTED), "{{job}}: {{error_type}}, not exported"),
        Panel::lines(
            "Traces that were left out",
            Unit::PerSecond,
            "Whole traces: `queue` where the queue was too full for new ones, `limit` beyond `keep_traces.limit`.",
        )
        .query(scope.metric(&TRACES_SHED).rate(&["job", "reason"]), "{{job}}: {{reason}}"),
        Panel::lines(
            "Traces that were kept",
            Unit::PerSecond,
            "Traces that are exported although they were not sampled, because an event failed or was slow.",
        )
        .query(scope.metric(&TRACES_KEPT).rate(&["job", "reason"]), "{{job}}: {{reason}}"),
        Panel::lines("Exported spans", Unit::PerSecond, "Spans that the collector took.")
            .query(scope.metric(&SPAN_EXPORTED).is("error.type", "").rate(&["job"]), "{{job}}"),
    ]
}

fn exports(scope: &Scope) -> Vec<Panel> {
    let calls = scope.metric(&EXPORT_DURATION);
    let by: &[&str] = &["job", "otel.component.name"];
    let legend = "{{job}}: {{otel_component_name}}";
    vec![
        Panel::lines(
            "Failed calls",
            Unit::Share,
            "Which part of the calls to the collector has failed. A worker that reaches no collector cannot say so: it is \
             absent instead.",
        )
        .red_from(0.5)
        .query(share(&calls.clone().without("error.type", "").rate(by), &calls.rate(by)), legend),
        Panel::lines("Calls, p95", Unit::Seconds, "The duration of calls to the collector.")
            .histogram(calls.quantile(0.95, by), legend),
        Panel::lines(
            "Data points",
            Unit::PerSecond,
            "Data points that the collector took, and those that were given up. Counters of a missed interval are in the next \
             one, so that no number is lost.",
        )
        .query(scope.metric(&POINT_EXPORTED).rate(JOB_AND_ERROR), LEGEND_ERROR),
    ]
}
