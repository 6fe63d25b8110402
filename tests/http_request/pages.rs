//! One page after the other.

use serde_json::{Value, json};

use super::{ONE, assert_completed, assert_failed, call, rows};
use crate::support::http::{self, Reply, Server, response};

/// A page with a `Link` header.
fn page(link: &str, body: Value) -> Reply {
    response(&format!("200 OK\r\ncontent-type: application/json\r\nlink: {link}"), body.to_string())
}

#[test]
fn each_page_is_an_event_or_each_item() {
    let server = || {
        Server::start(|_, request| match &*request.line {
            "GET /x?q=a+b" => page("</x?page=2>; rel=\"next\"", json!({"items": [1, 2]})),
            "GET /x?page=2" => page("<?page=3>; rel=next", json!({"items": []})),
            "GET /x?page=3" => page("</x?q=a+b>; rel=first", json!({"items": [3]})),
            line => panic!("{line}"),
        })
    };
    let keys = "endpoint: http://HOST/x\nheaders: {x-key: k}\n\
                payload: {object: {q: a b}, send_as: queryparams}\npagination: {type: link_header";
    let by_page = server();
    let ended = call(&by_page, &format!("{keys}}}"), ONE);
    assert_eq!(ended.drained()["completed"], 1, "{}", ended.stderr);
    assert_eq!(rows(&ended), [json!({"items": [1, 2]}), json!({"items": []}), json!({"items": [3]})]);
    assert!(by_page.requests().iter().all(|request| request.header("x-key") == Some("k")));
    let ended = call(&server(), &format!("{keys}, items_path: items}}"), ONE);
    assert_eq!(rows(&ended), [1, 2, 3]);
}

#[test]
fn a_cursor_a_number_and_a_link_in_the_body_lead_on() {
    let body = |items: Value, next: Value| http::json(json!({"data": items, "meta": {"next": next}}));
    let server = Server::start(move |_, request| match &*request.line {
        "GET /c?limit=2" => body(json!(["a"]), json!("c&1")),
        "GET /c?limit=2&cursor=c%261" => body(json!(["b"]), Value::Null),
        "GET /n?p=0" => body(json!(["c"]), Value::Null),
        "GET /n?p=1" => body(json!(["d"]), Value::Null),
        "GET /n?p=2" => body(json!([]), Value::Null),
        "GET /l" => body(json!(["e"]), json!("/l/2")),
        "GET /l/2" => body(json!(["f"]), json!("")),
        line => panic!("{line}"),
    });
    for (path, keys, expected) in [
        ("c?limit=2", "type: cursor, cursor_path: meta.next, parameter: cursor", ["a", "b"]),
        ("n", "type: page, parameter: p, first: 0", ["c", "d"]),
        ("l", "type: link_body, link_path: meta.next", ["e", "f"]),
    ] {
        let keys = format!("endpoint: http://HOST/{path}\npagination: {{items_path: data, {keys}}}");
        assert_eq!(rows(&call(&server, &keys, ONE)), expected);
    }
}

/// Scenario: the third page fails twice, in the middle of an attempt that has read two.
/// Guarantee: the event is tried again from the first page, and no item comes twice.
#[test]
fn a_page_that_fails_fails_them_all_and_nothing_is_emitted_twice() {
    let server = Server::start(|n, request| match &*request.line {
        "GET /" => page("</2>; rel=next", json!([1])),
        "GET /2" => page("</3>; rel=next", json!([2])),
        "GET /3" if n < 6 => response("503 Busy", ""),
        _ => http::json(json!([3])),
    });
    let ended = call(&server, "endpoint: http://HOST\npagination: {type: link_header, items_path: .}", ONE);
    assert_eq!(rows(&ended), [1, 2, 3], "{}", ended.stderr);
    assert_eq!(server.requests().len(), 9);
    assert_eq!(ended.logged("attempt failed, trying again").len(), 1, "once a second is enough");
}

#[test]
fn pages_without_an_end_are_a_permanent_failure() {
    let keys = "endpoint: http://HOST\npagination: {type: link_header, max_pages: 5}";
    let circle = Server::start(|_, request| match &*request.line {
        "GET /" => page("</a>; rel=next", json!(1)),
        _ => page("</>; rel=next", json!(2)),
    });
    let message = assert_failed(&call(&circle, keys, ONE), "pagination");
    assert!(message.contains("was there already"), "{message}");
    assert_eq!(circle.requests().len(), 2);

    let endless = Server::start(|n, _| page(&format!("</{n}>; rel=next"), json!(n)));
    let message = assert_failed(&call(&endless, keys, ONE), "pagination");
    assert!(message.contains("`max_pages`, 5"), "{message}");
    assert_eq!(endless.requests().len(), 5);

    let other = Server::start(|n, _| http::json(n));
    let link = format!("<http://{}/>; rel=next", other.address);
    let elsewhere = Server::start(move |_, _| page(&link, json!(1)));
    let ended = call(&elsewhere, &format!("{keys}\nauth: {{bearer: {{token: secret}}}}"), ONE);
    assert_failed(&ended, "pagination");
    assert_eq!(other.requests().len(), 0, "it would have learned the token");
}

#[test]
fn all_pages_together_are_within_the_limit() {
    let server = Server::start(|n, _| page(&format!("</{n}>; rel=next"), json!("x".repeat(38))));
    let keys = "endpoint: http://HOST\nmax_response_bytes: 100\npagination: {type: link_header}";
    assert_failed(&call(&server, keys, ONE), "too_large");
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn one_page_is_one_answer() {
    let server = Server::start(|n, _| http::json(n));
    assert_completed(
        &call(&server, "endpoint: http://HOST\npagination: {type: link_header}", ONE),
        &[json!(0)],
    );
}
