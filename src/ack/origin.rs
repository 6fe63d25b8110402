//! Where the events of a flow come from.

/// Where an event comes from that enters a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// A source brought it in.
    #[default]
    Source,
    /// It was a dead letter.
    Replay,
    /// An earlier run accepted it.
    Recovery,
}

impl Origin {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Source, Self::Replay, Self::Recovery];

    /// Returns the name used in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Replay => "replay",
            Self::Recovery => "recovery",
        }
    }
}
