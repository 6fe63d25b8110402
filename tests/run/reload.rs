//! Reloads: what a changed configuration does to a worker that runs, and what it does not.

mod blocks;
mod drains;
mod files;
mod flows;
mod refused;
mod watch;

use std::{
    fs,
    io::{BufRead, BufReader, Lines},
    process::{ChildStdout, Command},
};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::worker::{Ended, Worker};

/// Starts a worker of these files, with `prepare` done to the command.
fn start_with(files: &[(&str, &str)], arguments: &[&str], prepare: impl FnOnce(&mut Command)) -> Worker {
    let folder = tempfile::tempdir().unwrap();
    write(&folder, files);
    let arguments: Vec<&str> = ["run"].iter().chain(arguments).copied().collect();
    let worker = Worker::start_in(folder, &arguments, |command| {
        command.env("RUST_LOG", "info,flowgen::runtime::restart=debug");
        prepare(command);
    });
    // Before that a signal may end it at once.
    worker.until_logged("task started");
    worker
}

/// Starts a worker of these files.
fn start(files: &[(&str, &str)]) -> Worker {
    start_with(files, &["flows"], |_| {})
}

/// Writes files, so that each is there as a whole or not at all.
fn write(folder: &TempDir, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let whole = path.with_extension("new");
        fs::write(&whole, text).unwrap();
        fs::rename(whole, path).unwrap();
    }
}

/// Writes files and asks for a reload. Returns the line that says what became of it.
fn reload(worker: &Worker, files: &[(&str, &str)]) -> Value {
    write(&worker.folder, files);
    worker.signal(Signal::HUP);
    result(worker)
}

/// Waits for the next line that says what became of a reload.
fn result(worker: &Worker) -> Value {
    loop {
        let line: Value = serde_json::from_str(&worker.next_logged("\"reload ")).unwrap();
        if line["message"] != "reload begins" {
            return line;
        }
    }
}

/// Returns what a line says of a reload: its message without what comes behind a colon, and its generation.
fn told(line: &Value) -> (&str, u64) {
    let message = line["message"].as_str().unwrap();
    (message.split(':').next().unwrap(), line["generation"].as_u64().unwrap())
}

const APPLIED: &str = "reload applied";
const REFUSED: &str = "reload refused";
const UNCHANGED: &str = "reload found nothing changed";

/// A flow without an end whose rows tell its generation.
fn endless(name: &str, generation: u64) -> String {
    format!(
        "
flow:
  name: {name}
  tasks:
    - generate: {{name: numbers, payload: {{flow: {name}, generation: {generation}}}}}
    - script: {{name: numbered, code: 'event.data.n = parse_int(event.id); event'}}
    - stdout: {{name: out}}
"
    )
}

/// The rows of stdout, as they come.
struct Rows(Lines<BufReader<ChildStdout>>);

impl Rows {
    fn of(worker: &mut Worker) -> Self {
        Self::read(worker.stdout())
    }

    fn read(stdout: ChildStdout) -> Self {
        Self(BufReader::new(stdout).lines())
    }

    /// Reads on until there is a row of this flow and generation.
    fn until(&mut self, flow: &str, generation: u64) {
        self.by_ref().find(|row| row["flow"] == flow && row["generation"] == generation).unwrap();
    }
}

impl Iterator for Rows {
    type Item = Value;

    fn next(&mut self) -> Option<Value> {
        self.0.next().map(|line| serde_json::from_str(&line.unwrap()).unwrap())
    }
}

/// Stops a worker, reads the rest of its rows, and waits for its end.
fn stop(worker: Worker, rows: Rows) -> (Ended, Vec<Value>) {
    worker.signal(Signal::TERM);
    let rest = rows.collect();
    (worker.end(), rest)
}

/// Returns the names of the flows that have drained, in this order.
fn drained(ended: &Ended) -> Vec<String> {
    let lines = ended.logged("flow drained");
    lines.iter().map(|line| line["flow"].as_str().unwrap().to_owned()).collect()
}
