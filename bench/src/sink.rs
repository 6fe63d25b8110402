//! The collector that telemetry is exported to. It counts what is in the exports that it takes.
//!
//! It is a process of its own, so that its time is not the worker's.

mod behaviour;
mod server;
mod tally;

use std::{
    env,
    io::{BufRead, BufReader, Read},
    process::{Child, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, ensure};

pub(crate) use behaviour::{Behaviour, PERMISSION_DENIED, RESOURCE_EXHAUSTED, UNAVAILABLE};
pub(crate) use tally::Tally;

/// The argument that makes this program a collector. What it is to do comes behind it.
pub(crate) const ARGUMENT: &str = "sink";

/// Is a collector, until stdin ends.
pub(crate) fn serve(behaviour: &str) -> Result<()> {
    server::serve(serde_json::from_str(behaviour)?)
}

/// A collector that runs until it is asked for its tally, or until this process ends.
pub(crate) struct Sink {
    child: Child,
    stdout: BufReader<ChildStdout>,
    pub(crate) endpoint: String,
}

impl Sink {
    /// Starts this program as a collector.
    pub(crate) fn start(behaviour: Behaviour) -> Result<Self> {
        let mut child = Command::new(env::current_exe()?)
            .args([ARGUMENT, &serde_json::to_string(&behaviour)?])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut stdout = BufReader::new(child.stdout.take().context("no stdout")?);
        let mut address = String::new();
        stdout.read_line(&mut address)?;
        ensure!(!address.is_empty(), "the collector did not start");
        Ok(Self { child, stdout, endpoint: format!("http://{}", address.trim()) })
    }

    /// Ends it and returns what it counted.
    pub(crate) fn finish(mut self) -> Result<Tally> {
        drop(self.child.stdin.take());
        let mut tally = String::new();
        self.stdout.read_to_string(&mut tally)?;
        self.child.wait()?;
        serde_json::from_str(&tally).context("the collector did not end as it should")
    }
}
