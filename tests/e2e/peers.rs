//! Programs that others wrote at the other end of a connection: curl, Node and Python as clients of `http_endpoint` and as
//! servers of `http_request`, servers that mean harm, and another worker.
//!
//! The programs beside these files need nothing but the standard libraries of their languages.

mod clients;
mod curl;
mod hostile;
mod servers;
mod tokens;
mod traces;

use std::{fs, path::Path, process::Command};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    flowgen,
    process::{Ended, Process},
    repository,
};

/// A worker that serves, in a folder of its own.
struct Serving {
    process: Process,
    folder: TempDir,
    /// The port of its HTTP server.
    port: u16,
}

impl Serving {
    /// Starts one with the keys of a file in a folder, whose `http_server` takes a free port.
    fn start(folder: TempDir, yaml: &str) -> Self {
        let mut process = worker(folder.path(), yaml);
        let line: Value = serde_json::from_str(&process.line("HTTP server listens")).unwrap();
        let (_, port) = line["address"].as_str().unwrap().rsplit_once(':').unwrap();
        Self { process, folder, port: port.parse().unwrap() }
    }

    /// Stops it, and returns what it says of its flow.
    fn stop(self) -> (Ended, Value) {
        let ended = self.process.stop();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let drained = ended.only("flow drained");
        (ended, drained)
    }
}

/// Starts a worker in a folder.
fn worker(folder: &Path, yaml: &str) -> Process {
    fs::write(folder.join("flow.yaml"), yaml).unwrap();
    Process::start(flowgen(&["run", "flow.yaml"]).current_dir(folder))
}

/// A program that serves.
struct Server {
    process: Process,
    port: String,
}

impl Server {
    /// Starts a program of these files, in a folder.
    fn start(name: &str, arguments: &[&str], folder: &Path) -> Self {
        let mut process = Process::start(program(name).args(arguments).current_dir(folder));
        let port = process.line("listening").replace("listening ", "");
        Self { process, port }
    }

    /// Ends it, and returns what it was asked for.
    fn asked(self) -> Vec<String> {
        let said = self.process.stop().stdout;
        said.lines().filter_map(|line| line.strip_prefix("asked ")).map(str::to_owned).collect()
    }
}

/// Returns the command of a program of these files.
fn program(name: &str) -> Command {
    let mut command = Command::new(if name.ends_with(".py") { "python3" } else { "node" });
    command.arg(repository().join("tests/e2e/peers").join(name));
    command
}

/// Runs a flow that makes a request of each of these events, and returns how it ended. `keys` are those of the request.
fn request(folder: &Path, top: &str, keys: &str, events: &[Value]) -> Ended {
    let input: String = events.iter().map(|event| format!("{event}\n")).collect();
    fs::write(folder.join("input"), input).unwrap();
    worker(folder, &requesting(top, keys)).end()
}

/// Returns such a flow.
fn requesting(top: &str, keys: &str) -> String {
    let keys: String = keys.lines().map(|line| format!("        {}\n", line.trim_start())).collect();
    format!(
        "
retry: {{initial_backoff: 1ms, max_backoff: 5ms, max_attempts: 3}}
{top}
flow:
  name: calls
  tasks:
    - file: {{name: in, path: input}}
    - http_request:
        name: call
{keys}    - stdout: {{name: out}}
"
    )
}

/// Returns what a flow has put out.
fn rows(ended: &Ended) -> Vec<Value> {
    ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
