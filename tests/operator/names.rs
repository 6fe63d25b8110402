//! Every query of `deploy/` and of the documents asks for what a worker exports: metrics, labels, and values of labels.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use flowgen::telemetry::instruments::{ALL, Instrument, InstrumentKind, SPANS};
use serde_json::Value;

use super::{
    files,
    promql::{Query, Selector},
    read, repository,
    runbook::GENERATED,
    shown,
};

/// What a Collector and Prometheus make of the resource.
const OF_ANY: [&str; 2] = ["job", "instance"];

const FLOW_OUTCOMES: &[&str] =
    &["completed", "filtered", "dropped", "dead_lettered", "expired", "cancelled", "failed"];

/// The values that a label of a metric can have, where those are a closed list.
const VALUES: &[(&str, &str, &[&str])] = &[
    ("flowgen_flow_events_total", "outcome", FLOW_OUTCOMES),
    ("flowgen_flow_event_duration_seconds", "outcome", FLOW_OUTCOMES),
    ("flowgen_flow_state", "state", &["starting", "running", "draining", "restarting", "failed", "done"]),
    ("flowgen_flow_entered_total", "origin", &["source", "replay", "recovery"]),
    ("flowgen_flow_cancellations_total", "phase", &["start", "finish"]),
    ("flowgen_task_stops_total", "reason", &["completed", "failed", "panic", "cancelled"]),
    ("flowgen_schedule_triggers_total", "outcome", &["fired", "skipped", "failed"]),
    ("flowgen_reloads_total", "outcome", &["applied", "unchanged", "failed", "cancelled"]),
    ("flowgen_cache_lookups_total", "result", &["hit", "miss"]),
    ("flowgen_http_circuit", "state", &["open", "half_open", "closed"]),
    ("flowgen_traces_shed_total", "reason", &["queue", "limit"]),
    ("flowgen_traces_kept_total", "reason", &["error", "slow"]),
    ("task_handle", "outcome", &["completed", "filtered", "failed", "cancelled", "skipped"]),
];

type Labels = BTreeSet<String>;

/// Returns every name that Prometheus has for what a worker exports, with the labels of its series.
fn exported() -> BTreeMap<String, Labels> {
    ALL.iter().flat_map(|instrument| names(instrument)).collect()
}

fn names(instrument: &Instrument) -> Vec<(String, Labels)> {
    let attributes = instrument.attributes.iter().map(|key| key.replace('.', "_"));
    let labels: Labels = attributes.chain(OF_ANY.map(str::to_owned)).collect();
    let name = instrument.prometheus();
    let spans = SPANS.iter().map(|span| span.replace('.', "_"));
    let names: Vec<_> = match name.strip_prefix("S_") {
        Some(rest) => spans.map(|span| format!("{span}_{rest}")).collect(),
        None => vec![name],
    };
    names.into_iter().flat_map(|name| family(instrument, &name, &labels)).collect()
}

/// A histogram of buckets has three names, an exponential one has its own.
fn family(instrument: &Instrument, name: &str, labels: &Labels) -> Vec<(String, Labels)> {
    if !matches!(instrument.kind, InstrumentKind::Histogram(_)) {
        return vec![(name.to_owned(), labels.clone())];
    }
    let with_bound = labels.iter().cloned().chain(["le".to_owned()]).collect();
    let plain = ["", "_sum", "_count"].map(|ending| (format!("{name}{ending}"), labels.clone()));
    plain.into_iter().chain([(format!("{name}_bucket"), with_bound)]).collect()
}

/// Returns every query and every series of tests below `deploy/`, and every query of the documents, with its file.
fn queries() -> Vec<(String, String)> {
    let mut found = Vec::new();
    walk(&repository().join("deploy"), &mut found);
    for path in files("docs", "md") {
        let text = read(&path);
        let blocks = text.split("```promql\n").skip(1).map(|rest| rest.split("```").next().unwrap());
        found.extend(blocks.flat_map(str::lines).map(|query| (path.clone(), query.to_owned())));
    }
    found
}

fn walk(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let ending = path.extension().and_then(|ending| ending.to_str());
        if path.is_dir() {
            walk(&path, found);
        } else if matches!(ending, Some("yaml" | "json")) {
            let text = fs::read_to_string(&path).unwrap();
            for document in text.split("\n---\n") {
                let tree: Value = serde_yaml::from_str(document).unwrap();
                queries_of(&tree, &shown(&path), found);
            }
        }
    }
}

fn queries_of(tree: &Value, path: &str, found: &mut Vec<(String, String)>) {
    match tree {
        Value::Object(members) => {
            for (key, value) in members {
                match value {
                    Value::String(query) if key == "expr" || key == "series" => {
                        found.push((path.to_owned(), query.clone()));
                    }
                    _ => queries_of(value, path, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| queries_of(item, path, found)),
        _ => {}
    }
}

/// Returns the names that rules record, with the labels that they have then.
fn recorded() -> BTreeMap<String, Labels> {
    let mut recorded = BTreeMap::new();
    for path in files("deploy/alerts", "yaml").into_iter().chain([GENERATED.to_owned()]) {
        for rule in super::rules::of(&path) {
            if let Some(name) = rule["record"].as_str() {
                let labels = Query::parse(rule["expr"].as_str().unwrap()).labels;
                recorded.insert(name.to_owned(), labels.into_iter().collect());
            }
        }
    }
    recorded
}

/// Returns whether a metric is of somebody else: of Kubernetes where that is meant, or what Prometheus makes.
fn is_foreign(path: &str, metric: &str) -> bool {
    let of_kubernetes = metric.starts_with("kube_") || metric.starts_with("container_");
    let is_meant = path.ends_with("/kubernetes.yaml") || path.ends_with("/silent.yaml");
    (of_kubernetes && is_meant) || metric == "ALERTS" || metric == "target_info"
}

fn wrong_values(selector: &Selector) -> Vec<String> {
    let closed = |label: &str| {
        VALUES.iter().find(|(metric, of, _)| selector.metric.starts_with(metric) && *of == label)
    };
    let mut wrong = Vec::new();
    for (label, pattern) in &selector.matchers {
        let Some((.., values)) = closed(label) else { continue };
        let unknown =
            pattern.split('|').filter(|value| !values.contains(value) && !value.contains(['$', '.']));
        wrong.extend(unknown.map(|value| format!("{}{{{label}=\"{value}\"}}", selector.metric)));
    }
    wrong
}

#[test]
fn every_query_asks_for_what_is_exported() {
    let (exported, recorded) = (exported(), recorded());
    let queries = queries();
    assert!(queries.len() > 200, "only {} queries were found", queries.len());
    let mut wrong = Vec::new();
    for (path, text) in &queries {
        let query = Query::parse(text);
        let mut known: Labels = OF_ANY.map(str::to_owned).into();
        let mut of_others = false;
        for selector in &query.selectors {
            if is_foreign(path, &selector.metric) {
                of_others = true;
                continue;
            }
            let Some(labels) = exported.get(&selector.metric).or_else(|| recorded.get(&selector.metric))
            else {
                wrong.push(format!("{path}: nobody exports `{}`", selector.metric));
                continue;
            };
            let unknown = selector.matchers.iter().filter(|(label, _)| !labels.contains(label));
            wrong.extend(
                unknown.map(|(label, _)| format!("{path}: `{}` has no label `{label}`", selector.metric)),
            );
            wrong.extend(
                wrong_values(selector).into_iter().map(|value| format!("{path}: there is no {value}")),
            );
            known.extend(labels.iter().cloned());
        }
        let unknown = query.labels.iter().filter(|label| !of_others && !known.contains(*label));
        wrong.extend(unknown.map(|label| format!("{path}: nothing has the label `{label}` in `{text}`")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
