//! Signed bodies: what was not made with the secret never passes, and what was always does in time.
//!
//! The input: a byte for the sender's format, a byte for the way the signature is made, eight bytes of time, and three parts
//! that zeros end: what stands before the signature in its header, what stands behind it, and a header of the time. What is
//! left is changes, each of three bytes, up to a zero, and the body.

#![no_main]

use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use flowgen::fuzzing::Gate;
use flowgen_fuzz::{Input, wait};
use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use ring::hmac::{self, Key};
use serde_json::{Value, json};

const SECRET: &str = "whsec_0123456789";
const TOLERANCE: i64 = 300;
/// When requests come.
const NOW: i64 = 1_780_000_000;

/// A sender: what is configured for it, and how it writes signatures.
struct Sender {
    gate: Gate,
    header: &'static str,
    algorithm: hmac::Algorithm,
    style: Style,
}

#[derive(Clone, Copy, PartialEq)]
enum Style {
    Hex,
    Base64,
    Github(&'static str),
    Stripe,
    Slack,
}

static SENDERS: LazyLock<Vec<Sender>> = LazyLock::new(|| {
    let sender = |config: Value, header, algorithm, style| {
        let mut config = config;
        config["secret"] = SECRET.into();
        let gate = wait(Gate::new(json!({ "hmac": config }), None)).expect("the configuration is right");
        Sender { gate, header, algorithm, style }
    };
    let sha1 = hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY;
    let (sha256, sha512) = (hmac::HMAC_SHA256, hmac::HMAC_SHA512);
    vec![
        sender(json!({"format": "github"}), "x-hub-signature-256", sha256, Style::Github("sha256=")),
        sender(json!({"format": "stripe"}), "stripe-signature", sha256, Style::Stripe),
        sender(json!({"format": "slack"}), "x-slack-signature", sha256, Style::Slack),
        sender(json!({"header": "x-signature"}), "x-signature", sha256, Style::Hex),
        sender(json!({"header": "x-mac", "format": "base64"}), "x-mac", sha256, Style::Base64),
        sender(json!({"header": "x-s", "algorithm": "sha512"}), "x-s", sha512, Style::Hex),
        sender(
            json!({"format": "github", "algorithm": "sha1"}),
            "x-hub-signature",
            sha1,
            Style::Github("sha1="),
        ),
    ]
});

/// How the signature is made.
#[derive(Clone, Copy, PartialEq)]
enum Signer {
    /// With the secret.
    Right,
    /// With another secret.
    Other,
    /// With the secret, of another body.
    OtherBody,
    /// There is none, but what the input has.
    None,
}

fuzz_target!(|input: &[u8]| {
    let mut input = Input::new(input);
    let sender = &SENDERS[usize::from(input.byte()) % SENDERS.len()];
    let signer = input.one_of(&[Signer::Right, Signer::Other, Signer::OtherBody, Signer::None]);
    let wide = i64::from_le_bytes(std::array::from_fn(|_| input.byte()));
    // Either any time at all, or one that is about now.
    let second = if wide & 1 == 0 { NOW + (wide >> 1) % 400 } else { wide };
    let (before, behind, time) = (input.part(), input.part(), input.part());
    let (changes, body) = (input.part(), input.rest());

    let prefix = match sender.style {
        Style::Stripe => format!("{second}."),
        Style::Slack => format!("v0:{second}:"),
        Style::Hex | Style::Base64 | Style::Github(_) => String::new(),
    };
    let signature = match signer {
        Signer::Right => sender.sign(SECRET, prefix.as_bytes(), body),
        Signer::Other => sender.sign("whsec_0123456788", prefix.as_bytes(), body),
        Signer::OtherBody => sender.sign(SECRET, prefix.as_bytes(), &[body, b"."].concat()),
        Signer::None => String::new(),
    };
    let written = match sender.style {
        Style::Hex | Style::Base64 => signature,
        Style::Github(name) => format!("{name}{signature}"),
        Style::Stripe => format!("t={second},v1={signature}"),
        Style::Slack => format!("v0={signature}"),
    };
    let written = if signer == Signer::None { String::new() } else { written };
    let header = changed([before, written.as_bytes(), behind].concat(), changes);
    let sent_time = if time.is_empty() { second.to_string().into_bytes() } else { time.to_vec() };
    let (Ok(value), Ok(time_value)) = (HeaderValue::from_bytes(&header), HeaderValue::from_bytes(&sent_time))
    else {
        return;
    };
    let mut headers = HeaderMap::new();
    headers.insert(sender.header, value);
    if sender.style == Style::Slack {
        headers.insert("x-slack-request-timestamp", time_value);
    }
    let now = Timestamp::from_second(NOW).expect("it is a time");
    let is_admitted = wait(sender.gate.admit(&headers, body, now)).is_ok();

    if is_admitted {
        assert!(
            sender.is_signed(&header, &sent_time, body),
            "a signature passed that is none: {:?} at {:?}",
            String::from_utf8_lossy(&header),
            String::from_utf8_lossy(&sent_time)
        );
        assert!(signer != Signer::Other && signer != Signer::None, "it passed without the secret");
    }
    let has_time = matches!(sender.style, Style::Stripe | Style::Slack);
    let is_in_time = !has_time || (second >= 0 && second.abs_diff(NOW) <= TOLERANCE.unsigned_abs());
    let is_as_made = before.is_empty() && behind.is_empty() && changes.is_empty() && time.is_empty();
    if is_as_made && signer == Signer::Right {
        assert_eq!(is_admitted, is_in_time, "what was signed at {second} is judged at {NOW}");
    }
    // Another signature beside the right one takes nothing from it.
    if sender.style == Style::Stripe && signer == Signer::Right && is_in_time && changes.is_empty() {
        let both = format!("v1=00,{written},v1=zz,v0=11");
        headers.insert(sender.header, HeaderValue::try_from(both).expect("it is printable"));
        assert!(wait(sender.gate.admit(&headers, body, now)).is_ok(), "one of several signatures is right");
    }
});

impl Sender {
    fn sign(&self, secret: &str, prefix: &[u8], body: &[u8]) -> String {
        let key = Key::new(self.algorithm, secret.as_bytes());
        let tag = hmac::sign(&key, &[prefix, body].concat());
        match self.style {
            Style::Base64 => STANDARD.encode(tag),
            _ => tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }

    /// Returns whether the headers hold the signature of the body, and a time that is near enough where they have one. Says
    /// so of more than the endpoint admits: all that is asked is that the right digits stand there.
    fn is_signed(&self, header: &[u8], time: &[u8], body: &[u8]) -> bool {
        let header = String::from_utf8_lossy(header).to_ascii_lowercase();
        let has = |text: &str| header.contains(&text.to_ascii_lowercase());
        let is_near = |time: &str| {
            time.parse::<i64>().is_ok_and(|second| second.abs_diff(NOW) <= TOLERANCE.unsigned_abs())
        };
        match self.style {
            Style::Hex | Style::Base64 | Style::Github(_) => has(&self.sign(SECRET, b"", body)),
            Style::Stripe => header
                .split(',')
                .filter_map(|pair| pair.trim().strip_prefix("t="))
                .any(|time| is_near(time) && has(&self.sign(SECRET, format!("{time}.").as_bytes(), body))),
            Style::Slack => {
                let time = String::from_utf8_lossy(time);
                is_near(&time) && has(&self.sign(SECRET, format!("v0:{time}:").as_bytes(), body))
            }
        }
    }
}

/// Changes bytes: where, which of them, and by what.
fn changed(mut bytes: Vec<u8>, changes: &[u8]) -> Vec<u8> {
    for change in changes.as_chunks::<3>().0 {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]]));
        let length = bytes.len().max(1);
        if let Some(byte) = bytes.get_mut(at % length) {
            *byte ^= change[2];
        }
    }
    bytes
}
