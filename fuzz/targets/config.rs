//! Configurations: any text is a plan, or problems that stand within it. What is a plan is built or refused with a message,
//! and a reload of the same text changes nothing.
//!
//! The input is the text.

#![no_main]

use std::{
    cell::OnceCell,
    fs, io,
    path::{Path, PathBuf},
};

use flowgen::{
    config::{self, Environment, Loaded},
    problem::{Origin, Problem},
    task::BuildContext,
    tasks,
};
use flowgen_fuzz::wait;
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

/// The kinds whose tasks reach neither files nor the network when they are built.
const PURE: [&str; 11] = [
    "buffer", "dedupe", "drop", "filter", "generate", "iterate", "log", "script", "switch", "throttle",
    "validate",
];

/// An environment of few variables, in which every file but one holds the same.
struct Outside;

impl Environment for Outside {
    fn variable(&self, name: &str) -> Option<String> {
        self.variables().into_iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    fn variables(&self) -> Vec<(String, String)> {
        [("A", "a secret"), ("N", "7"), ("E", ""), ("T", "5s")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec()
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        if path.ends_with("missing") {
            Err(io::ErrorKind::NotFound.into())
        } else {
            Ok("a text\n".to_owned())
        }
    }
}

fuzz_target!(|input: &[u8]| {
    thread_local! {
        static FOLDER: OnceCell<TempDir> = const { OnceCell::new() };
    }
    let path = FOLDER.with(|folder| {
        folder.get_or_init(|| tempfile::tempdir().expect("a folder")).path().join("flow.yaml")
    });
    fs::write(&path, input).expect("a file");
    let paths = [path];
    match config::load(&paths, None, tasks::registry(), &Outside) {
        Err(problems) => {
            assert!(!problems.is_empty(), "it is refused without a word");
            for problem in &problems {
                check(problem, input);
            }
        }
        Ok(loaded) => {
            for warning in &loaded.warnings {
                check(warning, input);
            }
            build(&loaded, &paths);
        }
    }
});

/// Builds what can be built without any I/O, and loads it again.
fn build(loaded: &Loaded, paths: &[PathBuf]) {
    for flow in loaded.flows() {
        for node in &flow.tasks {
            if PURE.contains(&node.kind.name) {
                let context = BuildContext::new(
                    std::sync::Arc::clone(&flow.name),
                    std::sync::Arc::clone(&node.name),
                    ".".into(),
                );
                if let Err(error) = wait(node.prepared.build(&context)) {
                    assert!(!error.to_string().is_empty());
                }
            }
        }
    }
    let again = config::reload(&loaded.footprint, paths, None, tasks::registry(), &Outside);
    assert!(again.is_ok(), "the same text is another configuration: {:?}", again.err());
}

/// Checks that a problem says something, and something about the text.
fn check(problem: &Problem, input: &[u8]) {
    assert!(!problem.message.is_empty());
    let Some(Origin::Place(place)) = &problem.origin else { return };
    // A text that is none has lines all the same.
    let text = String::from_utf8_lossy(input);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let lines: Vec<_> = text.lines().collect();
    assert!(place.line <= lines.len().max(1), "line {} of {}: {problem:?}", place.line, lines.len());
    if place.line == 0 || str::from_utf8(input).is_err() {
        return;
    }
    let shown = lines.get(place.line - 1).copied().unwrap_or_default();
    assert_eq!(place.text, shown.trim_end(), "{problem:?}");
    let width = shown.chars().count();
    assert!((1..=width + 1).contains(&place.column), "column {} of {width}: {problem:?}", place.column);
    assert!(place.width >= 1 && place.column + place.width <= width.max(place.column) + 1, "{problem:?}");
}
