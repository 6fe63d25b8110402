//! The files of rules: what each alert has to have, the tests that it has to have, and the same for the operator.

use std::{collections::BTreeSet, env, fs};

use serde_json::Value;

use super::{document, files, list, read, repository, text};

const FOLDER: &str = "deploy/alerts";

/// Set, the files of the operator are written instead of compared.
const WRITE: &str = "FLOWGEN_WRITE_DOCS";

/// Returns the rules of a file.
pub(super) fn of(path: &str) -> Vec<Value> {
    list(&document(path)["groups"]).iter().flat_map(|group| list(&group["rules"]).to_vec()).collect()
}

/// Returns the alerts of all files.
pub(super) fn alerts() -> Vec<Value> {
    let rules = files(FOLDER, "yaml").into_iter().flat_map(|path| of(&path));
    rules.filter(|rule| rule.get("alert").is_some()).collect()
}

#[test]
fn every_alert_says_how_urgent_it_is_and_what_there_is_to_know() {
    let mut names = BTreeSet::new();
    for alert in alerts() {
        let name = text(&alert, "alert").to_owned();
        let severity = text(&alert["labels"], "severity");
        assert!(["page", "ticket", "info"].contains(&severity), "{name}: {severity}");
        let annotations = &alert["annotations"];
        assert!(!text(annotations, "summary").is_empty(), "{name}");
        let description = text(annotations, "description");
        assert!(description.contains("{{ $labels.") || description.contains("{{ $value"), "{name}");
        assert!(description.ends_with('.'), "{name}");
        assert!(names.insert(name.clone()), "{name} is there twice");
    }
    assert!(names.len() > 30, "{names:?}");
}

#[test]
fn every_alert_is_seen_to_fire_and_to_be_silent() {
    let mut fire = BTreeSet::new();
    for path in files("deploy/alerts/tests", "yaml") {
        for test in list(&document(&path)["tests"]) {
            let fired =
                list(&test["alert_rule_test"]).iter().filter(|one| !list(&one["exp_alerts"]).is_empty());
            fire.extend(fired.map(|one| text(one, "alertname").to_owned()));
        }
    }
    let named: BTreeSet<_> = alerts().iter().map(|alert| text(alert, "alert").to_owned()).collect();
    assert_eq!(fire, named);

    let silent = document("deploy/alerts/tests/silent.yaml");
    let looked_at: Vec<_> = list(&silent["rule_files"]).iter().map(|path| path.as_str().unwrap()).collect();
    let all: Vec<_> = files(FOLDER, "yaml").iter().map(|path| path.replace(FOLDER, "..")).collect();
    assert_eq!(looked_at, all);
}

/// Returns the rules of a file as the operator of Prometheus wants them.
fn for_operator(name: &str, rules: &str) -> String {
    let (_, groups) = rules.split_once("\ngroups:\n").unwrap();
    let indented = groups.lines().map(|line| match line {
        "" => "\n".to_owned(),
        _ => format!("  {line}\n"),
    });
    format!(
        "# Made of {FOLDER}/{name}.yaml by `{WRITE}=1 cargo test --test flowgen operator`: change that. The operator takes what\n\
         # has the labels of its `ruleSelector`.\n\
         apiVersion: monitoring.coreos.com/v1\n\
         kind: PrometheusRule\n\
         metadata:\n  name: flowgen-{name}\n  labels:\n    app.kubernetes.io/name: flowgen\n\
         spec:\n  groups:\n{}",
        indented.collect::<String>()
    )
}

#[expect(clippy::disallowed_methods, reason = "a setting of this test, not of flowgen")]
fn is_to_write() -> bool {
    env::var_os(WRITE).is_some()
}

#[test]
fn the_operator_gets_the_same_rules() {
    let folder = format!("{FOLDER}/operator");
    for path in files(FOLDER, "yaml") {
        let name = path.rsplit_once('/').unwrap().1.strip_suffix(".yaml").unwrap();
        let (rules, of_operator) = (read(&path), format!("{folder}/{name}.yaml"));
        let expected = for_operator(name, &rules);
        if is_to_write() {
            fs::write(repository().join(&of_operator), &expected).unwrap();
        }
        assert!(
            read(&of_operator) == expected,
            "`{WRITE}=1 cargo test --test flowgen operator` brings {of_operator} up to date"
        );
        assert_eq!(document(&of_operator)["spec"]["groups"], document(&path)["groups"], "{name}");
    }
    assert_eq!(files(&folder, "yaml").len(), files(FOLDER, "yaml").len());
}
