//! Node and Python as servers: what they send in their own way becomes the same data.

use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
use serde_json::{Value, json};

use super::{Server, request, rows};
use crate::authority::Authority;

fn paths(paths: &[&str]) -> Vec<Value> {
    paths.iter().map(|path| json!({"path": path})).collect()
}

const PATHS: [&str; 6] = ["/json", "/gzip", "/chunks", "/redirect", "/cookie", "/cookie"];

fn expected(json: &Value) -> Vec<Value> {
    let none = json!({"cookie": null});
    vec![
        json.clone(),
        json!({"zipped": "zip".repeat(1000)}),
        json!({"in": ["many".repeat(1000)]}),
        json.clone(),
        none.clone(),
        none,
    ]
}

#[test]
fn what_a_server_sends_becomes_data_and_its_cookies_do_not_come_back() {
    for name in ["server.py", "server.mjs"] {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(name, &[], folder.path());
        let keys = format!("endpoint: \"http://127.0.0.1:{}{{{{ event.data.path }}}}\"", server.port);
        let ended = request(folder.path(), "", &keys, &paths(&PATHS));
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert_eq!(rows(&ended), expected(&json!({"version": "HTTP/1.1"})), "{name}");
        let keys = format!(
            "endpoint: http://127.0.0.1:{}/echo\nmethod: POST\npayload: {{from_event: true}}",
            server.port
        );
        let ended = request(folder.path(), "", &keys, &[json!({"n": 1})]);
        assert_eq!(rows(&ended), [json!({"method": "POST", "body": {"n": 1}})], "{}", ended.stderr);
        assert!(!ended.stderr.contains("m4rker"), "{}", ended.stderr);
        let asked = server.asked();
        assert_eq!(asked.len(), PATHS.len() + 2, "the redirect is a request of its own: {asked:?}");
    }
}

#[test]
fn over_tls_both_sides_show_who_they_are() {
    for (name, known) in [
        ("server.mjs", json!({"version": "HTTP/2.0", "client": "worker"})),
        ("server.py", json!({"version": "HTTP/1.1"})),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (servers, clients) = (Authority::new(), Authority::new());
        servers.write(&folder.path().join("authority.pem"));
        clients.write(&folder.path().join("clients.pem"));
        servers.issue("127.0.0.1", ServerAuth, folder.path(), "server");
        clients.issue("worker", ClientAuth, folder.path(), "worker");
        servers.issue("stranger", ClientAuth, folder.path(), "stranger");
        let arguments: &[&str] = if name.ends_with(".py") {
            &["--cert", "server.pem", "--key", "server.key", "--clients", "clients.pem"]
        } else {
            &["server.pem", "server.key", "clients.pem"]
        };
        let server = Server::start(name, arguments, folder.path());
        let ask = |tls: &str, events: &[Value]| {
            let endpoint = format!("\"https://127.0.0.1:{}{{{{ event.data.path }}}}\"", server.port);
            request(folder.path(), "", &format!("endpoint: {endpoint}\non_error: drop\n{tls}"), events)
        };
        let ended =
            ask("tls: {ca_file: authority.pem, cert_file: worker.pem, key_file: worker.key}", &paths(&PATHS));
        assert_eq!(rows(&ended), expected(&known), "{name}: {}", ended.stderr);
        for tls in [
            "",
            "tls: {ca_file: authority.pem}",
            "tls: {ca_file: authority.pem, cert_file: stranger.pem, key_file: stranger.key}",
        ] {
            let ended = ask(tls, &paths(&["/json"]));
            assert_eq!(ended.only("flow drained")["dropped"], 1, "{}", ended.stderr);
            // What a server of HTTP/2 has against a certificate comes when requests are on their way.
            let error = &ended.only("event dropped")["error.type"];
            let expected = if tls.is_empty() || name == "server.py" { "tls" } else { "io" };
            assert_eq!(error, expected, "{name} {tls}: {}", ended.stderr);
        }
        assert_eq!(server.asked().len(), PATHS.len() + 1, "{name}: strangers ask for nothing");
    }
}
