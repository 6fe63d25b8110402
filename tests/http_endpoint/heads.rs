//! The heads of requests and of responses: what is none, and what could be taken for two, goes neither in nor out.

use serde_json::{Value, json};

use super::Serving;
use crate::support::client::{Client, Response};

/// Sets what the request says, and puts out what it says.
const SETTING: &str = r#"
    - http_endpoint: {name: in, endpoint: /set}
    - script: {name: set, code: "ctx.meta.http_response = event.data.payload.set; event.data.payload.data"}
"#;

fn set(client: &mut Client, set: &Value, data: &Value) -> Response {
    let body = json!({"set": set, "data": data}).to_string();
    client.call("POST /set", "content-type: application/json\r\n", body.as_bytes())
}

/// Scenario: a flow sets what no response can have, one thing after the other on one connection. Guarantee: each is
/// answered 500 with the key that is wrong and without its value, and nothing else comes on the connection.
#[test]
fn what_no_response_can_have_is_said_by_its_key_and_never_sent() {
    let serving = Serving::start("", "", SETTING);
    let mut client = Client::connect(serving.address);
    let headers = |name: &str, value: Value| json!({"headers": {name: value}});
    let mut cases = vec![
        (json!(404), "http_response"),
        (json!({"stauts": 404}), "http_response.stauts"),
        (json!({"headers": ["m4rker"]}), "http_response.headers"),
    ];
    for status in [json!(0), json!(100), json!(101), json!(103), json!(199), json!(600), json!(65736)] {
        cases.push((json!({"status": status}), "http_response.status"));
    }
    for status in [json!(-200), json!(200.5), json!("200"), json!(true), json!([200])] {
        cases.push((json!({"status": status}), "http_response.status"));
    }
    // There is a body.
    for status in [204, 205, 304] {
        cases.push((json!({"status": status}), "http_response.status"));
    }
    for name in ["Content-Length", "transfer-encoding", "connection", "Trailer", "upgrade", "keep-alive"] {
        cases.push((headers(name, json!("5")), "http_response.headers."));
    }
    for name in ["", "a b", "a:", "x\r\ny", "é", "content-encoding", "proxy-connection", "te"] {
        cases.push((headers(name, json!("5")), "http_response.headers."));
    }
    for value in ["m4rker\r\nx-smuggled: 1", "m4rker\n", "\rm4rker", "m4rker\0", "m4rker\u{7f}"] {
        cases.push((headers("x-it", json!(value)), "http_response.headers.x-it"));
        cases.push((headers("x-it", json!(["fine", value])), "http_response.headers.x-it"));
    }
    for value in [json!(null), json!({"m4rker": 1}), json!([["m4rker"]])] {
        cases.push((headers("x-it", value), "http_response.headers.x-it"));
    }
    cases.push((headers("content-type", json!(["a/b", "c/d"])), "http_response.headers.content-type"));
    cases.push((
        json!({"headers": {"location": "/a", "Location": "/b"}}),
        "http_response.headers.", // whichever comes last
    ));
    for (what, key) in &cases {
        let response = set(&mut client, what, &json!(1));
        assert_eq!(
            (response.status, response.header("content-type")),
            (500, Some("application/problem+json")),
            "{what}"
        );
        let detail = response.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(&format!("`{key}")) && !detail.contains("m4rker"), "{what}: {detail}");
        assert_eq!(response.header("x-smuggled"), None);
    }
    let ended = serving.stop();
    assert!(!ended.stderr.contains("m4rker"), "{}", ended.stderr);
    assert_eq!(ended.drained()["entered"], cases.len());
}

#[test]
fn what_a_response_can_have_is_sent_as_it_is() {
    let serving = Serving::start("", "", SETTING);
    let mut client = Client::connect(serving.address);
    for status in [200, 201, 299, 302, 418, 499, 599] {
        let response = set(&mut client, &json!({"status": status}), &json!({"n": 1}));
        assert_eq!((response.status, response.text()), (status, "{\"n\":1}"));
    }
    for (status, data) in [(204, json!("")), (304, json!("")), (205, json!(""))] {
        let what = json!({"status": status, "headers": {"ETag": "\"7\"", "x-n": [1, true, "a\tb"]}});
        let response = set(&mut client, &what, &data);
        assert_eq!(
            (response.status, &*response.body, response.header("etag")),
            (status, &b""[..], Some("\"7\""))
        );
        assert_eq!(response.headers.iter().filter(|(name, _)| name == "x-n").count(), 3);
    }
    let plain = set(&mut client, &json!({"headers": {}}), &json!({}));
    assert_eq!((plain.status, plain.text()), (200, "{}"));
    serving.stop();
}
