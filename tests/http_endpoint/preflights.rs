//! What a browser is told before it lets a page of another origin send a request.

use super::Serving;
use crate::support::client::call;

const TASKS: &str = r#"
    - http_endpoint: {name: get, method: GET, endpoint: "/orders/{id}", cors: {allow_origins: ["https://a.example"], max_age: 1h}}
    - http_endpoint: {name: put, method: PUT, endpoint: "/orders/{n}", cors: {allow_origins: ["https://a.example"], max_age: 1h, allow_methods: [PUT, DELETE]}}
    - http_endpoint: {name: patch, method: PATCH, endpoint: "/orders/{id}", cors: {allow_origins: ["https://a.example"], max_age: 1h, allow_credentials: true}}
    - http_endpoint: {name: post, method: POST, endpoint: "/orders/{id}", cors: {allow_origins: ["https://b.example"]}}
    - http_endpoint: {name: delete, method: DELETE, endpoint: "/orders/{id}"}
    - http_endpoint: {name: never, method: PUT, endpoint: /never, cors: {allow_origins: ["*"], allow_methods: [GET]}}
    - drop: {depends_on: [get, put, patch, post, delete, never]}
"#;

/// Scenario: each method of a path has an endpoint of its own, with rules of its own. Guarantee: a page learns of those
/// whose endpoint lets its origin in on the same terms as the one that it asks about, and of no other.
#[test]
fn a_preflight_tells_the_methods_of_all_who_serve_a_path_and_each_decides_for_its_own() {
    let serving = Serving::start("", "", TASKS);
    let told = |path: &str, origin: &str, method: &str| {
        let headers = format!("origin: {origin}\r\naccess-control-request-method: {method}\r\n");
        let answer = call(serving.address, &format!("OPTIONS {path}"), &headers, b"");
        assert_eq!(answer.status, 204, "{path} {method}: {answer:?}");
        let vary = answer.header("vary").unwrap_or_default();
        assert!(vary.contains("access-control-request-method"), "{path} {method}: {answer:?}");
        let of = |name: &str| answer.header(name).unwrap_or("-").to_owned();
        assert_eq!(of("access-control-allow-origin") == "-", of("access-control-allow-methods") == "-");
        format!("{} {}", of("access-control-allow-methods"), of("access-control-allow-credentials"))
    };
    let (a, b) = ("https://a.example", "https://b.example");
    for (origin, method, expected) in [
        (a, "GET", "GET, PUT -"),
        (a, "HEAD", "GET, PUT -"),
        (a, "PUT", "GET, PUT -"),
        // It takes credentials, which the others do not.
        (a, "PATCH", "PATCH true"),
        (a, "POST", "- -"),
        (b, "POST", "POST -"),
        (b, "PUT", "- -"),
        // Whatever another one says of it.
        (a, "DELETE", "- -"),
        // Nobody serves it.
        (a, "QUERY", "GET, PUT -"),
        ("https://c.example", "QUERY", "- -"),
    ] {
        assert_eq!(told("/orders/7", origin, method), expected, "{origin} {method}");
    }
    let headers = "origin: https://a.example\r\naccess-control-request-method: PUT\r\n";
    let never = call(serving.address, "OPTIONS /never", headers, b"");
    assert_eq!((never.status, never.header("access-control-allow-methods")), (204, None));
    let all = "DELETE, GET, PATCH, POST, PUT, HEAD, OPTIONS";
    assert_eq!(call(serving.address, "OPTIONS /orders/7", "", b"").header("allow"), Some(all));
    assert_eq!(call(serving.address, "OPTIONS /nothing", headers, b"").status, 404);
    serving.stop();
}
