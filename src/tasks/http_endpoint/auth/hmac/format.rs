//! How senders write signatures, and what they sign.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Algorithm;

/// The header in which Slack sends the time.
pub(super) const SLACK_TIMESTAMP: &str = "x-slack-request-timestamp";

/// How a signature is written.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(in crate::tasks::http_endpoint) enum Format {
    /// Hexadecimal digits, of the body.
    #[default]
    Hex,
    /// Base64, of the body: Shopify and others.
    Base64,
    /// The algorithm, `=` and hexadecimal digits, of the body: GitHub, Bitbucket, Meta and others.
    Github,
    /// `t=<seconds>,v1=<hexadecimal digits>`, of the time, a point and the body. Of several `v1` one has to be right.
    Stripe,
    /// `v0=<hexadecimal digits>`, of `v0:<seconds>:` and the body, the time in a header of its own.
    Slack,
}

/// What headers say of a signature.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Signed<'a> {
    pub(super) time: Option<Time<'a>>,
    /// At least one.
    pub(super) signatures: Vec<Vec<u8>>,
}

/// When it was signed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Time<'a> {
    /// As it was sent, which is what is signed.
    text: &'a [u8],
    /// In seconds since 1970.
    pub(super) second: i64,
}

impl Format {
    /// Returns whether its signatures are of a time.
    pub(super) fn has_time(self) -> bool {
        matches!(self, Self::Stripe | Self::Slack)
    }

    /// Returns the header that its senders use.
    pub(super) fn header(self, algorithm: Algorithm) -> Option<&'static str> {
        match self {
            Self::Hex | Self::Base64 => None,
            Self::Github if algorithm == Algorithm::Sha1 => Some("x-hub-signature"),
            Self::Github => Some("x-hub-signature-256"),
            Self::Stripe => Some("stripe-signature"),
            Self::Slack => Some("x-slack-signature"),
        }
    }

    /// Reads a header's value, and that of the header of the time where there is one.
    pub(super) fn parse<'a>(
        self,
        value: &'a [u8],
        time: Option<&'a [u8]>,
        algorithm: Algorithm,
    ) -> Option<Signed<'a>> {
        let alone = |signature: Vec<u8>| Signed { time: None, signatures: vec![signature] };
        match self {
            Self::Hex => hex(value).map(alone),
            Self::Base64 => STANDARD.decode(value).ok().map(alone),
            Self::Github => {
                let digits = value.strip_prefix(algorithm.name().as_bytes())?.strip_prefix(b"=")?;
                hex(digits).map(alone)
            }
            Self::Stripe => stripe(value),
            Self::Slack => {
                let signature = hex(value.strip_prefix(b"v0=")?)?;
                Some(Signed { time: Some(Time::parse(time?)?), signatures: vec![signature] })
            }
        }
    }
}

impl Signed<'_> {
    /// Returns what is signed before the body.
    pub(super) fn prefix(&self, format: Format) -> [&[u8]; 3] {
        match (&self.time, format) {
            (Some(time), Format::Stripe) => [time.text, b".", b""],
            (Some(time), Format::Slack) => [b"v0:", time.text, b":"],
            _ => [b"", b"", b""],
        }
    }
}

impl<'a> Time<'a> {
    fn parse(text: &'a [u8]) -> Option<Self> {
        let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
        let second = std::str::from_utf8(text).ok().filter(|_| is_number)?.parse().ok()?;
        Some(Self { text, second })
    }
}

/// Reads the pairs of a list. Versions that are not known are passed over; two times are none.
fn stripe(value: &[u8]) -> Option<Signed<'_>> {
    let (mut time, mut signatures) = (None, Vec::new());
    for pair in value.split(|byte| *byte == b',') {
        match pair.trim_ascii() {
            [b't', b'=', ..] if time.is_some() => return None,
            [b't', b'=', text @ ..] => time = Some(Time::parse(text)?),
            [b'v', b'1', b'=', digits @ ..] => signatures.extend(hex(digits)),
            _ => {}
        }
    }
    (time.is_some() && !signatures.is_empty()).then_some(Signed { time, signatures })
}

/// Decodes hexadecimal digits of either case.
fn hex(digits: &[u8]) -> Option<Vec<u8>> {
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    let bytes = pairs.iter().map(|[high, low]| Some(value(*high)? << 4 | value(*low)?));
    bytes.collect::<Option<Vec<u8>>>().filter(|bytes| !bytes.is_empty())
}
