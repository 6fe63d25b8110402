//! The flight recorder: what happened, told on stderr, when the collector cannot tell it.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    process::{ChildStdin, ChildStdout, Command},
};

use rustix::process::Signal;
use serde_json::Value;

use super::{export_to, sample};
use crate::support::{
    http::{Server, response},
    worker::{Ended, Worker},
};

/// A flow of three tasks, the last of which fails, with what comes before it and the policy of that task.
fn failing(count: usize, policy: &str) -> String {
    format!(
        "
shutdown_timeout: 1s
flow:
  name: orders
  tasks:
    - generate: {{name: numbers, count: {count}}}
    - filter: {{name: all, condition: 'true'}}
    - script: {{name: picky, code: 'if event.id == \"1\" {{ event }} else {{ throw \"not this\" }}'{policy}}}
"
    )
}

/// Copies lines but those that are `bad`, which fail, until stdin is closed.
const LINES: &str = "
shutdown_timeout: 1s
flow:
  name: lines
  tasks:
    - stdin: {name: in, format: text}
    - script: {name: picky, code: 'if event.data == \"bad\" { throw \"as it is\" } event'}
    - stdout: {name: out, format: text}
";

/// Lets telemetry go where nobody listens.
fn to_nobody(command: &mut Command) {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    export_to(&format!("http://{address}"), command);
}

/// Runs a flow to its end while the collector is down.
fn run(yaml: &str, prepare: impl FnOnce(&mut Command)) -> Ended {
    let worker = Worker::start_with(yaml, &[], |command| {
        to_nobody(command);
        prepare(command);
    });
    worker.end()
}

/// What the recorder said at once: the line above, and those below it.
struct Told {
    head: Value,
    entries: Vec<Value>,
}

/// Returns all that the recorder said, after checking that nothing came between its lines.
fn told(ended: &Ended) -> Vec<Told> {
    let lines = ended.logs();
    let is_head = |(_, line): &(usize, &Value)| line["message"] == "flight recorder";
    let heads: Vec<usize> = lines.iter().enumerate().filter(is_head).map(|(place, _)| place).collect();
    let all: Vec<Told> = heads
        .into_iter()
        .map(|place| {
            let below = &lines[place + 1..];
            let entries = below.iter().take_while(|line| line["message"] == "flight record");
            Told { head: lines[place].clone(), entries: entries.cloned().collect() }
        })
        .collect();
    for told in &all {
        assert_eq!(told.head["shown"], told.entries.len(), "{}", ended.stderr);
    }
    let entries: usize = all.iter().map(|told| told.entries.len()).sum();
    assert_eq!(entries, ended.logged("flight record").len(), "{}", ended.stderr);
    all
}

/// Returns what the recorder said, if it said something only once.
fn told_once(ended: &Ended) -> Told {
    let mut all = told(ended);
    assert_eq!(all.len(), 1, "{}", ended.stderr);
    all.remove(0)
}

impl Told {
    fn events(&self) -> Vec<&str> {
        self.entries.iter().map(|entry| entry["event_id"].as_str().unwrap()).collect()
    }
}

/// Returns the tasks of an entry's path, after checking that the times of each step follow those before.
fn path(entry: &Value) -> Vec<&str> {
    let mut passed = 0.0;
    let steps = entry["path"].as_array().unwrap().iter().enumerate().map(|(n, step)| {
        let number = |key: &str| step[key].as_f64().unwrap_or_else(|| panic!("no `{key}` in {step}"));
        let start = number("start");
        assert!(start >= passed - 1e-9, "{entry}");
        if n == 0 {
            assert!(start == 0.0 && step.get("queued").is_none(), "{entry}");
        } else {
            assert!((passed + number("queued") - start).abs() < 1e-9, "{entry}");
        }
        passed = start + number("duration");
        step["task"].as_str().unwrap()
    });
    let tasks = steps.collect();
    assert!((entry["duration"].as_f64().unwrap() - passed).abs() < 1e-9, "{entry}");
    tasks
}

#[test]
fn at_the_end_it_tells_what_the_collector_never_got() {
    let ended = run(&failing(3, ""), |_| {});
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    let told = told_once(&ended);
    assert_eq!((&told.head["cause"], &told.head["recorded"]), (&"shutdown".into(), &2.into()));
    assert_eq!(told.events(), ["0", "2"]);
    let failed = &ended.logged("event failed")[0];
    let entry = &told.entries[0];
    for key in ["level", "timestamp", "at"] {
        assert!(entry[key].is_string(), "{entry}");
    }
    for key in ["service", "flow", "task", "task_type", "event_id", "trace_id", "span_id", "trace_flags"] {
        assert_eq!(entry[key], failed[key], "{entry}");
    }
    for key in ["error.type", "error.message"] {
        assert_eq!(entry[key], failed[key], "{entry}");
    }
    assert_eq!((&entry["reason"], &entry["outcome"]), (&"error".into(), &"failed".into()), "{entry}");
    assert_eq!(path(entry), ["numbers", "all", "picky"]);
    assert!(entry["at"].as_str() <= entry["timestamp"].as_str(), "{entry}");
    let order: Vec<_> = ended.logs().into_iter().map(|line| line["message"].clone()).collect();
    let place = |message: &str| order.iter().position(|of_line| of_line == message).unwrap();
    assert!(place("flow drained") < place("flight recorder"), "{}", ended.stderr);
    assert_eq!(order.last(), Some(&"telemetry flushed".into()), "{}", ended.stderr);
}

#[test]
fn an_event_that_is_dropped_on_purpose_is_told_so() {
    let ended = run(&failing(3, ", on_error: drop"), |_| {});
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(told_once(&ended).entries.iter().all(|entry| entry["outcome"] == "dropped"), "{}", ended.stderr);
}

#[test]
fn people_get_a_block_of_text() {
    let ended = run(&failing(2, ""), |command| {
        command.env("FLOWGEN_LOGGING__FORMAT", "text");
    });
    let lines: Vec<&str> = ended.stderr.lines().collect();
    let is_head = |line: &&str| line.ends_with(" INFO flight recorder cause=shutdown shown=1 recorded=1");
    let head = lines.iter().position(is_head).unwrap_or_else(|| panic!("{}", ended.stderr));
    let failed = lines.iter().find(|line| line.contains("event failed")).unwrap();
    let of_failed = |key: &str| {
        let (_, rest) = failed.split_once(key).unwrap();
        rest.split(' ').next().unwrap()
    };
    let block = &lines[head + 1..head + 9];
    assert_eq!(block[0], "orders/picky: error script, failed");
    assert!(block[1].starts_with("    at     20") && block[1].ends_with(" after it entered"), "{block:?}");
    assert_eq!(block[2], "    event  0");
    let (trace_id, span_id) = (of_failed("trace_id="), of_failed("span_id="));
    assert_eq!(block[3], format!("    trace  {trace_id} span {span_id} flags 01"));
    assert!(block[4].starts_with("    error  ") && block[4].ends_with(": not this"), "{block:?}");
    assert_eq!(block[5], "    path       start       took     queued  task");
    let tasks: Vec<_> = block[6..].iter().map(|line| line.split(' ').next_back().unwrap()).collect();
    assert_eq!(tasks, ["numbers", "all"]);
    assert!(
        lines[head + 9].ends_with(" picky") && lines[head + 9].starts_with("       "),
        "{}",
        ended.stderr
    );
    assert!(lines[head + 10].starts_with("20"), "{}", ended.stderr);
}

/// Scenario: 10,000 events fail, of which one in another task. Guarantee: as many are told as there is room for: the
/// latest ones, and the one that is not like them.
#[test]
fn a_flood_is_bounded_and_hides_nothing_else() {
    let yaml = failing(10_000, "") + "    - script: {name: last, code: 'throw \"at last\"'}\n";
    let ended = run(&yaml, |_| {});
    assert_eq!(ended.drained()["failed"], 10_000);
    let told = told_once(&ended);
    assert_eq!((&told.head["shown"], &told.head["recorded"]), (&32.into(), &10_000.into()));
    let latest = (9_969..10_000).map(|id| id.to_string());
    assert_eq!(told.events(), ["1".to_owned()].into_iter().chain(latest).collect::<Vec<_>>());
    assert_eq!(path(&told.entries[0]), ["numbers", "all", "picky", "last"]);
}

/// Scenario: no trace is exported, for four reasons. Guarantee: what happened is told all the same.
#[test]
fn it_remembers_whatever_is_exported() {
    let unsampled = run(&failing(1, ""), |command| sample(0.0, command));
    let beyond = run(&failing(1, ""), |command| {
        command
            .env("FLOWGEN_TELEMETRY__TRACE_SAMPLE_RATE", "0")
            .env("FLOWGEN_TELEMETRY__KEEP_TRACES__LIMIT", "1");
    });
    for ended in [unsampled, beyond] {
        let told = told_once(&ended);
        let entry = &told.entries[0];
        assert_eq!(path(entry), ["numbers", "all", "picky"]);
        assert_eq!(entry["trace_flags"], "00");
        assert_eq!(entry["trace_id"], ended.logged("event failed")[0]["trace_id"]);
    }
    let only_metrics = run(&failing(1, ""), |command| {
        command.env("OTEL_TRACES_EXPORTER", "none");
    });
    let told = told_once(&only_metrics);
    assert_eq!(path(&told.entries[0]), ["numbers", "all", "picky"]);
    assert!(told.entries[0].get("trace_id").is_none(), "{}", told.entries[0]);
    let only_traces = run(&failing(1, ""), |command| {
        command.env("OTEL_METRICS_EXPORTER", "none");
    });
    assert_eq!(path(&told_once(&only_traces).entries[0]), ["numbers", "all", "picky"]);
}

/// Scenario: a server is down, and what it does not take is given up. Guarantee: every further attempt is told, with why it failed.
#[test]
fn further_attempts_are_part_of_the_way() {
    let server = Server::start(|_, _| response("503 Down", ""));
    let yaml = format!(
        "
shutdown_timeout: 1s
retry: {{initial_backoff: 1ms, max_backoff: 2ms, max_attempts: 4}}
flow:
  tasks:
    - generate: {{name: numbers, count: 1}}
    - http_request: {{name: call, endpoint: 'http://{}', on_error: drop}}
",
        server.address
    );
    let ended = run(&yaml, |_| {});
    let told = told_once(&ended);
    let entry = &told.entries[0];
    assert_eq!(path(entry), ["numbers", "call"]);
    assert!(entry["path"][0].get("retries").is_none(), "{entry}");
    let retries = entry["path"][1]["retries"].as_array().unwrap();
    assert_eq!(retries.len(), 3, "{entry}");
    for retry in retries {
        assert_eq!(retry["error.type"], entry["error.type"], "{entry}");
        assert!(retry["start"].as_f64() > entry["path"][1]["start"].as_f64(), "{entry}");
    }
}

/// Scenario: a batch of a buffered task fails as a whole. Guarantee: there is one entry for each of its events.
#[test]
fn a_batch_that_fails_is_told_once_for_each_of_its_events() {
    let yaml = "
shutdown_timeout: 1s
retry: {initial_backoff: 1ms, max_attempts: 2}
flow:
  tasks:
    - generate: {name: numbers, count: 5}
    - file_write: {name: out, path: /dev/full, format: jsonl, on_error: drop}
";
    let ended = run(yaml, |_| {});
    let told = told_once(&ended);
    assert_eq!(told.head["recorded"], 5, "{}", ended.stderr);
    assert_eq!(told.events(), ["0", "1", "2", "3", "4"]);
    assert!(told.entries.iter().all(|entry| path(entry) == ["numbers", "out"]), "{}", ended.stderr);
}

#[test]
fn slow_events_are_told_with_the_way_to_their_end() {
    for keeps_errors in ["true", "false"] {
        slow_events_are_told(keeps_errors);
    }
}

fn slow_events_are_told(keeps_errors: &str) {
    let yaml = failing(3, "") + "    - drop: {name: nowhere}\n";
    let ended = run(&yaml, |command| {
        command
            .env("FLOWGEN_TELEMETRY__KEEP_TRACES__SLOWER_THAN", "1ns")
            .env("FLOWGEN_TELEMETRY__KEEP_TRACES__ERRORS", keeps_errors);
    });
    let told = told_once(&ended);
    let mut entries: Vec<_> = told.entries.iter().map(|entry| (entry["event_id"].clone(), entry)).collect();
    entries.sort_by_key(|(id, _)| id.to_string());
    let reasons: Vec<_> = entries.iter().map(|(_, entry)| &entry["reason"]).collect();
    assert_eq!(reasons, ["error", "slow", "error"], "{}", ended.stderr);
    let slow = entries[1].1;
    assert_eq!(path(slow), ["numbers", "all", "picky", "nowhere"]);
    assert_eq!(slow["task"], "nowhere");
    for key in ["outcome", "error.type", "error.message"] {
        assert!(slow.get(key).is_none(), "{slow}");
    }
}

#[test]
fn what_is_in_time_and_succeeds_is_not_told() {
    let yaml = "
shutdown_timeout: 1s
flow: {tasks: [{generate: {name: numbers, count: 3}}, {filter: {name: none, condition: 'false'}}]}
";
    let ended = run(yaml, |command| {
        command.env("FLOWGEN_TELEMETRY__KEEP_TRACES__SLOWER_THAN", "1h");
    });
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("flight record"), "{}", ended.stderr);
}

/// A worker that handles a line at a time.
struct Lines {
    worker: Worker,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Lines {
    fn start(prepare: impl FnOnce(&mut Command)) -> Self {
        let mut worker = Worker::start_with(LINES, &[], prepare);
        let stdin = worker.stdin();
        let stdout = BufReader::new(worker.stdout());
        Self { worker, stdin, stdout }
    }

    /// Sends lines, the last of which is good, and waits until all are handled.
    fn handle(&mut self, lines: &str) {
        self.stdin.write_all(lines.as_bytes()).unwrap();
        let good = lines.lines().filter(|line| *line != "bad");
        good.for_each(|_| assert!(self.stdout.read_line(&mut String::new()).unwrap() > 0));
    }

    /// Asks what happened, and waits for an answer that contains `text`, as none before did.
    fn ask(&self, text: &str) {
        self.worker.signal(Signal::USR1);
        self.worker.until_logged(text);
    }

    fn end(self) -> Ended {
        drop(self.stdin);
        self.worker.end()
    }
}

#[test]
fn sigusr1_asks_as_often_as_it_comes() {
    let mut lines = Lines::start(to_nobody);
    lines.handle("good\n");
    lines.ask("the flight recorder is empty");
    lines.handle("bad\ngood\n");
    lines.ask("\"shown\":1,\"recorded\":1");
    lines.handle("bad\nbad\ngood\n");
    lines.ask("\"shown\":3,\"recorded\":3");
    let ended = lines.end();
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    let empty = ended.logged("the flight recorder is empty");
    assert_eq!(empty.len(), 1, "{}", ended.stderr);
    assert_eq!((&empty[0]["cause"], &empty[0]["recorded"]), (&"SIGUSR1".into(), &0.into()));
    let all = told(&ended);
    let causes: Vec<_> = all.iter().map(|told| &told.head["cause"]).collect();
    assert_eq!(causes, ["SIGUSR1", "SIGUSR1", "shutdown"]);
    let counts: Vec<_> = all.iter().map(|told| told.entries.len()).collect();
    assert_eq!(counts, [1, 3, 3]);
    assert_eq!(all[0].events(), all[1].events()[..1]);
    assert_eq!(path(&all[0].entries[0]), ["in", "picky"]);
    assert_eq!(all[0].entries[0]["position"], "stdin:2");
}

#[test]
fn sigusr1_is_answered_and_survived_while_telemetry_is_off() {
    let mut lines = Lines::start(|_| {});
    lines.handle("bad\ngood\n");
    lines.ask("the flight recorder is off");
    lines.handle("good\n");
    let ended = lines.end();
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert_eq!(ended.drained()["completed"], 2);
    let off = ended.logged("the flight recorder is off");
    assert_eq!(off.len(), 1, "{}", ended.stderr);
    assert!(off[0]["hint"].as_str().unwrap().contains("`FLOWGEN_TELEMETRY__ENABLED=true`"), "{}", off[0]);
    assert_eq!(told(&ended).len(), 0);
}

/// Scenario: nothing is logged. Guarantee: who asks is answered, and nobody else is told anything.
#[test]
fn the_log_filter_silences_what_nobody_asked_for() {
    let mut lines = Lines::start(|command| {
        to_nobody(command);
        command.env("RUST_LOG", "off");
    });
    lines.handle("bad\ngood\n");
    lines.ask("\"message\":\"flight record\"");
    let ended = lines.end();
    assert_eq!(told_once(&ended).head["cause"], "SIGUSR1");
    assert_eq!(ended.logs().len(), 2, "{}", ended.stderr);

    let told_of = |directives: &'static str| {
        let ended = run(&failing(1, ""), |command| {
            command.env("RUST_LOG", directives);
        });
        told(&ended).len()
    };
    assert_eq!(told_of("info"), 1);
    assert_eq!(told_of("warn"), 0);
    assert_eq!(told_of("warn,flowgen::telemetry::flight=info"), 1);
    assert_eq!(told_of("info,flowgen::telemetry::flight=off"), 0);
}

/// Scenario: a script keeps the only thread of all tasks busy for good. Guarantee: who asks is answered.
#[test]
fn a_task_that_never_yields_cannot_hold_up_the_answer() {
    let yaml = "
shutdown_timeout: 1s
flow:
  tasks:
    - generate: {name: numbers, count: 2}
    - script: {name: picky, code: 'if event.id == \"0\" { throw \"no zero\" } event'}
    - script:
        name: endless
        code: 'print(\"busy\"); while true {}'
        limits: {max_operations: 1000000000000}
";
    let worker = Worker::start_with(yaml, &[], |command| {
        to_nobody(command);
        command.env("TOKIO_WORKER_THREADS", "1");
    });
    worker.until_logged("busy");
    worker.signal(Signal::USR1);
    worker.until_logged("\"message\":\"flight record\"");
    worker.signal(Signal::TERM);
    let ended = worker.ends_in_time();
    assert_eq!(ended.code, Some(4), "{}", ended.stderr);
    let causes: Vec<_> = told(&ended).into_iter().map(|told| told.head["cause"].clone()).collect();
    assert_eq!(causes, ["SIGUSR1", "shutdown"]);
}

/// Scenario: nobody reads stdout, so that the flow cannot drain. Guarantee: a second signal leaves all behind but what
/// happened.
#[test]
fn an_end_at_once_still_tells() {
    let yaml = LINES.replace("1s", "1h");
    let mut worker = Worker::start_with(&yaml, &[], to_nobody);
    let (stdout, mut stdin) = (worker.stdout(), worker.stdin());
    rustix::pipe::fcntl_setpipe_size(&stdout, 4096).unwrap();
    let long = [vec![b'x'; 8192], b"\nbad\n".to_vec()].concat();
    stdin.write_all(&long).unwrap();
    worker.until_logged("event failed");
    worker.signal(Signal::TERM);
    worker.until_logged("stopping");
    worker.signal(Signal::INT);
    let ended = worker.ends_in_time();
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    let told = told_once(&ended);
    assert_eq!((&told.head["cause"], told.entries.len()), (&"shutdown".into(), 1), "{}", ended.stderr);
    drop((stdin, stdout));
}

/// Scenario: two branches of an event fail, each for its own reason. Guarantee: both ways are told.
#[test]
fn each_branch_that_fails_is_told() {
    let yaml = "
shutdown_timeout: 1s
flow:
  tasks:
    - generate: {name: numbers, count: 1}
    - script: {name: left, code: 'throw \"to the left\"'}
    - script: {name: right, code: 'throw \"to the right\"', depends_on: [numbers]}
";
    let ended = run(yaml, |_| {});
    let told = told_once(&ended);
    let mut paths: Vec<_> = told.entries.iter().map(path).collect();
    paths.sort_unstable();
    assert_eq!(paths, [["numbers", "left"], ["numbers", "right"]]);
    assert_eq!(told.entries[0]["trace_id"], told.entries[1]["trace_id"]);
}
