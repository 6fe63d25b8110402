//! Every kind on its own: what it says of itself, and that its example runs.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{fs, io::Write as _, path::Path, process::Stdio};

use flowgen::tasks::registry;
use serde_json::Value;

use crate::support::{flowgen, http::example_endpoint};

/// Runs a flow in a folder that has the examples, and returns its exit code, stdout and stderr.
fn run(folder: &Path, flow: &str, input: &[u8]) -> (Option<i32>, String, String) {
    fs::write(folder.join("flow.yaml"), flow).unwrap();
    let mut child = flowgen(folder)
        .args(["run", "flow.yaml"])
        .env("HTTP_ENDPOINT", example_endpoint())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A flow that does not read its input may end before it is written.
    drop(child.stdin.take().unwrap().write_all(input));
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("examples/data");
    fs::create_dir_all(&data).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data");
    for file in fs::read_dir(source).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), data.join(file.file_name())).unwrap();
    }
    folder
}

#[test]
fn the_example_of_every_kind_runs() {
    for kind in registry().kinds() {
        let example = kind.example();
        assert!(!example.is_empty(), "`{}` has no example", kind.name);
        let folder = folder();
        let (code, _, log) = run(folder.path(), &example, b"one\ntwo\n");
        assert_eq!(code, Some(0), "`{}`: {log}", kind.name);
    }
}

#[test]
fn every_kind_uses_itself_in_its_example_and_names_its_keys() {
    let mut generator = schemars::SchemaGenerator::default();
    for kind in registry().kinds() {
        let flow: Value = serde_yaml::from_str(&kind.example()).unwrap();
        let tasks = flow["flow"]["tasks"].as_array().unwrap();
        assert!(tasks.iter().any(|task| task.get(kind.name).is_some()), "`{}`", kind.name);
        assert!(!kind.summary.is_empty() && !kind.summary.ends_with('.'), "`{}`", kind.name);
        let schema = kind.schema(&mut generator).to_value();
        assert!(schema.is_object(), "`{}`", kind.name);
    }
}

#[test]
fn stdin_reads_until_its_end_and_reports_a_bad_line() {
    let folder = folder();
    let flow = "flow: {name: f, tasks: [{stdin: {name: in}}, {stdout: {name: out}}]}";
    let (code, out, log) = run(folder.path(), flow, b"{\"a\":  1}\n{oops\n[2]");
    assert_eq!(out, "{\"a\":  1}\n[2]\n");
    assert!(log.contains("stdin:2") || log.contains("\"stdin\""), "{log}");
    assert_eq!(code, Some(3), "{log}");
}

#[test]
fn what_one_flow_writes_another_reads() {
    let folder = folder();
    for format in ["jsonl", "csv"] {
        let write = format!(
            "flow: {{name: w, tasks: [{{generate: {{name: g, count: 1000, payload: {{k: 'a, \"b\"\nc'}}}}}}, \
             {{file_write: {{name: w, path: 'out.{format}', format: {format}}}}}]}}"
        );
        let (code, _, log) = run(folder.path(), &write, b"");
        assert_eq!(code, Some(0), "{log}");
        let read = format!(
            "flow: {{name: r, tasks: [{{file: {{name: r, path: 'out.{format}', format: {format}}}}}, \
             {{stdout: {{name: o}}}}]}}"
        );
        let (code, out, log) = run(folder.path(), &read, b"");
        assert_eq!(code, Some(0), "{log}");
        assert_eq!(out, "{\"k\":\"a, \\\"b\\\" c\"}\n".repeat(1000), "{format}");
    }
}
