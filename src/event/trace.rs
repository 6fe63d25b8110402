//! The compact trace context that an event carries instead of a span.

/// Where an event stands in its trace (W3C Trace Context): the span that produced it.
///
/// `Copy` and 32 bytes at most, so that carrying it costs a move; all zero means that there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceContext {
    /// 16 bytes, big-endian; zero is invalid.
    pub trace_id: u128,
    /// 8 bytes, big-endian; zero is invalid.
    pub span_id: u64,
    /// W3C trace flags; bit 0 is `sampled`.
    pub flags: u8,
}
