//! The signals that a worker hears: those that end it, the one that asks for a reload, and the one that asks what
//! happened.

use std::{
    convert::Infallible,
    future::pending,
    io::{self, IsTerminal, stderr},
    time::{Duration, Instant},
};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::telemetry::FlightRecorder;

/// The number of the signal for a file that is larger than the process may make one (Linux, macOS, BSD).
const SIGXFSZ: i32 = 25;

/// A signal that comes again so soon is the same one: `timeout` signals a process and then its group.
const SAME_SIGNAL: Duration = Duration::from_millis(100);

/// The signals that end a worker, while there is one of these.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Hangup,
    /// Listened to so that a file that may not grow is an error of its write, and not the end.
    _file_size: Signal,
    /// The number of the last one, and when it came.
    last: Option<(u8, Instant)>,
}

pub(super) struct Received {
    pub(super) name: &'static str,
    pub(super) number: u8,
}

impl Received {
    /// Returns the exit code of a command that the signal ends.
    pub(super) fn exit_code(&self) -> u8 {
        128 + self.number
    }
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: Hangup::new()?,
            _file_size: signal(SignalKind::from_raw(SIGXFSZ))?,
            last: None,
        })
    }

    /// Waits for the next signal. May be given up at any time.
    pub(super) async fn next(&mut self) -> Received {
        loop {
            let received = tokio::select! {
                _ = self.terminate.recv() => Received { name: "SIGTERM", number: 15 },
                _ = self.interrupt.recv() => Received { name: "SIGINT", number: 2 },
                () = self.hangup.next(Means::End) => Received { name: "SIGHUP", number: 1 },
            };
            let is_same =
                |(number, came): (u8, Instant)| number == received.number && came.elapsed() <= SAME_SIGNAL;
            if !self.last.is_some_and(is_same) {
                self.last = Some((received.number, Instant::now()));
                return received;
            }
        }
    }
}

/// SIGHUP. It asks for a reload, unless it comes because the terminal is gone that the worker was started from.
struct Hangup {
    signal: Signal,
    /// Whether there was a terminal.
    is_on_terminal: bool,
}

/// What SIGHUP can mean.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Means {
    End,
    Reload,
}

impl Hangup {
    fn new() -> io::Result<Self> {
        Ok(Self { signal: signal(SignalKind::hangup())?, is_on_terminal: stderr().is_terminal() })
    }

    /// Waits for the next one that means this.
    async fn next(&mut self, means: Means) {
        while self.signal.recv().await.is_some() {
            let is_gone = self.is_on_terminal && !stderr().is_terminal();
            if (if is_gone { Means::End } else { Means::Reload }) == means {
                return;
            }
        }
        pending().await
    }
}

/// The signal that asks for a reload, while there is one of these. Without it the signal would end the process.
pub(super) struct Hangups(Hangup);

impl Hangups {
    pub(super) fn new() -> io::Result<Self> {
        Hangup::new().map(Self)
    }

    /// Waits for the next one. May be given up at any time.
    pub(super) async fn next(&mut self) {
        self.0.next(Means::Reload).await;
    }
}

/// The signal that asks what happened, while there is one of these. Without it the signal would end the process.
pub(super) struct Questions(Signal);

impl Questions {
    pub(super) fn new() -> io::Result<Self> {
        signal(SignalKind::user_defined1()).map(Self)
    }

    /// Answers them for as long as it is polled.
    pub(super) async fn answer(mut self, flight: FlightRecorder) -> Infallible {
        while self.0.recv().await.is_some() {
            flight.tell_all("SIGUSR1");
        }
        pending().await
    }
}
