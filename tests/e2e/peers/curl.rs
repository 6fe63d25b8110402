//! curl as a client: every protocol that it speaks, and every way in which it sends a body.

use std::{fs, path::Path, process::Command};

use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
use serde_json::{Value, json};

use super::Serving;
use crate::{authority::Authority, process::Process};

pub(super) const API: &str = r#"
http_server: {address: "127.0.0.1:0"}
flow:
  name: api
  tasks:
    - http_endpoint: {name: in, endpoint: /echo, max_body_bytes: 1MiB}
    - script: {name: echo, code: event.data.payload}
    - http_endpoint: {name: large, endpoint: /large, max_body_bytes: 8MiB, request_type: text, response: ack}
    - drop: {name: taken, depends_on: [large]}
    - http_endpoint: {name: locked, endpoint: /locked, auth: {bearer: {tokens: [m4rker]}}}
    - drop: {name: gone, depends_on: [locked]}
    - http_endpoint: {name: text, endpoint: /text, method: GET}
    - script: {name: long, depends_on: [text], code: "let text = ``; for i in 0..1000 { text += `abc `; } text"}
"#;

/// What curl was answered.
#[derive(Debug)]
struct Answer {
    status: u16,
    version: String,
    body: Value,
    /// What curl said of the connection, with `-v`.
    told: String,
}

/// Has curl ask a worker; the error is why it has no answer.
fn curl(folder: &Path, url: &str, arguments: &[&str]) -> Result<Answer, String> {
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "240", "-w", "\n%{http_code} %{http_version}"]);
    let ended = Process::start(command.args(arguments).arg(url).current_dir(folder)).end();
    if ended.code != Some(0) {
        return Err(ended.stderr);
    }
    let (body, about) = ended.stdout.trim_end().rsplit_once('\n').unwrap();
    let (status, version) = about.split_once(' ').unwrap();
    let body = if body.is_empty() { Value::Null } else { serde_json::from_str(body).unwrap() };
    Ok(Answer { status: status.parse().unwrap(), version: version.to_owned(), body, told: ended.stderr })
}

const JSON: &str = "content-type: application/json";

#[test]
fn a_request_is_answered_whichever_way_it_is_sent() {
    let serving = Serving::start(tempfile::tempdir().unwrap(), API);
    fs::write(serving.folder.path().join("large"), "a".repeat(4 << 20)).unwrap();
    let ask = |path: &str, arguments: &[&str]| {
        let url = format!("http://127.0.0.1:{}{path}", serving.port);
        curl(serving.folder.path(), &url, arguments)
            .unwrap_or_else(|error| panic!("{path} {arguments:?}: {error}"))
    };
    for (protocol, version) in [("--http1.1", "1.1"), ("--http2-prior-knowledge", "2"), ("--http2", "1.1")] {
        let answer = ask("/echo", &[protocol, "-H", JSON, "-d", r#"{"a":[1]}"#]);
        assert_eq!((answer.status, &*answer.version), (200, version), "{answer:?}");
        assert_eq!(answer.body, json!({"a": [1]}));
        let form = ask("/echo", &[protocol, "-d", "a=1&b=x+y&a=2"]);
        assert_eq!(form.body, json!({"a": ["1", "2"], "b": "x y"}));
        let chunked =
            ask("/echo", &[protocol, "-H", JSON, "-H", "transfer-encoding: chunked", "-d", r#"{"b":7}"#]);
        assert_eq!(chunked.body, json!({"b": 7}), "{chunked:?}");
        let zipped = ask("/text", &[protocol, "-v", "--compressed"]);
        assert!(zipped.told.to_lowercase().contains("content-encoding: gzip"), "{zipped:?}");
        assert_eq!(zipped.body, json!("abc ".repeat(1000)));
        // A form of several parts is not taken apart: it is bytes.
        let parts = ask("/echo", &[protocol, "-F", "a=1"]);
        assert!(parts.status == 200 && parts.body.is_string(), "{parts:?}");
        let large = ask("/large", &[protocol, "-v", "-H", "expect: 100-continue", "--data-binary", "@large"]);
        assert_eq!(large.status, 200, "{large:?}");
        assert_eq!(large.told.contains("100 Continue"), version == "1.1", "{large:?}");
    }
    let (_, drained) = serving.stop();
    assert_eq!((&drained["entered"], &drained["completed"]), (&json!(18), &json!(18)), "{drained}");
}

/// Scenario: curl sends more than is read, whether it asks first or not. Guarantee: it learns why it was refused.
#[test]
fn a_refusal_is_seen_whatever_was_sent_by_then() {
    let serving = Serving::start(tempfile::tempdir().unwrap(), API);
    fs::write(serving.folder.path().join("large"), "a".repeat(6 << 20)).unwrap();
    for protocol in ["--http1.1", "--http2-prior-knowledge"] {
        for expect in ["expect:", "expect: 100-continue"] {
            for (path, status) in [("/echo", 413), ("/locked", 401), ("/nowhere", 404), ("/text", 405)] {
                for more in [["-H", "x: y"], ["-H", "transfer-encoding: chunked"], ["--limit-rate", "20M"]] {
                    let url = format!("http://127.0.0.1:{}{path}", serving.port);
                    let arguments = [protocol, "-H", expect, "--data-binary", "@large", more[0], more[1]];
                    let answer = curl(serving.folder.path(), &url, &arguments);
                    let answer = answer.unwrap_or_else(|error| panic!("{path} {arguments:?}: {error}"));
                    assert_eq!(answer.status, status, "{path} {arguments:?} {answer:?}");
                    assert_eq!(answer.body["status"], status, "{answer:?}");
                }
            }
        }
    }
    let (ended, drained) = serving.stop();
    assert_eq!(drained["entered"], 0);
    assert!(!ended.stderr.contains("m4rker"), "{}", ended.stderr);
}

#[test]
fn over_tls_the_protocol_is_agreed_on_and_a_certificate_may_be_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (servers, clients) = (Authority::new(), Authority::new());
    servers.write(&folder.path().join("authority.pem"));
    clients.write(&folder.path().join("clients.pem"));
    servers.issue("127.0.0.1", ServerAuth, folder.path(), "server");
    clients.issue("caller", ClientAuth, folder.path(), "caller");
    let tls = "tls: {cert_file: server.pem, key_file: server.key, client_ca_file: clients.pem}";
    let serving = Serving::start(folder, &API.replace("\"127.0.0.1:0\"", &format!("\"127.0.0.1:0\", {tls}")));
    let ask = |arguments: &[&str]| {
        let url = format!("https://127.0.0.1:{}/echo", serving.port);
        curl(serving.folder.path(), &url, &[&["-H", JSON, "-d", r#"{"a":1}"#], arguments].concat())
    };
    let own = ["--cacert", "authority.pem", "--cert", "caller.pem", "--key", "caller.key"];
    for (protocol, version) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let answer = ask(&[&[protocol], &own[..]].concat()).unwrap();
        assert_eq!((answer.status, &*answer.version, answer.body), (200, version, json!({"a": 1})));
    }
    // One side or the other is not known.
    let refused = [ask(&own[..2]), ask(&own[2..])];
    assert!(refused.iter().all(Result::is_err), "{refused:?}");
    assert_eq!(serving.stop().1["entered"], 2);
}
