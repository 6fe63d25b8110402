//! The one way to stderr: log lines and the live line never tear each other, and a reader that does not
//! read stops nobody.
//!
//! Lines go to a thread of their own through a bounded queue. A full queue makes the writer of a line wait,
//! so that a log is complete while its reader is slow; once nothing has moved for a second, lines are
//! dropped and counted until it moves again.

use std::{
    io::{self, Write},
    mem,
    sync::{Condvar, Mutex, MutexGuard, Once, PoisonError},
    time::Duration,
};

use indicatif::ProgressBar;

/// Bytes that may wait to be written.
const ROOM: usize = 1 << 20;
/// How long a full queue may stand still before lines are dropped.
const PATIENCE: Duration = Duration::from_secs(1);

static QUEUE: Queue = Queue {
    state: Mutex::new(State { waiting: Vec::new(), is_writing: false, is_stuck: false, dropped: 0 }),
    has_lines: Condvar::new(),
    has_moved: Condvar::new(),
};

/// The line that is redrawn at the bottom of a terminal, while there is one.
static LIVE: Mutex<Option<ProgressBar>> = Mutex::new(None);

struct Queue {
    state: Mutex<State>,
    has_lines: Condvar,
    has_moved: Condvar,
}

struct State {
    waiting: Vec<u8>,
    is_writing: bool,
    is_stuck: bool,
    dropped: u64,
}

/// Writes whole lines to stderr. A stderr that is gone is nobody's error.
pub fn write(lines: &[u8]) {
    static WRITER: Once = Once::new();
    WRITER.call_once(|| {
        // Without a thread the lines wait for `drain`.
        let _ = std::thread::Builder::new().name("stderr".into()).spawn(|| QUEUE.write_forever());
    });
    QUEUE.push(lines);
}

/// Waits until everything is written, but not for a reader that does not read.
pub fn drain() {
    let mut state = QUEUE.lock();
    while !state.is_stuck && (state.is_writing || !state.waiting.is_empty()) {
        state = QUEUE.wait_for_move(state);
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, lines: &[u8]) {
        let mut state = self.lock();
        while !state.is_stuck && state.waiting.len() > ROOM {
            state = self.wait_for_move(state);
        }
        if state.waiting.len() > ROOM {
            state.dropped += 1;
            return;
        }
        state.waiting.extend_from_slice(lines);
        drop(state);
        self.has_lines.notify_one();
    }

    /// Waits until the thread has written something; if it has not in time, it is stuck.
    fn wait_for_move<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let waited = self.has_moved.wait_timeout(state, PATIENCE);
        let (mut state, result) = waited.unwrap_or_else(PoisonError::into_inner);
        state.is_stuck |= result.timed_out();
        state
    }

    fn write_forever(&self) {
        let mut lines = Vec::new();
        loop {
            let mut state = self.lock();
            while state.waiting.is_empty() {
                state = self.has_lines.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            mem::swap(&mut state.waiting, &mut lines);
            if mem::take(&mut state.dropped) > 0 {
                lines.extend_from_slice(b"flowgen: log lines were dropped here, because nobody read them\n");
            }
            state.is_writing = true;
            drop(state);
            around(|| drop(io::stderr().lock().write_all(&lines)));
            lines.clear();
            let mut state = self.lock();
            state.is_writing = false;
            state.is_stuck = false;
            drop(state);
            self.has_moved.notify_all();
        }
    }
}

/// Takes the live line away while `write` writes to the terminal it is on.
///
/// The lock is not held meanwhile: a terminal that was stopped must not hold up whoever has no line on it.
pub fn around<R>(write: impl FnOnce() -> R) -> R {
    let live = LIVE.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match live {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// Shows `bar` at the bottom of the terminal, or takes the one shown away.
pub fn set_live(bar: Option<ProgressBar>) {
    let previous = mem::replace(&mut *LIVE.lock().unwrap_or_else(PoisonError::into_inner), bar);
    if let Some(bar) = previous {
        bar.finish_and_clear();
    }
}
