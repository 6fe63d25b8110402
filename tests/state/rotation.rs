//! A file that is followed while it is appended to, renamed and truncated, by workers that are killed meanwhile.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use rustix::process::{Pid, Signal, kill_process};

use super::crash::{Output, kills, rng, until_long, worker};

const FLOW: &str = "
state: {path: state}
logging: {level: error}
flow:
  name: tail
  tasks:
    - file: {name: read, path: 'log*', follow: true}
    - script: {name: mark, code: 'event.data.seen = true; event'}
    - file_write: {name: write, path: out}
";

/// Bytes of a line of the output, about, how many of them the log may be ahead, and how many are read between two rotations.
const LINE: u64 = 24;
const AHEAD: u64 = 60_000;
const READ: u64 = 3_000;

/// Writes a log of numbered lines as programs and rotation tools do.
struct Writer {
    folder: PathBuf,
    log: File,
    rng: fastrand::Rng,
    lines: u64,
    rotations: u32,
    /// How long the output was at the last rotation.
    output: u64,
}

impl Writer {
    fn new(folder: &Path, rng: fastrand::Rng) -> Self {
        let log = Self::open(folder);
        Self { folder: folder.to_owned(), log, rng, lines: 0, rotations: 0, output: 0 }
    }

    fn open(folder: &Path) -> File {
        OpenOptions::new().create(true).append(true).open(folder.join("log")).unwrap()
    }

    fn append(&mut self) {
        let count = self.rng.u64(1..60);
        let lines: String = (self.lines..self.lines + count).map(|n| format!("{{\"n\":{n}}}\n")).collect();
        // A line may be there in two parts.
        let (one, other) = lines.as_bytes().split_at(self.rng.usize(0..lines.len()));
        self.log.write_all(one).unwrap();
        self.log.write_all(other).unwrap();
        self.lines += count;
    }

    /// Does what comes next: rotates only what was read from a little, and is never far ahead of who reads.
    fn act(&mut self) {
        let output = fs::metadata(self.folder.join("out")).map_or(0, |file| file.len());
        let (is_ahead, is_read) = (self.lines * LINE > output + AHEAD, output > self.output + READ);
        match self.rng.u32(0..10) {
            0 if is_read => self.rename(),
            1 if is_read => self.copy_and_truncate(),
            _ if is_ahead => return,
            _ => return self.append(),
        }
        self.output = output;
        self.rotations += 1;
    }

    fn rotated(&self) -> PathBuf {
        self.folder.join(format!("log.{}", self.rotations))
    }

    fn rename(&mut self) {
        fs::rename(self.folder.join("log"), self.rotated()).unwrap();
        // It writes on to the old one for a moment.
        self.append();
        self.log = Self::open(&self.folder);
    }

    fn copy_and_truncate(&mut self) {
        fs::copy(self.folder.join("log"), self.rotated()).unwrap();
        self.log.set_len(0).unwrap();
    }
}

/// Scenario: a log is appended to, renamed, and copied and truncated at any moment, while a worker that follows it is killed
/// and started again. Guarantee: every line arrives, whole.
#[test]
fn no_line_is_lost_when_a_log_is_rotated_and_its_reader_killed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut rng = rng();
    fs::write(folder.join("flow.yaml"), FLOW).unwrap();
    let mut writer = Writer::new(folder, rng.fork());
    let out = folder.join("out");
    for _ in 0..kills() {
        let mut child = worker(folder).spawn().unwrap();
        let length = fs::metadata(&out).map_or(0, |file| file.len());
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    writer.act();
                    thread::yield_now();
                }
            });
            until_long(&out, length + rng.u64(0..60_000), &mut child);
            let _ = kill_process(Pid::from_child(&child), Signal::KILL);
            child.wait().unwrap();
            is_over.store(true, Ordering::Relaxed);
        });
        (0..rng.u32(0..60)).for_each(|_| writer.act());
    }
    let mut child = worker(folder).spawn().unwrap();
    let (mut output, mut arrived) = (Output::new(out), BTreeSet::new());
    while (arrived.len() as u64) < writer.lines {
        assert!(
            child.try_wait().unwrap().is_none(),
            "{}",
            fs::read_to_string(folder.join("stderr")).unwrap()
        );
        arrived.extend(output.rest(|line| line["n"].as_u64().unwrap()).0);
        thread::yield_now();
    }
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let (rest, torn) = output.rest(|line| line["n"].as_u64().unwrap());
    arrived.extend(rest);
    assert!(torn == 0 && arrived.into_iter().eq(0..writer.lines));
    let _ = writeln!(io::stderr(), "{} lines, {} rotations", writer.lines, writer.rotations);
}
