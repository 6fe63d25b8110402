//! `flowgen dashboard`: what it writes for which flows.

use std::{collections::BTreeSet, env, fs, path::Path, process::Output};

use serde_json::{Value, json};

use super::{assert_sound, panels, queries};
use crate::support::flowgen;

fn written(folder: &Path, arguments: &[&str]) -> Output {
    flowgen(folder).arg("dashboard").args(arguments).output().unwrap()
}

/// Writes the dashboard of these files, and returns it.
fn dashboard(folder: &Path, arguments: &[&str]) -> Value {
    let output = written(folder, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let document = serde_json::from_slice(&output.stdout).unwrap();
    assert_sound(&document);
    document
}

/// Writes the dashboard of a file with this text.
fn of_text(text: &str) -> Value {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.yaml"), text).unwrap();
    dashboard(folder.path(), &["a.yaml"])
}

fn chain(name: &str, length: usize) -> String {
    let tasks: String = (1..length).map(|n| format!("    - script: {{name: t{n}, code: event}}\n")).collect();
    format!("flow:\n  name: {name}\n  tasks:\n    - generate: {{name: t0, count: 1}}\n{tasks}")
}

/// Returns where the panels of a task stand, from the top down.
fn places(document: &Value, task: &str) -> Vec<(u64, u64, u64)> {
    let of_task = |panel: &&Value| panel["title"].as_str().unwrap().starts_with(&format!("{task}: "));
    let grid = |panel: &Value, key: &str| panel["gridPos"][key].as_u64().unwrap();
    let place = |panel: &Value| (grid(panel, "x"), grid(panel, "y"), grid(panel, "w"));
    panels(document).filter(of_task).map(place).collect()
}

fn titles(document: &Value) -> BTreeSet<&str> {
    panels(document).map(|panel| panel["title"].as_str().unwrap()).collect()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "whether the dashboard is to be taken over")]
fn an_example_has_this_dashboard_each_time() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dashboards");
    let output = written(&folder, &["shop.yaml"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(written(&folder, &["shop.yaml"]).stdout, output.stdout);
    assert_sound(&serde_json::from_slice(&output.stdout).unwrap());
    let text = String::from_utf8(output.stdout).unwrap();
    let golden = folder.join("shop.json");
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&golden, &text).unwrap();
    }
    assert!(text == fs::read_to_string(&golden).unwrap(), "UPDATE_GOLDEN=1 takes it over:\n{text}");
}

#[test]
fn every_example_has_a_dashboard() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    for entry in fs::read_dir(repository.join("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            dashboard(repository, &[path.to_str().unwrap()]);
        }
    }
}

#[test]
fn a_task_stands_in_the_column_of_its_depth() {
    let document = of_text(
        "flow:
  name: diamond
  tasks:
    - generate: {name: source, count: 1}
    - script: {name: short, code: event, on_error: {route: failed}}
    - script: {name: long, code: event, depends_on: [source]}
    - script: {name: longer, code: event}
    - drop: {name: end, depends_on: [short, longer]}
    - drop: {name: failed, depends_on: []}
",
    );
    let columns = ["source", "short", "long", "longer", "failed", "end"].map(|task| {
        let places = places(&document, task);
        let x: BTreeSet<_> = places.iter().map(|(x, ..)| *x).collect();
        assert_eq!(x.len(), 1, "the panels of {task} stand one below the other");
        x.into_iter().next().unwrap()
    });
    assert_eq!(columns, [0, 6, 6, 12, 12, 18]);
    let top = |task| places(&document, task)[0].1;
    assert_eq!([top("short"), top("longer"), top("end")], [top("source"); 3]);
    assert!(top("long") > places(&document, "short").last().unwrap().1);
}

#[test]
fn a_long_way_goes_on_below() {
    let document = of_text(&chain("long", 9));
    let first: Vec<_> = (0..9).map(|n| places(&document, &format!("t{n}"))[0]).collect();
    assert!(first.iter().all(|(.., width)| *width == 4));
    assert_eq!(first.iter().map(|(x, ..)| *x).collect::<Vec<_>>(), [0, 4, 8, 12, 16, 20, 0, 4, 8]);
    assert!(first[..6].iter().all(|(_, y, _)| *y == first[0].1));
    let lowest = places(&document, "t5").last().unwrap().1;
    assert!(first[6..].iter().all(|(_, y, _)| *y == first[6].1 && *y > lowest));
}

#[test]
fn the_panels_of_a_task_are_those_of_its_kind() {
    let document = of_text(
        "state: {path: s}
flow:
  name: all
  durable: true
  tasks:
    - http_endpoint: {name: in, endpoint: /a, response: accepted}
    - http_request: {name: call, endpoint: 'http://a.test/'}
    - cache: {name: known, operation: get, key: k}
    - buffer: {name: batch, size: 2}
    - file_write: {name: out, path: o, format: jsonl, on_error: dead_letter}
    - generate: {name: tick, interval: 1s}
    - drop: {name: gone, depends_on: [tick]}
",
    );
    let titles = titles(&document);
    for expected in [
        "Durable queue",
        "in: answers",
        "in: open requests",
        "in: lag",
        "call: responses",
        "call: circuits",
        "call: retries and timeouts",
        "known: cache",
        "batch: batches",
        "out: batches",
        "out: dead letters",
        "tick: schedule",
        "tick: checkpoints",
        "gone: queue",
    ] {
        assert!(titles.contains(expected), "`{expected}` is not in {titles:#?}");
    }
    for absent in [
        "gone: blocked",
        "in: queue",
        "in: checkpoints",
        "gone: retries and timeouts",
        "gone: batches",
        "call: dead letters",
    ] {
        assert!(!titles.contains(absent), "{absent}");
    }
}

#[test]
fn every_query_is_about_its_flow_and_its_task() {
    let document = of_text(&chain("one", 3));
    for panel in panels(&document) {
        let title = panel["title"].as_str().unwrap();
        assert_eq!(queries::demanded(panel, "flow"), ["one".to_owned()].into(), "{title}");
        let task = title.split_once(": ").map(|(task, _)| task.to_owned());
        assert_eq!(queries::demanded(panel, "task"), task.into_iter().collect(), "{title}");
    }
}

#[test]
fn a_name_is_taken_as_it_is() {
    let name = r#"a "b" \ $job $flow {{task}} 'c'"#;
    let document = of_text(
        &json!({"flow": {"name": name, "tasks": [{"generate": {"count": 1}}, {"drop": {}}]}}).to_string(),
    );
    for panel in panels(&document) {
        assert_eq!(queries::demanded(panel, "flow"), [name.to_owned()].into());
    }
}

#[test]
fn exponential_histograms_are_asked_for_as_native_ones() {
    let with = |histogram: &str| {
        let telemetry = format!("telemetry: {{enabled: true, histogram: {histogram}}}\n");
        of_text(&format!("{telemetry}{}", chain("one", 2)))
    };
    let buckets = |document: &Value| {
        let names: BTreeSet<_> = panels(document).flat_map(queries::metrics).collect();
        let durations = names.into_iter().filter(|name| name.starts_with("task_handle_duration_seconds"));
        durations.collect::<Vec<_>>()
    };
    assert_eq!(buckets(&with("{type: explicit}")), ["task_handle_duration_seconds_bucket"]);
    assert_eq!(buckets(&with("{type: exponential}")), ["task_handle_duration_seconds"]);
}

#[test]
fn the_interval_of_exports_is_that_of_the_worker() {
    let choice = |settings: &str| {
        let document = of_text(&format!("{settings}{}", chain("one", 2)));
        let list = document["templating"]["list"].as_array().unwrap().clone();
        list.into_iter().find(|variable| variable["name"] == "interval").unwrap()
    };
    assert_eq!(choice("")["query"], "60s,10s,30s,300s");
    let chosen = choice("telemetry: {enabled: true, metrics_export_interval: 1500ms}\n");
    assert_eq!(
        (&chosen["current"]["value"], &chosen["query"]),
        (&json!("1500ms"), &json!("1500ms,10s,30s,60s,300s"))
    );
}

#[test]
fn a_dashboard_stays_the_same_one_whatever_the_order_of_its_flows() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c", "d"] {
        fs::write(folder.path().join(format!("{name}.yaml")), chain(name, 2)).unwrap();
    }
    let of = |arguments: &[&str]| dashboard(folder.path(), arguments);
    let uid = |arguments: &[&str]| of(arguments)["uid"].as_str().unwrap().to_owned();
    assert_eq!(uid(&["a.yaml", "b.yaml"]), uid(&["b.yaml", "a.yaml"]));
    let all = [&["a.yaml"][..], &["b.yaml"], &["a.yaml", "b.yaml"], &["."]];
    assert_eq!(all.iter().map(|arguments| uid(arguments)).collect::<BTreeSet<_>>().len(), 4);
    assert_eq!(of(&["."])["title"], "a, b, c and 1 more");
    let titled = ["a.yaml", "--title", "Shop, and more than fits into the uid of it"];
    assert_eq!(of(&titled)["title"], titled[2]);
    assert_eq!(uid(&titled), uid(&["b.yaml", "--title", titled[2]]));
    assert_ne!(uid(&titled), uid(&["a.yaml", "--title", "Shop"]));
    // What is known by its id in a link stays where it is when something comes before it.
    let ids = |document: &Value| {
        let of_b = |panel: &&Value| queries::demanded(panel, "flow").contains("b");
        panels(document).filter(of_b).map(|panel| panel["id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&of(&["b.yaml"])), ids(&of(&["a.yaml", "b.yaml"])));
}

#[test]
fn what_has_no_flow_has_no_dashboard() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("worker.yaml", "telemetry: {enabled: true}\n");
    write("broken.yaml", "flow:\n  tasks:\n    - generate: {cuont: 1}\n    - drop:\n");
    for (arguments, said) in [
        (&[][..], "<PATH>"),
        (&["worker.yaml"][..], "there is no flow"),
        (&["broken.yaml"][..], "did you mean `count`?"),
        (&["none.yaml"][..], "cannot read the file"),
    ] {
        let output = written(folder.path(), arguments);
        assert_eq!((output.status.code(), &*output.stdout), (Some(2), &b""[..]), "{arguments:?}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(said), "{arguments:?}: {stderr}");
    }
}
