//! Why a flush failed, and for which events.

use super::TaskError;

/// Why a flush failed.
#[derive(Clone, Debug)]
pub enum FlushError {
    /// The same for every event that still waits.
    All(TaskError),
    /// For these events only; all others are done. An event goes by its place among those that were
    /// handled with success since the last batch ended, from 0. Those whose error is transient wait for
    /// the next flush, where they keep their place.
    Events(Vec<(usize, TaskError)>),
}

impl From<TaskError> for FlushError {
    fn from(error: TaskError) -> Self {
        Self::All(error)
    }
}

#[cfg(test)]
impl FlushError {
    /// Returns the error, which is that of all events or of the first.
    pub(crate) fn first(self) -> TaskError {
        match self {
            Self::All(error) => error,
            Self::Events(failed) => failed.into_iter().next().expect("no event failed").1,
        }
    }
}
