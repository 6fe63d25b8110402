//! Tokens: only what was signed with a key passes, only while it is valid, and a set of keys admits by no other keys.
//!
//! The input: a byte for who signs, a byte for which keys the endpoint has, and parts that zeros end: the header, the claims,
//! the signature where the input brings its own; what is left is a JSON Web Key Set where the endpoint has one.

#![no_main]

use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use flowgen::fuzzing::Gate;
use flowgen_fuzz::{Input, wait};
use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use ring::hmac;
use serde_json::{Value, json};

const SECRET: &str = "a secret that is as long as the longest hash, which is of 64 bytes, or longer";
const OTHER_SECRET: &str = "a secret that is as long as the longest hash, which is of 64 bytes, or lonher";
/// When requests come.
const NOW: i64 = 1_780_315_200;
const LEEWAY: i64 = 30;

/// Public keys, and tokens that another implementation signed with them.
static SAMPLES: LazyLock<Value> = LazyLock::new(|| {
    let text = include_str!("../../src/tasks/http_endpoint/auth/jwt/tests/samples.json");
    serde_json::from_str(text).expect("it is JSON")
});

/// What every endpoint here demands.
fn config(keys: Value) -> Value {
    json!({"jwt": {"keys": keys, "issuer": "https://id.example", "audience": ["flowgen", "x"], "scopes": ["read"]}})
}

/// The secrets of all three hashes.
static BY_SECRET: LazyLock<Gate> = LazyLock::new(|| {
    let keys: Vec<_> = ["HS256", "HS384", "HS512"]
        .map(|algorithm| json!({"algorithm": algorithm, "secret": SECRET}))
        .to_vec();
    wait(Gate::new(config(keys.into()), None)).expect("the configuration is right")
});

/// Public keys of all kinds.
static BY_PUBLIC_KEY: LazyLock<Gate> = LazyLock::new(|| {
    let keys =
        [("RS256", "RSA"), ("PS384", "RSA"), ("ES256", "P-256"), ("ES384", "P-384"), ("EdDSA", "Ed25519")];
    let keys: Vec<_> = keys
        .map(|(algorithm, kind)| json!({"algorithm": algorithm, "public_key": SAMPLES["pem"][kind]}))
        .to_vec();
    wait(Gate::new(config(keys.into()), None)).expect("the configuration is right")
});

#[derive(Clone, Copy, Debug, PartialEq)]
enum Signer {
    Secret,
    OtherSecret,
    /// The public key as a secret, which everybody knows.
    PublicKey,
    /// The signature is the input's.
    Input,
    /// A token of the samples, whose claims may be the input's.
    Sample,
}

fuzz_target!(|input: &[u8]| {
    let mut input = Input::new(input);
    let who = input.byte();
    let signers = [Signer::Secret, Signer::OtherSecret, Signer::PublicKey, Signer::Input, Signer::Sample];
    let signer = signers[usize::from(who) % signers.len()];
    let which = input.byte();
    let (header, claims, signature) = (input.part(), input.part(), input.part());
    let samples = SAMPLES["tokens"].as_object().expect("they are named");
    let sample = samples.values().nth(usize::from(who) % samples.len()).and_then(Value::as_str);
    let sample = sample.expect("there is one");

    let message = format!("{}.{}", encode(header), encode(claims));
    let mac = [hmac::HMAC_SHA256, hmac::HMAC_SHA384, hmac::HMAC_SHA512][usize::from(which >> 4) % 3];
    let sign = |secret: &[u8]| encode(hmac::sign(&hmac::Key::new(mac, secret), message.as_bytes()));
    let token = match signer {
        Signer::Secret => format!("{message}.{}", sign(SECRET.as_bytes())),
        Signer::OtherSecret => format!("{message}.{}", sign(OTHER_SECRET.as_bytes())),
        Signer::PublicKey => {
            let pem = SAMPLES["pem"]["RSA"].as_str().unwrap_or_default();
            format!("{message}.{}", sign(pem.as_bytes()))
        }
        // As it is, so that what is no base64 comes along too.
        Signer::Input => [header, claims, signature].map(|part| String::from_utf8_lossy(part)).join("."),
        Signer::Sample if claims.is_empty() => sample.to_owned(),
        Signer::Sample => {
            let mut parts: Vec<_> = sample.split('.').map(str::to_owned).collect();
            parts[1] = encode(claims);
            parts.join(".")
        }
    };
    let Ok(value) = HeaderValue::try_from(format!("Bearer {token}")) else { return };
    let headers = HeaderMap::from_iter([(http::header::AUTHORIZATION, value)]);
    let now = Timestamp::from_second(NOW).expect("it is a time");
    let is_sample = samples.values().any(|sample| sample == &*token);

    match which % 3 {
        0 => {
            let admitted = wait(BY_SECRET.admit(&headers, b"", now));
            if let Ok(meta) = &admitted {
                assert_eq!(signer, Signer::Secret, "a token passed without the secret: {token}");
                let algorithm = ["HS256", "HS384", "HS512"][usize::from(which >> 4) % 3];
                assert_eq!(read(header)["alg"], algorithm, "a token of another algorithm passed: {token}");
                assert!(is_valid(&read(claims)), "it is not valid: {}", String::from_utf8_lossy(claims));
                assert_eq!(meta["claims"], read(claims));
            }
            plain(which, claims);
        }
        1 => {
            if wait(BY_PUBLIC_KEY.admit(&headers, b"", now)).is_ok() {
                assert!(is_sample, "a token passed that nobody signed: {token}");
            }
        }
        _ => {
            let set = input.rest();
            if let Ok(gate) =
                wait(Gate::new(config(json!([{"algorithm": "HS256", "secret": SECRET}])), Some(set)))
                && wait(gate.admit(&headers, b"", now)).is_ok()
            {
                assert!(is_sample, "a token passed that nobody signed: {token}");
                assert!(is_public_key_in(set), "a token passed by a key that is not in the set");
            }
        }
    }
});

/// What is signed as it should be is admitted while it is valid, and not for a second longer.
fn plain(which: u8, bytes: &[u8]) {
    let [offset, start, ..] = bytes else { return };
    let (offset, start) = (i64::from(*offset) - 128, i64::from(*start) - 128);
    let claims = json!({
        "iss": "https://id.example", "aud": "flowgen", "scope": "write read", "exp": NOW + offset, "nbf": NOW + start,
    });
    let message = format!("{}.{}", encode(br#"{"alg":"HS256"}"#), encode(claims.to_string()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let mut tag = hmac::sign(&key, message.as_bytes()).as_ref().to_vec();
    let is_damaged = which & 8 == 8;
    tag[usize::from(which >> 3) % 32] ^= if is_damaged { 1 } else { 0 };
    let token = format!("Bearer {message}.{}", encode(tag));
    let headers = HeaderMap::from_iter([(
        http::header::AUTHORIZATION,
        HeaderValue::try_from(token).expect("it is printable"),
    )]);
    let now = Timestamp::from_second(NOW).expect("it is a time");
    let expected = !is_damaged && offset + LEEWAY > 0 && start <= LEEWAY;
    let admitted = wait(BY_SECRET.admit(&headers, b"", now));
    assert_eq!(admitted.is_ok(), expected, "{claims}, damaged: {is_damaged}");
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn read(json: &[u8]) -> Value {
    serde_json::from_slice(json).unwrap_or_default()
}

/// Returns whether claims are those of a token that is valid here.
fn is_valid(claims: &Value) -> bool {
    let seconds = |claim: &Value| claim.as_f64();
    let has = |claim: &Value, wanted: &[&str]| match claim {
        Value::Array(items) => items.iter().any(|item| wanted.iter().any(|wanted| item == wanted)),
        item => wanted.iter().any(|wanted| item == wanted),
    };
    let scopes = [&claims["scope"], &claims["scp"]].map(|claim| match claim {
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
        item => item.as_str().unwrap_or_default().to_owned(),
    });
    seconds(&claims["exp"]).is_some_and(|end| end + LEEWAY as f64 > NOW as f64)
        && claims
            .get("nbf")
            .is_none_or(|start| seconds(start).is_some_and(|start| NOW as f64 + LEEWAY as f64 >= start))
        && claims["iss"] == "https://id.example"
        && has(&claims["aud"], &["flowgen", "x"])
        && scopes.join(" ").split(' ').any(|scope| scope == "read")
}

/// Returns whether a set holds one of the keys of the samples, by the number that makes it.
fn is_public_key_in(set: &[u8]) -> bool {
    let known = SAMPLES["jwks"]["keys"].as_array().expect("it is a list");
    let set = read(set);
    let given = set["keys"].as_array().into_iter().flatten();
    let decoded = |value: &Value| {
        let bytes = value.as_str().and_then(|text| URL_SAFE_NO_PAD.decode(text).ok()).unwrap_or_default();
        bytes.into_iter().skip_while(|byte| *byte == 0).collect::<Vec<_>>()
    };
    let is_same = |a: &Value, b: &Value| {
        ["n", "x"].iter().any(|number| a.get(number).is_some() && decoded(&a[number]) == decoded(&b[number]))
    };
    given.into_iter().any(|given| known.iter().any(|known| is_same(known, given)))
}
