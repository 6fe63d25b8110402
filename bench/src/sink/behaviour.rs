//! What a collector does: its job, or one of the things that collectors do when they are sick.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Codes of gRPC.
pub(super) const OK: u8 = 0;
pub(super) const INVALID_ARGUMENT: u8 = 3;
pub(crate) const PERMISSION_DENIED: u8 = 7;
pub(crate) const RESOURCE_EXHAUSTED: u8 = 8;
pub(super) const UNIMPLEMENTED: u8 = 12;
pub(crate) const UNAVAILABLE: u8 = 14;

/// What a collector does.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq)]
pub(crate) enum Behaviour {
    /// Takes every export at once.
    Well,
    /// Does not listen, at an address that nobody else is given: whoever connects is refused.
    Refused,
    /// Takes connections, reads nothing and says nothing.
    BlackHole,
    /// Takes every export, this much later.
    Slow(Duration),
    /// Refuses every export with this code.
    Refuse(u8),
    /// Refuses exports of more bytes than this.
    UpTo(usize),
    /// So long after its first call it hangs up on everybody and stops to listen, and is back after a while.
    Restart { after: Duration, away: Duration },
}

/// How a call is refused.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Refusal {
    pub(super) code: u8,
    pub(super) message: String,
}

impl Behaviour {
    /// Returns how a call that carries so many bytes is refused, if it is.
    pub(super) fn refusal(self, bytes: usize) -> Option<Refusal> {
        match self {
            Self::Refuse(code) => Some(Refusal { code, message: "as the benchmark wants it".to_owned() }),
            // In the words of Go's library, which OpenTelemetry's own collector is made with.
            Self::UpTo(limit) if bytes > limit => Some(Refusal {
                code: RESOURCE_EXHAUSTED,
                message: format!("grpc: received message larger than max ({bytes} vs. {limit})"),
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_refused_by_its_length_or_always() {
        let code = |behaviour: Behaviour, bytes| behaviour.refusal(bytes).map(|refusal| refusal.code);
        assert_eq!(code(Behaviour::Refuse(UNAVAILABLE), 0), Some(UNAVAILABLE));
        assert_eq!(code(Behaviour::UpTo(10), 10), None);
        assert_eq!(code(Behaviour::UpTo(10), 11), Some(RESOURCE_EXHAUSTED));
        assert_eq!(code(Behaviour::Well, usize::MAX), None);
    }
}
