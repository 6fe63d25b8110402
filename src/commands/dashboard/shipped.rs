//! The dashboards of `deploy/dashboards`, which are for any flows: which there are, and what they have in common.

mod flow;
mod http;
mod overview;
mod reliability;
mod saturation;
mod slo;
mod telemetry;

use super::{
    model::{Dashboard, Row, Variable},
    promql::{Histograms, Scope},
};
use crate::telemetry::instruments::{FLOW_STATE, SPAN_COUNT};

/// How often workers export if nothing else is said.
const INTERVAL: &str = "60s";

/// What can be chosen in a dashboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    Job,
    Flow,
    Task,
}

/// Returns all of them, each with the name of its file.
pub(super) fn all() -> Vec<(&'static str, Dashboard)> {
    vec![
        ("overview", overview::dashboard()),
        ("flow", flow::dashboard()),
        ("saturation", saturation::dashboard()),
        ("reliability", reliability::dashboard()),
        ("slo", slo::dashboard()),
        ("http", http::dashboard()),
        ("telemetry", telemetry::dashboard()),
    ]
}

/// Makes one of these rows. What can be chosen narrows down what comes after it.
fn dashboard(name: &str, title: &str, description: &str, choices: &[Choice], rows: Vec<Row>) -> Dashboard {
    Dashboard {
        uid: format!("flowgen-{name}"),
        title: format!("flowgen / {title}"),
        description: description.to_owned(),
        variables: choices.iter().map(|choice| variable(*choice)).collect(),
        interval: INTERVAL.to_owned(),
        rows,
    }
}

fn variable(choice: Choice) -> Variable {
    let all = Scope::all(Histograms::Any);
    match choice {
        Choice::Job => Variable::Label { name: "job", selector: FLOW_STATE.prometheus() },
        Choice::Flow => Variable::Label { name: "flow", selector: all.metric(&FLOW_STATE).series() },
        Choice::Task => Variable::Label {
            name: "task",
            selector: all.chosen_flows().of_span(super::panels::HANDLE, &SPAN_COUNT).series(),
        },
    }
}

/// Returns what a dashboard with a choice of flows is about.
fn flows() -> Scope {
    Scope::all(Histograms::Any).chosen_flows()
}

/// Returns what a dashboard with a choice of flows and tasks is about.
fn tasks() -> Scope {
    flows().chosen_tasks()
}
