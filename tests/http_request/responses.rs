//! What of a response becomes data, what is a success, and forms.

use flowgen::{
    event::Payload,
    task::{Emission, Output},
};
use serde_json::{Value, json};

use super::{
    ONE, assert_completed, assert_failed, call, rows,
    spans::{build, event},
};
use crate::support::http::{self, Server, response};

#[test]
fn a_whole_response_has_its_status_its_headers_and_no_secret() {
    let head = "201 Created\r\nLocation: /orders/7\r\nX-Tag: a\r\nx-tag: b\r\nSet-Cookie: sid=m4rker\r\nX-Auth-Token: m4rker\r\n\
                www-authenticate: m4rker\r\ncontent-type: application/json";
    let server = Server::start(move |_, _| response(head, "{\"id\": 7}"));
    let ended = call(&server, "endpoint: http://HOST\nmethod: POST\nresponse: whole", ONE);
    let headers = json!({
        "location": "/orders/7", "x-tag": "a, b", "content-type": "application/json", "content-length": "9",
    });
    assert_completed(&ended, &[json!({"status": 201, "headers": headers, "body": {"id": 7}})]);
}

#[test]
fn a_success_is_what_is_said_to_be_one() {
    let answers = |status: &'static str| Server::start(move |_, _| response(status, "\"gone\""));
    let keys = "endpoint: http://HOST\nresponse: whole\nsuccess_status: [200, 404, 5xx, 301-302]";
    for status in ["404 Not Found", "503 Busy", "302 Found\r\nlocation: /x"] {
        let server = answers(status);
        let ended = call(&server, keys, ONE);
        assert_eq!(rows(&ended)[0]["status"].to_string(), status[..3], "{}", ended.stderr);
        assert_eq!(rows(&ended)[0]["body"], "gone");
        assert_eq!(server.requests().len(), 1, "{status}");
    }
    assert_failed(&call(&answers("201 Created"), keys, ONE), "_OTHER");
    assert_failed(&call(&answers("410 Gone"), keys, ONE), "410");
}

#[test]
fn redirects_are_followed_as_often_as_they_may_be() {
    let server = || {
        Server::start(|n, _| match n {
            0..3 => response(&format!("302 Found\r\nlocation: /{n}"), ""),
            _ => http::json(n),
        })
    };
    let keys = |max: u32| format!("endpoint: http://HOST\nredirects: {{max: {max}}}");
    assert_completed(&call(&server(), &keys(3), ONE), &[json!(3)]);
    assert_failed(&call(&server(), &keys(2), ONE), "302");
    let none = server();
    assert_failed(&call(&none, &keys(0), ONE), "302");
    assert_eq!(none.requests().len(), 1);
    // What the URL names as a user goes along within the host.
    let server = server();
    call(&server, "endpoint: http://u:p@HOST", ONE);
    let requests = server.requests();
    assert!(requests.iter().all(|request| request.header("authorization") == Some("Basic dTpw")));
}

#[tokio::test]
async fn bytes_stay_as_they_are() {
    let server = Server::start(|_, _| response("200 OK\r\ncontent-type: image/x", b"\0\xff\xfe"));
    let config = json!({"endpoint": format!("http://{}", server.address), "response_type": "bytes"});
    let mut output = Output::default();
    build(&config.to_string()).await.handle(&event(), &mut output).await.unwrap();
    let (_, emission) = output.drain().next().unwrap();
    match emission {
        Emission::Event(event) => match &event.data {
            Payload::Bytes(bytes) => assert_eq!(&bytes[..], b"\0\xff\xfe"),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// Returns the fields of a form, each with what stands in its head beside its name.
fn fields(body: &str, content_type: &str) -> Vec<(String, String)> {
    let boundary = content_type.strip_prefix("multipart/form-data; boundary=").unwrap();
    let inner = body.strip_suffix(&format!("--{boundary}--\r\n")).unwrap();
    let delimiter = format!("--{boundary}\r\n");
    let parts = inner.split(&delimiter).skip(1);
    let split = |part: &str| {
        let (head, content) = part.split_once("\r\n\r\n").unwrap();
        let head = head.strip_prefix("content-disposition: form-data; ").unwrap();
        (head.to_owned(), content.strip_suffix("\r\n").unwrap().to_owned())
    };
    parts.map(split).collect()
}

#[test]
fn a_form_has_a_part_for_each_field_and_perhaps_a_file() {
    let text = |name: &str, content: &str| (format!("name=\"{name}\""), content.to_owned());
    let file = (
        "name=\"upload\"; filename=\"1.json\"\r\ncontent-type: application/json".to_owned(),
        "{\"n\":1}".to_owned(),
    );
    let cases = [
        ("object: {a: 'x y', n: '{{ event.data.n }}'}", vec![text("a", "x y"), text("n", "1")]),
        ("from_event: true", vec![text("n", "1")]),
        (
            "object: {a: b}, file: {field: upload, name: '{{ event.data.n }}.json', content_type: application/json}",
            vec![text("a", "b"), file.clone()],
        ),
        ("file: {field: upload, name: 1.json, content_type: application/json}", vec![file]),
    ];
    for (keys, expected) in cases {
        let server = Server::start(|n, _| http::json(n));
        let keys = format!("endpoint: http://HOST\nmethod: POST\npayload: {{{keys}, send_as: multipart}}");
        assert_completed(&call(&server, &keys, ONE), &[json!(0)]);
        let requests = server.requests();
        assert_eq!(fields(&requests[0].body, requests[0].header("content-type").unwrap()), expected);
    }
    let server = Server::start(|n, _| http::json(n));
    let nested = "endpoint: http://HOST\nmethod: POST\npayload: {from_event: true, send_as: multipart}";
    let input = json!({"a": {"b": 1}}).to_string() + "\n";
    assert_failed(&call(&server, nested, &input), "encode");
    assert_eq!(rows(&call(&server, "endpoint: http://HOST", ONE)), [Value::from(0)]);
}
