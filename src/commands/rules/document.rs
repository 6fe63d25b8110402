//! The file: a header, and for each flow the groups of its rules.

use std::fmt::Write as _;

use super::{
    Format, Request,
    objective::{LEAST_BAD_EVENTS, Objective, Rule},
    promql::{quoted, untemplated},
};

/// How often it is looked at what reads many days. What is older than five minutes counts as gone.
const SLOW_INTERVAL: &str = "2m";

/// Writes the rules of these objectives; those of one flow stand one after the other.
pub(super) fn write(request: &Request<'_>, objectives: &[Objective<'_>]) -> String {
    let mut text = header(request);
    let indent = match request.format {
        Format::Prometheus => "",
        Format::Prometheusrule => {
            text += &resource(request.job);
            "  "
        }
    };
    let mut groups = String::from("groups:\n");
    for of_flow in objectives.chunk_by(|one, next| one.flow() == next.flow()) {
        let name = quoted(&format!("flowgen-slo/{}", of_flow[0].flow()));
        // Writing to a string cannot fail.
        let _ = write!(groups, "  - name: {name}\n    rules:\n");
        of_flow.iter().for_each(|one| rules(&mut groups, one, one.fast_rules()));
        let name = quoted(&format!("flowgen-slo-budget/{}", of_flow[0].flow()));
        let _ = write!(groups, "  - name: {name}\n    interval: {SLOW_INTERVAL}\n    rules:\n");
        of_flow.iter().for_each(|one| rules(&mut groups, one, one.slow_rules()));
    }
    for line in groups.lines() {
        let _ = writeln!(text, "{indent}{line}");
    }
    text
}

/// Says how the file was made, and what is in it.
fn header(request: &Request<'_>) -> String {
    format!(
        "# Made by `{}` of flowgen {}: change the flows, and make it anew.
#
#   flowgen:slo_errors:ratio_rateW      the share of events that were bad in the last W
#   flowgen:slo_bad_events:increaseW    how many that were, about; below {LEAST_BAD_EVENTS} there is no alert
#   flowgen:slo_objective:ratio         the share of events that are to be good
#   flowgen:slo_budget_remaining:ratio  what is left of the events that may be bad: 1 is all of them, below 0 there are more
#
# Prometheus has to keep metrics for as long as a promise holds (`--storage.tsdb.retention.time`). What counts as bad, and
# where the windows come from: docs/telemetry.md, \"Service levels\". The runbook is wherever you keep it.
",
        command(request),
        env!("CARGO_PKG_VERSION"),
    )
}

fn command(request: &Request<'_>) -> String {
    let mut words = vec!["flowgen".to_owned(), "rules".to_owned()];
    if request.format == Format::Prometheusrule {
        words.extend(["--format".to_owned(), "prometheusrule".to_owned()]);
    }
    if let Some(job) = request.job {
        words.extend(["--job".to_owned(), word(job)]);
    }
    if let Some(config) = request.worker_config {
        words.extend(["--config".to_owned(), word(&config.to_string_lossy())]);
    }
    words.extend(request.paths.iter().map(|path| word(&path.to_string_lossy())));
    words.join(" ")
}

/// Writes a word of a command line; one that shells take apart between quotes, in one line in any case.
fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+:@%,=".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) { text.to_owned() } else { quoted(text) }
}

/// Opens the resource of Kubernetes.
fn resource(job: Option<&str>) -> String {
    let mut name = String::from("flowgen-slo");
    if let Some(job) = job {
        let kept = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let job: String = job.chars().map(kept).take(200).collect();
        name = format!("{name}-{job}").trim_end_matches('-').to_owned();
    }
    format!(
        "# The operator of Prometheus takes what has the labels of its `ruleSelector`.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: {name}
  labels:
    app.kubernetes.io/name: flowgen
spec:
"
    )
}

fn rules(text: &mut String, objective: &Objective<'_>, rules: Vec<Rule>) {
    for rule in rules {
        let _ = match rule {
            Rule::Record { name, expr } => write!(
                text,
                "      - record: {name}\n        expr: {}        labels: {{flow: {}, sli: {}}}\n",
                block(&expr),
                quoted(objective.flow()),
                objective.indicator(),
            ),
            Rule::Alert { name, expr, severity, summary, description, runbook } => write!(
                text,
                "      - alert: {name}\n        expr: {}        labels: {{severity: {}, flow: {}}}\n        annotations:\n          \
                 summary: {}\n          description: {}\n          runbook_url: {runbook}\n",
                block(&expr),
                severity.name(),
                quoted(&untemplated(objective.flow())),
                quoted(summary),
                quoted(&description),
            ),
        };
    }
}

/// Writes an expression: one line as it is where YAML takes it for a text, several as a block.
fn block(expr: &str) -> String {
    match expr.trim_end() {
        one if !one.contains('\n') && !one.contains(": ") && !one.contains(" #") => format!("{one}\n"),
        several => several.lines().fold("|\n".to_owned(), |mut block, line| {
            let _ = writeln!(block, "          {line}");
            block
        }),
    }
}
