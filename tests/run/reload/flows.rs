//! Which flows a reload touches.

use super::{APPLIED, Rows, UNCHANGED, drained, endless, reload, start, stop, told};

#[test]
fn only_the_flow_that_changed_restarts() {
    let mut worker = start(&[("flows/a.yaml", &endless("a", 1)), ("flows/b.yaml", &endless("b", 1))]);
    let mut rows = Rows::of(&mut worker);
    rows.until("a", 1);
    rows.until("b", 1);
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || {
            rows.until("b", 2);
            rows.until("a", 1);
            rows
        });
        let line = reload(&worker, &[("flows/b.yaml", &endless("b", 2))]);
        assert_eq!(
            (told(&line), &line["restarted"], &line["cause"]),
            ((APPLIED, 2), &"b".into(), &"SIGHUP".into())
        );
        assert!(line["started"].is_null() && line["stopped"].is_null(), "{line}");
        let (ended, _) = stop(worker, reading.join().unwrap());
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let mut names = drained(&ended);
        assert_eq!(names.remove(0), "b", "{}", ended.stderr);
        names.sort();
        assert_eq!(names, ["a", "b"]);
    });
}

#[test]
fn a_file_that_was_only_written_in_another_way_changes_nothing() {
    let mut worker = start(&[("flows/a.yaml", &endless("a", 1))]);
    let mut rows = Rows::of(&mut worker);
    rows.until("a", 1);
    let other = "# A comment.\nflows:\n- tasks:\n  - generate:\n      name: 'numbers'\n      payload:\n        flow: \"a\"\n        generation: 1\n  - script: {name: numbered, code: \"event.data.n = parse_int(event.id); event\"}\n  - stdout: {name: out}\n  name: a\n";
    // The keys of the flow may stand in another order, those of its tasks may matter.
    let same = other.replace("  name: a\n", "").replace("- tasks", "- name: a\n  tasks");
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || rows.by_ref().last());
        assert_eq!(told(&reload(&worker, &[])), (UNCHANGED, 1));
        assert_eq!(told(&reload(&worker, &[("flows/a.yaml", &same)])), (UNCHANGED, 1));
        worker.signal(rustix::process::Signal::TERM);
        reading.join().unwrap();
        let ended = worker.end();
        assert_eq!((ended.code, drained(&ended)), (Some(0), vec!["a".to_owned()]), "{}", ended.stderr);
    });
}

#[test]
fn flows_come_and_go_with_their_files() {
    let folder = [("flows/a.yaml", &*endless("a", 1)), ("flows/b.yaml", &endless("b", 1))];
    let mut worker = start(&folder);
    let mut rows = Rows::of(&mut worker);
    rows.until("a", 1);
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || {
            rows.until("c", 1);
            rows
        });
        std::fs::remove_file(worker.folder.path().join("flows/b.yaml")).unwrap();
        let line = reload(&worker, &[("flows/c.yaml", &endless("c", 1))]);
        assert_eq!(told(&line), (APPLIED, 2));
        assert_eq!((&line["started"], &line["stopped"]), (&"c".into(), &"b".into()), "{line}");
        let (ended, _) = stop(worker, reading.join().unwrap());
        let mut names = drained(&ended);
        assert_eq!((ended.code, names.remove(0)), (Some(0), "b".into()), "{}", ended.stderr);
        names.sort();
        assert_eq!(names, ["a", "c"]);
    });
}

/// Scenario: two flows change names with each other. Guarantee: each name goes on with the other's tasks, and nothing
/// runs twice.
#[test]
fn two_flows_may_swap_their_names() {
    let file = |name: &str, n: u64| {
        format!(
            "flow: {{name: {name}, tasks: [{{generate: {{name: numbers, interval: 1h, payload: {{flow: {name}, generation: {n}}}}}}}, {{stdout: {{name: out}}}}]}}"
        )
    };
    let mut worker = start(&[("flows/a.yaml", &file("a", 1)), ("flows/b.yaml", &file("b", 2))]);
    let mut rows = Rows::of(&mut worker);
    let mut first = [rows.next().unwrap(), rows.next().unwrap()].map(|row| row.to_string());
    let line = reload(&worker, &[("flows/a.yaml", &file("b", 1)), ("flows/b.yaml", &file("a", 2))]);
    assert_eq!((told(&line), &line["restarted"]), ((APPLIED, 2), &"a, b".into()));
    let mut second = [rows.next().unwrap(), rows.next().unwrap()].map(|row| row.to_string());
    first.sort();
    second.sort();
    assert_eq!(first, [r#"{"flow":"a","generation":1}"#, r#"{"flow":"b","generation":2}"#]);
    assert_eq!(second, [r#"{"flow":"a","generation":2}"#, r#"{"flow":"b","generation":1}"#]);
    let (ended, rest) = stop(worker, rows);
    assert_eq!((ended.code, rest.len(), drained(&ended).len()), (Some(0), 0, 4), "{}", ended.stderr);
}

/// Scenario: the flows of a worker that is not watched have an end. Guarantee: it ends with the last of them, and events
/// that failed before a reload are not forgotten.
#[test]
fn it_ends_with_the_last_flow_and_remembers_what_failed_before() {
    let file = |name: &str, source: &str, code: &str| {
        format!(
            "flow: {{name: {name}, tasks: [{{generate: {{name: numbers, {source}}}}}, {{script: {{name: picky, code: '{code}'}}}}]}}"
        )
    };
    let waiting = file("a", "interval: 1h", r#"throw "no""#);
    let worker = start(&[("flows/a.yaml", &waiting), ("flows/b.yaml", &file("b", "count: 1", "event"))]);
    worker.next_logged("event failed");
    let line = reload(&worker, &[("flows/a.yaml", &file("a", "count: 3", "event"))]);
    assert_eq!((told(&line), &line["restarted"]), ((APPLIED, 2), &"a".into()));
    let ended = worker.ends_in_time();
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert_eq!(drained(&ended), ["b", "a", "a"]);
}
