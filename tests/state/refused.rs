//! A state that a worker cannot have: it says why and what to do, starts nothing, and leaves it as it is.

use std::{fs, process::Output};

use crate::support::{flowgen, worker::Worker};

const FLOW: &str = "
state: {path: state}
flow: {name: f, tasks: [{stdin: {name: in}}, {stdout: {name: out}}]}
";

fn run(folder: &std::path::Path) -> Output {
    flowgen(folder).args(["run", "flow.yaml"]).output().unwrap()
}

#[track_caller]
fn assert_refused(output: &Output, why: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(why), "{said}");
    assert!(said.ends_with("nothing was started\n"), "{said}");
}

#[test]
fn a_second_worker_of_a_state_is_told_who_has_it() {
    let mut worker = Worker::start(FLOW, &[]);
    // What comes out has gone through a worker that has its state.
    let stdin = worker.stdin();
    std::io::Write::write_all(&mut &stdin, b"1\n").unwrap();
    let mut first = [0];
    std::io::Read::read_exact(&mut worker.stdout(), &mut first).unwrap();
    assert_refused(&run(worker.folder.path()), "is in use by process");
    drop(stdin);
    let ended = worker.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

#[test]
fn a_state_that_is_none_is_left_as_it_is() {
    let ended = Worker::start(FLOW, &[]).end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let folder = ended.folder.path();
    let file = folder.join("state/state.redb");
    let whole = fs::read(&file).unwrap();
    for broken in [&whole[..whole.len() / 2], &b"somebody's notes\n".repeat(500), &[]] {
        fs::write(&file, broken).unwrap();
        assert_refused(&run(folder), "state.redb");
        assert_eq!(fs::read(&file).unwrap(), broken);
    }
    fs::remove_file(&file).unwrap();
    assert_refused(&run(folder), "`state.redb` is gone");
    fs::write(&file, &whole).unwrap();
    assert_eq!(run(folder).status.code(), Some(0));
    fs::remove_dir_all(folder.join("state")).unwrap();
    fs::write(folder.join("state"), "a file").unwrap();
    assert_refused(&run(folder), "cannot make the directory");
}
