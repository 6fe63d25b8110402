//! The dashboard of certain flows: a row for each, laid out as its graph is, with panels for each task by what it is.

use std::time::Duration;

use super::{
    graph,
    model::{Area, COLUMNS, Dashboard, Panel, Row, Variable},
    panels,
    promql::{Histograms, Scope},
};
use crate::{
    plan::{Flow, Node, OnError, Plan},
    task::Role,
    telemetry::{self, instruments::FLOW_STATE},
};

/// How many tasks stand beside one another at most. A longer way goes on below.
const MOST_BESIDE: usize = 6;
/// How high the panel of a task is.
const HEIGHT: usize = 6;
/// How many letters of the title are part of the uid, which may have 40.
const MOST_OF_TITLE: usize = 22;

/// What tasks of some kinds have besides. A task of another kind has what all tasks of its role have.
type OfKind = fn(&Scope) -> Vec<Panel>;

const BY_KIND: &[(&str, OfKind)] = &[
    ("generate", |scope| vec![panels::schedule(scope)]),
    ("http_endpoint", |scope| {
        vec![panels::server_statuses(scope), panels::server_duration(scope), panels::server_active(scope)]
    }),
    ("http_request", |scope| {
        vec![panels::client_statuses(scope), panels::client_duration(scope), panels::circuits(scope)]
    }),
    ("cache", |scope| vec![panels::cache(scope)]),
    ("buffer", |scope| vec![panels::batches(scope)]),
    ("stdout", |scope| vec![panels::batches(scope)]),
    ("file_write", |scope| vec![panels::batches(scope)]),
];

/// Makes the dashboard of all flows of a plan. Grafana knows it by its title if one is given, and so as the same one when there
/// are other flows in it; without a title by the names of the flows, in whichever order they come.
pub(super) fn dashboard(plan: &Plan, title: Option<&str>) -> Dashboard {
    let settings = &plan.worker.telemetry;
    let histograms = match settings.histogram {
        telemetry::Histogram::Explicit { .. } => Histograms::Explicit,
        telemetry::Histogram::Exponential {} => Histograms::Exponential,
    };
    let scope = Scope::all(histograms);
    let mut names: Vec<_> = plan.flows.iter().map(|flow| &*flow.name).collect();
    names.sort_unstable();
    let (shown, identity) = match title {
        Some(title) => (title.to_owned(), title.to_owned()),
        None => (titled(&names), names.join("\n")),
    };
    let rows = plan.flows.iter().map(|flow| row(flow, plan, &scope.of_flow(&flow.name))).collect();
    Dashboard {
        uid: uid(&shown, &identity),
        description: format!("Written by `flowgen dashboard` for {}.", listed(&names)),
        title: shown,
        variables: vec![Variable::Label { name: "job", selector: FLOW_STATE.prometheus() }],
        interval: interval(settings.metrics_export_interval),
        rows,
    }
}

/// Makes the row of a flow: what it is as a whole, and below that its tasks.
fn row(flow: &Flow, plan: &Plan, scope: &Scope) -> Row {
    let mut row = Row::new(&flow.name, whole(flow, scope));
    let depths = graph::depths(flow);
    let columns = depths.iter().max().map_or(1, |deepest| deepest + 1);
    let beside = columns.min(MOST_BESIDE);
    for first in (0..columns).step_by(beside) {
        let top = row.height();
        for column in 0..beside {
            let (x, end) = (column * COLUMNS / beside, (column + 1) * COLUMNS / beside);
            let mut y = top;
            let here = flow.tasks.iter().zip(&depths).filter(|(_, depth)| **depth == first + column);
            for panel in here.flat_map(|(node, _)| task(node, plan, scope)) {
                row.panels.push((Area { x, y, width: end - x, height: HEIGHT }, panel));
                y += HEIGHT;
            }
        }
    }
    row
}

fn whole(flow: &Flow, scope: &Scope) -> Vec<Panel> {
    let mut all = vec![
        panels::entered(scope),
        panels::ended(scope),
        panels::event_duration(scope),
        panels::event_age(scope),
        panels::flow_inflight(scope),
        panels::states(scope),
    ];
    if flow.durable.is_some() {
        all.push(panels::durable_depth(scope));
    }
    all.into_iter().map(|panel| panel.wide(6).high(HEIGHT)).collect()
}

/// Returns the panels of a task, what matters most at the top.
fn task(node: &Node, plan: &Plan, scope: &Scope) -> Vec<Panel> {
    let scope = &scope.of_task(&node.name);
    let mut all = vec![panels::handled(scope), panels::errors(scope), panels::duration(scope)];
    let of_kind = BY_KIND.iter().find(|(name, _)| *name == node.kind.name);
    all.extend(of_kind.into_iter().flat_map(|(_, panels)| panels(scope)));
    if node.kind.role == Role::Source {
        all.push(panels::source(scope));
        // What answers requests has no position to keep.
        if plan.worker.state.is_some() && node.prepared.operation().is_none() {
            all.push(panels::checkpoints(scope));
        }
    } else {
        all.push(panels::queue(scope));
        // After a leaf there is nothing to wait for.
        if graph::followers(node).next().is_some() {
            all.push(panels::blocked(scope));
        }
    }
    if node.kind.role == Role::Processor {
        all.push(panels::attempts(scope));
    }
    if node.policy.on_error == OnError::DeadLetter {
        all.push(panels::dead_letters(scope));
    }
    all.into_iter().map(|panel| panel.of_task(&node.name)).collect()
}

fn titled(names: &[&str]) -> String {
    match names {
        [first, second, third, rest @ ..] if !rest.is_empty() => {
            format!("{first}, {second}, {third} and {} more", rest.len())
        }
        names => names.join(", "),
    }
}

fn listed(names: &[&str]) -> String {
    match names {
        [name] => format!("the flow {name}"),
        names => format!("the flows {}", names.join(", ")),
    }
}

/// Makes what Grafana knows the dashboard by: readable, and of its own for other flows.
fn uid(title: &str, identity: &str) -> String {
    let mut slug = String::new();
    for character in title.to_lowercase().chars() {
        match character {
            'a'..='z' | '0'..='9' => slug.push(character),
            _ if slug.ends_with('-') => {}
            _ => slug.push('-'),
        }
    }
    slug.truncate(MOST_OF_TITLE);
    format!("flowgen-{}-{:08x}", slug.trim_matches('-'), crc32fast::hash(identity.as_bytes()))
}

/// Returns a time as Prometheus and Grafana write it.
fn interval(time: Duration) -> String {
    match time.subsec_millis() {
        0 => format!("{}s", time.as_secs()),
        _ => format!("{}ms", time.as_millis()),
    }
}
