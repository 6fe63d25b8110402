//! What telemetry does show of an event, as `docs/telemetry.md` says, and where.

use std::collections::BTreeSet;

use super::{CANARY, Case, Run};
use crate::support::http::{Server, response};

/// Returns the attributes of spans, and the fields of our own log lines, that hold the canary.
fn places(run: &Run) -> (BTreeSet<String>, BTreeSet<String>) {
    let spans = run.collector.spans();
    let attributes = spans.iter().flat_map(|span| &span.attributes);
    let held = attributes.filter(|(_, value)| value.to_string().contains(CANARY)).map(|(key, _)| key.clone());
    let ours = run.logs.iter().filter(|line| line["target"].as_str().unwrap().starts_with("flowgen"));
    let fields = ours.flat_map(|line| line.as_object().unwrap());
    let told = fields.filter(|(_, value)| value.to_string().contains(CANARY)).map(|(key, _)| key.clone());
    (held.collect(), told.collect())
}

/// Checks that a flow shows the canary in these attributes and fields, and in no others.
fn assert_shown(tasks: &str, attributes: &[&str], fields: &[&str]) {
    let source = format!("- generate: {{name: source, count: 1, payload: {{text: {CANARY}}}}}\n");
    let run = Case::of(source + tasks).run();
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(places(&run), (set(attributes), set(fields)), "{tasks}: {:#?}", run.logs);
}

#[test]
fn an_id_that_a_script_makes_is_shown() {
    assert_shown(
        "- script: {name: named, code: 'event.id = event.data.text; event'}\n\
         - script: {name: ill, code: 'throw'}",
        &["flowgen.event.id"],
        &["event_id"],
    );
}

#[test]
fn a_path_that_a_template_makes_is_shown() {
    assert_shown("- file_write: {name: kept, path: 'out/{{ event.data.text }}'}", &["file.path"], &[]);
    assert_shown(
        "- file_write: {name: refused, path: '../{{ \"../\" ~ event.data.text }}'}",
        &["file.path"],
        &["error.message"],
    );
}

#[test]
fn a_host_that_a_template_makes_is_shown() {
    assert_shown(
        "- http_request: {name: call, endpoint: 'http://{{ event.data.text }}.invalid/', on_error: drop}",
        &["server.address"],
        &["error.message"],
    );
}

#[test]
fn the_id_of_a_request_is_shown() {
    let server = Server::start(|_, _| response(&format!("200 OK\r\nx-request-id: {CANARY}"), ""));
    let tasks = format!(
        "- http_request: {{name: call, endpoint: 'http://{}', headers: {{x-request-id: '{{{{ event.data.text }}}}'}}}}",
        server.address
    );
    let headers = ["http.request.header.x-request-id", "http.response.header.x-request-id"];
    assert_shown(&tasks, &headers, &[]);
}

#[test]
fn what_a_script_says_when_it_throws_is_shown() {
    let code = format!("throw `{CANARY} is no order`");
    assert_shown(&format!("- script: {{name: ill, code: '{code}'}}"), &[], &["error.message"]);
}
