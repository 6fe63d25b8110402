//! The progress line: on a terminal only.

use std::{fs::File, io::Read, process::Stdio};

use rustix::{
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

#[test]
fn a_finite_flow_shows_its_progress_on_a_terminal_and_logs_text() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("flow.yaml"), FINITE).unwrap();
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&controller).unwrap();
    unlockpt(&controller).unwrap();
    let size = Winsize { ws_row: 24, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&controller, size).unwrap();
    let name = ptsname(&controller, Vec::new()).unwrap();
    let terminal = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let mut child = flowgen(folder.path())
        .args(["run", "flow.yaml"])
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::from(terminal))
        .spawn()
        .unwrap();
    // The end of a terminal is an error (EIO), not an end of file.
    let mut shown = Vec::new();
    let mut controller = File::from(controller);
    let mut chunk = [0; 4096];
    while let Ok(read @ 1..) = controller.read(&mut chunk) {
        shown.extend_from_slice(&chunk[..read]);
    }
    assert!(child.wait().unwrap().success());
    let shown = String::from_utf8_lossy(&shown);
    for part in ["/20,000 rows", "events/s", "in flight", "failed", "left", "flow drained"] {
        assert!(shown.contains(part), "`{part}` is not in {shown:?}");
    }
    assert!(!shown.contains(r#""message""#), "text was expected on a terminal: {shown:?}");
}

#[test]
fn nothing_of_it_where_stderr_is_no_terminal() {
    let ended = run(FINITE, &[]);
    assert_eq!(ended.code, Some(0));
    assert_eq!(ended.logs().len(), 1, "{}", ended.stderr);
    assert_eq!(ended.drained()["completed"], 20_000);
}
