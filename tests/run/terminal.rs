//! The progress line: on a terminal only.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    process::Stdio,
};

use rustix::{
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use crate::support::{flowgen, worker::run};

const FINITE: &str = "
flow:
  tasks:
    - generate: {name: numbers, count: 20000}
    - script: {name: same, code: event}
    - file_write: {name: out, path: out.jsonl}
";

/// Opens a terminal: the side of whoever shows it, and the side of the program.
fn open() -> (File, File) {
    // The program must not keep the other side open.
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&controller).unwrap();
    unlockpt(&controller).unwrap();
    let size = Winsize { ws_row: 24, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&controller, size).unwrap();
    let name = ptsname(&controller, Vec::new()).unwrap();
    let terminal = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    (File::from(controller), terminal)
}

/// Runs a flow with its stderr on a terminal, its stdout too if `is_shared`, and returns what was shown.
fn show(yaml: &str, is_shared: bool) -> String {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("flow.yaml"), yaml).unwrap();
    let (mut controller, terminal) = open();
    let stdout = if is_shared { Stdio::from(terminal.try_clone().unwrap()) } else { Stdio::null() };
    let mut child = flowgen(folder.path())
        .args(["run", "flow.yaml"])
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(Stdio::from(terminal))
        .spawn()
        .unwrap();
    // The end of a terminal is an error (EIO), not an end of file.
    let mut shown = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(read @ 1..) = controller.read(&mut chunk) {
        shown.extend_from_slice(&chunk[..read]);
    }
    assert!(child.wait().unwrap().success());
    String::from_utf8_lossy(&shown).into_owned()
}

#[test]
fn a_finite_flow_shows_its_progress_on_a_terminal_and_logs_text() {
    let shown = show(FINITE, false);
    for part in ["/20,000 rows", "events/s", "in flight", "failed", "left", "flow drained"] {
        assert!(shown.contains(part), "`{part}` is not in {shown:?}");
    }
    assert!(!shown.contains(r#""message""#), "text was expected on a terminal: {shown:?}");
}

/// Scenario: rows and the progress line go to one terminal. Guarantee: each row has a line of its own.
#[test]
fn rows_and_the_progress_line_on_one_terminal_do_not_tear_each_other() {
    let shown = show(
        "flow: {tasks: [{generate: {name: n, count: 500, rate: 1000, payload: {a: b}}}, {stdout: {name: o}}]}",
        true,
    );
    assert!(shown.contains("/500 rows"), "{shown:?}");
    // A line starts behind a line end, or where one was cleared.
    let lines: Vec<_> = shown.replace("\x1b[2K", "\r").split(['\r', '\n']).map(str::to_owned).collect();
    let rows = lines.iter().filter(|line| *line == r#"{"a":"b"}"#).count();
    assert_eq!(rows, 500, "{shown:?}");
    assert!(lines.iter().all(|line| !line.contains("{\"a\"") || line == r#"{"a":"b"}"#), "{shown:?}");
}

/// Scenario: SIGHUP comes while the terminal of the worker is there, and again when it was closed. Guarantee: the one is a
/// reload, and the other the end.
#[test]
fn a_hangup_is_the_end_once_the_terminal_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = "flow: {tasks: [{generate: {name: numbers, interval: 1h}}, {stdout: {name: out}}]}";
    std::fs::write(folder.path().join("flow.yaml"), yaml).unwrap();
    let (controller, terminal) = open();
    let mut child = flowgen(folder.path())
        .args(["run", "flow.yaml"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::from(terminal))
        .spawn()
        .unwrap();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    kill_process(Pid::from_child(&child), Signal::HUP).unwrap();
    let mut shown = BufReader::new(controller).lines();
    shown.find(|line| line.as_ref().unwrap().contains("reload found nothing changed")).unwrap().unwrap();
    drop(shown);
    kill_process(Pid::from_child(&child), Signal::HUP).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn nothing_of_it_where_stderr_is_no_terminal() {
    let ended = run(FINITE, &[]);
    assert_eq!(ended.code, Some(0));
    assert_eq!(ended.logs().len(), 1, "{}", ended.stderr);
    assert_eq!(ended.drained()["completed"], 20_000);
}
