use std::{
    io::{self, ErrorKind, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    event::{EventId, Payload},
    task::ErrorClass,
};

/// Writes as it is told: each step says how many bytes it takes, or how it fails; then it takes all.
struct Scripted {
    steps: Vec<Result<usize, ErrorKind>>,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Write for Scripted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let step = if self.steps.is_empty() { Ok(usize::MAX) } else { self.steps.remove(0) };
        let count = step?.min(bytes.len());
        self.written.lock().unwrap().extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn printer(steps: &[Result<usize, ErrorKind>], format: OutputFormat) -> (Printer, Arc<Mutex<Vec<u8>>>) {
    let written = Arc::new(Mutex::new(Vec::new()));
    let writer = Writer::start(Scripted { steps: steps.to_vec(), written: Arc::clone(&written) }).unwrap();
    (Printer::new(format, writer), written)
}

async fn print(printer: &Printer, data: serde_json::Value) {
    let event = Event::new(EventId::Sequence(0), "t".into(), Payload::from(data));
    let mut output = Output::default();
    printer.handle(&event, &mut output).await.unwrap();
    assert_eq!(output.len(), 1);
}

fn text(written: &Mutex<Vec<u8>>) -> String {
    String::from_utf8(written.lock().unwrap().clone()).unwrap()
}

#[tokio::test]
async fn a_span_tells_how_long_the_line_is() {
    let (printer, _) = printer(&[], OutputFormat::Jsonl);
    let mut output = Output::default();
    for (data, size) in [(json!([1, 2]), 6_i64), (json!("é"), 5)] {
        output.trace(true);
        let event = Event::new(EventId::Sequence(0), "t".into(), Payload::from(data));
        printer.handle(&event, &mut output).await.unwrap();
        let attributes = output.take_attributes();
        assert_eq!(attributes.iter().len(), 1);
        assert_eq!(attributes.get("flowgen.record.size"), Some(&size.into()));
    }
}

#[tokio::test]
async fn nothing_is_written_before_the_flush_and_all_of_it_then() {
    let (printer, written) =
        printer(&[Ok(3), Err(ErrorKind::Interrupted), Err(ErrorKind::WouldBlock)], OutputFormat::Jsonl);
    print(&printer, json!({"a": 1})).await;
    print(&printer, json!([2])).await;
    assert_eq!(text(&written), "");
    printer.flush().await.unwrap();
    assert_eq!(text(&written), "{\"a\":1}\n[2]\n");
    printer.flush().await.unwrap();
    print(&printer, json!(3)).await;
    printer.flush().await.unwrap();
    assert_eq!(text(&written), "{\"a\":1}\n[2]\n3\n");
}

#[tokio::test]
async fn another_attempt_goes_on_where_the_first_one_failed() {
    let (printer, written) = printer(&[Ok(4), Err(ErrorKind::StorageFull)], OutputFormat::Jsonl);
    print(&printer, json!([1])).await;
    print(&printer, json!([22])).await;
    let error = printer.flush().await.unwrap_err().first();
    assert_eq!((error.class(), error.error_type()), (ErrorClass::Transient, "storage_full"));
    printer.flush().await.unwrap();
    assert_eq!(text(&written), "[1]\n[22]\n");
}

#[tokio::test]
async fn what_was_given_up_on_is_not_written_later_but_for_the_end_of_a_torn_line() {
    let (printer, written) = printer(&[Ok(2), Err(ErrorKind::StorageFull)], OutputFormat::Jsonl);
    print(&printer, json!([1])).await;
    print(&printer, json!([2])).await;
    printer.flush().await.unwrap_err();
    printer.forget();
    print(&printer, json!([3])).await;
    printer.flush().await.unwrap();
    assert_eq!(text(&written), "[1]\n[3]\n");
}

#[tokio::test]
async fn a_header_comes_once_even_if_the_first_rows_are_given_up_on() {
    let (printer, written) = printer(&[Err(ErrorKind::StorageFull)], OutputFormat::Csv);
    print(&printer, json!({"a": 1})).await;
    printer.flush().await.unwrap_err();
    printer.forget();
    for n in [2, 3] {
        print(&printer, json!({"a": n})).await;
        printer.flush().await.unwrap();
    }
    assert_eq!(text(&written), "a\n2\n3\n");
}

#[tokio::test]
async fn a_reader_that_went_away_closes_the_flow() {
    let (printer, _) = printer(&[Err(ErrorKind::BrokenPipe)], OutputFormat::Jsonl);
    print(&printer, json!(1)).await;
    assert_eq!(printer.flush().await.unwrap_err().first().class(), ErrorClass::Closed);
}

/// Writes nothing until it is let; the next write fails if it was told so.
struct Gate {
    is_open: mpsc::Receiver<()>,
    fails_once: Arc<AtomicBool>,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.is_open.recv().map_err(|_| io::Error::from(ErrorKind::UnexpectedEof))?;
        if self.fails_once.swap(false, Ordering::Relaxed) {
            return Err(ErrorKind::StorageFull.into());
        }
        self.written.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_blocked_output_blocks_no_worker_and_a_late_write_is_waited_for_not_repeated() {
    let (open, is_open) = mpsc::channel();
    let written = Arc::new(Mutex::new(Vec::new()));
    let fails_once = Arc::new(AtomicBool::new(false));
    let gate = Gate { is_open, fails_once: Arc::clone(&fails_once), written: Arc::clone(&written) };
    let writer = Writer::start(gate).unwrap();
    let printer = Printer::new(OutputFormat::Jsonl, writer);
    print(&printer, json!(1)).await;
    let first = tokio::time::timeout(std::time::Duration::from_secs(1), printer.flush()).await;
    assert!(first.is_err());
    open.send(()).unwrap();
    printer.flush().await.unwrap();
    assert_eq!(text(&written), "1\n");

    print(&printer, json!(2)).await;
    let second = tokio::time::timeout(std::time::Duration::from_secs(1), printer.flush()).await;
    assert!(second.is_err());
    printer.forget();
    print(&printer, json!(3)).await;
    fails_once.store(true, Ordering::Relaxed);
    open.send(()).unwrap();
    open.send(()).unwrap();
    printer.flush().await.unwrap();
    assert_eq!(text(&written), "1\n3\n", "the late failure is not that of the new line");
}

#[tokio::test]
async fn a_writer_that_died_is_a_failure_and_no_reader_that_went_away() {
    struct Dying;

    impl Write for Dying {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            panic!("as a test wants it");
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let printer = Printer::new(OutputFormat::Jsonl, Writer::start(Dying).unwrap());
    for _ in 0..2 {
        print(&printer, json!(1)).await;
        let error = printer.flush().await.unwrap_err().first();
        assert_eq!((error.class(), error.error_type()), (ErrorClass::Permanent, "io"));
        printer.forget();
    }
}

proptest! {
    #[test]
    fn lines_of_two_tasks_never_mix(
        batches in prop::collection::vec((any::<bool>(), prop::collection::vec(0..1000_u32, 1..4)), 1..10),
        steps in prop::collection::vec(prop_oneof![(1..9_usize).prop_map(Ok), Just(Err(ErrorKind::Interrupted))], 0..30),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (one, written) = printer(&steps, OutputFormat::Jsonl);
            let other = Printer::new(OutputFormat::Jsonl, one.writer.clone());
            let mut expected = String::new();
            for (is_other, numbers) in &batches {
                let printer = if *is_other { &other } else { &one };
                for number in numbers {
                    print(printer, json!(number)).await;
                    expected.push_str(&format!("{number}\n"));
                }
                printer.flush().await.unwrap();
            }
            assert_eq!(text(&written), expected);
        });
    }
}
