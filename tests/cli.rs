//! The command line as a process: exit codes, what goes to stdout and what to stderr.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::flowgen;

const GOOD: &str = "flow:\n  tasks:\n    - generate: {count: 1}\n    - drop:\n";

struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

fn folder(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

fn run_in(dir: &Path, arguments: &[&str]) -> Ran {
    let mut command: Command = flowgen(dir);
    command.args(arguments).output().unwrap().into()
}

fn run(arguments: &[&str]) -> Ran {
    run_in(Path::new("."), arguments)
}

#[test]
fn help_and_version_go_to_stdout() {
    for (argument, said) in [
        ("--help", "Usage: flowgen <COMMAND>"),
        ("help", "Usage: flowgen <COMMAND>"),
        ("--version", concat!("flowgen ", env!("CARGO_PKG_VERSION"))),
    ] {
        let ran = run(&[argument]);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{argument}");
        assert!(ran.stdout.contains(said), "{argument}: {}", ran.stdout);
    }
    assert!(run(&["--help"]).stdout.contains("Exit codes:"));
}

#[test]
fn bad_usage_ends_with_2_and_says_why() {
    for (arguments, said) in [
        (&[][..], "Usage"),
        (&["run"][..], "<PATH>"),
        (&["run", "--nope", "x"][..], "--nope"),
        (&["valdate", "x"][..], "did you mean `validate`?"),
        (&["graph", "x"][..], "the command `graph` is not supported yet"),
        (&["run", "--watch", "x"][..], "cannot read the file"),
        (&["list", "genrate"][..], "did you mean `generate`?"),
        (&["run", "no/such/file.yaml"][..], "cannot read the file"),
    ] {
        let ran = run(arguments);
        assert_eq!(ran.code, Some(2), "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(said), "{arguments:?}: {}", ran.stderr);
        assert_eq!(ran.stdout, "", "{arguments:?}");
    }
}

#[test]
fn completions_are_a_script_of_the_shell_that_knows_every_command() {
    for (shell, begin) in [("bash", "_flowgen()"), ("zsh", "#compdef flowgen"), ("fish", "# Print an opt")] {
        let ran = run(&["completions", shell]);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{shell}");
        assert!(ran.stdout.starts_with(begin), "{shell}: {}", ran.stdout);
        for command in ["run", "validate", "doctor", "health", "list", "schema", "dashboard", "completions"] {
            assert!(ran.stdout.contains(command), "{shell} does not know {command}");
        }
    }
    assert_eq!(run(&["completions", "cmd"]).code, Some(2));
}

#[test]
fn the_log_follows_rust_log_where_it_says_something() {
    let dir = folder(&[("a.yaml", GOOD)]);
    let log = |directives: &str| {
        let mut command = flowgen(dir.path());
        Ran::from(command.env("RUST_LOG", directives).args(["run", "a.yaml"]).output().unwrap()).stderr
    };
    assert!(!log("error").contains("flow drained"));
    assert!(log("").contains("flow drained") && !log("").contains("RUST_LOG"));
    let unusable = log("flowgen=loud");
    assert!(unusable.contains("flow drained") && unusable.contains("`RUST_LOG` is not usable"), "{unusable}");
}

#[test]
fn validate_sums_up_each_flow() {
    let other = "flows:\n  - name: other\n    tasks: [{generate: {count: 1}}]\n";
    let dir =
        folder(&[("orders.yaml", GOOD), ("b.yml", other), (".hidden.yaml", "nonsense"), ("notes.txt", "")]);
    let ran = run_in(dir.path(), &["validate", "."]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    assert_eq!(ran.stdout, "ok other: 1 task (generate)\nok orders: 2 tasks (generate, drop)\n");
}

#[test]
fn validate_writes_json_for_programs() {
    let dir = folder(&[("good.yaml", GOOD), ("bad.yaml", "flow: {tasks: [{generate: {cuont: 1}}]}")]);
    let ran = run_in(dir.path(), &["validate", "--output", "json", "good.yaml"]);
    let told: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.code, &told["ok"]), (Some(0), &Value::Bool(true)));
    assert_eq!(told["flows"][0]["tasks"][0]["downstream"], serde_json::json!(["drop"]));
    assert_eq!(told["flows"][0]["tasks"][0]["route"], Value::Null);
    let routed = "flow: {tasks: [{generate: {count: 1, on_error: {route: drop}}}, {log: }, {drop: }]}";
    let dir_of_route = folder(&[("routed.yaml", routed)]);
    let ran = run_in(dir_of_route.path(), &["validate", "--output", "json", "routed.yaml"]);
    let of_route: Value = serde_json::from_str(&ran.stdout).unwrap();
    let tasks = &of_route["flows"][0]["tasks"];
    assert_eq!((&tasks[0]["route"], &tasks[1]["downstream"]), (&"drop".into(), &serde_json::json!([])));
    let ran = run_in(dir.path(), &["validate", "--output", "json", "bad.yaml"]);
    let told: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(2), ""));
    let problem = &told["problems"][0];
    assert_eq!((&problem["line"], &problem["column"]), (&1.into(), &28.into()));
    assert_eq!(problem["path"], "flow.tasks[0].generate.cuont");
    assert_eq!(problem["hint"], "did you mean `count`?");
}

#[test]
fn the_settings_of_the_worker_may_stand_in_a_file_of_their_own() {
    let dir = folder(&[("flow.yaml", GOOD), ("worker.yaml", "channel_capacity: 0\n"), ("flows.yaml", GOOD)]);
    let ran = run_in(dir.path(), &["validate", "--config", "worker.yaml", "flow.yaml"]);
    assert!(ran.stderr.contains("worker.yaml:1:19 (channel_capacity)"), "{}", ran.stderr);
    let ran = run_in(dir.path(), &["validate", "--config", "flows.yaml", "flow.yaml"]);
    assert!(ran.stderr.contains("a file named with `--config` holds no flows"), "{}", ran.stderr);
}

#[test]
fn an_empty_folder_is_a_mistake() {
    let dir = folder(&[]);
    let ran = run_in(dir.path(), &["validate", "."]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("the directory holds no flow"), "{}", ran.stderr);
}

#[test]
fn a_telemetry_block_without_enabled_is_a_warning() {
    let dir = folder(&[("a.yaml", &format!("telemetry: {{service_name: a}}\n{GOOD}"))]);
    let ran = run_in(dir.path(), &["validate", "a.yaml"]);
    assert_eq!(ran.code, Some(0));
    assert!(ran.stderr.starts_with("warning: telemetry is off"), "{}", ran.stderr);
}

#[test]
fn list_tells_every_kind_and_all_of_one() {
    let all: Value = serde_json::from_str(&run(&["list", "--output", "json"]).stdout).unwrap();
    let text = run(&["list"]).stdout;
    for kind in all.as_array().unwrap() {
        let name = kind["kind"].as_str().unwrap();
        assert!(text.lines().any(|line| line.starts_with(name)), "{name}");
        let ran = run(&["list", name]);
        assert_eq!(ran.code, Some(0));
        assert!(ran.stdout.contains("Example:\n"), "{name} has no example");
        let told: Value = serde_json::from_str(&run(&["list", name, "--output", "json"]).stdout).unwrap();
        for key in told["keys"].as_array().unwrap() {
            assert_ne!(key["description"], "", "{name}: {key} has no description");
        }
    }
}

#[test]
fn list_tells_what_the_spans_of_a_kind_say() {
    let text = run(&["list", "file"]).stdout;
    assert!(text.contains("\nTelemetry: the span has `file.path` and `file.offset`"), "{text}");
    let told: Value = serde_json::from_str(&run(&["list", "file", "--output", "json"]).stdout).unwrap();
    assert!(told["telemetry"].as_str().is_some_and(|text| text.contains("`flowgen.record.size`")), "{told}");
    assert!(!run(&["list", "drop"]).stdout.contains("Telemetry:"));
}

#[test]
fn every_example_of_the_list_is_valid() {
    let all: Value = serde_json::from_str(&run(&["list", "--output", "json"]).stdout).unwrap();
    for kind in all.as_array().unwrap() {
        let name = kind["kind"].as_str().unwrap();
        let told: Value = serde_json::from_str(&run(&["list", name, "--output", "json"]).stdout).unwrap();
        let dir = folder(&[("example.yaml", told["example"].as_str().unwrap())]);
        let ran = run_in(dir.path(), &["validate", "example.yaml"]);
        assert_eq!(ran.code, Some(0), "{name}: {}", ran.stderr);
    }
}

#[test]
fn the_schema_is_json_and_knows_what_list_knows() {
    let schema: Value = serde_json::from_str(&run(&["schema"]).stdout).unwrap();
    let tasks = schema["$defs"]["Flow"]["properties"]["tasks"]["items"]["oneOf"].as_array().unwrap();
    assert_eq!(tasks.len(), run(&["list"]).stdout.lines().count());
    assert_eq!(schema["properties"]["telemetry"]["anyOf"][0]["$ref"], "#/$defs/TelemetryConfig");
    assert_eq!(schema["properties"]["health"]["anyOf"][0]["$ref"], "#/$defs/HealthKeys");
}
