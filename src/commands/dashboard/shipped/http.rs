//! HTTP: what is asked of flows, and what they ask of others.

use super::{
    super::{
        model::{Dashboard, Panel, Row, Unit},
        panels,
        promql::{Scope, share},
    },
    Choice, tasks,
};
use crate::telemetry::instruments::{
    HTTP_CIRCUIT_STATE, HTTP_CIRCUIT_TRANSITIONS, HTTP_CLIENT_REQUEST_DURATION, HTTP_SERVER_ACTIVE_REQUESTS,
    HTTP_SERVER_REQUEST_DURATION,
};

pub(super) fn dashboard() -> Dashboard {
    let description = "Requests that come in at `http_endpoint`, and those that `http_request` makes.";
    let rows = vec![Row::new("Server", server(&tasks())), Row::new("Client", client(&tasks()))];
    let choices = [Choice::Job, Choice::Flow, Choice::Task];
    super::dashboard("http", "HTTP", description, &choices, rows)
}

fn server(scope: &Scope) -> Vec<Panel> {
    let requests = scope.metric(&HTTP_SERVER_REQUEST_DURATION);
    let by: &[&str] = &["http.request.method", "http.route"];
    let legend = "{{http_request_method}} {{http_route}}";
    let of_status = |pattern| {
        share(&requests.clone().like("http.response.status_code", pattern).rate(by), &requests.rate(by))
    };
    vec![
        panels::server_statuses(scope),
        Panel::lines(
            "Requests by route",
            Unit::PerSecond,
            "Requests that were answered. Those without a route fit none: all tasks and flows have to be chosen to see them.",
        )
        .query(requests.rate(by), legend),
        Panel::lines(
            "Errors of ours by route",
            Unit::Share,
            "Which part of the answers has a status of 500 or more: the flow has failed, is saturated, or stops.",
        )
        .red_from(0.05)
        .query(of_status("5.."), legend),
        Panel::lines(
            "Refused by route",
            Unit::Share,
            "Which part of the answers has a status from 400 to 499: the client was wrong, not known, or too fast.",
        )
        .query(of_status("4.."), legend),
        panels::server_duration(scope),
        Panel::lines(
            "Time to answer by route, p95",
            Unit::Seconds,
            "From the head of a request to that of its response. Refusals are fast, so that many of them hide what is slow.",
        )
        .histogram(requests.quantile(0.95, by), legend),
        Panel::lines("Open requests", Unit::Count, "Requests that have come in and are not answered.")
            .wide(12)
            .query(scope.metric(&HTTP_SERVER_ACTIVE_REQUESTS).sum(&["flow", "task"]), "{{flow}}/{{task}}"),
        Panel::lines(
            "Gone before the answer",
            Unit::PerSecond,
            "Requests whose client went away, or did not send them to their end.",
        )
        .wide(12)
        .query(requests.clone().is("error.type", "cancelled").rate(by), legend),
    ]
}

fn client(scope: &Scope) -> Vec<Panel> {
    let requests = scope.metric(&HTTP_CLIENT_REQUEST_DURATION);
    let by: &[&str] = &["server.address", "server.port"];
    let legend = "{{server_address}}:{{server_port}}";
    vec![
        panels::client_statuses(scope),
        Panel::lines("Requests by host", Unit::PerSecond, "Requests that were made, every attempt and every page.")
            .query(requests.rate(by), legend),
        Panel::lines(
            "Failed by host",
            Unit::Share,
            "Which part of the requests got no response, or one that is an error. The events may have made it by a retry.",
        )
        .query(share(&requests.clone().without("error.type", "").rate(by), &requests.rate(by)), legend),
        panels::client_duration(scope),
        Panel::lines(
            "Time of a request by host, p95",
            Unit::Seconds,
            "The duration of single requests to the end of the response.",
        )
        .histogram(requests.quantile(0.95, by), legend),
        Panel::lines(
            "Circuits",
            Unit::Count,
            "Hosts that a task does not call, or only on trial, because requests to them fail; in each worker for itself.",
        )
        .query(scope.metric(&HTTP_CIRCUIT_STATE).sum(&["flow", "task", "state"]), "{{flow}}/{{task}}: {{state}}"),
        Panel::lines(
            "Changes of circuits",
            Unit::PerSecond,
            "How often circuits become open, half open and closed. One that goes to and fro is of a host that can answer some \
             of the requests.",
        )
        .wide(24)
        .query(
            scope.metric(&HTTP_CIRCUIT_TRANSITIONS).rate(&["flow", "task", "state"]),
            "{{flow}}/{{task}}: {{state}}",
        ),
    ]
}
