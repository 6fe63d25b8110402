//! Workers that are killed at any moment: nothing that a source can be asked again is lost, and nothing that a queue has
//! accepted.
//!
//! `FLOWGEN_TEST_KILLS` says how often one is killed, `FLOWGEN_TEST_BINARY` names another binary (a released one),
//! `FLOWGEN_TEST_SEED` repeats the moments.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    fmt::Write as _,
    fs,
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use flowgen::state::{Owner, Queue, State};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::flowgen;

/// How often a worker is killed, if not told otherwise.
const KILLS: usize = 12;

/// The lines of the input for each time: about as many as a worker handles between two commits.
const LINES: u64 = 7_500;

const FLOW: &str = "
state: {path: state}
logging: {level: warn}
flow:
  name: copy
  tasks:
    - file: {name: read, path: input}
    - script: {name: mark, code: 'let n = 0; while n < 100 { n += 1; } event.data.seen = true; event'}
    - file_write: {name: write, path: out}
";

#[expect(clippy::disallowed_methods, reason = "settings of this test, not of flowgen")]
fn setting(name: &str) -> Option<String> {
    env::var(name).ok()
}

pub(super) fn kills() -> usize {
    setting("FLOWGEN_TEST_KILLS").map_or(KILLS, |kills| kills.parse().unwrap())
}

pub(super) fn rng() -> fastrand::Rng {
    let seed = setting("FLOWGEN_TEST_SEED").map_or_else(|| fastrand::u64(..), |seed| seed.parse().unwrap());
    let _ = writeln!(io::stderr(), "FLOWGEN_TEST_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

/// Returns the command that runs the flow of a folder.
pub(super) fn worker(folder: &Path) -> Command {
    let mut command = flowgen(folder);
    command.args(["run", "flow.yaml"]).stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(fs::File::create(folder.join("stderr")).unwrap());
    command
}

/// Waits until a file has grown to a length, or the worker has ended.
pub(super) fn until_long(path: &Path, length: u64, worker: &mut Child) {
    while fs::metadata(path).map_or(0, |file| file.len()) < length && worker.try_wait().unwrap().is_none() {
        thread::yield_now();
    }
}

/// The output of a flow, of which only what is new is read again.
pub(super) struct Output {
    path: PathBuf,
    /// The bytes of whole lines that were read.
    read: u64,
}

impl Output {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, read: 0 }
    }

    /// Returns what `read` makes of the whole lines that are new, in order, and how many bytes of a torn one follow.
    pub(super) fn rest<T>(&mut self, read: impl Fn(&Value) -> T) -> (Vec<T>, usize) {
        let mut text = String::new();
        if let Ok(mut file) = fs::File::open(&self.path) {
            file.seek(io::SeekFrom::Start(self.read)).unwrap();
            file.read_to_string(&mut text).unwrap();
        }
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let each = |line: &str| {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert_eq!(line["seen"], true, "{line}");
            read(&line)
        };
        self.read += whole as u64;
        (text[..whole].lines().map(each).collect(), text.len() - whole)
    }
}

/// Returns where a source of the flow is done up to, if that is kept.
fn position(folder: &Path) -> Option<Value> {
    if !folder.join("state/state.redb").exists() {
        return None;
    }
    let state = State::look_into(&folder.join("state")).unwrap();
    let positions = state.positions(Owner { flow: "copy", task: "read" }).unwrap();
    assert!(positions.len() <= 1, "{positions:?}");
    positions.into_iter().next().map(|position| position.at)
}

/// Returns how many bytes of the input are done for good.
fn kept(folder: &Path) -> u64 {
    position(folder).map_or(0, |at| at["offset"].as_u64().unwrap())
}

/// What came of a worker that was killed again and again.
struct Account {
    /// How often each number is in the output.
    seen: Vec<u32>,
    /// The one behind the last in the output, and how many different ones there are.
    last: Option<u64>,
    distinct: u64,
    /// All before this one are in the output.
    whole: u64,
    /// The numbers that a run may begin with.
    starts: BTreeSet<u64>,
    done: u64,
    /// How many events were done, and not for good, at each kill.
    again: Vec<u64>,
}

impl Account {
    fn new() -> Self {
        let (seen, starts, again) = (Vec::new(), BTreeSet::from([0]), Vec::new());
        Self { seen, last: None, distinct: 0, whole: 0, starts, done: 0, again }
    }

    /// Adds what is new in the output.
    fn add(&mut self, numbers: &[u64]) {
        for number in numbers {
            if self.last.is_some_and(|last| *number != last + 1) {
                assert!(self.starts.contains(number), "a run began at {number} and not where one was done");
            }
            self.last = Some(*number);
            let index = usize::try_from(*number).unwrap();
            self.seen.resize(self.seen.len().max(index + 1), 0);
            self.distinct += u64::from(self.seen[index] == 0);
            self.seen[index] += 1;
        }
        let whole = self.seen[self.whole as usize..].iter().take_while(|times| **times > 0).count();
        self.whole += whole as u64;
    }

    /// Checks the output of a worker that was killed when the first `done` events were done for good.
    fn killed(&mut self, numbers: &[u64], done: u64) {
        self.add(numbers);
        assert!(done >= self.done, "the position went back from {} to {done}", self.done);
        assert!(self.whole >= done, "{done} are said to be done, but {} is not in the output", self.whole);
        self.again.push(self.distinct - done);
        self.starts.insert(done);
        self.done = done;
    }

    /// Checks the output when all `count` events are done.
    fn ended(mut self, numbers: &[u64], count: u64) {
        self.add(numbers);
        assert_eq!(
            (self.whole, self.distinct),
            (count, count),
            "some are missing, or there is more than came in"
        );
        let written: u64 = self.seen.iter().map(|times| u64::from(*times)).sum();
        let most: u64 = self.again.iter().sum();
        assert!(written <= count + most, "more than what was not done for good is done again");
        assert!(self.starts.len() > 2, "no run got far enough to be done with anything");
        let _ = writeln!(
            io::stderr(),
            "{count} events, {} done again, at most {:?} after a kill; runs began at {} different ones",
            written - count,
            self.again.iter().max(),
            self.starts.len()
        );
    }
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
    let count = LINES * kills() as u64;
    for n in 0..count {
        number_at.insert(input.len() as u64, n);
        writeln!(input, "{{\"n\":{n}}}").unwrap();
    }
    number_at.insert(input.len() as u64, count);
    fs::write(folder.join("input"), &input).unwrap();
    fs::write(folder.join("flow.yaml"), FLOW).unwrap();
    let out: PathBuf = folder.join("out");
    let (mut account, mut output) = (Account::new(), Output::new(out.clone()));
    for kill in 0..kills() {
        let mut child = worker(folder).spawn().unwrap();
        let length = fs::metadata(&out).map_or(0, |file| file.len());
        // About what is left, in as many pieces as there are kills.
        let step = (input.len() as u64 * 2).saturating_sub(length) / (kills() - kill) as u64;
        until_long(&out, length + rng.u64(0..=2 * step), &mut child);
        let _ = kill_process(Pid::from_child(&child), Signal::KILL);
        child.wait().unwrap();
        let (numbers, _) = output.rest(|line| line["n"].as_u64().unwrap());
        account.killed(&numbers, number_at[&kept(folder)]);
    }
    let ended = worker(folder).status().unwrap();
    let log = fs::read_to_string(folder.join("stderr")).unwrap();
    assert_eq!(ended.code(), Some(0), "{log}");
    let (numbers, torn) = output.rest(|line| line["n"].as_u64().unwrap());
    assert_eq!(torn, 0);
    account.ended(&numbers, count);
    assert_eq!(kept(folder), input.len() as u64, "a worker that ended is done with all");
}

const DURABLE: &str = "
state: {path: state}
logging: {level: warn}
flow:
  name: copy
  durable: {max_bytes: 1MiB, fsync: FSYNC}
  tasks:
    - stdin: {name: read}
    - script: {name: mark, code: 'let n = 0; while n < 100 { n += 1; } event.data.seen = true; event'}
    - file_write: {name: write, path: out}
";

/// What whoever feeds a worker writes at once.
const AT_ONCE: u64 = 500;

/// Feeds a worker until it does not read any more.
fn feed(mut stdin: impl io::Write, run: usize) {
    for first in (0..).step_by(usize::try_from(AT_ONCE).unwrap()) {
        let mut lines = String::new();
        for n in first..first + AT_ONCE {
            writeln!(lines, "{{\"run\":{run},\"n\":{n}}}").unwrap();
        }
        if stdin.write_all(lines.as_bytes()).is_err() {
            return;
        }
    }
}

/// Returns how far the queue is done, and the number of the event behind the last one that it has accepted, by a look at a
/// copy of it.
fn accepted(folder: &Path) -> (u64, u64) {
    let queue = folder.join("state/queues/copy/read");
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(queue).into_iter().flatten() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    let opened = Queue::open(copy.path(), 1 << 20).unwrap();
    (opened.reader.next(), opened.queue.end())
}

/// Scenario: a worker of a durable flow is killed at random moments while it is fed by a pipe, which cannot be asked again.
/// Guarantee: everything that its queue has accepted arrives, in order but for what is done again, and none is torn.
#[test]
fn a_killed_worker_loses_nothing_that_its_queue_has_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut rng = rng();
    let out = folder.join("out");
    // The number of the first event that each run accepted: those of a run follow each other.
    let mut firsts = vec![0];
    let number = |firsts: &[u64], line: &Value| {
        firsts[usize::try_from(line["run"].as_u64().unwrap()).unwrap()] + line["n"].as_u64().unwrap()
    };
    let (mut account, mut output) = (Account::new(), Output::new(out.clone()));
    let mut recovered = 0;
    for run in 0..kills() {
        let fsync = ["always", "interval"][rng.usize(0..2)];
        fs::write(folder.join("flow.yaml"), DURABLE.replace("FSYNC", fsync)).unwrap();
        let mut child = worker(folder).stdin(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        let feeder = thread::spawn(move || feed(stdin, run));
        let length = fs::metadata(&out).map_or(0, |file| file.len());
        until_long(&out, length + rng.u64(0..200_000), &mut child);
        let _ = kill_process(Pid::from_child(&child), Signal::KILL);
        child.wait().unwrap();
        feeder.join().unwrap();
        let (done, end) = accepted(folder);
        let (numbers, _) = output.rest(|line| number(&firsts, line));
        account.killed(&numbers, done);
        assert!(account.seen.len() as u64 <= end, "an event is in the output that was not accepted");
        recovered += end - account.seen.len() as u64;
        firsts.push(end);
    }
    let ended = worker(folder).status().unwrap();
    let log = fs::read_to_string(folder.join("stderr")).unwrap();
    assert_eq!(ended.code(), Some(0), "{log}");
    let (numbers, torn) = output.rest(|line| number(&firsts, line));
    assert_eq!(torn, 0);
    account.ended(&numbers, *firsts.last().unwrap());
    assert!(recovered > 0, "no event was in the queue alone when a worker was killed");
    let _ =
        writeln!(io::stderr(), "{recovered} events in all were in the queue alone when a worker was killed");
}

/// Scenario: a worker of a durable flow that reads a file is killed at random moments. Guarantee: whatever the source is done
/// with is in the queue, so that every line arrives.
#[test]
fn a_killed_worker_of_a_durable_flow_loses_no_line_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut rng = rng();
    let count = LINES * kills() as u64;
    let input: String = (0..count).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    fs::write(folder.join("input"), &input).unwrap();
    let out = folder.join("out");
    let mut positions = BTreeSet::new();
    for kill in 0..kills() {
        let fsync = ["always", "interval"][rng.usize(0..2)];
        let yaml =
            DURABLE.replace("FSYNC", fsync).replace("stdin: {name: read}", "file: {name: read, path: input}");
        fs::write(folder.join("flow.yaml"), yaml).unwrap();
        let mut child = worker(folder).spawn().unwrap();
        let length = fs::metadata(&out).map_or(0, |file| file.len());
        let step = (input.len() as u64 * 2).saturating_sub(length) / (kills() - kill) as u64;
        until_long(&out, length + rng.u64(0..=2 * step), &mut child);
        let _ = kill_process(Pid::from_child(&child), Signal::KILL);
        child.wait().unwrap();
        positions.insert(kept(folder));
    }
    let ended = worker(folder).status().unwrap();
    assert_eq!(ended.code(), Some(0), "{}", fs::read_to_string(folder.join("stderr")).unwrap());
    let (mut numbers, torn) = Output::new(out).rest(|line| line["n"].as_u64().unwrap());
    numbers.sort_unstable();
    numbers.dedup();
    assert!(torn == 0 && numbers.into_iter().eq(0..count), "some of {count} are missing");
    assert!(positions.len() > 2, "the source was never done with anything");
}
