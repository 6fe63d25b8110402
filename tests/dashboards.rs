//! The dashboards: those of `deploy/dashboards`, and those that `flowgen dashboard` writes. Whether they show anything is for a
//! real Prometheus to say; here it is whether Grafana can read them, and whether they ask for what there is.

mod generated;
mod queries;
mod schema;

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::PathBuf,
};

use flowgen::{commands::dashboard, telemetry::instruments};
use serde_json::Value;

/// Set, the dashboards are written instead of compared.
const WRITE: &str = "FLOWGEN_WRITE_DOCS";

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy/dashboards")
}

#[expect(clippy::disallowed_methods, reason = "a setting of this test, not of flowgen")]
fn is_to_write() -> bool {
    env::var_os(WRITE).is_some()
}

/// Returns the panels that ask for something.
fn panels(document: &Value) -> impl Iterator<Item = &Value> {
    document["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row")
}

/// Panics unless Grafana takes the dashboard and Prometheus its queries.
fn assert_sound(document: &Value) {
    schema::assert_valid(document);
    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in document["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{} has the id of another panel", panel["title"]);
        let grid = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        for x in grid("x")..grid("x") + grid("w") {
            for y in grid("y")..grid("y") + grid("h") {
                assert!(x < 24, "{} reaches out of the dashboard", panel["title"]);
                assert!(taken.insert((x, y)), "{} overlaps another panel", panel["title"]);
            }
        }
    }
    queries::assert_sound(document);
}

#[test]
fn the_shipped_dashboards_are_sound() {
    let shipped = dashboard::shipped();
    let uids: BTreeSet<_> = shipped.iter().map(|(_, document)| document["uid"].as_str().unwrap()).collect();
    let expected: BTreeSet<_> = shipped.iter().map(|(name, _)| format!("flowgen-{name}")).collect();
    assert_eq!(uids, expected.iter().map(|uid| &**uid).collect());
    for (_, document) in &shipped {
        assert_sound(document);
    }
}

#[test]
fn the_files_are_the_shipped_dashboards() {
    let text = |document: &Value| format!("{document:#}\n");
    let shipped: BTreeMap<_, _> = dashboard::shipped()
        .into_iter()
        .map(|(name, document)| (format!("{name}.json"), text(&document)))
        .collect();
    if is_to_write() {
        for (name, text) in &shipped {
            fs::write(folder().join(name), text).unwrap();
        }
    }
    let entries = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let files: BTreeMap<_, _> = entries
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| {
            (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(path).unwrap())
        })
        .collect();
    assert_eq!(files.keys().collect::<Vec<_>>(), shipped.keys().collect::<Vec<_>>());
    let differing: Vec<_> = shipped.iter().filter(|(name, text)| files[*name] != **text).collect();
    let names: Vec<_> = differing.iter().map(|(name, _)| name).collect();
    assert!(
        names.is_empty(),
        "`{WRITE}=1 cargo test --test flowgen dashboards` brings them up to date: {names:?}"
    );
}

/// What nobody ever sees could as well not be measured.
#[test]
fn every_instrument_is_shown_somewhere() {
    let shipped = dashboard::shipped();
    let shown: BTreeSet<_> =
        shipped.iter().flat_map(|(_, document)| panels(document)).flat_map(queries::metrics).collect();
    let absent: Vec<_> = instruments::ALL
        .iter()
        .filter(|one| !one.name.starts_with("S."))
        .map(|one| one.prometheus())
        .filter(|name| {
            !shown.iter().any(|shown| {
                shown.strip_prefix(&**name).is_some_and(|rest| rest.is_empty() || rest == "_bucket")
            })
        })
        .collect();
    assert!(absent.is_empty(), "no dashboard shows {absent:?}");
}
