//! How a piece of work ended, as spans and the metrics derived from them say it.

/// How the work of one span ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SpanOutcome {
    /// It was done.
    #[default]
    Completed,
    /// It was done, and nothing came of it on purpose.
    Filtered,
    /// It failed for good.
    Failed,
    /// It was given up: the worker stops, or nobody wants the result.
    Cancelled,
    /// It was not begun.
    Skipped,
}

impl SpanOutcome {
    pub(super) const ALL: [Self; 5] =
        [Self::Completed, Self::Filtered, Self::Failed, Self::Cancelled, Self::Skipped];

    /// Returns the value of the attribute `outcome`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Filtered => "filtered",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
        }
    }
}
