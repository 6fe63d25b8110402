//! A worker process under test: its folder, its pipes, its signals and what it leaves on stderr.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fs::File,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Resource, Rlimit, Signal};
use serde_json::Value;
use tempfile::TempDir;

use super::flowgen;

/// How long a test waits for a worker that should have ended before it says that it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A worker that runs, in a folder of its own.
pub(crate) struct Worker {
    child: Child,
    stderr: JoinHandle<String>,
    /// The lines of stderr as they come.
    logged: mpsc::Receiver<String>,
    /// Those of them that a test has waited past.
    seen: RefCell<Vec<String>>,
    pub(crate) folder: TempDir,
}

/// A worker that has ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) folder: TempDir,
}

impl Worker {
    /// Starts `flowgen run` of a flow, with its files in a new folder.
    pub(crate) fn start(yaml: &str, files: &[(&str, &[u8])]) -> Self {
        Self::start_with(yaml, files, |_| {})
    }

    /// As [`Self::start`], with what `prepare` does to the command.
    pub(crate) fn start_with(
        yaml: &str,
        files: &[(&str, &[u8])],
        prepare: impl FnOnce(&mut Command),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        std::fs::write(folder.path().join("flow.yaml"), yaml).unwrap();
        Self::start_in(folder, &["run", "flow.yaml"], prepare)
    }

    /// Starts a command in a folder that is ready for it.
    pub(crate) fn start_in(folder: TempDir, arguments: &[&str], prepare: impl FnOnce(&mut Command)) -> Self {
        let mut command = flowgen(folder.path());
        command.args(arguments);
        prepare(&mut command);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let pipe = BufReader::new(child.stderr.take().unwrap());
        let (sender, logged) = mpsc::channel();
        let stderr = std::thread::spawn(move || {
            let lines = pipe.lines().map(Result::unwrap).inspect(|line| drop(sender.send(line.clone())));
            lines.fold(String::new(), |text, line| text + line.as_str() + "\n")
        });
        Self { child, stderr, logged, seen: RefCell::default(), folder }
    }

    pub(crate) fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().unwrap()
    }

    pub(crate) fn stdout(&mut self) -> ChildStdout {
        self.child.stdout.take().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Limits how many files it may have open.
    pub(crate) fn limit_files(&self, count: u64) {
        let limit = Rlimit { current: Some(count), maximum: Some(count) };
        rustix::process::prlimit(Some(Pid::from_child(&self.child)), Resource::Nofile, limit).unwrap();
    }

    /// Limits how many bytes a file may have that it writes to, or lifts that limit.
    pub(crate) fn limit_file_size(&self, bytes: Option<u64>) {
        let limit = Rlimit { current: bytes, maximum: None };
        rustix::process::prlimit(Some(Pid::from_child(&self.child)), Resource::Fsize, limit).unwrap();
    }

    /// Waits until a line on stderr contains `text`: one that came already, or a later one.
    pub(crate) fn until_logged(&self, text: &str) {
        let mut seen = self.seen.borrow_mut();
        let mut is_logged = seen.iter().any(|line| line.contains(text));
        while !is_logged {
            let line = self.logged.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("`{text}` was never logged, but {seen:#?}"));
            is_logged = line.contains(text);
            seen.push(line);
        }
    }

    /// Returns whether a line on stderr that came already contains `text`.
    pub(crate) fn has_logged(&self, text: &str) -> bool {
        let mut seen = self.seen.borrow_mut();
        seen.extend(self.logged.try_iter());
        seen.iter().any(|line| line.contains(text))
    }

    /// Waits for a line on stderr that contains `text` and that no test has waited past. Returns it.
    pub(crate) fn next_logged(&self, text: &str) -> String {
        let mut seen = self.seen.borrow_mut();
        loop {
            let line = self.logged.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("`{text}` was not logged again, but {seen:#?}"));
            seen.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Returns how many lines on stderr contain `text`, of those that a test has waited past.
    pub(crate) fn count_logged(&self, text: &str) -> usize {
        self.seen.borrow().iter().filter(|line| line.contains(text)).count()
    }

    /// Returns how many files it has open.
    pub(crate) fn open_files(&self) -> usize {
        self.proc("fd").read_dir().unwrap().count()
    }

    /// As [`Self::wait`], for a worker that must end by itself: one that hangs is killed, and the test fails.
    pub(crate) fn ends_in_time(self) -> Ended {
        let limit = Instant::now() + PATIENCE;
        loop {
            match self.logged.recv_timeout(limit.saturating_duration_since(Instant::now())) {
                Ok(_) => {}
                // It has closed stderr.
                Err(RecvTimeoutError::Disconnected) => return self.wait(String::new()),
                Err(RecvTimeoutError::Timeout) => {
                    self.signal(Signal::KILL);
                    panic!("it hangs: {}", self.wait(String::new()).stderr);
                }
            }
        }
    }

    /// Returns a figure of `/proc/<pid>/status`, in KiB.
    pub(crate) fn memory(&self, key: &str) -> u64 {
        let mut text = String::new();
        File::open(self.proc("status")).unwrap().read_to_string(&mut text).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Returns the names of its threads.
    pub(crate) fn threads(&self) -> BTreeSet<String> {
        let threads = self.proc("task").read_dir().unwrap().map(|thread| thread.unwrap().path().join("comm"));
        // A thread may end before its name is read.
        threads
            .filter_map(|name| std::fs::read_to_string(name).ok())
            .map(|name| name.trim().to_owned())
            .collect()
    }

    /// Returns how many threads it has.
    pub(crate) fn thread_count(&self) -> usize {
        self.proc("task").read_dir().unwrap().count()
    }

    /// Returns how many of its open files are TCP sockets.
    pub(crate) fn tcp_sockets(&self) -> usize {
        let tables =
            ["net/tcp", "net/tcp6"].map(|name| std::fs::read_to_string(self.proc(name)).unwrap_or_default());
        let inodes: BTreeSet<&str> = tables
            .iter()
            .flat_map(|table| table.lines().skip(1))
            .filter_map(|line| line.split_whitespace().nth(9))
            .collect();
        let files = self.proc("fd").read_dir().unwrap();
        let targets = files.filter_map(|file| std::fs::read_link(file.unwrap().path()).ok());
        let is_tcp = |target: &PathBuf| {
            let target = target.to_string_lossy();
            let inode = target.strip_prefix("socket:[").and_then(|inode| inode.strip_suffix(']'));
            inode.is_some_and(|inode| inodes.contains(inode))
        };
        targets.filter(is_tcp).count()
    }

    fn proc(&self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string()).join(name)
    }

    /// Closes stdin, reads stdout to its end if nobody else does, and waits.
    pub(crate) fn end(mut self) -> Ended {
        drop(self.child.stdin.take());
        self.end_with_stdin_open()
    }

    /// As [`Self::end`], but whoever holds stdin keeps it open.
    pub(crate) fn end_with_stdin_open(mut self) -> Ended {
        let mut stdout = String::new();
        if let Some(mut pipe) = self.child.stdout.take() {
            pipe.read_to_string(&mut stdout).unwrap();
        }
        self.wait(stdout)
    }

    /// Waits without touching the pipes.
    pub(crate) fn wait(mut self, stdout: String) -> Ended {
        // `Child::wait` would close stdin first.
        let stdin = self.child.stdin.take();
        let code = self.child.wait().unwrap().code();
        drop(stdin);
        Ended { code, stdout, stderr: self.stderr.join().unwrap(), folder: self.folder }
    }
}

impl Ended {
    /// Returns the log lines.
    pub(crate) fn logs(&self) -> Vec<Value> {
        let parse =
            |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not a JSON log line: {line}"));
        self.stderr.lines().map(parse).collect()
    }

    /// Returns the log lines with this message.
    pub(crate) fn logged(&self, message: &str) -> Vec<Value> {
        self.logs().into_iter().filter(|line| line["message"] == message).collect()
    }

    /// Returns the only `flow drained` line, after checking that it adds up.
    pub(crate) fn drained(&self) -> Value {
        let mut lines = self.logged("flow drained");
        assert_eq!(lines.len(), 1, "{}", self.stderr);
        let line = lines.remove(0);
        let count = |key: &str| line[key].as_u64().unwrap_or_else(|| panic!("no `{key}` in {line}"));
        let outcomes =
            ["completed", "filtered", "dropped", "dead_lettered", "expired", "cancelled", "failed"];
        let settled: u64 = outcomes.iter().map(|outcome| count(outcome)).sum();
        assert_eq!(count("entered"), settled + count("inflight"), "{line}");
        assert_eq!(count("inflight"), 0, "{line}");
        line
    }

    pub(crate) fn lines(&self, name: impl AsRef<Path>) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.path().join(name)).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

/// Runs a flow to its end.
pub(crate) fn run(yaml: &str, files: &[(&str, &[u8])]) -> Ended {
    Worker::start(yaml, files).end()
}
