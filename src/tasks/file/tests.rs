use std::{
    fs::{self, OpenOptions},
    io::Write,
    sync::mpsc,
    time::Duration,
};

use rustix::fs::{CWD, FileType, Mode};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::task::{
    Extent, Source,
    testing::{Admitted, Collector},
};

mod following;
mod resuming;

fn folder(files: &[(&str, &str)]) -> (TempDir, BuildContext) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let base_dir = folder.path().to_owned();
    (folder, BuildContext::new("f", "t", base_dir))
}

async fn build(config: Value, context: &BuildContext) -> Result<Box<dyn Source>, BuildError> {
    let config = serde_json::from_value(config).unwrap();
    match File::build(&config, context).await? {
        Task::Source(source) => Ok(source),
        task => panic!("{task:?}"),
    }
}

async fn read(config: Value, files: &[(&str, &str)]) -> (Vec<String>, u64) {
    let (_folder, context) = folder(files);
    let source = build(config, &context).await.unwrap();
    let extent = source.extent();
    let (result, admitted, bytes) = Collector::until(usize::MAX).run(source).await;
    result.unwrap();
    assert_eq!(extent, Some(Extent::Bytes(bytes)));
    (admitted.iter().map(shown).collect(), bytes)
}

/// Shows an event as `<id> <path>:<line> <data or error>`.
fn shown(admitted: &Admitted) -> String {
    let (path, line) = admitted.id.position().unwrap();
    let data = match &admitted.result {
        Ok(record) => record.data.json().unwrap().to_string(),
        Err(error) => format!("{}: {error}", error.error_type()),
    };
    format!("{} {path}:{line} {data}", admitted.id)
}

#[tokio::test]
async fn a_span_names_the_file_the_offset_and_the_size_of_its_record() {
    let (_folder, context) = folder(&[("in/a.txt", "{}\n[1, 2]\r\noops\n[123456789]\n")]);
    let source = build(json!({"path": "in/*.txt", "max_line_bytes": 8}), &context).await.unwrap();
    let (_, admitted, _) = Collector::until(usize::MAX).run(source).await;
    let shown = |admitted: &Admitted| {
        let attributes = admitted.attributes.iter();
        let shown: Vec<_> = attributes.map(|known| format!("{} {:?}", known.key, known.value)).collect();
        (shown.join(", "), admitted.result.is_ok())
    };
    let file = r#"file.path Text(Shared("in/a.txt")), file.offset "#;
    assert_eq!(
        admitted.iter().map(shown).collect::<Vec<_>>(),
        [
            (format!("{file}Int(0), flowgen.record.size Int(2)"), true),
            (format!("{file}Int(3), flowgen.record.size Int(6)"), true),
            (format!("{file}Int(11), flowgen.record.size Int(4)"), false),
            (format!("{file}Int(16)"), false),
        ]
    );
}

#[tokio::test]
async fn every_format_reports_a_bad_record_at_its_place_and_reads_on() {
    let cases = [
        ("jsonl", "1\n{]\n3", "parse: the record is not JSON: key must be a string at column 2", "3"),
        ("csv", "a\n1\n2,3\n4\n", "parse: the row has 2 fields, the header has 1", r#"{"a":"4"}"#),
        ("json", "[1,\n{]\n, 3]", "parse: the record is not JSON: key must be a string at column 2", "3"),
    ];
    for (format, text, why, last) in cases {
        let (events, _) = read(json!({"path": "in.x", "format": format}), &[("in.x", text)]).await;
        assert_eq!(events.len(), 3, "{events:?}");
        let line = if format == "csv" { 3 } else { 2 };
        assert!(events[1].ends_with(&format!("in.x:{line} {why}")), "{events:?}");
        assert!(events[2].ends_with(&format!("in.x:{} {last}", line + 1)), "{events:?}");
    }
}

#[tokio::test]
async fn ids_are_offsets_and_the_last_line_needs_no_end() {
    let (events, bytes) = read(json!({"path": "d/in.jsonl"}), &[("d/in.jsonl", "[1]\n\n[22]")]).await;
    assert_eq!(events, ["d/in.jsonl:0 d/in.jsonl:1 [1]", "d/in.jsonl:5 d/in.jsonl:3 [22]"]);
    assert_eq!(bytes, 9);
}

#[tokio::test]
async fn an_empty_file_has_no_events() {
    assert_eq!(read(json!({"path": "e"}), &[("e", "")]).await, (Vec::new(), 0));
}

#[tokio::test]
async fn the_files_of_a_pattern_are_read_in_order_and_named_as_they_are() {
    let files = [("d/b.txt", "b"), ("d/a.txt", "a"), ("d/c.other", "c"), ("d/dir.txt/x", "x")];
    let (events, _) = read(json!({"path": "d/*.txt", "format": "text"}), &files).await;
    assert_eq!(events, ["d/a.txt:0 d/a.txt:1 \"a\"", "d/b.txt:0 d/b.txt:1 \"b\""]);
}

#[tokio::test]
async fn a_file_whose_name_looks_like_a_pattern_is_a_file() {
    let files = [("a[1].txt", "yes"), ("a1.txt", "no")];
    let (events, _) = read(json!({"path": "a[1].txt", "format": "text"}), &files).await;
    assert_eq!(events, ["a[1].txt:0 a[1].txt:1 \"yes\""]);
    let unbalanced = json!({"path": "a[.txt", "format": "text"});
    assert_eq!(check(unbalanced.clone()), Vec::<String>::new());
    let (events, _) = read(unbalanced, &[("a[.txt", "yes")]).await;
    assert_eq!(events, ["a[.txt:0 a[.txt:1 \"yes\""]);
}

/// Scenario: a named pipe that nobody writes to yet. Guarantee: the build does not wait for a writer, and
/// the reader that the writer meets is the one that reads.
#[test]
fn a_pipe_is_opened_by_its_reader_and_only_once() {
    let (folder, context) = folder(&[]);
    let pipe = folder.path().join("pipe");
    rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let (built, is_built) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let source = build(json!({"path": "pipe"}), &context).await.unwrap();
            built.send(source.extent()).unwrap();
            Collector::until(usize::MAX).run(source).await
        })
    });
    let extent = is_built.recv_timeout(Duration::from_secs(60)).expect("the build waits for a writer");
    assert_eq!(extent, None);
    OpenOptions::new().write(true).open(&pipe).unwrap().write_all(b"1\n2\n").unwrap();
    let (result, admitted, _) = reader.join().unwrap();
    result.unwrap();
    assert_eq!(admitted.iter().map(shown).collect::<Vec<_>>(), ["pipe:0 pipe:1 1", "pipe:2 pipe:2 2"]);
}

#[tokio::test]
async fn what_is_not_there_is_an_error_that_names_it() {
    let (_folder, context) = folder(&[("d/x", "")]);
    for (path, why) in [
        ("gone.jsonl", "cannot open `gone.jsonl`"),
        ("*.jsonl", "no file matches `*.jsonl`"),
        ("d", "`d` is a directory"),
        ("d/x[", "`d/x[` is neither a file nor a pattern"),
    ] {
        let error = build(json!({"path": path}), &context).await.err().unwrap();
        assert_eq!(error.to_string(), why);
    }
}

#[tokio::test]
async fn more_than_a_block_is_read_whole() {
    let text: String = (0..100_000).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    let (_folder, context) = folder(&[("in", &text)]);
    let source = build(json!({"path": "in"}), &context).await.unwrap();
    let (result, admitted, bytes) = Collector::until(usize::MAX).run(source).await;
    result.unwrap();
    assert_eq!(bytes, text.len() as u64);
    assert_eq!(admitted.len(), 100_000);
    for (n, admitted) in admitted.iter().enumerate() {
        assert_eq!(admitted.result.as_ref().unwrap().data.json(), Some(&json!({"n": n})));
    }
}

#[tokio::test]
async fn a_stop_ends_it_within_a_few_records() {
    let text = "1\n".repeat(10_000);
    let (_folder, context) = folder(&[("in", &text)]);
    let source = build(json!({"path": "in"}), &context).await.unwrap();
    let (result, admitted, _) = Collector::until(100).run(source).await;
    result.unwrap();
    assert!((100..=164).contains(&admitted.len()), "{}", admitted.len());
}

#[tokio::test]
async fn a_file_that_cannot_be_read_ends_the_source() {
    let (folder, context) = folder(&[("in", "1\n")]);
    let source = build(json!({"path": "in"}), &context).await.unwrap();
    fs::remove_file(folder.path().join("in")).unwrap();
    let (result, admitted, _) = Collector::until(100).run(source).await;
    let error = result.unwrap_err();
    assert_eq!((error.error_type(), error.to_string().as_str()), ("io", "cannot read `in`"));
    assert!(admitted.is_empty());
}

#[tokio::test]
async fn a_pipe_cannot_be_gone_on_with() {
    let (folder, context) = folder(&[("a", "1\n")]);
    let pipe = folder.path().join("b");
    rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    for (path, can_resume) in [("a", true), ("b", false), ("*", false)] {
        assert_eq!(build(json!({"path": path}), &context).await.unwrap().can_resume(), can_resume, "{path}");
    }
}

fn check(config: Value) -> Vec<String> {
    let mut problems = Problems::default();
    File::check(&serde_json::from_value(config).unwrap(), &mut problems);
    problems.into_vec().iter().map(|problem| problem.path.to_string()).collect()
}

#[test]
fn reports_what_cannot_be() {
    assert_eq!(check(json!({"path": "", "max_line_bytes": 0})), ["path", "max_line_bytes"]);
}
