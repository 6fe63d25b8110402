//! The end-to-end tests: flowgen against a real OpenTelemetry Collector, against programs that others wrote, and in a root
//! directory like the image's.
//!
//! `tests/e2e/run` builds the Collector and starts them; `cargo test` alone does not. They read what the Collector
//! itself wrote, so that nothing of flowgen's takes part in the judgement.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod authority;
mod collector;
mod container;
mod disk;
mod earthquakes;
mod hosted;
mod image;
mod mutual;
mod otlp;
mod overload;
mod peers;
mod process;
mod readme;
mod series;
mod shapes;
mod stop;
#[path = "../support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "it is there for all tests")]
mod support;

use std::{path::Path, process::Command};

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns a command that runs the binary in the repository, with nothing of the tests' own environment.
fn flowgen(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flowgen"));
    command.args(arguments).current_dir(repository()).env_clear();
    command
}
