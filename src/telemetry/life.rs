//! How long a series is collected: as long as anyone holds it, and after that until the collector has its last point.

/// The most series that are kept although they have ended: a collector that never takes their last point must not make a
/// worker grow whose flows come and go.
pub(super) const MOST_ENDED: usize = 10_000;

/// The state of one series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// Somebody counts.
    Held,
    /// Nobody counts any more, and the last point has yet to be collected.
    Ended,
    /// The last point is on its way to the collector.
    Told,
}

impl Life {
    /// Takes note of a collection, before which all points of the one before it did or did not arrive. Returns whether
    /// the series is part of it; else it is over.
    pub(super) fn is_collected(&mut self, has_arrived: bool) -> bool {
        match self {
            Self::Held => true,
            Self::Told if has_arrived => false,
            Self::Ended | Self::Told => {
                *self = Self::Told;
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_over_when_its_last_point_has_arrived() {
        let mut life = Life::Held;
        assert!(life.is_collected(true) && life.is_collected(true));
        life = Life::Ended;
        assert!(life.is_collected(true), "what arrived was not the last point");
        assert!(life.is_collected(false), "the last point was lost");
        assert!(!life.is_collected(true));
    }
}
