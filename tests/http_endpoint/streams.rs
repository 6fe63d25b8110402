//! Server-sent events.

use serde_json::json;

use super::Serving;
use crate::support::client::{Client, call, request};

const TASKS: &str = r#"
    - http_endpoint: {name: in, endpoint: /stream, stream: true, ack_timeout: 1h}
    - iterate: {name: items, iterate_key: payload}
    - script: {name: work, code: 'if event.data == "fail" { throw "no" } if event.data == "none" { return () } event'}
"#;

#[test]
fn outputs_come_as_they_are_made_and_a_failure_is_told() {
    let serving = Serving::start("", "", TASKS);
    let stream = |body: serde_json::Value| {
        let response = call(serving.address, "POST /stream", "", body.to_string().as_bytes());
        let text = response.text().to_owned();
        let data: Vec<_> =
            text.lines().filter_map(|line| line.strip_prefix("data: ")).map(str::to_owned).collect();
        (response, data)
    };
    let (response, data) = stream(json!([1, {"a": 2}, "x"]));
    assert_eq!((response.status, response.header("content-type")), (200, Some("text/event-stream")));
    assert_eq!(data, ["1", "{\"a\":2}", "\"x\""]);
    assert_eq!(response.text().matches("\n\n").count(), 3);
    let (response, data) = stream(json!([1, "fail"]));
    assert_eq!((response.status, &*data[0], data.len()), (200, "1", 2));
    assert!(response.text().contains("event: error\n"), "{}", response.text());
    // Before anything was sent a failure is a status.
    assert_eq!(stream(json!(["fail"])).0.status, 500);
    let (response, data) = stream(json!(["none"]));
    assert_eq!((response.status, data.len()), (200, 0));
    let drained = serving.stop().drained();
    assert_eq!(
        (&drained["completed"], &drained["filtered"], &drained["failed"]),
        (&json!(1), &json!(1), &json!(2))
    );
}

/// Scenario: a client takes a stream and reads nothing. Guarantee: neither does the flow wait for it, nor does what it
/// does not read fill the memory.
#[test]
fn who_does_not_read_is_cut_off_and_stops_nobody() {
    // More than the buffers between the two hold.
    let serving = Serving::start(
        "",
        "",
        &TASKS.replace("event'}", "event.data += `x`; event.data.pad(4000, `x`); event'}"),
    );
    let mut lazy = Client::connect(serving.address);
    let items: Vec<_> = (0..20_000).map(|n| n.to_string()).collect();
    let headers = "content-type: application/json\r\nconnection: close\r\n";
    lazy.send(&request("POST /stream", headers, json!(items).to_string().as_bytes()));
    assert_eq!(lazy.head().unwrap().0, 200);
    let other = call(serving.address, "POST /stream", "", b"[\"1\"]");
    assert_eq!(other.status, 200);
    let text = String::from_utf8_lossy(&lazy.until_closed()).into_owned();
    assert!(text.contains("reads too slowly") && text.matches("data: ").count() < 20_000, "{}", text.len());
    assert_eq!(serving.stop().drained()["completed"], 2);
}
