//! A disk that is full: nothing is lost, and work goes on when there is room again.

use std::{
    fmt::Write as _,
    fs, io,
    path::Path,
    process::Command,
    thread::{self, JoinHandle},
};

use serde_json::Value;

use crate::process::{Ended, Process};

/// What the disk holds, and what is left of it at first.
const DISK: u64 = 4 << 20;
const ROOM: u64 = 600 << 10;

const LINES: u64 = 60_000;

/// A small file system, until it is dropped.
struct Disk<'a>(&'a Path);

impl<'a> Disk<'a> {
    fn mount(path: &'a Path) -> Self {
        fs::create_dir(path).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={DISK}"), "tmpfs"])
            .arg(path)
            .status()
            .unwrap();
        assert!(mounted.success(), "these tests lay mounts: run them as root");
        Self(path)
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flowgen"));
    command.args(["run", "flow.yaml"]).current_dir(folder).env_clear();
    command
}

fn worker(folder: &Path) -> Process {
    Process::start(&mut command(folder))
}

/// Starts a worker that is fed lines with numbers until it does not read any more.
fn fed_worker(folder: &Path, run: u64) -> (Process, JoinHandle<()>) {
    let (worker, mut stdin) = Process::fed(&mut command(folder));
    let feeding = thread::spawn(move || {
        for n in 0..LINES {
            if io::Write::write_all(&mut stdin, format!("{{\"run\":{run},\"n\":{n}}}\n").as_bytes()).is_err()
            {
                return;
            }
        }
    });
    (worker, feeding)
}

fn kill(worker: Process) -> Ended {
    let pid = rustix::process::Pid::from_raw(worker.id().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    worker.end()
}

/// Scenario: output and state are on a disk that becomes full. The worker is killed then, and another one is started; later
/// there is room. Guarantee: both say what is the matter and go on trying, every line arrives whole, none is left out.
#[test]
fn a_full_disk_holds_up_a_flow_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let path = folder.join("disk");
    let _disk = Disk::mount(&path);
    let mut input = String::new();
    (0..LINES).for_each(|n| writeln!(input, "{{\"n\":{n}}}").unwrap());
    fs::write(folder.join("input"), &input).unwrap();
    let filler = path.join("filler");
    fs::write(&filler, vec![0; usize::try_from(DISK - ROOM).unwrap()]).unwrap();
    let yaml = "
state: {path: disk/state}
retry: {max_attempts: 2, initial_backoff: 50ms, max_backoff: 200ms}
flow:
  name: copy
  tasks:
    - file: {name: read, path: input}
    - script: {name: mark, code: 'event.data.seen = true; event'}
    - file_write: {name: write, path: disk/out}
";
    fs::write(folder.join("flow.yaml"), yaml).unwrap();
    let mut first = worker(folder);
    first.until(&["storage_full", "events failed for now"]);
    kill(first);
    let mut second = worker(folder);
    second.until(&["storage_full", "events failed for now"]);
    fs::remove_file(&filler).unwrap();
    let ended = second.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let text = fs::read_to_string(path.join("out")).unwrap();
    assert!(text.ends_with('\n'));
    let mut numbers: Vec<u64> = text
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            line["n"].as_u64().unwrap()
        })
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert!(numbers.into_iter().eq(0..LINES), "lines are missing");
}

/// Scenario: the queue of a durable flow is on a disk that becomes full. The worker is killed then, and another one is started;
/// later there is room. Guarantee: the source waits meanwhile, what was accepted arrives, and so does all that comes later.
#[test]
fn a_full_disk_makes_the_source_of_a_durable_flow_wait() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let path = folder.join("disk");
    let _disk = Disk::mount(&path);
    let filler = path.join("filler");
    fs::write(&filler, vec![0; usize::try_from(DISK - ROOM).unwrap()]).unwrap();
    let yaml = "
state: {path: disk/state}
flow:
  name: copy
  durable: {max_bytes: 64MiB}
  tasks:
    - stdin: {name: read}
    - throttle: {name: calm, rate: 20000}
    - file_write: {name: write, path: out}
";
    fs::write(folder.join("flow.yaml"), yaml).unwrap();
    let full = "what the source brings in cannot be kept, the source waits";
    let (mut first, feeding) = fed_worker(folder, 0);
    first.until(&[full]);
    kill(first);
    feeding.join().unwrap();
    let (mut second, feeding) = fed_worker(folder, 1);
    second.until(&[full]);
    fs::remove_file(&filler).unwrap();
    feeding.join().unwrap();
    let ended = second.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let text = fs::read_to_string(folder.join("out")).unwrap();
    assert!(text.ends_with('\n'));
    let mut arrived: Vec<(u64, u64)> = text
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            (line["run"].as_u64().unwrap(), line["n"].as_u64().unwrap())
        })
        .collect();
    arrived.sort_unstable();
    arrived.dedup();
    let of_first = arrived.iter().filter(|(run, _)| *run == 0).count() as u64;
    assert!((1_000..LINES).contains(&of_first), "the first worker accepted {of_first}");
    // What was accepted has no gap, and all of the second run is there.
    assert!(arrived.into_iter().eq((0..of_first).map(|n| (0, n)).chain((0..LINES).map(|n| (1, n)))));
}
