//! The outcomes of an event, in the order of their severity.

use std::fmt;

/// What became of an event that entered a flow. The greater one is the worse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Outcome {
    /// It reached no leaf.
    Filtered,
    /// It reached at least one leaf, and nothing worse happened.
    Completed,
    /// It was older than the flow's deadline and was not handled.
    Expired,
    /// It failed, and `on_error: drop` disposed of it.
    Dropped,
    /// It failed and was stored to be looked at.
    DeadLettered,
    /// It was in flight when the worker ran out of time.
    Cancelled,
    /// It failed.
    Failed,
}

impl Outcome {
    /// All outcomes, from the least severe to the worst.
    pub const ALL: [Self; 7] = [
        Self::Filtered,
        Self::Completed,
        Self::Expired,
        Self::Dropped,
        Self::DeadLettered,
        Self::Cancelled,
        Self::Failed,
    ];

    /// Returns the outcome of this severity, an index into [`Self::ALL`]; the worst beyond it.
    pub fn from_severity(severity: u8) -> Self {
        Self::ALL.get(usize::from(severity)).copied().unwrap_or(Self::Failed)
    }

    /// Returns whether the flow did with the event what it is there for. What counts for a service-level objective is
    /// decided here, and told in docs/telemetry.md.
    pub fn is_good(self) -> bool {
        match self {
            // What is filtered is not for this flow, and what is dropped its author can do without.
            Self::Completed | Self::Filtered | Self::Dropped => true,
            // An event that is cancelled may come again, but nobody can tell that from here, and whoever waits for it waits.
            Self::Expired | Self::DeadLettered | Self::Cancelled | Self::Failed => false,
        }
    }

    /// Returns the name used in metrics and summaries.
    pub fn name(self) -> &'static str {
        match self {
            Self::Filtered => "filtered",
            Self::Completed => "completed",
            Self::Expired => "expired",
            Self::Dropped => "dropped",
            Self::DeadLettered => "dead_lettered",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
