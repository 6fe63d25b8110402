//! Node and Python as clients: connections that are kept, many streams, chunks, and bodies that nobody wants.

use serde_json::{Value, json};

use super::{Serving, curl::API, program};
use crate::process::Process;

/// Has a program ask a worker, and returns what it prints.
fn answers(name: &str, serving: &Serving) -> Value {
    let ended = Process::start(program(name).arg(serving.port.to_string())).end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).unwrap()
}

#[test]
fn python_keeps_its_connection_sends_chunks_and_learns_why_it_is_refused() {
    let serving = Serving::start(tempfile::tempdir().unwrap(), API);
    let answers = answers("client.py", &serving);
    let kept: Vec<_> = (0..20).map(|n| json!([200, {"n": n}])).collect();
    let expected = json!({
        "kept": kept, "sockets": 1, "chunks": [200, 1001],
        "/echo": 413, "/locked": 401, "/nowhere": 404, "locked_chunks": 401,
    });
    assert_eq!(answers, expected);
    assert_eq!(serving.stop().1["completed"], 21);
}

#[test]
fn node_keeps_its_connection_shares_one_and_learns_why_it_is_refused() {
    let serving = Serving::start(tempfile::tempdir().unwrap(), API);
    let answers = answers("client.mjs", &serving);
    let refused = json!({"/echo": [413, 413], "/locked": [401, 401], "/nowhere": [404, 404]});
    let expected = json!({
        "kept": (0..20).collect::<Vec<_>>(), "used": 1, "refused": refused,
        "streams": (0..50).collect::<Vec<_>>(), "reset": refused, "after": -1,
    });
    assert_eq!(answers, expected);
    assert_eq!(serving.stop().1["completed"], 71);
}
