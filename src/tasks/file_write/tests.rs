use std::{
    fs,
    task::{Context, Waker},
    time::Duration,
};

use rustix::fs::{FileType, Mode};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::{
    event::{EventId, Payload},
    task::ErrorClass,
};

async fn build(folder: &Path, config: Value) -> Result<Box<dyn Processor>, BuildError> {
    let context = BuildContext::new("f", "t", folder.to_owned());
    match FileWrite::build(&serde_json::from_value(config).unwrap(), &context).await? {
        Task::Processor(processor) => Ok(processor),
        task => panic!("{task:?}"),
    }
}

async fn task(config: Value) -> (TempDir, Box<dyn Processor>) {
    let folder = tempfile::tempdir().unwrap();
    let processor = build(folder.path(), config).await.unwrap();
    (folder, processor)
}

async fn handle(processor: &dyn Processor, data: Value) -> Result<(), TaskError> {
    let event = Event::new(EventId::Sequence(0), "t".into(), Payload::from(data));
    processor.handle(&event, &mut Output::default()).await
}

fn write(path: &Arc<Path>, lines: &[u8]) -> Write {
    Write { place: 0, events: Vec::new(), path: Arc::clone(path), header: Vec::new(), lines: lines.to_vec() }
}

/// Returns which events of the batch failed, and with what.
fn failed(result: Result<(), FlushError>) -> Vec<(usize, ErrorClass, &'static str)> {
    match result.unwrap_err() {
        FlushError::Events(failed) => {
            failed.into_iter().map(|(place, error)| (place, error.class(), error.error_type())).collect()
        }
        error @ FlushError::All(_) => panic!("{error:?}"),
    }
}

fn text(folder: &TempDir, path: &str) -> String {
    fs::read_to_string(folder.path().join(path)).unwrap()
}

#[tokio::test]
async fn a_span_names_the_file_and_the_size_of_the_line_even_if_the_event_fails() {
    let (_folder, task) = task(json!({"path": "a/{{ event.data.to }}.csv", "format": "csv"})).await;
    let mut output = Output::default();
    let mut attributes = async |data: Value| {
        output.trace(true);
        let event = Event::new(EventId::Sequence(0), "t".into(), Payload::from(data));
        let result = task.handle(&event, &mut output).await;
        (result.map_err(|error| error.error_type()), output.take_attributes())
    };
    for data in [json!({"to": "x", "n": "1"}), json!({"to": "x", "n": "2"})] {
        let (result, attributes) = attributes(data).await;
        result.unwrap();
        assert_eq!(attributes.get("file.path"), Some(&"a/x.csv".into()));
        assert_eq!(attributes.get("flowgen.record.size"), Some(&4_i64.into()), "the header is of no event");
        assert_eq!(attributes.iter().len(), 2);
    }
    let (result, attributes) = attributes(json!({"to": "../x"})).await;
    assert_eq!(result, Err(PATH));
    assert_eq!(attributes.get("file.path"), Some(&"a/../x.csv".into()));
    assert_eq!(attributes.iter().len(), 1);
}

#[tokio::test]
async fn appends_whole_batches_to_a_file_in_a_new_directory() {
    let (folder, task) = task(json!({"path": "a/b/out.jsonl"})).await;
    handle(&*task, json!({"n": 1})).await.unwrap();
    assert_eq!(text(&folder, "a/b/out.jsonl"), "");
    task.flush().await.unwrap();
    handle(&*task, json!({"n": 2})).await.unwrap();
    task.flush().await.unwrap();
    task.flush().await.unwrap();
    assert_eq!(text(&folder, "a/b/out.jsonl"), "{\"n\":1}\n{\"n\":2}\n");
}

#[tokio::test]
async fn a_torn_last_line_is_cut_off_when_the_file_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("out"), "1\n{\"torn").unwrap();
    let task = build(folder.path(), json!({"path": "out"})).await.unwrap();
    handle(&*task, json!(2)).await.unwrap();
    task.flush().await.unwrap();
    assert_eq!(text(&folder, "out"), "1\n2\n");
}

/// Scenario: one task appends long lines to a file, another opens it again and again, because it has more
/// files than it may keep open. Guarantee: no line that was written is cut away as a torn one.
#[test]
fn the_lines_that_others_write_are_never_taken_for_torn() {
    let folder = tempfile::tempdir_in(if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "." }).unwrap();
    let path = |name: &str| -> Arc<Path> { folder.path().join(name).into() };
    let shared = path("x");
    let now = Instant::now();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let line = [&[b'x'; 400_000], &b"\n"[..]].concat();
            let mut files = Files::new(false);
            for _ in 0..100 {
                files.append(&write(&shared, &line), now).unwrap();
            }
        });
        let mut files = Files::new(false);
        let mut n = 0;
        while !writer.is_finished() {
            files.append(&write(&shared, b"short\n"), now).unwrap();
            for other in 0..files::OPEN_FILES + 1 {
                files.open(&path(&format!("{other}")), false, now).unwrap();
            }
            n += 1;
        }
        writer.join().unwrap();
        let text = fs::read_to_string(&shared).unwrap();
        assert_eq!(text.lines().filter(|line| line.len() == 400_000).count(), 100);
        assert_eq!(text.lines().filter(|line| *line == "short").count(), n);
        assert_eq!(text.lines().count(), 100 + n);
    });
}

/// Scenario: a program that takes no lock is in the middle of a long line. Guarantee: it is not cut off,
/// and ours is on a line of its own.
#[test]
fn a_torn_line_that_grows_is_someone_elses() {
    let folder = tempfile::tempdir().unwrap();
    let path: Arc<Path> = folder.path().join("x").into();
    fs::write(&path, "1\n{").unwrap();
    let (stop, mut growing) = (std::sync::atomic::AtomicBool::new(false), fs::OpenOptions::new());
    let mut growing = growing.append(true).open(&path).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                std::io::Write::write_all(&mut growing, b"{").unwrap();
            }
        });
        Files::new(false).open(&path, false, Instant::now()).unwrap();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    Files::new(false).append(&write(&path, b"2\n"), Instant::now()).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("1\n{{") && text.ends_with("{\n2\n"));
}

/// Scenario: a path changes hands between processes. Guarantee: an append waits for the lock.
#[test]
fn an_append_waits_while_another_process_has_the_file_locked() {
    let folder = tempfile::tempdir().unwrap();
    let path: Arc<Path> = folder.path().join("x").into();
    let theirs = fs::File::create(&path).unwrap();
    theirs.lock().unwrap();
    std::io::Write::write_all(&mut &theirs, b"{\"half").unwrap();
    std::thread::scope(|scope| {
        let ours = scope.spawn(|| Files::new(false).append(&write(&path, b"2\n"), Instant::now()));
        // Turns enough for whoever does not wait. On a busy machine each takes long, and the patience of one who
        // does has an end.
        let enough = Instant::now() + Duration::from_secs(1);
        (0..100_000).take_while(|_| Instant::now() < enough).for_each(|_| std::thread::yield_now());
        std::io::Write::write_all(&mut &theirs, b"\"}\n").unwrap();
        theirs.unlock().unwrap();
        ours.join().unwrap().unwrap();
    });
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\"half\"}\n2\n");
}

#[tokio::test]
async fn each_event_goes_to_the_file_its_data_names_however_many_there_are() {
    let (folder, task) = task(json!({"path": "d/{{ event.data.k }}.txt", "format": "text"})).await;
    for round in 0..3 {
        for k in 0..files::OPEN_FILES * 2 {
            handle(&*task, json!({"k": k, "round": round})).await.unwrap();
        }
        task.flush().await.unwrap();
    }
    for k in 0..files::OPEN_FILES * 2 {
        let lines: String = (0..3).map(|round| format!("{}\n", json!({"k": k, "round": round}))).collect();
        assert_eq!(text(&folder, &format!("d/{k}.txt")), lines);
    }
}

#[tokio::test]
async fn data_cannot_lead_out_of_the_directory() {
    let (_folder, task) = task(json!({"path": "{{ event.data }}"})).await;
    for path in ["../x", "/tmp/x", "a/../../x", "", "a\0b"] {
        let error = handle(&*task, json!(path)).await.unwrap_err();
        assert_eq!((error.class(), error.error_type()), (ErrorClass::Permanent, PATH), "{path}");
    }
    let error = handle(&*task, json!({"a": 1})).await.err();
    assert!(error.is_none(), "an object is a name, if a strange one");
}

#[tokio::test]
async fn a_template_may_lead_anywhere_but_data_only_below_what_it_names() {
    let folder = tempfile::tempdir().unwrap();
    let flows = folder.path().join("flows");
    fs::create_dir(&flows).unwrap();
    let task = build(&flows, json!({"path": "../out/.{{ event.data }}/x"})).await.unwrap();
    handle(&*task, json!("good")).await.unwrap();
    task.flush().await.unwrap();
    assert_eq!(text(&folder, "out/.good/x"), "\"good\"\n");
    for data in [".", "./..", "a/../..", "/../..", "a\0"] {
        let error = handle(&*task, json!(data)).await.unwrap_err();
        assert_eq!((error.class(), error.error_type()), (ErrorClass::Permanent, PATH), "{data}");
    }
    let root = format!("{}/{{{{ event.data }}}}", folder.path().display());
    let task = build(&flows, json!({"path": root})).await.unwrap();
    handle(&*task, json!("/absolute")).await.unwrap();
    assert_eq!(text(&folder, "absolute"), "");
    assert_eq!(handle(&*task, json!("../x")).await.unwrap_err().error_type(), PATH);
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_fails_one_event_only() {
    let (folder, task) = task(json!({"path": "{{ event.data }}"})).await;
    fs::create_dir(folder.path().join("folder")).unwrap();
    let error = handle(&*task, json!("folder")).await.unwrap_err();
    assert_eq!((error.class(), error.error_type()), (ErrorClass::Permanent, "io"));
    handle(&*task, json!("good")).await.unwrap();
    task.flush().await.unwrap();
    assert_eq!(text(&folder, "good"), "\"good\"\n");
}

#[tokio::test]
async fn a_path_that_cannot_be_opened_at_all_is_a_build_error() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("x")).unwrap();
    let error = build(folder.path(), json!({"path": "x"})).await.err().unwrap();
    assert_eq!(error.to_string(), "cannot open `x`");
}

/// Scenario: a task is built, but the worker does not start, as another task cannot be built. Guarantee:
/// nothing was made or changed; what cannot work is said all the same.
#[tokio::test]
async fn a_build_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("torn"), "1\n{").unwrap();
    for path in ["torn", "new/directory/x"] {
        build(folder.path(), json!({"path": path})).await.unwrap();
    }
    build(folder.path(), json!({"path": "torn/x"})).await.err().unwrap();
    assert_eq!(text(&folder, "torn"), "1\n{");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_pipe_that_nobody_reads_blocks_neither_the_build_nor_an_event() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let task = build(folder.path(), json!({"path": "pipe"})).await.unwrap();
    let error = handle(&*task, json!(1)).await.unwrap_err();
    assert_eq!((error.class(), error.error_type()), (ErrorClass::Transient, "io"));
}

#[tokio::test]
async fn a_csv_header_comes_once_and_other_columns_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let config = json!({"path": "out.csv", "format": "csv"});
    for n in [1, 2] {
        let task = build(folder.path(), config.clone()).await.unwrap();
        handle(&*task, json!({"a": n, "b": ""})).await.unwrap();
        task.flush().await.unwrap();
    }
    assert_eq!(text(&folder, "out.csv"), "a,b\n1,\n2,\n");
    let task = build(folder.path(), config).await.unwrap();
    handle(&*task, json!({"b": 3, "a": 4})).await.unwrap();
    let error = handle(&*task, json!({"c": 1})).await.unwrap_err();
    assert_eq!((error.class(), error.error_type()), (ErrorClass::Permanent, "encode"));
    task.flush().await.unwrap();
    assert_eq!(text(&folder, "out.csv"), "a,b\n1,\n2,\n4,3\n");
}

#[tokio::test]
async fn rows_are_appended_to_a_csv_file_from_windows() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("out.csv"), "a,b\r\n1,2\r\n").unwrap();
    let task = build(folder.path(), json!({"path": "out.csv", "format": "csv"})).await.unwrap();
    handle(&*task, json!({"a": 3, "b": 4})).await.unwrap();
    task.flush().await.unwrap();
    assert_eq!(text(&folder, "out.csv"), "a,b\r\n1,2\r\n3,4\n");
}

/// Scenario: a file gets other columns between an event and its flush. Guarantee: its events fail, those of
/// other files do not, and the next event is looked at by the new columns.
#[tokio::test]
async fn one_file_that_fails_does_not_fail_the_events_of_others() {
    let (folder, task) = task(json!({"path": "{{ event.data.k }}", "format": "csv"})).await;
    for k in ["a", "b", "a", "b"] {
        handle(&*task, json!({"k": k})).await.unwrap();
    }
    fs::write(folder.path().join("b"), "x,k\n").unwrap();
    let expected = [(1, ErrorClass::Permanent, "encode"), (3, ErrorClass::Permanent, "encode")];
    assert_eq!(failed(task.flush().await), expected);
    task.forget();
    assert_eq!((text(&folder, "a").as_str(), text(&folder, "b").as_str()), ("k\na\na\n", "x,k\n"));
    handle(&*task, json!({"k": "b"})).await.unwrap();
    task.flush().await.unwrap();
    assert_eq!(text(&folder, "b"), "x,k\n,b\n");
}

/// Scenario: one file has two names, another has no room. Guarantee: only what has no room waits for the
/// next attempt, so that no line is there twice.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn another_attempt_writes_nothing_twice_whatever_names_a_file_has() {
    let (folder, task) = task(json!({"path": "{{ event.data }}"})).await;
    std::os::unix::fs::symlink("/dev/full", folder.path().join("full")).unwrap();
    std::os::unix::fs::symlink("a", folder.path().join("c")).unwrap();
    for path in ["a", "./a", "full", "c"] {
        handle(&*task, json!(path)).await.unwrap();
    }
    for _ in 0..2 {
        assert_eq!(failed(task.flush().await), [(2, ErrorClass::Transient, "storage_full")]);
        assert_eq!(text(&folder, "a"), "\"a\"\n\"./a\"\n\"c\"\n");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_is_transient_and_what_is_given_up_on_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let task = build(folder.path(), json!({"path": "/dev/full"})).await.unwrap();
    handle(&*task, json!(1)).await.unwrap();
    for _ in 0..2 {
        assert_eq!(failed(task.flush().await), [(0, ErrorClass::Transient, "storage_full")]);
    }
    task.forget();
    task.flush().await.unwrap();
}

/// Scenario: a write that was given up on fails after all. Guarantee: the next batch does not pay for it.
#[tokio::test]
async fn the_late_failure_of_a_write_that_was_given_up_on_is_not_that_of_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let context = BuildContext::new("f", "t", folder.path().into());
    let task = Appender::new("{{ event.data.k }}", OutputFormat::Csv, context).unwrap();
    handle(&task, json!({"k": "b"})).await.unwrap();
    fs::write(folder.path().join("b"), "x,y\n").unwrap();
    {
        let _held = lock(&task.files);
        let mut flush = task.flush();
        assert!(flush.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(flush);
        task.forget();
    }
    handle(&task, json!({"k": "a"})).await.unwrap();
    task.flush().await.unwrap();
    assert_eq!((text(&folder, "a").as_str(), text(&folder, "b").as_str()), ("k\na\n", "x,y\n"));
}

#[tokio::test(start_paused = true)]
async fn a_file_that_was_moved_away_or_deleted_is_made_anew() {
    let (folder, task) = task(json!({"path": "out.csv", "format": "csv"})).await;
    let write = async |n: u32| {
        handle(&*task, json!({"n": n})).await.unwrap();
        task.flush().await.unwrap();
    };
    write(1).await;
    fs::rename(folder.path().join("out.csv"), folder.path().join("old.csv")).unwrap();
    tokio::time::advance(files::LOOK_PERIOD).await;
    write(2).await;
    write(3).await;
    assert_eq!(text(&folder, "old.csv"), "n\n1\n");
    assert_eq!(text(&folder, "out.csv"), "n\n2\n3\n");
    fs::remove_file(folder.path().join("out.csv")).unwrap();
    tokio::time::advance(files::LOOK_PERIOD - Duration::from_millis(1)).await;
    write(4).await;
    assert!(!folder.path().join("out.csv").exists(), "it looked too often");
    tokio::time::advance(Duration::from_millis(1)).await;
    write(5).await;
    assert_eq!(text(&folder, "out.csv"), "n\n5\n");
}

#[test]
fn reports_a_template_that_does_not_compile() {
    let mut problems = Problems::default();
    let config = json!({"path": "{{ evnt.data.x }}"});
    FileWrite::check(&serde_json::from_value(config).unwrap(), &mut problems);
    let found: Vec<_> =
        problems.into_vec().into_iter().map(|problem| (problem.path.to_string(), problem.message)).collect();
    assert_eq!(found[0], ("path".to_owned(), "`evnt` is not known".to_owned()));
    assert_eq!(found.len(), 1);
}
