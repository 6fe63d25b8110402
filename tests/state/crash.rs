//! Workers that are killed at any moment: nothing that a source can be asked again is lost.
//!
//! `FLOWGEN_TEST_KILLS` says how often one is killed, `FLOWGEN_TEST_BINARY` names another binary (a released one),
//! `FLOWGEN_TEST_SEED` repeats the moments.

use std::{
    collections::BTreeMap,
    env,
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use flowgen::state::{Owner, State};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::flowgen;

/// How often a worker is killed, if not told otherwise.
const KILLS: usize = 12;

/// The lines of the input.
const LINES: u64 = 60_000;

const FLOW: &str = "
state: {path: state}
logging: {level: warn}
flow:
  name: copy
  tasks:
    - file: {name: read, path: input}
    - script: {name: mark, code: 'event.data.seen = true; event'}
    - file_write: {name: write, path: out}
";

#[expect(clippy::disallowed_methods, reason = "settings of this test, not of flowgen")]
fn setting(name: &str) -> Option<String> {
    env::var(name).ok()
}

fn kills() -> usize {
    setting("FLOWGEN_TEST_KILLS").map_or(KILLS, |kills| kills.parse().unwrap())
}

fn rng() -> fastrand::Rng {
    let seed = setting("FLOWGEN_TEST_SEED").map_or_else(|| fastrand::u64(..), |seed| seed.parse().unwrap());
    let _ = writeln!(io::stderr(), "FLOWGEN_TEST_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

/// Returns the command that runs the flow of a folder.
fn worker(folder: &Path) -> Command {
    let mut command = flowgen(folder);
    if let Some(binary) = setting("FLOWGEN_TEST_BINARY") {
        let mut other = Command::new(fs::canonicalize(binary).unwrap());
        other.current_dir(folder).env("NO_COLOR", "1");
        command = other;
    }
    command.args(["run", "flow.yaml"]).stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(fs::File::create(folder.join("log")).unwrap());
    command
}

/// Waits until a file has grown to a length, or the worker has ended.
fn until_long(path: &Path, length: u64, worker: &mut Child) {
    while fs::metadata(path).map_or(0, |file| file.len()) < length && worker.try_wait().unwrap().is_none() {
        thread::yield_now();
    }
}

/// Returns the numbers in whole lines of the output, in order, and how many bytes of a torn one follow.
fn written(out: &Path) -> (Vec<u64>, usize) {
    let text = fs::read_to_string(out).unwrap_or_default();
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    let number = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(line["seen"], true, "{line}");
        line["n"].as_u64().unwrap()
    };
    (text[..whole].lines().map(number).collect(), text.len() - whole)
}

/// Returns how many bytes of the input are done for good.
fn kept(folder: &Path) -> u64 {
    if !folder.join("state/state.redb").exists() {
        return 0;
    }
    let state = State::look_into(&folder.join("state")).unwrap();
    let positions = state.positions(Owner { flow: "copy", task: "read" }).unwrap();
    assert!(positions.len() <= 1, "{positions:?}");
    positions.first().map_or(0, |position| position.at["offset"].as_u64().unwrap())
}

/// Scenario: a worker that copies a file is killed at random moments, again and again. Guarantee: it goes on where it
/// had said that it was done, never behind that, every line arrives, in order but for what is done again, and none is torn.
#[test]
fn a_killed_worker_loses_no_line_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut rng = rng();
    let mut input = String::new();
    let mut number_at = BTreeMap::new();
    for n in 0..LINES {
        number_at.insert(input.len() as u64, n);
        writeln!(input, "{{\"n\":{n}}}").unwrap();
    }
    number_at.insert(input.len() as u64, LINES);
    fs::write(folder.join("input"), &input).unwrap();
    fs::write(folder.join("flow.yaml"), FLOW).unwrap();
    let out: PathBuf = folder.join("out");
    let (mut before, mut again, mut starts) = (0, Vec::new(), vec![0]);
    for kill in 0..kills() {
        let mut child = worker(folder).spawn().unwrap();
        let length = fs::metadata(&out).map_or(0, |file| file.len());
        // About what is left, in as many pieces as there are kills.
        let step = (input.len() as u64 * 2).saturating_sub(length) / (kills() - kill) as u64;
        until_long(&out, length + rng.u64(0..=2 * step), &mut child);
        let _ = kill_process(Pid::from_child(&child), Signal::KILL);
        child.wait().unwrap();
        let (numbers, _) = written(&out);
        let done = number_at[&kept(folder)];
        assert!(done >= before, "the position went back from {before} to {done}");
        let mut sorted = numbers.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert!(
            sorted.iter().copied().take(done as usize).eq(0..done),
            "{done} lines are said to be done, but not all of them are in the output"
        );
        again.push(sorted.len() as u64 - done);
        starts.push(done);
        before = done;
    }
    let ended = worker(folder).status().unwrap();
    let log = fs::read_to_string(folder.join("log")).unwrap();
    assert_eq!(ended.code(), Some(0), "{log}");
    let (numbers, torn) = written(&out);
    assert_eq!(torn, 0);
    for pair in numbers.windows(2).filter(|pair| pair[1] != pair[0] + 1) {
        assert!(starts.contains(&pair[1]), "a run began at {} and not at any of {starts:?}", pair[1]);
    }
    let most: u64 = again.iter().sum();
    assert!(numbers.len() as u64 <= LINES + most, "more than what was not done for good is done again");
    let mut sorted = numbers;
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len() as u64, LINES);
    assert_eq!(kept(folder), input.len() as u64, "a worker that ended is done with all");
    let _ = writeln!(io::stderr(), "lines done again after each kill: {again:?}");
}
