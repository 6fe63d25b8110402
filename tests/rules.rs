//! `flowgen rules`: the rules that it prints. That alerts fire when they should is shown by `tests/e2e/rules`, by the program
//! of Prometheus itself.
//!
//! `UPDATE_GOLDEN=1` writes `rules/*.rules.yaml` anew; read them before you commit them.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
    process::Output,
};

use flowgen::telemetry::instruments::{self, InstrumentKind};
use proptest::prelude::*;
use serde_json::Value;

use crate::support::flowgen;

fn repository() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

fn rules(folder: &Path, arguments: &[&str]) -> Output {
    flowgen(folder).arg("rules").args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Compares with what is written down.
#[expect(clippy::disallowed_methods, reason = "whether the rules are to be taken over")]
fn is_golden(name: &str, text: &str) {
    let path = repository().join("tests/rules").join(name);
    let text = text.replace(&format!("flowgen {}", env!("CARGO_PKG_VERSION")), "flowgen <VERSION>");
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, fs::read_to_string(&path).unwrap_or_default(), "UPDATE_GOLDEN=1 takes it over");
}

#[test]
fn rules_are_the_same_each_time() {
    let cases: [(&str, &[&str]); 4] = [
        ("example", &["examples/slo.yaml"]),
        ("several", &["tests/rules/several.yaml"]),
        ("native", &["--config", "tests/rules/exponential.yaml", "examples/slo.yaml"]),
        (
            "operator",
            &[
                "--format",
                "prometheusrule",
                "--job",
                "production/Shop",
                "--config",
                "tests/rules/exponential.yaml",
                "examples/slo.yaml",
            ],
        ),
    ];
    for (name, arguments) in cases {
        let text = stdout(&rules(&repository(), arguments));
        assert_eq!(stdout(&rules(&repository(), arguments)), text);
        let checked = Checked::of(&text);
        assert!(!checked.alerts.is_empty(), "{name}");
        is_golden(&format!("{name}.rules.yaml"), &text);
    }
}

#[test]
fn people_are_told_what_is_probably_not_meant() {
    let said = |arguments: &[&str]| {
        let output = rules(&repository(), arguments);
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let off = "\
warning: telemetry is off here: a worker like this has no metrics for these rules
hint: name the file with its `telemetry` by `--config`, so that they fit its histograms

";
    assert_eq!(said(&["examples/slo.yaml"]), off);
    assert_eq!(said(&["--config", "tests/rules/exponential.yaml", "examples/slo.yaml"]), "");
    let lax = said(&["tests/rules/several.yaml"]);
    let expected = "\
warning: nobody is woken for `success: 0.8` of the flow `lax`
hint: if all of its events are bad, that is still too few: pages begin where a budget is spent 6 times as fast as it may, \
which takes an objective above 0.8333

warning: nobody is woken for `latency: {p: 0.5, under: 1m 30s}` of the flow `lax`
hint: ";
    assert!(lax.starts_with(expected), "{lax}");
    assert!(!lax.contains("a \\\"name"), "{lax}");
}

#[test]
fn what_no_rules_can_be_made_of_is_a_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("broken.yaml", "flow: {slo: {sucess: 0.9}, tasks: [{generate: {count: 1}}, {drop: }]}");
    write("none.yaml", "flow: {tasks: [{generate: {count: 1}}, {drop: }]}");
    write("one.yaml", "flow: {slo: {success: 0.9}, tasks: [{generate: {count: 1}}, {drop: }]}");
    let nothing = "error: no flow promises anything\nhint: write `slo: {success: 0.999}` below `flow`\n";
    for (arguments, said) in [
        (&[][..], "<PATH>"),
        (&["broken.yaml"][..], "did you mean `success`?"),
        (&["absent.yaml"][..], "cannot read the file"),
        (&["none.yaml"][..], nothing),
        (&["--job", "", "one.yaml"][..], "the name of the job is empty"),
        (&["--format", "json", "one.yaml"][..], "prometheusrule"),
        (&["--config", "one.yaml", "one.yaml"][..], "a file named with `--config` holds no flows"),
    ] {
        let output = rules(folder.path(), arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), &*output.stdout), (Some(2), &b""[..]), "{arguments:?}: {stderr}");
        assert!(stderr.contains(said), "{arguments:?}: {stderr}");
    }
}

/// Rules that are sound: every metric of every expression is one that there is.
struct Checked {
    /// The alerts of each flow, by name and severity.
    alerts: BTreeSet<(String, String, String)>,
}

impl Checked {
    fn of(text: &str) -> Self {
        let document: Value = serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let spec = if document["kind"] == "PrometheusRule" { &document["spec"] } else { &document };
        let groups = spec["groups"].as_array().unwrap();
        let names: BTreeSet<_> = groups.iter().map(|group| group["name"].as_str().unwrap()).collect();
        assert_eq!(names.len(), groups.len(), "two groups have one name\n{text}");
        let all = groups.iter().flat_map(|group| group["rules"].as_array().unwrap());
        let of_kind = |kind: &str| all.clone().filter(|rule| rule.get(kind).is_some()).collect::<Vec<_>>();
        let (records, alerts) = (of_kind("record"), of_kind("alert"));
        let known = |rule: &&Value| {
            let label = |key: &str| rule["labels"][key].as_str().unwrap().to_owned();
            (rule["record"].as_str().unwrap().to_owned(), label("flow"), label("sli"))
        };
        let recorded: BTreeSet<_> = records.iter().map(known).collect();
        assert_eq!(recorded.len(), records.len(), "two rules make the same series\n{text}");
        for rule in records {
            for name in metrics(rule["expr"].as_str().unwrap()) {
                assert!(is_exported(&name), "`{name}` is no metric of ours\n{text}");
            }
        }
        let names: BTreeSet<_> = recorded.iter().map(|(name, ..)| name.clone()).collect();
        let alerts = alerts.iter().map(|rule| {
            let used = metrics(rule["expr"].as_str().unwrap());
            assert!(!used.is_empty() && used.is_subset(&names), "{used:?} of {names:?}\n{text}");
            let severity = rule["labels"]["severity"].as_str().unwrap();
            assert!(["page", "ticket"].contains(&severity));
            let (name, annotations) = (rule["alert"].as_str().unwrap(), &rule["annotations"]);
            assert!(annotations["description"].as_str().unwrap().ends_with(" days."), "{text}");
            assert!(annotations["summary"].as_str().unwrap().contains("{{ $labels.flow }}"), "{text}");
            let (_, anchor) =
                annotations["runbook_url"].as_str().unwrap().split_once("/runbook.md#").unwrap();
            assert_eq!(anchor, name.to_lowercase());
            let flow = rule["labels"]["flow"].as_str().unwrap().replace(r#"{{"{{"}}"#, "{{");
            assert!(recorded.iter().any(|(_, known, _)| *known == flow), "{flow}\n{text}");
            (flow, name.to_owned(), severity.to_owned())
        });
        Self { alerts: alerts.collect() }
    }
}

/// Returns the names of the metrics of an expression: what stands before braces.
fn metrics(expr: &str) -> BTreeSet<String> {
    // Texts may hold anything.
    let (mut plain, mut chars, mut is_text) = (String::new(), expr.chars(), false);
    while let Some(c) = chars.next() {
        match c {
            '\\' if is_text => drop(chars.next()),
            '"' => is_text = !is_text,
            c if !is_text => plain.push(c),
            _ => {}
        }
    }
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || "_:".contains(c);
    let before = plain.split('{').collect::<Vec<_>>();
    let names = before[..before.len() - 1].iter().map(|text| text.rsplit(|c| !is_of_name(c)).next().unwrap());
    names.map(str::to_owned).collect()
}

/// Returns whether the metric of this name comes of an instrument.
fn is_exported(name: &str) -> bool {
    instruments::ALL.iter().any(|instrument| {
        let base = instrument.prometheus();
        let is_histogram = matches!(instrument.kind, InstrumentKind::Histogram(_));
        let rest = name.strip_prefix(&base);
        rest == Some("") || (is_histogram && rest.is_some_and(|rest| ["_bucket", "_count"].contains(&rest)))
    })
}

fn share() -> impl Strategy<Value = f64> {
    prop_oneof![1e-9..0.999_999_999f64, Just(0.5), Just(0.999), Just(0.999_999)]
}

/// Returns names with all that has a meaning where they are written.
fn name() -> impl Strategy<Value = String> {
    let chars: Vec<_> = r##"ab0éß中😀 "'\/{}[](),:;#|=~%-_.+*&!?<>@"##.chars().collect();
    let name = prop::collection::vec(prop::sample::select(chars), 1..12).prop_map(String::from_iter);
    name.prop_filter("a name says something", |name| !name.trim().is_empty())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn whatever_is_promised_has_rules_that_are_sound(
        flows in prop::collection::btree_map(
            name(),
            (prop::option::of(share()), prop::option::of((share(), 100_000u64..86_400_000_000_000)), 7u32..=90),
            1..4,
        ),
        job in prop::option::of(name()),
        is_native: bool,
        is_operator: bool,
        seconds in 1u64..10_000,
    ) {
        let kind = if is_native { "exponential" } else { "explicit" };
        let mut promised = BTreeMap::new();
        let mut written = Vec::new();
        for (name, (success, latency, days)) in &flows {
            let mut slo = serde_json::Map::new();
            slo.extend(success.map(|share| ("success".to_owned(), share.into())));
            slo.extend(latency.map(|(share, nanos)| {
                ("latency".to_owned(), serde_json::json!({"p": share, "under": format!("{nanos}ns")}))
            }));
            let count = slo.len();
            let mut flow = serde_json::json!({"name": name, "tasks": [{"generate": {"count": 1}}, {"drop": {}}]});
            if count > 0 {
                slo.insert("window".into(), format!("{days}d").into());
                flow["slo"] = slo.into();
                promised.insert(name.clone(), count);
            }
            written.push(flow);
        }
        let telemetry =
            serde_json::json!({"enabled": true, "histogram": {"type": kind}, "metrics_export_interval": format!("{seconds}s")});
        let folder = tempfile::tempdir().unwrap();
        let text = serde_json::json!({"telemetry": telemetry, "flows": written}).to_string();
        fs::write(folder.path().join("flows.yaml"), &text).unwrap();
        let mut arguments = vec!["flows.yaml"];
        if is_operator {
            arguments.extend(["--format", "prometheusrule"]);
        }
        let job = job.map(|job| format!("--job={job}"));
        arguments.extend(job.as_deref());
        let output = rules(folder.path(), &arguments);
        if promised.is_empty() {
            prop_assert_eq!(output.status.code(), Some(2));
        } else {
            let checked = Checked::of(&stdout(&output));
            let tickets = checked.alerts.iter().filter(|(_, _, severity)| severity == "ticket");
            let mut found = BTreeMap::new();
            tickets.for_each(|(flow, ..)| *found.entry(flow.clone()).or_insert(0) += 1);
            prop_assert_eq!(found, promised, "{}", text);
        }
    }
}
