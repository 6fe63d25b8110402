//! The compact trace context that an event carries instead of a span.

use std::fmt;

/// The trace flag of a trace whose id is random; passed on as it came.
const RANDOM: u8 = 0x02;
/// The length of a `traceparent` of version 00.
const LENGTH: usize = 55;

/// Where an event stands in its trace (W3C Trace Context): the span that produced it.
///
/// `Copy` and 32 bytes at most, so that carrying it costs a move; all zero means that there is none. Packed to the
/// alignment of the rest of an event: for 16 bytes the allocator would take a slow path for every event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, packed(8))]
pub struct TraceContext {
    /// 16 bytes, big-endian; zero is invalid.
    pub trace_id: u128,
    /// 8 bytes, big-endian; zero is invalid.
    pub span_id: u64,
    /// W3C trace flags; bit 0 is `sampled`, bit 1 `random`.
    pub flags: u8,
}

impl TraceContext {
    /// The trace flag of a trace that is recorded.
    pub const SAMPLED: u8 = 0x01;

    /// Returns whether it names a span.
    #[inline]
    pub fn is_valid(self) -> bool {
        self.trace_id != 0 && self.span_id != 0
    }

    /// Returns whether the trace is recorded.
    #[inline]
    pub fn is_sampled(self) -> bool {
        self.flags & Self::SAMPLED != 0
    }

    /// Returns the form that travels in a `traceparent` header: version 00, lowercase, undefined flags zero.
    pub fn traceparent(self) -> impl fmt::Display {
        let Self { trace_id, span_id, flags } = self;
        let flags = flags & (Self::SAMPLED | RANDOM);
        fmt::from_fn(move |f| write!(f, "00-{trace_id:032x}-{span_id:016x}-{flags:02x}"))
    }

    /// Reads the value of a `traceparent` header, as strictly as its specification asks; `None` if it is not
    /// valid. Of a later version the part that version 00 defines is read.
    pub fn parse_traceparent(text: &str) -> Option<Self> {
        let (known, rest) = text.as_bytes().split_at_checked(LENGTH)?;
        let version = hex(&known[..2])?;
        let is_whole = rest.is_empty() || (version > 0 && rest[0] == b'-');
        if version == 0xff || !is_whole || [2, 35, 52].iter().any(|&at| known[at] != b'-') {
            return None;
        }
        let context = Self {
            trace_id: hex(&known[3..35])?,
            span_id: u64::try_from(hex(&known[36..52])?).ok()?,
            flags: u8::try_from(hex(&known[53..])?).ok()? & (Self::SAMPLED | RANDOM),
        };
        context.is_valid().then_some(context)
    }
}

/// Reads up to 32 lowercase hexadecimal digits.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u128::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXAMPLE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_is_read_and_written_as_the_specification_shows_it() {
        let context = TraceContext::parse_traceparent(EXAMPLE).unwrap();
        assert_eq!({ context.trace_id }, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        assert_eq!(context.span_id, 0xb7ad_6b71_6920_3331);
        assert!(context.is_sampled() && context.is_valid());
        assert_eq!(context.traceparent().to_string(), EXAMPLE);
        assert!(!TraceContext::default().is_valid());
    }

    #[test]
    fn of_a_later_version_what_is_known_is_read() {
        let example = TraceContext::parse_traceparent(EXAMPLE);
        let later = |tail: &str| TraceContext::parse_traceparent(&format!("cc{}{tail}", &EXAMPLE[2..]));
        assert_eq!(later(""), example);
        assert_eq!(later("-"), example);
        assert_eq!(later("-what-the-future-é"), example);
        assert_eq!(later("x"), None);
        assert_eq!(later("é"), None);
    }

    #[test]
    fn what_is_not_quite_a_traceparent_is_none() {
        let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
        for wrong in [
            String::new(),
            format!("ff-{trace}-{span}-01"),
            format!("0-{trace}-{span}-01"),
            format!("00-{}-{span}-01", "0".repeat(32)),
            format!("00-{trace}-{}-01", "0".repeat(16)),
            format!("00-{trace}-{span}-1"),
            format!("00-{trace}-{span}-01-"),
            format!("00-{trace}-{span}-01-more"),
            format!("00-{}-{span}-01", trace.to_uppercase()),
            format!("00-{trace}-{span}-0A"),
            format!("00_{trace}-{span}-01"),
            format!("00-{trace}_{span}-01"),
            format!("00-{trace}-{span}_01"),
            format!("0x-{trace}-{span}-01"),
            format!("00-+{}-{span}-01", &trace[1..]),
            format!(" 00-{trace}-{span}-01"),
            format!("00-{trace}-{span}-01 "),
        ] {
            assert_eq!(TraceContext::parse_traceparent(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn flags_that_are_not_defined_are_not_passed_on() {
        let context = TraceContext::parse_traceparent(&EXAMPLE.replace("-01", "-fe")).unwrap();
        assert_eq!(context.flags, RANDOM);
        assert!(!context.is_sampled());
        let odd = TraceContext { flags: 0xff, ..context };
        assert!(odd.traceparent().to_string().ends_with("-03"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(trace_id in 1_u128.., span_id in 1_u64.., flags in 0_u8..4) {
            let context = TraceContext { trace_id, span_id, flags };
            let text = context.traceparent().to_string();
            prop_assert_eq!(text.len(), LENGTH);
            prop_assert_eq!(TraceContext::parse_traceparent(&text), Some(context));
        }

        #[test]
        fn whatever_comes_in_is_read_or_refused(text in "[0f]{2}-[0-9a-f]{30,33}-[0-9a-f]{15,17}-[0-9a-fé]{1,3}-?|.{50,60}") {
            if let Some(context) = TraceContext::parse_traceparent(&text) {
                prop_assert!(context.is_valid());
                prop_assert_eq!(&text[2..52], &context.traceparent().to_string()[2..52]);
            }
        }
    }
}
