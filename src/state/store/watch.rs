//! Whether a state can be written, for whoever asks how the worker is.

use std::{
    sync::{PoisonError, Weak, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{Inner, format_change};

/// The shortest pause between two writes that only try whether there can be any.
const PAUSE: Duration = Duration::from_secs(1);

/// Tells whether a state can be written, and does not keep it open.
#[derive(Clone, Debug)]
pub struct StateWatch(pub(super) Weak<Inner>);

impl StateWatch {
    /// Returns whether the last write went well; there is nothing to complain of before the first one, nor when the state is
    /// closed. If it did not, another one is tried now and then, so that the answer changes also where nobody else writes.
    pub fn is_writable(&self) -> bool {
        let Some(state) = self.0.upgrade() else { return true };
        let is_failing = state.store.is_failing.load(Ordering::Relaxed);
        if is_failing {
            let mut tried = state.tried.lock().unwrap_or_else(PoisonError::into_inner);
            if tried.is_none_or(|tried| tried.elapsed() >= PAUSE) {
                *tried = Some(Instant::now());
                state.writer.submit(vec![format_change()], Box::new(drop));
            }
        }
        !is_failing
    }
}
