use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    super::{
        Auth,
        tests::{admit, build, headers, noon, problems, refused},
    },
    *,
};

/// The example of GitHub's documentation, and what other programs make of it.
const SECRET: &str = "It's a Secret to Everybody";
const BODY: &[u8] = b"Hello, World!";
const SHA256: &str = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
const SHA1: &str = "01dc10d0c83e72ed246219cdd91669667fe2ca59";
const SHA512: &str = "11ed355a617e98134e842012a7944ccf59c10256cb182357bd7e3a42013ff07c376f8c14cf5cc1923da20b51d64256b2fb8ebbf100aa67a61326f61fea8111bc";
const BASE64: &str = "dXEH6g6yUJ/CESIczphLijdXC211hsIsRvQ3nIsEPhc=";

/// A body of Stripe, signed at the start of 2021.
const STRIPE: (&str, &[u8], &str) = (
    "whsec_test_secret",
    br#"{"id": "evt_test_webhook", "object": "event"}"#,
    "29ae074b43e7f0fb31900ea6462c949af99f0fdd3b731905eb3f0090aa0e9a4d",
);

/// The example of Slack's documentation.
const SLACK: (&str, &[u8], &str) = (
    "8f742231b10e8888abcd99yyyzzz85a5",
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c",
    "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
);

fn hmac(config: Value) -> Auth {
    build(json!({ "hmac": config }))
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

#[test]
fn senders_are_understood_as_they_document_it() {
    for (config, header, value) in [
        (json!({"header": "x-signature"}), "x-signature", SHA256.to_owned()),
        (json!({"header": "x-signature", "algorithm": "sha512"}), "x-signature", SHA512.to_uppercase()),
        (
            json!({"header": "x-shopify-hmac-sha256", "format": "base64"}),
            "x-shopify-hmac-sha256",
            BASE64.to_owned(),
        ),
        (json!({"format": "github"}), "x-hub-signature-256", format!("sha256={SHA256}")),
        (json!({"format": "github", "algorithm": "sha1"}), "x-hub-signature", format!("sha1={SHA1}")),
    ] {
        let mut config = config;
        config["secret"] = SECRET.into();
        let auth = hmac(config);
        let given = headers([(header, &value)]);
        assert_eq!(admit(&auth, &given).unwrap().into_meta(), json!({"scheme": "hmac"}));
        assert_eq!(auth.verify_body(&given, BODY, noon()), Ok(()), "{value}");
        assert!(auth.verify_body(&given, b"Hello, World?", noon()).is_err());
        assert!(auth.verify_body(&given, b"", noon()).is_err());
    }
}

#[test]
fn what_is_signed_by_another_or_written_otherwise_is_refused() {
    let auth = hmac(json!({"format": "github", "secret": "another"}));
    let challenge = "401 | HMAC realm=\"flowgen\", algorithm=\"sha256\", header=\"x-hub-signature-256\"";
    let given = headers([("x-hub-signature-256", &format!("sha256={SHA256}"))]);
    assert_eq!(
        refused(auth.verify_body(&given, BODY, noon())),
        format!("{challenge} | the signature is not that of the body")
    );
    assert_eq!(
        refused(admit(&auth, &headers([]))),
        format!("{challenge} | the request does not say who it is from")
    );
    let unreadable = format!("{challenge} | the signature is not written as it should be");
    for value in
        ["", "sha256=", "sha1=00", SHA256, "sha256=0", "sha256=zz", "SHA256=00", "sha256=00,sha256=00"]
    {
        assert_eq!(refused(admit(&auth, &headers([("x-hub-signature-256", value)]))), unreadable, "{value}");
    }
    let auth = hmac(json!({"header": "x", "secret": SECRET}));
    for part in [&SHA256[..2], &SHA256[..62], &format!("{SHA256}00")] {
        assert!(auth.verify_body(&headers([("x", part)]), BODY, noon()).is_err(), "{part}");
    }
}

#[test]
fn stripe_signs_the_time_and_may_sign_with_two_secrets() {
    let (secret, body, signature) = STRIPE;
    let auth = hmac(json!({"format": "stripe", "secret": secret}));
    let verify = |value: &str, now| auth.verify_body(&headers([("stripe-signature", value)]), body, at(now));
    let now = 1_609_459_200;
    let other = "0".repeat(64);
    for value in [
        format!("t={now},v1={signature}"),
        format!("t={now},v1={other},v1={signature},v0=6ffb"),
        format!("v1={signature}, t={now}"),
        format!("t={now},v1=nonsense,v1={signature}"),
    ] {
        assert_eq!(verify(&value, now), Ok(()), "{value}");
    }
    for value in [
        format!("t={now},v0={signature}"),
        format!("t={},v1={signature}", now + 1),
        format!("t=+{now},v1={signature}"),
        format!("t={now},t={now},v1={signature}"),
        format!("v1={signature}"),
        format!("t={now}"),
        format!("t=,v1={signature}"),
        format!("t=99999999999999999999,v1={signature}"),
    ] {
        assert!(verify(&value, now).is_err(), "{value}");
    }
    let value = format!("t={now},v1={signature}");
    for (late, is_fine) in
        [(300, true), (301, false), (-300, true), (-301, false), (i64::from(i32::MAX), false)]
    {
        assert_eq!(verify(&value, now + late).is_ok(), is_fine, "{late}");
    }
    assert!(refused(verify(&value, now + 301)).ends_with("| the signature is of another time"));
    let strict = hmac(json!({"format": "stripe", "secret": secret, "tolerance": "1s"}));
    assert!(strict.verify_body(&headers([("stripe-signature", &value)]), body, at(now + 2)).is_err());
}

#[test]
fn slack_has_the_time_in_a_header_of_its_own() {
    let (secret, body, signature) = SLACK;
    let auth = hmac(json!({"format": "slack", "secret": secret}));
    let now = 1_531_420_618;
    let verify = |time: &str, now| {
        let given = headers([("x-slack-signature", signature), ("x-slack-request-timestamp", time)]);
        auth.verify_body(&given, body, at(now)).is_ok()
    };
    assert!(verify("1531420618", now + 299));
    assert!(!verify("1531420618", now + 301));
    assert!(!verify("1531420619", now));
    assert!(!verify("01531420618", now));
    assert!(auth.verify_body(&headers([("x-slack-signature", signature)]), body, at(now)).is_err());
}

#[test]
fn what_cannot_be_meant_is_found_at_load() {
    assert_eq!(
        problems(json!({"hmac": {"secret": ""}})),
        ["hmac: the field `header` is missing", "hmac.secret: the secret is empty"]
    );
    let config = json!({"hmac": {"format": "stripe", "secret": "s", "algorithm": "sha512", "tolerance": "0s", "timestamp_header": "a b"}});
    assert_eq!(
        problems(config),
        [
            "hmac.timestamp_header: `a b` is no name of a header",
            "hmac.algorithm: this format is always of `sha256`",
            "hmac.timestamp_header: only `slack` has the time in a header",
            "hmac.tolerance: must be at least a second",
        ]
    );
    let config = json!({"hmac": {"format": "github", "secret": "s", "tolerance": "1m", "header": ""}});
    assert_eq!(
        problems(config),
        ["hmac.header: `` is no name of a header", "hmac.tolerance: signatures of this format have no time"]
    );
}

fn formats() -> [Auth; 5] {
    [
        json!({"header": "signature", "secret": "s"}),
        json!({"header": "signature", "secret": "s", "format": "base64"}),
        json!({"header": "signature", "secret": "s", "format": "github"}),
        json!({"header": "signature", "secret": "s", "format": "stripe"}),
        json!({"header": "signature", "secret": "s", "format": "slack", "timestamp_header": "time"}),
    ]
    .map(hmac)
}

/// Signs as a sender of each format does, by another implementation.
fn sign(n: usize, body: &[u8], second: i64) -> String {
    use base64::Engine as _;
    let second = second.to_string();
    let prefix = [String::new(), String::new(), String::new(), format!("{second}."), format!("v0:{second}:")];
    let mac = reference([prefix[n].as_bytes(), body].concat().as_slice());
    let hex = mac.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    match n {
        0 => hex,
        1 => base64::engine::general_purpose::STANDARD.encode(mac),
        2 => format!("sha256={hex}"),
        3 => format!("t={second},v1={hex}"),
        _ => format!("v0={hex}"),
    }
}

/// HMAC as RFC 2104 defines it, of the key `s` and SHA-256.
fn reference(message: &[u8]) -> [u8; 32] {
    use sha2::{Digest as _, Sha256};
    let pad = |with: u8| {
        let mut block = [with; 64];
        block[0] ^= b's';
        block
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().into()
}

proptest! {
    /// Scenario: any bytes as the headers of a signature. Guarantee: no panic, and no body is taken for signed.
    #[test]
    fn no_forged_signature_is_accepted(
        value in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..100),
            "(t=[0-9]{0,11},?|v1=[0-9a-f]{0,66},?|v0=[0-9a-f]{0,66}|sha256=[0-9a-f]{60,66}|[0-9A-Fa-f]{64}|[A-Za-z0-9+/]{43}=){1,4}".prop_map(String::into_bytes),
        ],
        time in "\\PC{0,4}|[0-9]{9,11}",
        body in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let (Ok(value), Ok(time)) = (http::HeaderValue::from_bytes(&value), http::HeaderValue::try_from(time)) else { return Ok(()) };
        let mut given = http::HeaderMap::new();
        given.insert("signature", value);
        given.insert("time", time);
        for auth in formats() {
            prop_assert!(auth.verify_body(&given, &body, noon()).is_err());
        }
    }

    /// Scenario: a body that is signed as each sender does, and then one bit of it or of the signature is another.
    /// Guarantee: the first is accepted and the others are not.
    #[test]
    fn what_is_signed_is_accepted_and_nothing_that_differs(
        body in prop::collection::vec(any::<u8>(), 1..200), at in any::<prop::sample::Index>(), late in -300_i64..=300,
    ) {
        for (n, auth) in formats().into_iter().enumerate() {
            let second = noon().as_second() - late;
            let value = sign(n, &body, second);
            let given = |value: &str| headers([("signature", value), ("time", &second.to_string())]);
            prop_assert_eq!(auth.verify_body(&given(&value), &body, noon()), Ok(()));
            let mut other = body.clone();
            other[at.index(body.len())] ^= 1 << (late.unsigned_abs() % 8);
            prop_assert!(auth.verify_body(&given(&value), &other, noon()).is_err());
            let mut digits = value.clone().into_bytes();
            // The last digit of base64 has bits that do not count: not that one.
            let place = digits.len() - 4;
            digits[place] = if digits[place] == b'0' { b'1' } else { b'0' };
            prop_assert!(auth.verify_body(&given(std::str::from_utf8(&digits).unwrap()), &body, noon()).is_err());
        }
    }
}
