//! What becomes of records, good and bad, and the exit code that says so.

use serde_json::json;

use crate::support::worker::{Ended, run};

fn rows(ended: &Ended) -> Vec<serde_json::Value> {
    ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Runs a source of `format` over `content` into stdout.
fn read(format: &str, content: &[u8]) -> Ended {
    let yaml = format!(
        "flow:\n  name: read\n  tasks:\n    - file: {{name: in, path: input, format: {format}}}\n    - stdout: {{name: out}}\n"
    );
    run(&yaml, &[("input", content)])
}

/// A bad record is an event that entered and failed: counted, logged with its position, and passed.
fn assert_one_bad_record(ended: &Ended, position: &str, good: &[serde_json::Value]) {
    assert_eq!(rows(ended), good, "{}", ended.stderr);
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    let drained = ended.drained();
    assert_eq!(drained["failed"], 1);
    assert_eq!(drained["completed"], good.len());
    let failures = ended.logged("event failed");
    assert_eq!(failures.len(), 1);
    assert_eq!(failures[0]["error.type"], "parse");
    assert_eq!(failures[0]["position"], position);
    assert_eq!(failures[0]["task"], "in");
    assert!(!failures[0]["error.message"].as_str().unwrap().is_empty());
}

#[test]
fn a_bad_line_of_jsonl_is_counted_and_reading_goes_on() {
    let ended = read("jsonl", b"{\"n\":1}\n{\"n\":\n{\"n\":3}\n");
    assert_one_bad_record(&ended, "input:2", &[json!({"n": 1}), json!({"n": 3})]);
}

#[test]
fn a_ragged_row_of_csv_is_counted_and_reading_goes_on() {
    let ended = read("csv", b"a,b\n1,2\n3\n5,6\n");
    assert_one_bad_record(&ended, "input:3", &[json!({"a": "1", "b": "2"}), json!({"a": "5", "b": "6"})]);
}

#[test]
fn a_line_of_text_that_is_not_utf8_is_counted_and_reading_goes_on() {
    let ended = read("text", b"one\n\xff\xfe\nthree\n");
    assert_one_bad_record(&ended, "input:2", &[json!("one"), json!("three")]);
}

#[test]
fn a_bad_document_is_counted_and_the_next_file_is_read() {
    let yaml = "flow:\n  name: read\n  tasks:\n    - file: {name: in, path: '*.doc', format: json}\n    - stdout: {name: out}\n";
    let ended =
        run(yaml, &[("1.doc", b"[{\"n\":1}]"), ("2.doc", b"{\"n\": \n oops}"), ("3.doc", b"{\"n\":3}")]);
    assert_one_bad_record(&ended, "2.doc:1", &[json!({"n": 1}), json!({"n": 3})]);
    let message = &ended.logged("event failed")[0]["error.message"];
    assert!(message.as_str().unwrap().contains("line 2"), "{message}");
}

#[test]
fn an_event_that_fails_is_named_with_the_place_it_came_from() {
    let yaml = r#"
flow:
  name: orders
  tasks:
    - file: {name: in, path: input}
    - script: {name: enrich, code: "event.data.total = event.data.price * 2; event"}
    - stdout: {name: out}
"#;
    let ended = run(yaml, &[("input", b"{\"price\":1}\n{\"price\":\"none\"}\n{\"price\":3}\n")]);
    assert_eq!(rows(&ended), [json!({"price": 1, "total": 2}), json!({"price": 3, "total": 6})]);
    assert_eq!(ended.code, Some(3));
    let failure = &ended.logged("event failed")[0];
    assert_eq!(failure["flow"], "orders");
    assert_eq!(failure["task"], "enrich");
    assert_eq!(failure["task_type"], "script");
    assert_eq!(failure["event_id"], "input:12");
    assert_eq!(failure["position"], "input:2");
    assert_eq!(failure["error.type"], "script");
}

#[test]
fn a_failure_that_is_dropped_is_no_failure_of_the_run() {
    let yaml = r#"
flow:
  tasks:
    - file: {name: in, path: input, on_error: drop}
    - stdout: {name: out}
"#;
    let ended = run(yaml, &[("input", b"1\nbad\n3\n")]);
    assert_eq!(ended.stdout, "1\n3\n");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.drained()["dropped"], 1);
}

#[test]
fn failures_repeat_once_a_second_at_most_and_none_goes_unmentioned() {
    let ended = read("jsonl", &b"bad\n".repeat(1000));
    assert_eq!(ended.drained()["failed"], 1000);
    let mentioned: u64 = ended
        .logs()
        .iter()
        .filter(|line| line["error.type"] == "parse")
        .map(|line| {
            u64::from(line["message"] == "event failed") + line["suppressed"].as_u64().unwrap_or_default()
        })
        .sum();
    assert_eq!(mentioned, 1000, "{}", ended.stderr);
}

#[test]
fn many_flows_run_in_one_worker_and_each_has_its_account() {
    let yaml = r#"
flows:
  - name: letters
    tasks:
      - file: {name: in, path: letters, format: text}
      - file_write: {name: out, path: letters.out, format: text}
  - name: numbers
    tasks:
      - file: {name: in, path: numbers}
      - filter: {name: odd, condition: "event.data % 2 == 1"}
      - file_write: {name: out, path: numbers.out}
"#;
    let ended = run(yaml, &[("letters", b"a\nb\n"), ("numbers", b"1\n2\n3\n")]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.lines("letters.out"), ["a", "b"]);
    assert_eq!(ended.lines("numbers.out"), ["1", "3"]);
    let drained = ended.logged("flow drained");
    let of = |flow: &str| drained.iter().find(|line| line["flow"] == flow).unwrap().clone();
    assert_eq!((&of("letters")["entered"], &of("letters")["completed"]), (&json!(2), &json!(2)));
    assert_eq!((&of("numbers")["entered"], &of("numbers")["filtered"]), (&json!(3), &json!(1)));
}

#[test]
fn what_cannot_be_built_is_named_and_nothing_starts() {
    let yaml = r#"
flows:
  - name: good
    tasks:
      - generate: {name: numbers, count: 3}
      - stdout: {name: out}
  - name: bad
    tasks:
      - file: {name: orders, path: missing.jsonl}
      - stdout: {name: out}
"#;
    let ended = run(yaml, &[]);
    assert_eq!(ended.code, Some(1));
    assert_eq!(ended.stdout, "");
    for part in ["orders", "bad", "missing.jsonl"] {
        assert!(ended.stderr.contains(part), "`{part}` is not in {}", ended.stderr);
    }
}

#[test]
fn a_payload_that_nothing_changes_leaves_as_the_bytes_it_came_in() {
    let line = br#"{ "big": 123456789012345678901234567890, "e": 1.0e0 , "k":"\u00e9" }"#;
    let ended = read("jsonl", line);
    assert_eq!(ended.stdout.trim_end().as_bytes(), line);
}
