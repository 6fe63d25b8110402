//! The one thread that writes to the standard output of the process.
//!
//! A thread of its own, which nobody joins: a reader that does not read blocks neither a worker of the
//! runtime nor the exit. Past Rust's own buffer, which would split batches at line ends of its choice.

use std::{
    fs::File,
    io::{self, ErrorKind, IsTerminal, Write},
    os::fd::AsFd,
    sync::OnceLock,
    thread,
    time::Duration,
};

use memchr::memchr;
use tokio::sync::{mpsc, oneshot};

use crate::telemetry::stderr;

/// How long to wait before another attempt at an output that is full and does not block.
const FULL_PAUSE: Duration = Duration::from_millis(1);

/// Hands lines to the thread.
#[derive(Clone, Debug)]
pub(super) struct Writer(mpsc::Sender<Job>);

#[derive(Debug)]
struct Job {
    lines: Vec<u8>,
    done: oneshot::Sender<Written>,
}

/// How a write went.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) result: io::Result<()>,
    /// What was not written; an empty buffer to be used again if all was.
    pub(super) rest: Vec<u8>,
    /// How many bytes before it were.
    pub(super) count: usize,
    /// How many bytes of the rest end a line that was begun.
    pub(super) torn: usize,
}

/// A write that is under way.
#[derive(Debug)]
pub(super) struct Writing(oneshot::Receiver<Written>);

impl Writer {
    /// Returns the writer of this process, which the first call starts.
    pub(super) fn stdout() -> io::Result<Self> {
        static WRITER: OnceLock<Writer> = OnceLock::new();
        if let Some(writer) = WRITER.get() {
            return Ok(writer.clone());
        }
        // Two first calls at once may make two; one of them is used, and the other ends unused.
        let output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let writer = if output.is_terminal() { Self::start(Terminal(output))? } else { Self::start(output)? };
        Ok(WRITER.get_or_init(|| writer).clone())
    }

    /// Starts a thread that writes to `output`.
    pub(super) fn start(mut output: impl Write + Send + 'static) -> io::Result<Self> {
        let (sender, mut jobs) = mpsc::channel::<Job>(1);
        thread::Builder::new().name("flowgen-stdout".to_owned()).spawn(move || {
            while let Some(Job { mut lines, done }) = jobs.blocking_recv() {
                let (count, result) = write_all(&mut output, &lines);
                let is_torn = count > 0 && lines[count - 1] != b'\n';
                lines.drain(..count);
                let torn = if is_torn { memchr(b'\n', &lines).map_or(0, |end| end + 1) } else { 0 };
                // Nobody waits any more at the end of the process.
                drop(done.send(Written { result, rest: lines, count, torn }));
            }
        })?;
        Ok(Self(sender))
    }

    /// Waits while the thread has other lines to write. Safe to drop and call again.
    pub(super) async fn ready(&self) -> Turn<'_> {
        // Without the thread there is no turn, and `finished` says so.
        Turn(self.0.reserve().await.ok())
    }
}

/// The right to write next.
#[derive(Debug)]
pub(super) struct Turn<'a>(Option<mpsc::Permit<'a, Job>>);

impl Turn<'_> {
    /// Hands over lines.
    pub(super) fn write(self, lines: Vec<u8>) -> Writing {
        let (done, receiver) = oneshot::channel();
        if let Some(permit) = self.0 {
            permit.send(Job { lines, done });
        }
        Writing(receiver)
    }
}

impl Writing {
    /// Waits for the end of it. Safe to drop and call again.
    ///
    /// # Errors
    /// The thread that writes has ended, and the lines with it.
    pub(super) async fn finished(&mut self) -> io::Result<Written> {
        (&mut self.0).await.map_err(|_| io::Error::other("the thread that writes has ended"))
    }
}

/// A terminal, on which the live line of stderr may stand where the next row belongs.
struct Terminal(File);

impl Write for Terminal {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        stderr::around(|| self.0.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Writes all of `bytes`, and returns how many of them it wrote before it failed.
fn write_all(output: &mut impl Write, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut count = 0;
    while count < bytes.len() {
        match output.write(&bytes[count..]) {
            Ok(0) => return (count, Err(ErrorKind::WriteZero.into())),
            Ok(written) => count += written,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(FULL_PAUSE),
            Err(error) => return (count, Err(error)),
        }
    }
    (count, Ok(()))
}
