//! The signals that end a command.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The number of the signal for a file that is larger than the process may make one (Linux, macOS, BSD).
const SIGXFSZ: i32 = 25;

/// The signals that end a worker, while there is one of these.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// Listened to so that a file that may not grow is an error of its write, and not the end.
    _file_size: Signal,
}

pub(super) struct Received {
    pub(super) name: &'static str,
    pub(super) number: u8,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            _file_size: signal(SignalKind::from_raw(SIGXFSZ))?,
        })
    }

    pub(super) async fn next(&mut self) -> Received {
        tokio::select! {
            _ = self.terminate.recv() => Received { name: "SIGTERM", number: 15 },
            _ = self.interrupt.recv() => Received { name: "SIGINT", number: 2 },
        }
    }
}
