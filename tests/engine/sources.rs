//! Real sources through the engine: interrupted in the middle of their work, and with records that cannot be decoded.

use std::{
    future::poll_fn,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
};

use async_trait::async_trait;
use flowgen::{
    ack::Outcome,
    event::{Event, Payload},
    plan::{Node, OnError, OnTaskPanic},
    problem::Problems,
    registry::Prepared,
    runtime::{Report, TaskManager},
    shutdown::Stop,
    task::{BuildContext, BuildError, Emitter, Extent, Output, Source, Target, Task, TaskError},
};
use serde_json::{Value, json};

use crate::support::{
    graph::{flow, node, outcomes, plan},
    tasks::Apply,
};

/// How a source is interrupted.
#[derive(Clone, Copy, Debug)]
enum Interruption {
    Panic,
    Transient,
    Permanent,
}

/// What has reached the leaf.
type Seen = Arc<Mutex<Vec<String>>>;

/// When a source is interrupted: as soon as so many events have reached the leaf, the last one first.
#[derive(Clone)]
struct Interruptions {
    by: Interruption,
    at: Arc<Mutex<Vec<usize>>>,
    seen: Seen,
    builds: Arc<AtomicUsize>,
}

impl Interruptions {
    fn is_due(&self) -> bool {
        let mut at = self.at.lock().unwrap();
        let is_due = at.last().is_some_and(|at| self.seen.lock().unwrap().len() >= *at);
        if is_due {
            at.pop();
        }
        is_due
    }
}

/// Builds a real source that is interrupted in the middle of its work.
struct Interrupted {
    prepared: Box<dyn Prepared>,
    interruptions: Interruptions,
}

#[async_trait]
impl Prepared for Interrupted {
    fn targets(&self) -> Vec<Target> {
        Vec::new()
    }

    async fn build(&self, context: &BuildContext) -> Result<Task, BuildError> {
        self.interruptions.builds.fetch_add(1, Ordering::Relaxed);
        match self.prepared.build(context).await? {
            Task::Source(source) => {
                let interruptions = self.interruptions.clone();
                Ok(Task::Source(Box::new(InterruptedSource { source, interruptions })))
            }
            task => panic!("{task:?}"),
        }
    }
}

struct InterruptedSource {
    source: Box<dyn Source>,
    interruptions: Interruptions,
}

#[async_trait]
impl Source for InterruptedSource {
    async fn run(self: Box<Self>, emitter: &mut Emitter, stop: Stop) -> Result<(), TaskError> {
        let Self { source, interruptions } = *self;
        let mut reading = source.run(emitter, stop);
        poll_fn(|context| {
            let polled = reading.as_mut().poll(context);
            if polled.is_ready() || !interruptions.is_due() {
                return polled;
            }
            let message = "as the test wants it";
            Poll::Ready(match interruptions.by {
                Interruption::Panic => panic!("{message}"),
                Interruption::Transient => Err(TaskError::transient("io", message)),
                Interruption::Permanent => Err(TaskError::permanent("io", message)),
            })
        })
        .await
    }

    fn can_resume(&self) -> bool {
        self.source.can_resume()
    }

    fn extent(&self) -> Option<Extent> {
        self.source.extent()
    }
}

fn recording(seen: &Seen, show: fn(&Event) -> String) -> Node {
    let seen = Arc::clone(seen);
    node("leaf", vec![], move || {
        let seen = Arc::clone(&seen);
        Task::Transform(Box::new(Apply(move |event: &mut Event, output: &mut Output| {
            seen.lock().unwrap().push(show(event));
            output.forward();
            Ok(())
        })))
    })
}

/// Runs a real source that is interrupted after so many events. Returns what came of it, in order, and how often it was
/// built.
async fn run(kind: &str, config: Value, by: Interruption, at: &[usize]) -> (Report, Vec<String>, usize) {
    let mut problems = Problems::default();
    let entry = flowgen::tasks::registry().get(kind).unwrap();
    let prepared = entry.prepare(config, &mut problems).unwrap_or_else(|error| panic!("{error}"));
    assert!(problems.is_empty());
    let seen = Seen::default();
    let at = at.iter().rev().copied().collect();
    let builds = Arc::default();
    let interruptions = Interruptions {
        by,
        at: Arc::new(Mutex::new(at)),
        seen: Arc::clone(&seen),
        builds: Arc::clone(&builds),
    };
    let mut source = node("source", vec![1], || unreachable!("it is built by `Interrupted`"));
    source.prepared = Arc::new(Interrupted { prepared, interruptions });
    let mut flow = flow("resumed", vec![source, recording(&seen, |event| event.id.to_string())]);
    flow.on_task_panic = OnTaskPanic::Restart;
    let report = TaskManager::start(plan(vec![flow], 8), None).await.unwrap().run().await;
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    (report, seen, builds.load(Ordering::Relaxed))
}

/// Scenario: a source panics or fails for now three times in the middle of its input. Guarantee: it is built again and
/// goes on behind its last record, so that each reaches the leaf once and in order.
#[tokio::test(start_paused = true)]
async fn an_interrupted_source_brings_in_every_record_exactly_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in");
    let numbers: Vec<String> = (0..3000).map(|n| n.to_string()).collect();
    let rows: String = (0..3000).map(|n| format!("{n},\"x\ny\"\n")).collect();
    let offsets = |text: &str, records: &[String]| -> Vec<String> {
        let mut behind = 0;
        let place = |record: &String| {
            let offset = behind + text[behind..].find(record.as_str()).unwrap();
            behind = offset + record.len();
            format!("{}:{offset}", path.display())
        };
        records.iter().map(place).collect()
    };
    let lines = numbers.join("\n");
    let array = format!("[{}]", numbers.join(", "));
    let csv = format!("a,b\n{rows}");
    let csv_records: Vec<String> = (0..3000).map(|n| format!("{n},\"x\ny\"")).collect();
    let cases = [
        ("jsonl", &lines, offsets(&lines, &numbers)),
        ("json", &array, offsets(&array, &numbers)),
        ("csv", &csv, offsets(&csv, &csv_records)),
    ];
    for by in [Interruption::Panic, Interruption::Transient] {
        let at = [1, 700, 2000];
        for (format, text, expected) in &cases {
            std::fs::write(&path, text).unwrap();
            let config = json!({"path": path, "format": format});
            let (report, seen, builds) = run("file", config, by, &at).await;
            assert_eq!(seen.len(), expected.len(), "{format} {by:?}");
            assert_eq!(&seen, expected, "{format} {by:?}");
            assert_eq!((report.flows[0].failure.as_deref(), builds), (None, 4));
            assert_eq!(outcomes(&report.flows[0].summary), [(Outcome::Completed, 3000)].into());
        }
        let (report, seen, builds) = run("generate", json!({"count": 3000}), by, &at).await;
        assert_eq!(seen, numbers, "{by:?}");
        assert_eq!((report.flows[0].failure.as_deref(), builds), (None, 4));
        assert_eq!(outcomes(&report.flows[0].summary), [(Outcome::Completed, 3000)].into());
    }
}

/// Scenario: a source fails for good. Guarantee: it is not built again, and its flow fails.
#[tokio::test(start_paused = true)]
async fn a_permanent_failure_of_a_source_ends_its_flow() {
    let (report, seen, builds) =
        run("generate", json!({"count": 3000}), Interruption::Permanent, &[100]).await;
    assert_eq!(builds, 1);
    assert_eq!(report.flows[0].failure.as_deref(), Some("source `source` failed: as the test wants it"));
    assert_eq!(report.flows[0].summary.inflight(), 0);
    assert!((100..3000).contains(&seen.len()), "{}", seen.len());
}

/// Scenario: some lines of a file are no JSON. Guarantee: `on_error: {route: ..}` passes them on as they are, with what was
/// wrong, which shows nothing of them.
#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_decoded_goes_on_as_it_came() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("in"), b"1\n{canary\n2\n\xffcanary\n").unwrap();
    let entry = flowgen::tasks::registry().get("file").unwrap();
    let config = json!({"path": folder.path().join("in")});
    let prepared = entry.prepare(config, &mut Problems::default()).unwrap_or_else(|error| panic!("{error}"));
    let (good, bad) = (Seen::default(), Seen::default());
    let mut source = node("source", vec![1], || unreachable!("the real one is built"));
    source.prepared = prepared.into();
    source.policy.on_error = OnError::Route(2);
    let bad_leaf = recording(&bad, |event| {
        let error = event.error.as_deref().unwrap();
        let data = match &event.data {
            Payload::Json(_) => event.data.json().unwrap().to_string(),
            Payload::Bytes(bytes) => format!("{bytes:?}"),
        };
        format!("{data} {} {} {}", error.error_type, error.task, error.message)
    });
    let good_leaf = recording(&good, |event| event.data.json().unwrap().to_string());
    let report = TaskManager::start(plan(vec![flow("routed", vec![source, good_leaf, bad_leaf])], 8), None)
        .await
        .unwrap()
        .run()
        .await;
    assert_eq!(*good.lock().unwrap(), ["1", "2"]);
    assert_eq!(
        *bad.lock().unwrap(),
        [
            "\"{canary\" parse source the record is not JSON: key must be a string at column 2",
            "b\"\\xffcanary\" parse source the record is not UTF-8 at its byte 1",
        ]
    );
    assert_eq!(outcomes(&report.flows[0].summary), [(Outcome::Completed, 4)].into());
}
