//! SIGTERM, SIGINT, and a second one.

use std::{
    io::{BufRead, BufReader, ErrorKind, Write},
    process::{ChildStdin, ChildStdout},
};

use rustix::{
    fs::{CWD, FileType, Mode},
    process::Signal,
};

use crate::support::worker::Worker;

const ENDLESS: &str = "
shutdown_timeout: 20s
flow:
  tasks:
    - generate: {name: numbers, payload: {text: hello}}
    - filter: {name: all, condition: 'event.data.text == \"hello\"'}
    - stdout: {name: out}
";

/// What cannot drain: stdin and stdout both hang.
const BLOCKED: &str = "
channel_capacity: 16
flow:
  tasks:
    - stdin: {name: in, format: text}
    - stdout: {name: out}
";

#[test]
fn a_signal_in_the_middle_drains_and_the_account_adds_up() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut worker = Worker::start(ENDLESS, &[]);
        let mut lines = BufReader::new(worker.stdout()).lines();
        for _ in 0..10_000 {
            lines.next().unwrap().unwrap();
        }
        worker.signal(signal);
        let rest = lines.map(Result::unwrap).count() as u64;
        let ended = worker.end();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let drained = ended.drained();
        assert_eq!(drained["completed"], 10_000 + rest);
        assert_eq!(drained["completed"], drained["entered"]);
    }
}

/// Starts a worker whose stdin stays open and whose stdout nobody reads, and fills it to the brim: the
/// pipe to it, the worker, and the pipe from it.
fn blocked(shutdown_timeout: &str) -> (Worker, ChildStdin, ChildStdout) {
    let mut worker = Worker::start(&format!("shutdown_timeout: {shutdown_timeout}{BLOCKED}"), &[]);
    let stdout = worker.stdout();
    let mut stdin = worker.stdin();
    rustix::pipe::fcntl_setpipe_size(&stdout, 4096).unwrap();
    rustix::io::ioctl_fionbio(&stdin, true).unwrap();
    let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
    let mut refused = 0;
    while refused < 1000 || rustix::io::ioctl_fionread(&stdout).unwrap() == 0 {
        match stdin.write(&line) {
            Ok(_) => refused = 0,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                refused += 1;
            }
        }
        std::thread::yield_now();
    }
    (worker, stdin, stdout)
}

#[test]
fn with_stdin_and_stdout_blocked_the_deadline_holds_and_the_account_adds_up() {
    let (worker, stdin, stdout) = blocked("1s");
    worker.signal(Signal::TERM);
    let ended = worker.wait(String::new());
    assert_eq!(ended.code, Some(4), "{}", ended.stderr);
    let drained = ended.drained();
    assert!(drained["cancelled"].as_u64().unwrap() > 0, "{drained}");
    assert_eq!(drained["failed"], 0);
    drop((stdin, stdout));
}

#[test]
fn a_second_signal_ends_it_at_once_and_says_what_is_left() {
    let (worker, stdin, stdout) = blocked("1h");
    worker.signal(Signal::TERM);
    worker.until_logged("stopping");
    worker.signal(Signal::INT);
    let ended = worker.wait(String::new());
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    let left = ended.logged("second signal: exits at once and leaves this behind");
    assert!(left[0]["inflight"].as_u64().unwrap() > 0, "{}", ended.stderr);
    drop((stdin, stdout));
}

/// A long-running worker that met a bad record is not a failed run when it is told to stop.
#[test]
fn a_signal_after_a_failed_event_is_still_a_clean_end() {
    let yaml = "
flow:
  tasks:
    - generate: {name: numbers}
    - script: {name: picky, code: 'if event.id == \"5\" { throw \"no fives\" } event'}
    - stdout: {name: out}
";
    let mut worker = Worker::start(yaml, &[]);
    let mut lines = BufReader::new(worker.stdout()).lines();
    for _ in 0..10 {
        lines.next().unwrap().unwrap();
    }
    worker.signal(Signal::TERM);
    lines.for_each(|line| drop(line.unwrap()));
    let ended = worker.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.drained()["failed"], 1);
}

/// Scenario: a source waits for the writer of a named pipe. Guarantee: a signal ends it as any other.
#[test]
fn a_pipe_without_a_writer_holds_up_neither_the_start_nor_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let yaml = format!(
        "flow: {{tasks: [{{file: {{name: in, path: {}}}}}, {{generate: {{name: numbers}}}}, {{stdout: {{name: out}}}}]}}",
        pipe.display()
    );
    let mut worker = Worker::start(&yaml, &[]);
    let mut lines = BufReader::new(worker.stdout()).lines();
    lines.next().unwrap().unwrap();
    worker.signal(Signal::TERM);
    lines.for_each(drop);
    let ended = worker.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    ended.drained();
}
