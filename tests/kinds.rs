//! Every kind on its own: what it says of itself, and that sources read what sinks write.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{fs, io::Write as _, path::Path, process::Stdio};

use flowgen::tasks::registry;
use serde_json::{Map, Value};

use crate::support::{flowgen, http::example_endpoint};

/// Runs a flow in a folder, and returns its exit code, stdout and stderr.
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

#[test]
fn every_kind_uses_itself_in_its_example_and_names_its_keys() {
    let mut generator = schemars::SchemaGenerator::default();
    for kind in registry().kinds() {
        let flow: Value = serde_yaml::from_str(&kind.example()).unwrap();
        let tasks = flow["flow"]["tasks"].as_array().unwrap();
        assert!(tasks.iter().any(|task| task.get(kind.name).is_some()), "`{}`", kind.name);
        assert!(!kind.summary.is_empty() && !kind.summary.ends_with('.'), "`{}`", kind.name);
        let schema = kind.schema(&mut generator).to_value();
        let definition = schema["$ref"].as_str().unwrap().strip_prefix("#/$defs/").unwrap();
        let definition = &generator.definitions()[definition];
        assert_eq!(definition["additionalProperties"], false, "`{}`: {definition}", kind.name);
        let nothing = Map::new();
        let keys = definition.get("properties").map_or(&nothing, |keys| keys.as_object().unwrap());
        for (key, schema) in keys {
            assert!(schema["description"].is_string(), "`{}`: `{key}` has no help", kind.name);
        }
        let used = tasks.iter().find_map(|task| task.get(kind.name)).unwrap().as_object().unwrap();
        for key in used.keys().filter(|key| *key != "name") {
            assert!(keys.contains_key(key), "`{}` does not name `{key}`", kind.name);
        }
    }
}

#[test]
fn stdin_reads_until_its_end_and_reports_a_bad_line() {
    let folder = tempfile::tempdir().unwrap();
    let flow = "flow: {name: f, tasks: [{stdin: {name: in}}, {stdout: {name: out}}]}";
    let (code, out, log) = run(folder.path(), flow, b"{\"a\":  1}\n{oops\n[2]");
    assert_eq!(out, "{\"a\":  1}\n[2]\n");
    let logged: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let failed: Vec<_> = logged.iter().filter(|line| line["message"] == "event failed").collect();
    assert_eq!(failed.len(), 1, "{log}");
    assert_eq!(failed[0]["position"], "stdin:2");
    let (_, _, again) = run(folder.path(), flow, b"{\"a\":  1}\n{oops\n[2]");
    let id = failed[0]["event_id"].as_str().unwrap();
    assert!(id.ends_with(":10") && !again.contains(id), "two runs share the id `{id}`");
    assert_eq!(code, Some(3), "{log}");
}

#[test]
fn what_one_flow_writes_another_reads() {
    let folder = tempfile::tempdir().unwrap();
    for format in ["jsonl", "csv"] {
        let write = format!(
            "flow: {{name: w, tasks: [{{generate: {{name: g, count: 1000, payload: {{k: \"a, \\\"b\\\"\\nc\"}}}}}}, \
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
        assert_eq!(out, "{\"k\":\"a, \\\"b\\\"\\nc\"}\n".repeat(1000), "{format}");
    }
}
