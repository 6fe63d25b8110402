//! Readers of stdout that are slow, stop, or go away; memory meanwhile.

use std::{
    io::{BufRead, BufReader, Write},
    process::Stdio,
};

use rustix::{
    fs::{FileType, Mode, OFlags},
    process::{Pid, Signal},
};

use crate::support::{
    flowgen,
    worker::{Ended, Worker},
};

#[test]
fn a_reader_that_goes_away_ends_the_flow_quietly() {
    let yaml = "flow: {tasks: [{generate: {name: numbers}}, {stdout: {name: out}}]}";
    let mut worker = Worker::start(yaml, &[]);
    let mut stdout = BufReader::new(worker.stdout());
    stdout.read_line(&mut String::new()).unwrap();
    drop(stdout);
    let ended = worker.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.drained()["failed"], 0);
    assert!(ended.logs().iter().all(|line| line["level"] == "INFO"), "{}", ended.stderr);
}

/// Runs numbers without end into a file of this path.
fn writing_to(path: &str) -> Worker {
    let yaml = format!(
        "flow: {{tasks: [{{generate: {{name: numbers}}}}, {{file_write: {{name: out, path: {path}}}}}]}}"
    );
    Worker::start(&yaml, &[])
}

fn assert_quiet(ended: &Ended) {
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.drained()["failed"], 0);
    assert!(ended.logs().iter().all(|line| line["level"] == "INFO"), "{}", ended.stderr);
}

#[test]
fn a_reader_of_a_named_pipe_that_goes_away_ends_the_flow_quietly() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let first =
        rustix::fs::open(&path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let worker = writing_to(path.to_str().unwrap());
    let mut reader = BufReader::new(std::fs::File::open(&path).unwrap());
    drop(first);
    reader.read_line(&mut String::new()).unwrap();
    drop(reader);
    assert_quiet(&worker.end());
}

#[test]
fn a_reader_of_dev_stdout_that_goes_away_ends_the_flow_quietly() {
    let mut worker = writing_to("/dev/stdout");
    let mut stdout = BufReader::new(worker.stdout());
    stdout.read_line(&mut String::new()).unwrap();
    drop(stdout);
    assert_quiet(&worker.end());
}

/// Scenario: there are more files than the process may have open. Guarantee: others are closed for them.
#[test]
fn a_limit_of_open_files_is_kept_by_closing_some() {
    let yaml = "
flow:
  tasks:
    - stdin: {name: in, format: text}
    - file_write: {name: out, path: 'out/{{ event.data }}', format: text}
";
    let mut worker = Worker::start(yaml, &[]);
    let mut stdin = worker.stdin();
    writeln!(stdin, "first").unwrap();
    while !worker.folder.path().join("out/first").exists() {
        std::thread::yield_now();
    }
    worker.limit_files(40);
    for file in (0..60).chain(0..60) {
        writeln!(stdin, "{file}").unwrap();
    }
    drop(stdin);
    let ended = worker.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.drained()["completed"], 121);
    assert!(ended.logged("attempt failed, trying again").is_empty(), "{}", ended.stderr);
    for file in 0..60 {
        assert_eq!(ended.lines(format!("out/{file}")), [file.to_string(), file.to_string()]);
    }
}

/// Scenario: nobody reads stdout. Guarantee: the source stops; what has entered is what fits into the
/// pipe, what the source has staged, the channel, and a batch (which is no more than a channel holds).
#[test]
fn a_reader_that_stops_reading_stops_the_source() {
    let yaml = "
shutdown_timeout: 1s
channel_capacity: 100
flow:
  tasks:
    - generate: {name: numbers, payload: {text: \"0123456789012345678901234567890123456789\"}}
    - stdout: {name: out}
";
    let row = r#"{"text":"0123456789012345678901234567890123456789"}"#.len() as u64 + 1;
    let mut worker = Worker::start(yaml, &[]);
    let stdout = worker.stdout();
    // A pipe of one page: a write that does not fit behind what is there waits.
    let pipe = 4096;
    rustix::pipe::fcntl_setpipe_size(&stdout, pipe).unwrap();
    let (mut waiting, mut unchanged) = (0, 0);
    while waiting == 0 || unchanged < 10_000 {
        let now = rustix::io::ioctl_fionread(&stdout).unwrap();
        unchanged = if now == waiting { unchanged + 1 } else { 0 };
        waiting = now;
        std::thread::yield_now();
    }
    worker.signal(Signal::TERM);
    let ended = worker.wait(String::new());
    assert_eq!(ended.code, Some(4), "{}", ended.stderr);
    let entered = ended.drained()["entered"].as_u64().unwrap();
    assert!(entered <= pipe as u64 / row + 2 * 100 + 64, "{entered}");
    drop(stdout);
}

/// Scenario: a million events through a reader that is slower than the source. Guarantee: memory is flat.
#[test]
fn a_million_events_through_a_slow_reader_leave_memory_flat() {
    let yaml = "
flow:
  tasks:
    - generate: {name: numbers, count: 1000000, payload: {text: hello}}
    - script: {name: mark, code: 'event.data.seen = true; event'}
    - stdout: {name: out}
";
    let mut worker = Worker::start(yaml, &[]);
    let mut lines = BufReader::new(worker.stdout()).lines();
    let mut read = |count: usize| assert_eq!(lines.by_ref().take(count).map(Result::unwrap).count(), count);
    read(100_000);
    let early = worker.memory("VmRSS");
    read(850_000);
    let late = worker.memory("VmRSS");
    read(50_000);
    let ended = worker.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.drained()["completed"], 1_000_000);
    assert!(late < early + 4 * 1024, "{early} KiB after a tenth, {late} KiB near the end");
}

/// Scenario: nobody reads stderr, and a flow logs all the time. Guarantee: another flow goes on, a signal
/// ends the worker, and every event is handled.
#[test]
fn a_reader_of_logs_that_stops_reading_holds_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = "
flows:
  - {name: noisy, tasks: [{generate: {name: numbers}}, {log: {name: log}}]}
  - {name: quiet, tasks: [{generate: {name: numbers}}, {stdout: {name: out}}]}
";
    std::fs::write(folder.path().join("flow.yaml"), yaml).unwrap();
    let mut child = flowgen(folder.path())
        .args(["run", "flow.yaml"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = child.stderr.take().unwrap();
    rustix::pipe::fcntl_setpipe_size(&stderr, 4096).unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while rustix::io::ioctl_fionread(&stderr).unwrap() == 0 {
        lines.next().unwrap().unwrap();
    }
    for _ in 0..100_000 {
        lines.next().unwrap().unwrap();
    }
    rustix::process::kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    lines.for_each(|line| drop(line.unwrap()));
    assert_eq!(child.wait().unwrap().code(), Some(0));
    drop(stderr);
}
