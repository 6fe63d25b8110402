use std::{fs, sync::LazyLock};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::StatusCode;
use proptest::prelude::*;
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use serde_json::{Map, Value, json};

use super::{
    super::{
        Auth,
        tests::{admit, build, headers, noon, problems, refused, wait},
    },
    *,
};

/// Public keys, and tokens that another implementation (Python's `cryptography`) signed with them.
static SAMPLES: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("tests/samples.json")).unwrap());

const SECRET: &str = "a secret that is as long as the longest hash, which is of 64 bytes, or longer";

fn pem(kind: &str) -> &'static str {
    SAMPLES["pem"][kind].as_str().unwrap()
}

fn jwt(config: Value) -> Auth {
    build(json!({ "jwt": config }))
}

fn with_secret(mut config: Value) -> Auth {
    config["keys"] = json!([{"algorithm": "HS256", "secret": SECRET}]);
    jwt(config)
}

fn call(auth: &Auth, token: &str) -> Result<Principal, Refusal> {
    admit(auth, &headers([("authorization", &format!("Bearer {token}"))]))
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Makes a token that is signed with the secret, whatever its header says.
fn sign(header: &Value, claims: &Value) -> String {
    sign_with(header, claims, hmac::HMAC_SHA256, SECRET.as_bytes())
}

fn sign_with(header: &Value, claims: &Value, mac: hmac::Algorithm, secret: &[u8]) -> String {
    let message = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
    let signature = encode(hmac::sign(&hmac::Key::new(mac, secret), message.as_bytes()));
    format!("{message}.{signature}")
}

fn hs256(claims: &Value) -> String {
    sign(&json!({"alg": "HS256"}), claims)
}

fn in_an_hour() -> i64 {
    noon().as_second() + 3600
}

#[test]
fn tokens_of_another_implementation_are_verified_by_each_algorithm() {
    let key_of = [("RS", "RSA"), ("PS", "RSA"), ("ES256", "P-256"), ("ES384", "P-384"), ("EdDSA", "Ed25519")];
    let tokens = SAMPLES["tokens"].as_object().unwrap();
    assert_eq!(tokens.len(), 9);
    for (algorithm, token) in tokens {
        let token = token.as_str().unwrap();
        let (_, kind) = key_of.iter().find(|(prefix, _)| algorithm.starts_with(prefix)).unwrap();
        let auth =
            jwt(json!({"keys": [{"algorithm": algorithm, "public_key": pem(kind)}], "audience": "flowgen"}));
        let principal = call(&auth, token).unwrap();
        assert_eq!(principal.name.as_deref(), Some("alice"));
        assert_eq!(principal.claims.unwrap()["scope"], "read write");
        // A key is for one algorithm, even where the kind of key would do for another.
        for other in tokens.keys().filter(|other| *other != algorithm) {
            let (_, kind) = key_of.iter().find(|(prefix, _)| other.starts_with(prefix)).unwrap();
            let auth = jwt(json!({"keys": [{"algorithm": other, "public_key": pem(kind)}]}));
            assert!(
                refused(call(&auth, token)).ends_with("no key is known for the token"),
                "{algorithm} {other}"
            );
        }
    }
}

/// The examples of RFC 7515, appendices A.1 to A.3, which end in 2011.
#[test]
fn the_examples_of_the_standard_are_verified() {
    let claims =
        "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
    let secret =
        decode("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow");
    let n = decode(
        "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
    );
    let point = [
        vec![4],
        decode("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"),
        decode("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"),
    ]
    .concat();
    for (header, signature, algorithm, material) in [
        (
            "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9",
            "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
            Algorithm::Hs256,
            Material::secret(&secret, Algorithm::Hs256).unwrap(),
        ),
        (
            "eyJhbGciOiJSUzI1NiJ9",
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
            Algorithm::Rs256,
            Material::rsa(&n, &[1, 0, 1]).unwrap(),
        ),
        (
            "eyJhbGciOiJFUzI1NiJ9",
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
            Algorithm::Es256,
            Material::curve(point, Algorithm::Es256).unwrap(),
        ),
    ] {
        let text = format!("{header}.{claims}.{signature}");
        let token = Token::parse(text.as_bytes()).unwrap();
        assert_eq!(token.algorithm, algorithm);
        let key = Key { kid: None, algorithms: vec![algorithm], material };
        assert!(key.verify(algorithm, token.message, &token.signature), "{algorithm:?}");
        assert!(!key.verify(algorithm, &token.message[1..], &token.signature));
        let claims = token.claims().unwrap();
        let expected = |leeway| Expected {
            issuers: Some(vec!["joe".into()]),
            audiences: None,
            scopes: Vec::new(),
            leeway,
        };
        let leeway = Duration::from_secs(30);
        assert_eq!(expected(leeway).check(&claims, Timestamp::from_second(1_300_819_379).unwrap()), Ok(()));
        assert_eq!(expected(leeway).check(&claims, noon()), Err("the token has expired"));
    }
}

#[test]
fn what_a_token_says_of_its_algorithm_is_not_believed() {
    let claims = json!({"sub": "mallory", "exp": in_an_hour()});
    let rsa = jwt(json!({"keys": [{"algorithm": "RS256", "public_key": pem("RSA")}]}));
    // The public key as the secret, in all the ways it may be written.
    for secret in [pem("RSA"), pem("RSA").trim_end()] {
        let token = sign_with(&json!({"alg": "HS256"}), &claims, hmac::HMAC_SHA256, secret.as_bytes());
        assert!(refused(call(&rsa, &token)).ends_with("no key is known for the token"));
        let token = sign_with(&json!({"alg": "RS256"}), &claims, hmac::HMAC_SHA256, secret.as_bytes());
        assert!(refused(call(&rsa, &token)).ends_with("the signature of the token is wrong"));
    }
    let both = with_secret(json!({}));
    for none in ["none", "None", "NONE", "nOnE", "", "hs256", "HS1", "ES512", "RSA1_5"] {
        let header = encode(json!({ "alg": none }).to_string());
        let payload = encode(claims.to_string());
        for token in [
            format!("{header}.{payload}."),
            format!("{header}.{payload}.AAAA"),
            sign(&json!({ "alg": none }), &claims),
        ] {
            assert!(
                refused(call(&both, &token)).ends_with("the token is not a signed JSON Web Token"),
                "{token}"
            );
        }
    }
    for mac in ["HS384", "HS512"] {
        assert!(
            refused(call(&both, &sign(&json!({ "alg": mac }), &claims)))
                .ends_with("no key is known for the token")
        );
    }
    // A key that the token brings along counts for nothing.
    let header = json!({"alg": "HS256", "jwk": {"kty": "oct", "k": encode("x")}, "jku": "https://evil.example", "x5c": ["x"]});
    let token = sign_with(&header, &claims, hmac::HMAC_SHA256, b"x");
    assert!(refused(call(&both, &token)).ends_with("the signature of the token is wrong"));
    assert!(call(&both, &sign(&header, &claims)).is_ok());
    let critical = json!({"alg": "HS256", "crit": ["exp"], "exp": 1});
    assert!(
        refused(call(&both, &sign(&critical, &claims))).ends_with("the token is not a signed JSON Web Token")
    );
    // The signature of nothing: r and s are zero.
    let curve = jwt(json!({"keys": [{"algorithm": "ES256", "public_key": pem("P-256")}]}));
    let message = format!("{}.{}", encode(r#"{"alg":"ES256"}"#), encode(claims.to_string()));
    assert!(call(&curve, &format!("{message}.{}", encode([0; 64]))).is_err());
}

#[test]
fn the_id_of_a_key_chooses_it() {
    let other = SECRET.to_uppercase();
    let auth = jwt(
        json!({"keys": [{"algorithm": "HS256", "secret": SECRET, "kid": "old"}, {"algorithm": "HS256", "secret": other, "kid": "new"}]}),
    );
    let claims = json!({"exp": in_an_hour()});
    let token = |kid: Option<&str>, secret: &str| {
        let header = kid.map_or(json!({"alg": "HS256"}), |kid| json!({"alg": "HS256", "kid": kid}));
        sign_with(&header, &claims, hmac::HMAC_SHA256, secret.as_bytes())
    };
    for (kid, secret) in [(Some("old"), SECRET), (Some("new"), &*other), (None, SECRET), (None, &*other)] {
        assert!(call(&auth, &token(kid, secret)).is_ok(), "{kid:?}");
    }
    assert!(
        refused(call(&auth, &token(Some("new"), SECRET))).ends_with("the signature of the token is wrong")
    );
    assert!(refused(call(&auth, &token(Some("none"), SECRET))).ends_with("no key is known for the token"));
    assert!(
        call(&with_secret(json!({})), &token(Some("any"), SECRET)).is_ok(),
        "a key without an id is for all"
    );
}

#[test]
fn a_token_ends_and_begins_within_the_leeway() {
    let auth = with_secret(json!({"leeway": "30s"}));
    let now = noon().as_second();
    let check = |claims: Value| call(&auth, &hs256(&claims)).map_err(|refusal| refusal.reason).map(|_| ());
    assert_eq!(check(json!({"exp": now - 29})), Ok(()));
    assert_eq!(check(json!({"exp": now - 30})), Err("the token has expired"));
    assert_eq!(check(json!({"exp": -1})), Err("the token has expired"));
    assert_eq!(check(json!({"exp": f64::from(i32::MAX) + 0.5})), Ok(()));
    for exp in [json!(null), json!("4102444800"), json!([4_102_444_800_u64]), json!(true)] {
        assert_eq!(check(json!({ "exp": exp })), Err("the token does not say when it ends"));
    }
    assert_eq!(check(json!({})), Err("the token does not say when it ends"));
    assert_eq!(check(json!({"exp": now + 60, "nbf": now + 30})), Ok(()));
    assert_eq!(check(json!({"exp": now + 60, "nbf": now + 31})), Err("the token is not valid yet"));
    assert_eq!(check(json!({"exp": now + 60, "nbf": "now"})), Err("the token does not say when it begins"));
}

#[test]
fn issuer_and_audience_have_to_be_those_that_are_wanted() {
    let auth = with_secret(json!({"issuer": "https://id", "audience": ["api", "web"]}));
    let check = |iss: Value, aud: Value| {
        let claims = json!({"exp": in_an_hour(), "iss": iss, "aud": aud});
        call(&auth, &hs256(&claims)).map_err(|refusal| refusal.reason).map(|_| ())
    };
    let ours = json!("https://id");
    assert_eq!(check(ours.clone(), json!("api")), Ok(()));
    assert_eq!(check(ours.clone(), json!(["other", "web"])), Ok(()));
    for aud in [json!(null), json!("ap"), json!(["other"]), json!([]), json!({"api": 1}), json!(7)] {
        assert_eq!(check(ours.clone(), aud), Err("the token is for another audience"));
    }
    for iss in [json!(null), json!("https://id/"), json!(["https://id"])] {
        assert_eq!(check(iss, json!("api")), Err("the token is of another issuer"));
    }
}

#[test]
fn a_token_that_does_not_allow_it_is_known_and_forbidden() {
    let auth = with_secret(json!({"scopes": ["orders:write", "orders:read"]}));
    let with = |claim: &str, value: Value| {
        let mut claims = json!({"exp": in_an_hour()});
        claims[claim] = value;
        call(&auth, &hs256(&claims))
    };
    for (claim, value) in [
        ("scope", json!("orders:read profile orders:write")),
        ("scp", json!(["orders:read", "orders:write"])),
        ("scp", json!("orders:write orders:read")),
    ] {
        assert!(with(claim, value).is_ok());
    }
    let refusal = "403 | Bearer realm=\"flowgen\", scope=\"orders:write orders:read\", error=\"insufficient_scope\", \
                   error_description=\"the token does not allow this\" | the token does not allow this";
    for value in [
        json!("orders:read"),
        json!("orders:write,orders:read"),
        json!(["orders:writes", "orders:read"]),
        json!(1),
    ] {
        assert_eq!(refused(with("scope", value)), refusal);
    }
    let wrong = sign_with(&json!({"alg": "HS256"}), &json!({"exp": 1}), hmac::HMAC_SHA256, b"wrong");
    assert_eq!(call(&auth, &wrong).unwrap_err().status, StatusCode::UNAUTHORIZED);
}

#[test]
fn what_is_no_token_is_refused() {
    let auth = with_secret(json!({}));
    let good = hs256(&json!({"exp": in_an_hour()}));
    assert!(call(&auth, &good).is_ok());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = message.split_once('.').unwrap();
    for bad in [
        "",
        "..",
        "a.b.c",
        message,
        &format!("{good}."),
        &format!(".{good}"),
        &format!("{good}="),
        &format!("{header}.{payload}.{payload}.{signature}.{signature}"),
        &format!("{}.{payload}.{signature}", encode("{}")),
        &format!("{}.{payload}.{signature}", encode(r#"{"alg":["HS256"]}"#)),
        &format!("{}.{payload}.{signature}", encode(r#"{"alg":"HS256","kid":7}"#)),
        &format!("{header}.{payload}.{signature}{}", "A".repeat(17_000)),
    ] {
        let told = refused(call(&auth, bad));
        assert!(
            told.contains("error=\"invalid_token\"")
                && told.ends_with("the token is not a signed JSON Web Token"),
            "{bad}"
        );
    }
    for claims in ["[]", "7", "{", "\"exp\"", ""] {
        let message = format!("{header}.{}", encode(claims));
        let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
        let token = format!("{message}.{}", encode(hmac::sign(&key, message.as_bytes())));
        assert!(refused(call(&auth, &token)).ends_with("what the token claims cannot be read"), "{claims}");
    }
}

#[test]
fn only_algorithms_that_are_allowed_are_used() {
    let auth = jwt(
        json!({"keys": [{"algorithm": "HS256", "secret": SECRET}, {"algorithm": "HS512", "secret": SECRET}], "algorithms": ["HS512"]}),
    );
    let claims = json!({"exp": in_an_hour()});
    assert!(refused(call(&auth, &hs256(&claims))).ends_with("the algorithm of the token is not allowed"));
    let token = sign_with(&json!({"alg": "HS512"}), &claims, hmac::HMAC_SHA512, SECRET.as_bytes());
    assert!(call(&auth, &token).is_ok());
}

#[test]
fn keys_are_read_from_files() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("key.pem"), pem("P-256")).unwrap();
    let token = SAMPLES["tokens"]["ES256"].as_str().unwrap();
    let with = |config: Value| {
        let config: super::super::Config = serde_json::from_value(json!({ "jwt": config })).unwrap();
        wait(Auth::build(&config, &BuildContext::new("f", "t", folder.path().to_owned())))
    };
    let of_file = |algorithm: &str, file: &str| {
        with(json!({"keys": [{"algorithm": algorithm, "public_key_file": file}]}))
    };
    assert!(call(&of_file("ES256", "key.pem").unwrap(), token).is_ok());
    for (algorithm, file) in [("ES384", "key.pem"), ("RS256", "key.pem"), ("ES256", "none.pem")] {
        let error = of_file(algorithm, file).err().unwrap().to_string();
        assert!(
            error.starts_with("cannot use the key in `") && error.ends_with(&format!("{file}`")),
            "{error}"
        );
    }
    fs::write(folder.path().join("jwks.json"), SAMPLES["jwks"].to_string()).unwrap();
    let auth = with(json!({"jwks_file": "jwks.json", "issuer": "https://id.example"})).unwrap();
    for token in SAMPLES["tokens"].as_object().unwrap().values() {
        assert!(call(&auth, token.as_str().unwrap()).is_ok());
    }
    // The secret of a set that all may read is none.
    let x = SAMPLES["jwks"]["keys"][3]["x"].as_str().unwrap();
    let token = sign_with(
        &json!({"alg": "HS256", "kid": "ed"}),
        &json!({"exp": in_an_hour()}),
        hmac::HMAC_SHA256,
        x.as_bytes(),
    );
    assert!(refused(call(&auth, &token)).ends_with("the algorithm of the token is not allowed"));
    fs::write(folder.path().join("empty.json"), r#"{"keys": []}"#).unwrap();
    for file in ["none.json", "empty.json", "key.pem"] {
        assert!(with(json!({ "jwks_file": file })).is_err(), "{file}");
    }
}

#[test]
fn every_mistake_is_reported_at_its_key() {
    let told = |config: Value| problems(json!({ "jwt": config }));
    assert_eq!(told(json!({})), ["jwt: tokens are checked with keys of one place"]);
    assert_eq!(told(json!({"keys": [], "jwks_url": "https://a"})).len(), 2);
    let keys = json!({"keys": [
        {"algorithm": "HS256", "secret": "short"},
        {"algorithm": "HS256", "secret": pem("RSA")},
        {"algorithm": "RS256", "secret": SECRET},
        {"algorithm": "RS256"},
        {"algorithm": "HS256", "public_key": pem("RSA")},
        {"algorithm": "RS256", "public_key": pem("P-256")},
        {"algorithm": "ES256", "public_key": pem("P-384")},
        {"algorithm": "ES384", "public_key": pem("Ed25519")},
        {"algorithm": "RS256", "public_key": pem("RSA1024")},
        {"algorithm": "RS256", "public_key": "oops"},
        {"algorithm": "RS256", "public_key": pem("RSA").replacen('M', "Q", 1)},
        {"algorithm": "PS512", "public_key": pem("RSA"), "kid": "fine"},
        {"algorithm": "RS256", "public_key_file": "not-looked-at"},
    ]});
    assert_eq!(
        told(keys),
        [
            "jwt.keys[0].secret: the secret is shorter than the 32 bytes that `HS256` wants",
            "jwt.keys[1].secret: a key in PEM form is no secret",
            "jwt.keys[2]: a key of `RS256` is `public_key` or `public_key_file`",
            "jwt.keys[3]: a key of `RS256` is `public_key` or `public_key_file`",
            "jwt.keys[4]: a key of `HS256` is `secret`",
            "jwt.keys[5].public_key: the key is of another kind than `RS256` wants",
            "jwt.keys[6].public_key: the key is of another kind than `ES256` wants",
            "jwt.keys[7].public_key: the key is of another kind than `ES384` wants",
            "jwt.keys[8].public_key: an RSA key of 1024 bits cannot be used",
            "jwt.keys[9].public_key: there is no public key in PEM form",
            "jwt.keys[10].public_key: the public key is damaged",
        ]
    );
    assert_eq!(
        told(
            json!({"jwks_url": "https://id/keys", "issuer": "", "audience": [], "scopes": ["a b"], "algorithms": ["HS256", "RS256"]})
        ),
        [
            "jwt.issuer: `issuer` is empty",
            "jwt.audience: `audience` is empty",
            "jwt.scopes[0]: a scope is one word of printable ASCII",
            "jwt.algorithms[0]: no key is for `HS256`",
        ]
    );
    for url in [
        "http://id.example/keys",
        "ftp://id",
        "keys.json",
        "http://127.0.0.1.evil.example/",
        "http://localhost@evil.example/",
    ] {
        assert_eq!(
            told(json!({ "jwks_url": url })),
            ["jwt.jwks_url: keys cannot be fetched from there"],
            "{url}"
        );
    }
    for url in
        ["https://id.example/keys", "http://localhost:8080/keys", "http://127.0.0.1/", "http://[::1]:1/"]
    {
        assert_eq!(told(json!({ "jwks_url": url })), [""; 0], "{url}");
    }
}

fn forged() -> impl Strategy<Value = String> {
    let part = "[A-Za-z0-9_-]{0,40}";
    prop_oneof![
        "\\PC{0,60}",
        (part, part, part).prop_map(|(a, b, c)| format!("{a}.{b}.{c}")),
        (
            prop::sample::select(vec!["HS256", "RS256", "ES256", "EdDSA", "none"]),
            prop::collection::vec(any::<u8>(), 0..80),
            "\\PC{0,20}"
        )
            .prop_map(|(alg, signature, sub)| {
                let claims = json!({"sub": sub, "exp": in_an_hour()});
                format!(
                    "{}.{}.{}",
                    encode(json!({ "alg": alg }).to_string()),
                    encode(claims.to_string()),
                    encode(signature)
                )
            }),
    ]
}

fn all_keys() -> Auth {
    jwt(json!({"keys": [
        {"algorithm": "HS256", "secret": SECRET},
        {"algorithm": "RS256", "public_key": pem("RSA")},
        {"algorithm": "ES256", "public_key": pem("P-256")},
        {"algorithm": "EdDSA", "public_key": pem("Ed25519")},
    ]}))
}

proptest! {
    /// Scenario: any text as a token, and tokens with any signature. Guarantee: no panic, and none is accepted.
    #[test]
    fn no_forged_token_is_accepted(token in forged()) {
        let auth = all_keys();
        if let Ok(value) = http::HeaderValue::try_from(format!("Bearer {token}")) {
            prop_assert!(admit(&auth, &[(http::header::AUTHORIZATION, value)].into_iter().collect()).is_err());
        }
    }

    /// Scenario: a token that is signed right, and one byte of it is another. Guarantee: the first is accepted with all
    /// that it claims, and the other is not.
    #[test]
    fn a_token_that_was_changed_is_not_accepted(
        claims in prop::collection::btree_map("[a-z]{4,8}", "\\PC{0,8}", 0..6), at in any::<prop::sample::Index>(), to in "[A-Za-z0-9_.-]",
    ) {
        let auth = with_secret(json!({}));
        let mut claims: Map<String, Value> = claims.into_iter().map(|(name, value)| (name, value.into())).collect();
        claims.insert("exp".into(), in_an_hour().into());
        let token = hs256(&Value::Object(claims.clone()));
        let principal = call(&auth, &token).unwrap();
        prop_assert_eq!(principal.claims, Some(claims));
        let at = at.index(token.len());
        if token[at..=at] != to {
            let mut other = token.clone();
            other.replace_range(at..=at, &to);
            prop_assert!(call(&auth, &other).is_err());
        }
    }

    /// Scenario: keys of a curve that ring makes. Guarantee: its signatures are accepted with that key alone.
    #[test]
    fn a_signature_is_that_of_one_key(message in prop::collection::vec(any::<u8>(), 0..60)) {
        let random = SystemRandom::new();
        let [ours, theirs] = [(); 2].map(|()| {
            let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap()
        });
        let key = |pair: &EcdsaKeyPair| {
            let material = Material::curve(pair.public_key().as_ref().to_vec(), Algorithm::Es256).unwrap();
            Key { kid: None, algorithms: vec![Algorithm::Es256], material }
        };
        let signature = ours.sign(&random, &message).unwrap();
        prop_assert!(key(&ours).verify(Algorithm::Es256, &message, signature.as_ref()));
        prop_assert!(!key(&theirs).verify(Algorithm::Es256, &message, signature.as_ref()));
        for other in [Algorithm::Es384, Algorithm::Rs256, Algorithm::EdDsa, Algorithm::Hs256] {
            prop_assert!(!key(&ours).verify(other, &message, signature.as_ref()));
            // Even a key that is said to be for it is of no use to it.
            let confused = Key { algorithms: vec![other], ..key(&ours) };
            prop_assert!(!confused.verify(other, &message, signature.as_ref()));
        }
    }
}
