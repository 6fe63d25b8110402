//! What the README shows is what happens.

use std::{fs, path::Path};

use crate::support::flowgen;

/// Returns the code blocks of this language, in order.
fn blocks(markdown: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let after = markdown.split(&fence).skip(1);
    after.map(|rest| rest.split("```").next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn the_tour_does_what_it_says() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let yaml = &blocks(&readme, "yaml")[0];
    let console = blocks(&readme, "console");
    let rows = &blocks(&readme, "json")[2];
    let folder = tempfile::tempdir().unwrap();
    let run = |command: &str, yaml: &str| {
        fs::write(folder.path().join("orders.yaml"), yaml).unwrap();
        flowgen(folder.path()).args([command, "orders.yaml"]).output().unwrap()
    };
    assert_eq!(String::from_utf8(run("validate", yaml).stdout).unwrap(), console[0]);
    assert_eq!(String::from_utf8(run("run", yaml).stdout).unwrap(), *rows);
    let misspelt = yaml.replace("condition:", "conditoin:");
    assert_ne!(misspelt, *yaml);
    assert_eq!(String::from_utf8(run("validate", &misspelt).stderr).unwrap(), console[1]);
}
