//! What a source makes of the trace context that comes with a record.
//!
//! Whoever sends the records can set it, so nothing is believed unless the configuration says so.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::trace::Remote;

/// What becomes of the trace context that comes with a record.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum TraceContextMode {
    /// Nothing: the event begins a trace of its own.
    #[default]
    Ignore,
    /// The event continues that trace, and its decision about sampling.
    Trust,
    /// The event begins a trace of its own, linked to that one.
    Link,
}

impl TraceContextMode {
    /// Returns whether a record has to be searched for its context at all.
    pub fn is_wanted(self) -> bool {
        self != Self::Ignore
    }

    /// Returns what an event takes with it of the headers or members of these names, if anything.
    pub fn remote(
        self,
        traceparent: Option<&str>,
        tracestate: Option<&str>,
        baggage: Option<&str>,
    ) -> Option<Remote> {
        if !self.is_wanted() {
            return None;
        }
        Remote::parse(traceparent, tracestate, baggage, self == Self::Trust)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_trusted_trace_goes_on() {
        let remote = TraceContextMode::Trust.remote(Some(TRACEPARENT), Some("a=1"), Some("user=7")).unwrap();
        assert_eq!(remote.context.traceparent().to_string(), TRACEPARENT);
        assert!(remote.is_parent);
        assert_eq!((remote.tracestate(), remote.baggage()), (Some("a=1"), Some("user=7")));
    }

    #[test]
    fn a_linked_trace_is_known_and_not_continued() {
        let remote = TraceContextMode::Link.remote(Some(TRACEPARENT), Some("a=1"), None).unwrap();
        assert_eq!(remote.context.traceparent().to_string(), TRACEPARENT);
        assert!(!remote.is_parent);
        assert_eq!(remote.tracestate(), None);
    }

    #[test]
    fn what_is_ignored_or_malformed_is_nothing() {
        let nothing = TraceContextMode::Ignore.remote(Some(TRACEPARENT), Some("a=1"), Some("user=7"));
        assert_eq!(nothing, None);
        for mode in [TraceContextMode::Trust, TraceContextMode::Link] {
            assert_eq!(mode.remote(None, Some("a=1"), None), None);
            assert_eq!(mode.remote(Some("00-0-0-01"), None, None), None);
        }
    }
}
