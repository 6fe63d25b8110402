//! One worker calls another: in a Collector that both report to, what they did is one trace.

use std::{collections::BTreeSet, fs, process::Command};

use serde_json::json;

use super::{Serving, requesting, worker};
use crate::{
    collector::Collector,
    otlp::{Received, Span},
    process::Process,
};

/// The numbers of OTLP.
const SERVER: u64 = 2;
const CLIENT: u64 = 3;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

const CALLED: &str = r#"
http_server: {address: "127.0.0.1:0"}
flow:
  name: called
  tasks:
    - http_endpoint: {name: asked, endpoint: /work}
    - script: {name: work, code: "if event.data.payload.n == 2 { throw `no` } event.data.payload"}
"#;

fn telemetry(collector: &Collector) -> String {
    format!("telemetry: {{enabled: true, otlp_endpoint: \"{}\"}}", collector.endpoint())
}

fn of_kind(received: &Received, kind: u64) -> Vec<&Span> {
    received.spans.iter().filter(|span| span.kind == kind).collect()
}

#[test]
fn the_span_of_a_call_is_the_parent_of_the_span_of_the_request_that_it_makes() {
    let collector = Collector::start();
    let serving = Serving::start(tempfile::tempdir().unwrap(), &format!("{}{CALLED}", telemetry(&collector)));
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("input"), "{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n").unwrap();
    let keys = format!(
        "endpoint: http://127.0.0.1:{}/work\nmethod: POST\npayload: {{from_event: true}}\non_error: drop",
        serving.port
    );
    let ended = worker(folder.path(), &requesting(&telemetry(&collector), &keys)).end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.stdout, "{\"n\":1}\n{\"n\":3}\n");
    serving.stop();
    let received = collector.stop();
    received.assert_whole_traces();

    let (clients, servers) = (of_kind(&received, CLIENT), of_kind(&received, SERVER));
    assert_eq!((clients.len(), servers.len()), (3, 5), "the one that fails is tried three times");
    for server in &servers {
        let client = clients.iter().find(|client| client.id == server.parent).expect("it was a call");
        assert_eq!((&client.trace, &server.attributes["task"]), (&server.trace, &json!("asked")));
        assert!(client.start <= server.start && server.end <= client.end, "a call lasts until its answer");
        let status = |span: &Span| span.attributes["http.response.status_code"].clone();
        assert_eq!(status(client), status(server));
        // Each has its event's way above, or below.
        let below = received.handled_by("work").into_iter().filter(|work| work.parent == server.id);
        assert!(below.map(|work| &work.trace).eq([&server.trace]));
        let above = received.handled_by("in").into_iter().find(|span| span.trace == client.trace).unwrap();
        assert!(above.parent.is_empty());
        assert_ne!(client.resource["service.instance.id"], server.resource["service.instance.id"]);
    }
    let traces: BTreeSet<_> = servers.iter().map(|span| &span.trace).collect();
    assert_eq!(traces.len(), 3, "an event, a trace");
    assert_eq!(servers.iter().filter(|span| span.status == 2).count(), 3);
}

/// Has curl post to a worker, with these headers.
fn post(serving: &Serving, headers: &[&str]) {
    let mut command = Command::new("curl");
    command.args(["-sS", "--fail", "--max-time", "240", "-d", "n=1"]);
    command.args(headers.iter().flat_map(|header| ["-H", header]));
    let ended = Process::start(command.arg(format!("http://127.0.0.1:{}/work", serving.port))).end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

#[test]
fn a_request_that_names_no_trace_or_none_that_can_be_begins_one() {
    let collector = Collector::start();
    let serving = Serving::start(tempfile::tempdir().unwrap(), &format!("{}{CALLED}", telemetry(&collector)));
    let parent = |parent: &str| format!("traceparent: {parent}");
    post(&serving, &[&parent(&format!("00-{TRACE}-b7ad6b7169203331-01"))]);
    let malformed = [
        "nonsense".to_owned(),
        format!("00-{TRACE}-b7ad6b7169203331"),
        format!("00-{TRACE}-0000000000000000-01"),
        format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
        format!("00-{}-b7ad6b7169203331-01", TRACE.to_uppercase()),
        format!("ff-{TRACE}-b7ad6b7169203331-01"),
        format!("00-{TRACE}-b7ad6b7169203331-01-more"),
    ];
    malformed.iter().for_each(|text| post(&serving, &[&parent(text)]));
    let twice = parent(&format!("00-{TRACE}-b7ad6b7169203331-01"));
    post(&serving, &[&twice, &twice]);
    post(&serving, &[]);
    serving.stop();
    let received = collector.stop();

    let servers = of_kind(&received, SERVER);
    assert_eq!(servers.len(), malformed.len() + 3);
    let (continued, begun): (Vec<_>, Vec<_>) = servers.into_iter().partition(|span| span.trace == TRACE);
    assert_eq!(continued.iter().map(|span| &*span.parent).collect::<Vec<_>>(), ["b7ad6b7169203331"]);
    assert!(begun.iter().all(|span| span.parent.is_empty()));
    let traces: BTreeSet<_> = begun.iter().map(|span| &span.trace).collect();
    assert_eq!(traces.len(), begun.len());
}
