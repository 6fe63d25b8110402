//! Canaries: texts that nobody else writes, in everything that may be secret, through every kind and every way in
//! which it fails. None may come out where telemetry or a log line is read.
//!
//! What `log` and `print` are told to write they write: by that a test sees that the canary was there at all.

mod cases;
mod exceptions;

use std::{
    collections::BTreeSet,
    fs::File,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::support::{collector::Collector, flowgen, worker::Worker};

/// In keys, texts and headers.
const CANARY: &str = "c4n4ry7f3a";
/// Where a number is wanted.
const NUMBER: &str = "7311731173117311";
/// In an attribute of the resource, where it belongs.
const OWNER: &str = "0wn3r5b1c";

/// What may write a canary: the `log` task and `print`.
const TOLD_TO: [&str; 2] = ["flowgen::log", "flowgen::script"];

/// One flow with canaries in it.
#[derive(Default)]
struct Case {
    /// The tasks of the flow, one a line.
    tasks: String,
    files: Vec<(String, Vec<u8>)>,
    stdin: Input,
    stdout: Output,
    /// No trace is sampled; those of failures are kept.
    is_unsampled: bool,
}

/// What the worker reads.
#[derive(Default)]
enum Input {
    #[default]
    Nothing,
    Bytes(Vec<u8>),
    /// A folder, of which nothing can be read.
    Folder,
}

/// Where the worker writes.
#[derive(Default)]
enum Output {
    #[default]
    Anywhere,
    /// Where there is no room.
    Full,
    /// Where only reading is allowed.
    ReadOnly,
}

/// A run of a case, and what the collector got.
struct Run {
    logs: Vec<Value>,
    collector: Collector,
}

impl Case {
    /// A flow of these tasks.
    fn of(tasks: impl Into<String>) -> Self {
        Self { tasks: tasks.into(), ..Self::default() }
    }

    /// Runs it, with canaries in the settings of telemetry too.
    fn run(self) -> Run {
        let collector = Collector::start();
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in &self.files {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        std::fs::write(folder.path().join("flow.yaml"), flow(&collector, &self.tasks)).unwrap();
        let mut command = flowgen(folder.path());
        command.args(["run", "flow.yaml"]).env("SECRET", CANARY).env("OWNER", OWNER);
        // Every line of every library.
        command.env("RUST_LOG", "trace").env("FLOWGEN_LOGGING__FORMAT", "json");
        command.env("FLOWGEN_TELEMETRY__TRACE_SAMPLE_RATE", if self.is_unsampled { "0" } else { "1" });
        let input = folder.path().join("stdin");
        if let Input::Bytes(bytes) = &self.stdin {
            std::fs::write(&input, bytes).unwrap();
        }
        command.stdin(match self.stdin {
            Input::Nothing => Stdio::null(),
            Input::Bytes(_) => File::open(&input).unwrap().into(),
            Input::Folder => File::open(folder.path()).unwrap().into(),
        });
        match self.stdout {
            Output::Anywhere => command.stdout(Stdio::null()),
            Output::Full => command.stdout(File::create("/dev/full").unwrap()),
            Output::ReadOnly => command.stdout(File::open("/dev/null").unwrap()),
        };
        Run { logs: logs(&mut command), collector }
    }
}

/// Returns a worker's configuration with these tasks.
fn flow(collector: &Collector, tasks: &str) -> String {
    let tasks: String = tasks.trim().lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "
resources: {{path: .}}
retry: {{max_attempts: 2, initial_backoff: 1ms, max_backoff: 1ms}}
telemetry:
  enabled: true
  otlp_endpoint: 'http://{CANARY}:${{SECRET}}@{}'
  headers: {{x-api-key: '${{SECRET}}', authorization: Bearer {CANARY}}}
  resource_attributes: {{owner: '${{OWNER}}'}}
flow:
  tasks:
{tasks}",
        collector.address
    )
}

/// Runs a command, and returns its log lines.
fn logs(command: &mut Command) -> Vec<Value> {
    let output = command.stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let parse =
        |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no log line: {line} in {stderr}"));
    let logs: Vec<Value> = stderr.lines().map(parse).collect();
    assert!(logs.iter().any(|line| line["message"] == "telemetry flushed"), "{stderr}");
    logs
}

impl Run {
    /// Checks that no canary came out, and that what failed was exported.
    fn assert_silent(&self) {
        let has_failed = self.logs.iter().any(is_failure);
        let spans = self.collector.spans();
        let mut handled = spans.iter().filter(|span| span.name == "task.handle");
        assert_eq!(handled.any(|span| span["outcome"] == "failed"), has_failed);
        let calls = self.collector.calls();
        assert!(calls.iter().all(|call| call.header("x-api-key") == Some(CANARY)), "the headers were there");
        for canary in [CANARY, NUMBER, OWNER] {
            let lines = self.logs.iter().filter(|line| !TOLD_TO.contains(&line["target"].as_str().unwrap()));
            let told: Vec<_> = lines.map(Value::to_string).filter(|line| line.contains(canary)).collect();
            assert!(told.is_empty(), "`{canary}` is in the log:\n{}", told.join("\n"));
            let received = self.collector.received();
            let held = received.holding(canary);
            assert!(held.is_empty(), "`{canary}` was exported:\n{}", held.join("\n"));
            let resources = received.resources();
            assert!(!resources.is_empty());
            let is_right = |resource: &String| resource.contains(canary) == (canary == OWNER);
            assert!(resources.iter().all(is_right), "{resources:#?}");
        }
    }

    /// Returns whether a task or `print` was told to show the canary.
    fn is_shown(&self) -> bool {
        let told = |line: &&Value| TOLD_TO.contains(&line["target"].as_str().unwrap());
        self.logs.iter().filter(told).any(|line| line.to_string().contains(CANARY))
    }

    /// Returns the types of the errors that tasks of this kind have had.
    fn errors(&self, kind: &str) -> BTreeSet<String> {
        let is_error = |line: &&Value| line["level"] == "ERROR" || is_failure(line);
        let of_kind = self.logs.iter().filter(|line| line["task_type"] == kind).filter(is_error);
        of_kind.filter_map(|line| line["error.type"].as_str()).map(str::to_owned).collect()
    }
}

/// Returns whether a line says that an event failed, whatever becomes of it.
fn is_failure(line: &Value) -> bool {
    ["event failed", "event dropped"].iter().any(|message| line["message"] == *message)
}

/// Returns what the binary says of itself when it is asked to list something as JSON.
fn list(kind: Option<&str>) -> Value {
    let here = std::env::current_dir().unwrap();
    let output = flowgen(&here).arg("list").args(kind).args(["--output", "json"]).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

fn names(list: &Value) -> BTreeSet<String> {
    list.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

/// Runs all cases of a kind: nothing comes out, what should be shown is, and it fails in every way that it
/// declares but for those that no test can bring about.
fn assert_kind_is_silent(kind: &str, cases: Vec<Case>, unreachable: &[&str]) {
    let runs: Vec<Run> = cases.into_iter().map(Case::run).collect();
    runs.iter().for_each(Run::assert_silent);
    assert!(runs.iter().any(Run::is_shown), "no canary went through `{kind}`");
    let mut failed: BTreeSet<String> = runs.iter().flat_map(|run| run.errors(kind)).collect();
    for error_type in unreachable {
        assert!(failed.insert((*error_type).to_owned()), "`{error_type}` can be brought about");
    }
    assert_eq!(failed, names(&list(Some(kind))["error_types"]), "the ways in which `{kind}` fails");
}

/// Makes one test for each kind, and one that there is one for each kind.
macro_rules! kinds {
    ($($kind:ident $(except $unreachable:literal)?),*) => {
        $(#[test]
        fn $kind() {
            super::assert_kind_is_silent(stringify!($kind), super::cases::$kind(), &[$($unreachable)?]);
        })*

        #[test]
        fn every_kind_has_its_canaries() {
            let kinds = super::list(None);
            let listed = kinds.as_array().unwrap().iter().map(|kind| kind["kind"].as_str().unwrap());
            // It has a test of its own: it ends only when it is stopped.
            let tested = [$(stringify!($kind),)* "http_endpoint"];
            assert_eq!(listed.collect::<std::collections::BTreeSet<_>>(), tested.into());
        }
    };
}

/// Scenario: requests are full of canaries, and are answered, refused, and fail. Guarantee: no line and no signal tells any of
/// them, and neither does an answer that refuses.
#[test]
fn http_endpoint_keeps_to_itself_what_clients_send() {
    let collector = Collector::start();
    let folder = tempfile::tempdir().unwrap();
    let tasks = "
- http_endpoint:
    name: in
    endpoint: /work/{id}
    headers: [x-known]
    auth: {basic: {users: {ada: '${SECRET}'}}}
    rate_limit: {rate: 1000, burst: 1000, key: {header: x-known}}
    cors: {allow_origins: ['https://a.example']}
- log: {name: seen}
- script: {name: picky, code: 'if event.data.query.fail == \"1\" { throw event.data.payload } event'}
";
    let yaml = flow(&collector, tasks) + "\nhttp_server: {address: '127.0.0.1:0'}\n";
    std::fs::write(folder.path().join("flow.yaml"), yaml).unwrap();
    let worker = Worker::start_in(folder, &["run", "flow.yaml"], |command| {
        command.env("SECRET", CANARY).env("OWNER", OWNER).env("RUST_LOG", "trace");
        command.env("FLOWGEN_LOGGING__FORMAT", "json").env("FLOWGEN_TELEMETRY__TRACE_SAMPLE_RATE", "1");
    });
    let line: Value = serde_json::from_str(&worker.next_logged("HTTP server listens")).unwrap();
    let address = line["address"].as_str().unwrap().parse().unwrap();
    let known = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("ada:{CANARY}"));
    let ask = |path: &str, credentials: &str, body: &str| {
        let headers = format!(
            "authorization: Basic {credentials}\r\nx-known: {CANARY}\r\nx-{CANARY}: {CANARY}\r\n\
             cookie: {CANARY}\r\norigin: https://{CANARY}.example\r\ncontent-type: application/json\r\n"
        );
        let line = format!("POST {path}?{CANARY}={CANARY}&fail={}", u8::from(body.contains("fail")));
        crate::support::client::call(address, &line, &headers, body.as_bytes())
    };
    let path = format!("/work/{CANARY}");
    let sent = format!("[\"{CANARY}\", {NUMBER}]");
    assert_eq!(ask(&path, &known, &sent).status, 200);
    for (path, credentials, body, status) in [
        (&*path, &*known, format!("[\"fail\", \"{CANARY}\"]"), 500),
        (&path, CANARY, sent.clone(), 401),
        (&path, &known, format!("[{CANARY}"), 400),
        (&format!("/{CANARY}"), &known, sent.clone(), 404),
    ] {
        let refused = ask(path, credentials, &body);
        assert!(refused.status == status && !refused.text().contains(CANARY), "{refused:?}");
    }
    worker.signal(rustix::process::Signal::TERM);
    let run = Run { logs: worker.end().logs(), collector };
    run.assert_silent();
    assert!(run.is_shown(), "no canary went through");
}

mod kinds {
    kinds! {
        // Only what http_request answers with may be raw bytes.
        buffer except "type",
        // What is too large for the cache is tens of megabytes.
        cache except "too_large",
        dedupe, drop,
        // A read that fails may succeed later, so it is tried again without end.
        file except "io",
        file_write, filter,
        // What is refused at load has times without end.
        generate except "schedule",
        http_request, iterate, log, script, stdin, stdout, switch, throttle, validate
    }
}
