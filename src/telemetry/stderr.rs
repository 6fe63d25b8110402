//! The one way to stderr: log lines and the live line never tear each other.

use std::{
    io::{self, Write},
    sync::{Mutex, PoisonError},
};

use indicatif::ProgressBar;

/// The line that is redrawn at the bottom of a terminal, while there is one.
static LIVE: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Writes whole lines to stderr. A stderr that is gone is nobody's error.
pub fn write(lines: &[u8]) {
    around(|| drop(io::stderr().lock().write_all(lines)));
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
    let previous = std::mem::replace(&mut *LIVE.lock().unwrap_or_else(PoisonError::into_inner), bar);
    if let Some(bar) = previous {
        bar.finish_and_clear();
    }
}
