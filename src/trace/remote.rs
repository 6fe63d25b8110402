//! What comes with an event from outside (W3C Trace Context and W3C Baggage), and is passed on with it.

use std::sync::Arc;

use super::TraceContext;

/// The longest `tracestate` that is passed on, in bytes; longer ones are left out, as its specification allows above
/// 512.
const MAX_TRACESTATE: usize = 4096;

/// The longest `baggage` that is passed on, in bytes: what its specification asks for.
const MAX_BAGGAGE: usize = 8192;

/// The trace that an event from outside belongs to, and what travels with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remote {
    /// The span outside; not valid if there is none.
    pub context: TraceContext,
    /// Whether the event's trace goes on from that span. Otherwise it is a new one, linked to it.
    pub is_parent: bool,
    tracestate: Option<Arc<str>>,
    baggage: Option<Arc<str>>,
}

impl Remote {
    /// Reads the headers of these names. What is malformed counts as not there; without a `traceparent` a
    /// `tracestate` means nothing. `None` if nothing is left.
    pub fn parse(
        traceparent: Option<&str>,
        tracestate: Option<&str>,
        baggage: Option<&str>,
        is_parent: bool,
    ) -> Option<Self> {
        let context = traceparent.and_then(TraceContext::parse_traceparent);
        let tracestate = tracestate.filter(|_| context.is_some());
        let remote = Self {
            context: context.unwrap_or_default(),
            is_parent: is_parent && context.is_some(),
            tracestate: tracestate.and_then(|text| header(text, MAX_TRACESTATE, is_state)),
            baggage: baggage.and_then(|text| header(text, MAX_BAGGAGE, is_baggage)),
        };
        (remote != Self::default()).then_some(remote)
    }

    /// Leaves out the context of the trace, or the baggage. `None` if nothing is left.
    #[must_use]
    pub fn only(mut self, trace_context: bool, baggage: bool) -> Option<Self> {
        if !trace_context {
            (self.context, self.is_parent, self.tracestate) = Default::default();
        }
        if !baggage {
            self.baggage = None;
        }
        (self != Self::default()).then_some(self)
    }

    /// Returns the `tracestate` to pass on: that of the trace, as it came. A new trace has none.
    pub fn tracestate(&self) -> Option<&str> {
        self.tracestate.as_deref().filter(|_| self.is_parent)
    }

    /// Returns the same to keep.
    pub(crate) fn shared_tracestate(&self) -> Option<Arc<str>> {
        self.tracestate.clone().filter(|_| self.is_parent)
    }

    /// Returns the `baggage` to pass on, as it came.
    pub fn baggage(&self) -> Option<&str> {
        self.baggage.as_deref()
    }
}

/// Returns a list that can be a header: printable ASCII and tabs, not too long, and with members that are `valid`. Empty
/// members mean nothing.
fn header(text: &str, longest: usize, valid: impl Fn(&str) -> bool) -> Option<Arc<str>> {
    let text = text.trim_ascii();
    let is_plain = |byte: u8| byte == b'\t' || (0x20..0x7f).contains(&byte);
    let mut members = text.split(',').map(str::trim_ascii).filter(|member| !member.is_empty()).peekable();
    let is_header = text.len() <= longest && text.bytes().all(is_plain) && members.peek().is_some();
    (is_header && members.all(valid)).then(|| text.into())
}

/// Returns whether a member can be one of a `tracestate`.
fn is_state(member: &str) -> bool {
    let is_key = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(&byte);
    member.split_once('=').is_some_and(|(key, value)| {
        !key.is_empty() && key.bytes().all(is_key) && !value.is_empty() && !value.contains('=')
    })
}

/// Returns whether a member can be one of a `baggage`: its key is a token of HTTP.
fn is_baggage(member: &str) -> bool {
    let is_key = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    member
        .split_once('=')
        .map(|(key, _)| key.trim_ascii())
        .is_some_and(|key| !key.is_empty() && key.bytes().all(is_key))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn what_came_is_passed_on_as_it_came() {
        let remote = Remote::parse(Some(TRACEPARENT), Some(" a=1,b=2 "), Some("user=7;p=1"), true).unwrap();
        assert_eq!(remote.context.traceparent().to_string(), TRACEPARENT);
        assert_eq!((remote.tracestate(), remote.baggage()), (Some("a=1,b=2"), Some("user=7;p=1")));
    }

    #[test]
    fn a_new_trace_takes_the_baggage_and_not_the_state_of_the_other() {
        let remote = Remote::parse(Some(TRACEPARENT), Some("a=1"), Some("user=7"), false).unwrap();
        assert!(remote.context.is_valid() && !remote.is_parent);
        assert_eq!((remote.tracestate(), remote.baggage()), (None, Some("user=7")));
    }

    #[test]
    fn baggage_needs_no_trace_and_a_state_does() {
        let remote = Remote::parse(Some("nonsense"), Some("a=1"), Some("user=7"), true).unwrap();
        assert!(!remote.context.is_valid() && !remote.is_parent);
        assert_eq!((remote.tracestate(), remote.baggage()), (None, Some("user=7")));
        assert_eq!(Remote::parse(None, Some("a=1"), None, true), None);
    }

    #[test]
    fn a_state_is_stricter_than_a_baggage() {
        for (text, is_state, is_baggage) in
            [("A=1", false, true), ("t@v=1", true, false), ("a=1=2", false, true)]
        {
            let remote = Remote::parse(Some(TRACEPARENT), Some(text), Some(text), true).unwrap();
            assert_eq!(
                (remote.tracestate().is_some(), remote.baggage().is_some()),
                (is_state, is_baggage),
                "{text}"
            );
        }
    }

    #[test]
    fn what_cannot_be_a_header_is_left_out() {
        let long = format!("a={}", "x".repeat(MAX_BAGGAGE));
        for wrong in ["", "  ", ",,", "a=1\r\nx: 1", "é=1", "nonsense", "=1", "a=1,nonsense", "a b=1", &long]
        {
            assert_eq!(Remote::parse(None, None, Some(wrong), true), None, "{wrong}");
            let remote = Remote::parse(Some(TRACEPARENT), Some(wrong), None, true).unwrap();
            assert_eq!(remote.tracestate(), None);
        }
    }
}
