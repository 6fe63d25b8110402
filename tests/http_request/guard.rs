//! Where requests may go.

use serde_json::json;

use super::{ONE, assert_completed, assert_failed, call};
use crate::support::http::{self, Server, response};

/// A flow whose events say where to go.
const ANYWHERE: &str = "endpoint: '{{ event.data.url }}'";

fn to(url: &str) -> String {
    json!({ "url": url }).to_string() + "\n"
}

#[test]
fn an_event_leads_only_to_hosts_that_are_allowed() {
    let server = Server::start(|n, _| http::json(n));
    let port = server.address.port();
    let keys = format!("{ANYWHERE}\nallow_hosts: [api.example.com, 127.0.0.0/31]");
    assert_completed(&call(&server, &keys, &to(&format!("http://127.0.0.1:{port}"))), &[json!(0)]);
    for host in ["127.0.0.2", "[::1]", "2130706434", "evil.invalid@127.0.0.2"] {
        let message = assert_failed(&call(&server, &keys, &to(&format!("http://{host}:{port}/"))), "refused");
        assert!(message.contains("none of `allow_hosts`"), "{message}");
    }
    // A name is looked up, and only what it should be is connected to.
    let name = to(&format!("http://localhost:{port}"));
    assert_completed(&call(&server, &keys, &name), &[json!(1)]);
    let keys = format!("{ANYWHERE}\nallow_hosts: [10.0.0.0/8]");
    assert_failed(&call(&server, &keys, &name), "refused");
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn no_private_address_is_reached_by_number_or_by_name() {
    let server = Server::start(|n, _| http::json(n));
    let port = server.address.port();
    let keys = format!("{ANYWHERE}\ndeny_private: true");
    for host in ["127.0.0.1", "localhost", "127.1", "[::ffff:127.0.0.1]", "0.0.0.0"] {
        let ended = call(&server, &keys, &to(&format!("http://{host}:{port}/")));
        let message = assert_failed(&ended, "refused");
        assert!(message.contains("private"), "{message}");
    }
    assert_eq!(server.requests().len(), 0);
    let keys = format!("{keys}\nallow_hosts: [127.0.0.1]");
    assert_completed(&call(&server, &keys, &to(&format!("http://localhost:{port}"))), &[json!(0)]);
}

/// Scenario: a server that may be asked leads to one that may not, by a redirect.
/// Guarantee: that one is not asked, by number or by name.
#[test]
fn a_redirect_leads_nowhere_else_either() {
    let inside = Server::start(|n, _| http::json(n));
    for host in ["127.0.0.2", "localhost", "169.254.169.254"] {
        let location = format!("302 Found\r\nlocation: http://{host}:{}/latest", inside.address.port());
        let server = Server::start(move |_, _| response(&location, ""));
        // By name the server may be asked, and what that name leads to by this port only.
        let keys = "endpoint: http://HOST\nredirects: {across_hosts: true}\nallow_hosts: [127.0.0.1]\ndeny_private: true";
        if host == "localhost" {
            assert_completed(&call(&server, keys, ONE), &[json!(0)]);
        } else {
            assert_failed(&call(&server, keys, ONE), "refused");
        }
        assert_eq!(server.requests().len(), 1);
    }
    assert_eq!(inside.requests().len(), 1, "`localhost` is an address that is allowed");
}

#[test]
fn what_is_refused_from_the_start_is_found_at_load() {
    let server = Server::start(|n, _| http::json(n));
    for keys in [
        "endpoint: http://HOST\ndeny_private: true",
        "endpoint: http://HOST\nallow_hosts: ['*.example.com']",
        "endpoint: http://a\ndeny_private: true\nproxy: http://HOST",
        "endpoint: http://a\nallow_hosts: ['http://a']",
    ] {
        let ended = call(&server, keys, ONE);
        assert_eq!(ended.code, Some(2), "{keys}: {}", ended.stderr);
    }
}
