//! A process under test: what it says, how it is asked to stop, and how it ended.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread::JoinHandle,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Far more than anything here takes: a process that hangs fails its test.
const PATIENCE: Duration = Duration::from_secs(300);

/// A process that runs. It is killed when nobody holds it any more.
pub(crate) struct Process {
    child: Child,
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<String>>,
    /// The lines of both streams as they come.
    said: Receiver<String>,
}

/// A process that has ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self::spawn(command.stdin(Stdio::null()))
    }

    /// Starts one that reads what is written to the pipe that is returned.
    pub(crate) fn fed(command: &mut Command) -> (Self, ChildStdin) {
        let mut process = Self::spawn(command.stdin(Stdio::piped()));
        let stdin = process.child.stdin.take().unwrap();
        (process, stdin)
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (sender, said) = mpsc::channel();
        let stdout = Some(collect(child.stdout.take().unwrap(), sender.clone()));
        let stderr = Some(collect(child.stderr.take().unwrap(), sender));
        Self { child, stdout, stderr, said }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until each of these texts is in some line, and returns whether that was before the streams closed.
    pub(crate) fn said(&self, texts: &[&str]) -> bool {
        let mut missing = texts.to_vec();
        while !missing.is_empty() {
            match self.said.recv_timeout(PATIENCE) {
                Ok(line) => missing.retain(|text| !line.contains(text)),
                Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) => panic!("it fell silent without saying {missing:?}"),
            }
        }
        true
    }

    /// Waits for texts that must come.
    pub(crate) fn until(&mut self, texts: &[&str]) {
        if !self.said(texts) {
            let ended = self.take();
            panic!("it ended with {:?} without saying {texts:?}:\n{}", ended.code, ended.stderr);
        }
    }

    /// Waits for a line with this text, and returns it.
    pub(crate) fn line(&mut self, text: &str) -> String {
        loop {
            match self.said.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(text) => return line,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => panic!("it fell silent without saying `{text}`"),
                Err(RecvTimeoutError::Disconnected) => {
                    let ended = self.take();
                    panic!("it ended with {:?} without saying `{text}`:\n{}", ended.code, ended.stderr);
                }
            }
        }
    }

    /// Reads both streams to their end and waits.
    pub(crate) fn end(mut self) -> Ended {
        loop {
            match self.said.recv_timeout(PATIENCE) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return self.take(),
                Err(RecvTimeoutError::Timeout) => panic!("it neither ends nor says anything"),
            }
        }
    }

    /// Asks it to stop, and waits.
    pub(crate) fn stop(self) -> Ended {
        signal(self.id(), Signal::TERM);
        self.end()
    }

    fn take(&mut self) -> Ended {
        let code = self.child.wait().unwrap().code();
        let [stdout, stderr] =
            [&mut self.stdout, &mut self.stderr].map(|stream| stream.take().unwrap().join().unwrap());
        Ended { code, stdout, stderr }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // What has ended already cannot be killed, and that is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// Returns the log lines of a flowgen process.
    pub(crate) fn lines(&self) -> impl Iterator<Item = Value> {
        self.stderr
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not a JSON log line: {line}")))
    }

    /// Returns the only log line with this message.
    pub(crate) fn only(&self, message: &str) -> Value {
        let mut lines: Vec<_> = self.lines().filter(|line| line["message"] == message).collect();
        assert_eq!(lines.len(), 1, "`{message}` in\n{}", self.stderr);
        lines.remove(0)
    }
}

pub(crate) fn signal(process: u32, signal: Signal) {
    let id = i32::try_from(process).ok().and_then(Pid::from_raw).unwrap();
    kill_process(id, signal).unwrap();
}

fn collect(stream: impl Read + Send + 'static, said: Sender<String>) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let lines = BufReader::new(stream).lines().map(Result::unwrap);
        lines.fold(String::new(), |mut all, line| {
            all.push_str(&line);
            all.push('\n');
            let _ = said.send(line);
            all
        })
    })
}
