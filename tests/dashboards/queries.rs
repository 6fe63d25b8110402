//! The queries of dashboards: whether they are PromQL, and whether what they name is an instrument and one of its attributes.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use flowgen::telemetry::instruments::{self, Instrument, InstrumentKind, SPANS};
use promql_parser::parser::{self, Expr, LabelModifier, VectorSelector};
use serde_json::Value;

use crate::support::flowgen;

/// What a resource has become, and the bounds of buckets.
const LABELS: [&str; 3] = ["job", "instance", "le"];

/// The label that the name of a metric is.
const NAME: &str = "__name__";

/// What the rules that `flowgen rules` writes record, and what Prometheus makes of alerts;
/// with the pattern of a window where there is one for each.
const RECORDED: [(&str, &[&str]); 5] = [
    ("flowgen:slo_errors:ratio_rate.+", &["flow", "sli"]),
    ("flowgen:slo_bad_events:increase.+", &["flow", "sli"]),
    ("flowgen:slo_objective:ratio", &["flow", "sli"]),
    ("flowgen:slo_budget_remaining:ratio", &["flow", "sli"]),
    ("ALERTS", &["flow", "alertname", "alertstate", "severity"]),
];

/// What Grafana puts in by itself, and what it may be.
const BUILT_IN: [(&str, &str); 2] = [("$__rate_interval", "4m"), ("$__range", "3h")];

/// Returns every series that there may be, by its name in Prometheus, with its labels.
fn known() -> BTreeMap<String, BTreeSet<String>> {
    let mut known = BTreeMap::new();
    let mut add = |one: &Instrument, name: String| {
        let labels: BTreeSet<_> =
            one.attributes.iter().map(|attribute| attribute.replace('.', "_")).collect();
        if let InstrumentKind::Histogram(_) = one.kind {
            for suffix in ["_bucket", "_count", "_sum"] {
                known.insert(format!("{name}{suffix}"), labels.clone());
            }
        }
        known.insert(name, labels);
    };
    for one in instruments::ALL {
        match one.prometheus().strip_prefix("S_") {
            Some(rest) => {
                SPANS.iter().for_each(|span| add(one, format!("{}_{rest}", span.replace('.', "_"))))
            }
            None => add(one, one.prometheus()),
        }
    }
    for (name, labels) in RECORDED {
        known.insert(name.to_owned(), labels.iter().map(|label| (*label).to_owned()).collect());
    }
    known
}

/// Returns the name of a selector, or the pattern of it.
fn name_of(selector: &VectorSelector) -> Option<&str> {
    let matchers = &selector.matchers.matchers;
    let pattern = matchers.iter().find(|matcher| matcher.name == NAME).map(|matcher| &*matcher.value);
    selector.name.as_deref().or(pattern)
}

/// What a query names.
#[derive(Default)]
struct Named {
    selectors: Vec<VectorSelector>,
    /// Labels that something is grouped or matched by.
    labels: BTreeSet<String>,
    /// Labels that it makes.
    made: BTreeSet<String>,
}

impl Named {
    /// Parses a query of a dashboard.
    fn of(query: &str, variables: &BTreeSet<String>) -> Self {
        let mut text = query.to_owned();
        for (name, value) in BUILT_IN {
            text = text.replace(name, value);
        }
        // In front of a comma it is a number; in a text nothing has to be put in.
        text = text.replace("($top,", "(10,");
        let left = text
            .split('$')
            .skip(1)
            .map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap());
        for name in left {
            assert!(variables.contains(name), "nothing sets ${name}: {query}");
        }
        let mut named = Self::default();
        named.read(&parser::parse(&text).unwrap_or_else(|error| panic!("{error}: {text}")));
        named
    }

    fn read(&mut self, expression: &Expr) {
        match expression {
            Expr::Aggregate(aggregate) => {
                self.read(&aggregate.expr);
                aggregate.param.iter().for_each(|parameter| self.read(parameter));
                self.read_labels(aggregate.modifier.as_ref());
            }
            Expr::Unary(unary) => self.read(&unary.expr),
            Expr::Binary(binary) => {
                self.read(&binary.lhs);
                self.read(&binary.rhs);
                self.read_labels(binary.modifier.as_ref().and_then(|modifier| modifier.matching.as_ref()));
            }
            Expr::Paren(paren) => self.read(&paren.expr),
            Expr::Subquery(subquery) => self.read(&subquery.expr),
            Expr::VectorSelector(selector) => self.selectors.push(selector.clone()),
            Expr::MatrixSelector(selector) => self.selectors.push(selector.vs.clone()),
            Expr::Call(call) => {
                call.args.args.iter().for_each(|argument| self.read(argument));
                // It makes a label of its own.
                if let ("label_replace", Some(Expr::StringLiteral(label))) =
                    (call.func.name, call.args.args.get(1).map(|argument| &**argument))
                {
                    self.made.insert(label.val.clone());
                }
            }
            Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => {}
        }
    }

    fn read_labels(&mut self, modifier: Option<&LabelModifier>) {
        self.labels.extend(modifier.iter().flat_map(|modifier| modifier.labels().labels.clone()));
    }

    /// Panics unless it names what there is.
    fn assert_known(&self, query: &str) {
        let known = known();
        let mut labels: BTreeSet<_> = LABELS.map(str::to_owned).into();
        labels.extend(self.made.iter().cloned());
        for selector in &self.selectors {
            let name = name_of(selector).unwrap();
            let own = known.get(name).unwrap_or_else(|| panic!("there is no `{name}`: {query}"));
            for matcher in selector.matchers.matchers.iter().filter(|matcher| matcher.name != NAME) {
                let is_known = LABELS.contains(&&*matcher.name) || own.contains(&matcher.name);
                assert!(is_known, "`{name}` has no label `{}`: {query}", matcher.name);
            }
            labels.extend(own.iter().cloned());
        }
        let unknown: Vec<_> = self.labels.difference(&labels).collect();
        assert!(unknown.is_empty(), "nothing in it has {unknown:?}: {query}");
    }
}

fn variables(document: &Value) -> BTreeSet<String> {
    let list = document["templating"]["list"].as_array().unwrap();
    list.iter().map(|variable| variable["name"].as_str().unwrap().to_owned()).collect()
}

/// Returns the queries of a panel, each with its legend.
fn of_panel(panel: &Value) -> impl Iterator<Item = (&str, &str)> {
    let targets = panel["targets"].as_array().unwrap().iter();
    targets.map(|target| (target["expr"].as_str().unwrap(), target["legendFormat"].as_str().unwrap()))
}

/// Returns the names of the metrics that a panel shows.
pub(super) fn metrics(panel: &Value) -> Vec<String> {
    let any = ["job", "flow", "task"].map(str::to_owned).into();
    of_panel(panel)
        .flat_map(|(query, _)| Named::of(query, &any).selectors)
        .filter_map(|selector| name_of(&selector).map(str::to_owned))
        .collect()
}

/// Returns what a panel's queries demand of a label.
pub(super) fn demanded(panel: &Value, label: &str) -> BTreeSet<String> {
    let any = ["job", "flow", "task"].map(str::to_owned).into();
    of_panel(panel)
        .flat_map(|(query, _)| Named::of(query, &any).selectors)
        .flat_map(|selector| selector.matchers.matchers)
        .filter(|matcher| matcher.name == label)
        .map(|matcher| matcher.value)
        .collect()
}

/// Panics unless every query of a dashboard can be answered, and every legend can be written.
pub(super) fn assert_sound(document: &Value) {
    let variables = variables(document);
    for panel in super::panels(document) {
        let is_table = panel["type"] == "table";
        for (query, legend) in of_panel(panel) {
            let named = Named::of(query, &variables);
            named.assert_known(query);
            assert!(!legend.is_empty(), "{query}");
            for label in placeholders(legend) {
                assert!(!is_table && named.labels.contains(label), "`{legend}` has no {label}: {query}");
            }
        }
    }
    for annotation in document["annotations"]["list"].as_array().unwrap() {
        let query = annotation["target"]["expr"].as_str().unwrap();
        let named = Named::of(query, &variables);
        named.assert_known(query);
        for label in placeholders(annotation["titleFormat"].as_str().unwrap()) {
            assert!(named.labels.contains(label), "{annotation}");
        }
    }
    for variable in document["templating"]["list"].as_array().unwrap() {
        if variable["type"] == "query" {
            let query = variable["definition"].as_str().unwrap();
            assert_eq!(query, variable["query"]["query"]);
            let (selector, label) = query
                .strip_prefix("label_values(")
                .and_then(|rest| rest.strip_suffix(')'))
                .unwrap()
                .rsplit_once(", ")
                .unwrap();
            let named = Named::of(&format!("sum by ({label}) ({selector})"), &variables);
            named.assert_known(query);
            assert_eq!(variable["name"], label);
        }
    }
}

fn placeholders(legend: &str) -> impl Iterator<Item = &str> {
    legend.split("{{").skip(1).map(|rest| rest.split("}}").next().unwrap())
}

/// Scenario: the rules of a flow that promises both, and what dashboards are held to ask for. Guarantee: that is what is
/// recorded, with these labels, and the alerts have the names that are asked for.
#[test]
fn what_dashboards_ask_of_rules_is_what_they_record() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = flowgen(repository).args(["rules", "examples/slo.yaml"]).output().unwrap();
    let document: Value = serde_yaml::from_slice(&output.stdout).unwrap();
    let groups = document["groups"].as_array().unwrap();
    let rules: Vec<_> = groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
    let mut asked: BTreeMap<_, _> = RECORDED.into_iter().filter(|(name, _)| *name != "ALERTS").collect();
    let known = asked.clone();
    for rule in rules {
        if let Some(alert) = rule["alert"].as_str() {
            assert!(alert.starts_with("Flowgen") && alert.ends_with("BudgetBurn"), "{alert}");
            continue;
        }
        let name = rule["record"].as_str().unwrap();
        let is_meant = |pattern: &str| match pattern.strip_suffix(".+") {
            Some(begin) => name.starts_with(begin),
            None => name == pattern,
        };
        let (pattern, labels) =
            known.iter().find(|(pattern, _)| is_meant(pattern)).unwrap_or_else(|| panic!("{name}"));
        let given: Vec<_> = rule["labels"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(given, *labels, "{name}");
        asked.remove(pattern);
    }
    assert!(asked.is_empty(), "nobody records {asked:?}");
}
