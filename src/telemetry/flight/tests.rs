use std::{error::Error, fmt};

use jiff::Timestamp;

use super::{ring::SIZE, *};
use crate::{
    ack::Outcome,
    event::{Event, EventId, Payload, Step},
    telemetry::{
        Histogram, Identity, SpanKind,
        registry::Registry,
        series::{Held, Series, SpanTable},
        settings::ExemplarFilter,
    },
    trace::{Ticks, TraceContext},
};

const MICROSECOND: u64 = 1000;

/// Series of tasks, for as long as this is there.
struct Tasks {
    table: Arc<SpanTable>,
    held: Vec<Held>,
}

impl Tasks {
    fn new(names: &[&str]) -> Self {
        let table = Registry::new(&Histogram::default(), ExemplarFilter::default(), None).spans;
        let hold = |(task_id, task): (usize, &&str)| {
            let identity =
                Identity { flow: "orders".into(), task: (*task).into(), task_type: "script", task_id };
            let series =
                Series::new("task.handle", SpanKind::Internal, Some(Arc::new(identity)), &["connect"]);
            table.hold(Arc::new(series))
        };
        let held = names.iter().enumerate().map(hold).collect();
        Self { table, held }
    }

    /// A step of the `n`-th task, at these microseconds.
    fn step(&self, n: usize, start: u64, took: u64) -> Step {
        let start = Ticks::default().after(start * MICROSECOND);
        Step { place: self.held[n].place, start, nanos: took * MICROSECOND, ..Step::default() }
    }

    /// An event that fails in the `n`-th task, as its first and only one.
    fn failed(&self, id: u64, n: usize, error_type: &'static str) -> Entry {
        let event = event(EventId::Sequence(id));
        Entry::failed(&event, self.step(n, id, 1), failure(error_type, "no"), &self.table)
    }
}

fn event(id: EventId) -> Event {
    let mut event = Event::new(id, "orders".into(), Payload::default());
    event.trail.follow();
    event
}

fn failure(error_type: &'static str, error: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
    Failure { is_panic: false, outcome: Some(Outcome::Failed), error_type, error: error.into() }
}

fn ids(entries: &[Arc<Entry>]) -> Vec<String> {
    entries.iter().map(|entry| entry.event_id.to_string()).collect()
}

fn numbers(numbers: impl IntoIterator<Item = u64>) -> Vec<String> {
    numbers.into_iter().map(|number| number.to_string()).collect()
}

#[test]
fn the_latest_are_kept_and_all_are_counted() {
    let tasks = Tasks::new(&["call"]);
    let ring = Ring::new(None);
    assert_eq!((ring.entries().len(), ring.latest()), (0, Ticks::default()));
    (1..=10_000).for_each(|id| ring.push(tasks.failed(id, 0, "connect")));
    assert_eq!(ids(&ring.entries()), numbers(9_969..=10_000));
    assert_eq!((ring.recorded(), ring.latest()), (10_000, ring.entries()[SIZE - 1].end()));
}

/// Scenario: before and among a flood of one failure there are a few of others. Guarantee: those stay.
#[test]
fn a_flood_pushes_out_only_its_own() {
    let tasks = Tasks::new(&["call", "write"]);
    let ring = Ring::new(Some(Duration::from_micros(5)));
    ring.push(tasks.failed(1, 1, "connect"));
    (2..=500).for_each(|id| ring.push(tasks.failed(id, 0, "connect")));
    ring.push(tasks.failed(501, 0, "panic"));
    (502..=1000).for_each(|id| ring.push(tasks.failed(id, 0, "connect")));
    assert_eq!(ids(&ring.entries()), numbers([1, 501].into_iter().chain(971..=1000)));
    let mut slow = event(EventId::Sequence(1001));
    slow.trail.push(tasks.step(0, 1001, 6));
    (0..SIZE).for_each(|_| ring.push(Entry::slow(&slow, &tasks.table)));
    let shown = ids(&ring.entries());
    assert_eq!(
        (shown.len(), &shown[..3], &shown[SIZE - 1]),
        (SIZE, &numbers([1, 501, 987])[..], &"1001".into())
    );
}

#[test]
fn of_as_many_causes_as_there_is_room_for_the_oldest_goes_first() {
    const TYPES: [&str; 4] = ["a", "b", "c", "d"];
    let tasks = Tasks::new(&["1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    let ring = Ring::new(None);
    for id in 1..=36 {
        let n = usize::try_from(id - 1).unwrap();
        ring.push(tasks.failed(id, n / 4, TYPES[n % 4]));
    }
    assert_eq!(ids(&ring.entries()), numbers(5..=36));
}

#[test]
fn only_what_takes_longer_is_slow() {
    let is_slow = |limit| [999, 1000, 1001, u64::MAX].map(|nanos| Ring::new(limit).is_slow(nanos));
    assert_eq!(is_slow(Some(Duration::from_micros(1))), [false, false, true, true]);
    assert_eq!(is_slow(None), [false; 4]);
}

/// Scenario: 10,000 flows come and go, beside one that stays. Guarantee: what is kept of them is bounded, of the latest
/// ones it is there, and no count is lost. Those without an entry leave nothing.
#[test]
fn flows_that_come_and_go_leave_a_bounded_number_of_rings() {
    let tasks = Tasks::new(&["call"]);
    let recorder = FlightRecorder::new(None);
    let flights = recorder.0.as_ref().unwrap();
    let stays = recorder.ring(&"stays".into()).unwrap();
    stays.push(tasks.failed(0, 0, "connect"));
    for id in 1..=10_000 {
        let ring = recorder.ring(&format!("comes {id}").into()).unwrap();
        ring.push(tasks.failed(id, 0, "connect"));
        recorder.ring(&format!("sees nothing {id}").into());
    }
    assert!(flights.rings().of_flows.len() <= 3 * FORMER_FLOWS, "{}", flights.rings().of_flows.len());
    let told = flights.told(None, |_| true);
    assert_eq!(told.recorded, 10_001);
    let latest = ids(&told.entries).into_iter().rev().take(FORMER_FLOWS);
    assert_eq!(latest.collect::<Vec<_>>(), numbers((10_001 - FORMER_FLOWS as u64..=10_000).rev()));
    assert!(Arc::ptr_eq(&stays, &recorder.ring(&"stays".into()).unwrap()));
    assert_eq!(flights.told(Some("stays"), |_| true).recorded, 1);
}

#[test]
fn many_flows_share_what_is_told_at_once() {
    let tasks = Tasks::new(&["call"]);
    let recorder = FlightRecorder::new(None);
    let flows: Vec<_> = (0..64).map(|n| recorder.ring(&n.to_string().into()).unwrap()).collect();
    for id in 0..64 * 40 {
        flows[usize::try_from(id % 64).unwrap()].push(tasks.failed(id, 0, "connect"));
    }
    let told = recorder.0.as_ref().unwrap().told(None, |_| true);
    assert_eq!(ids(&told.entries), numbers(64 * 24..64 * 40));
    assert_eq!(told.recorded, 64 * 40);
}

/// An event that got through two tasks and failed in the third, the second time.
fn full() -> (Tasks, Entry) {
    let tasks = Tasks::new(&["numbers", "dou\nble", "call"]);
    let mut event = event(EventId::Position { path: "in.jsonl".into(), offset: 70, line: 3 });
    event.trace = TraceContext { trace_id: 0xabc, span_id: 0xd, flags: 0 };
    event.trail.push(tasks.step(0, 1000, 7));
    let queued = Ticks::default().after(1_007_000);
    event.trail.push(Step { queued, ..tasks.step(1, 1500, 1_200) });
    let retry = (tasks.step(2, 50_000, 2_950_000), Some("connect"));
    event.trail.attempt(std::iter::repeat_n(retry, 10));
    event.queued = Ticks::default().after(2_700_000);
    let error = failure("connect", Cause("cannot call", Some(Box::new(Cause("refused\n\x1b[31m", None)))));
    let entry = Entry::failed(&event, tasks.step(2, 2700, 2_997_300), error, &tasks.table);
    (tasks, entry)
}

#[derive(Debug)]
struct Cause(&'static str, Option<Box<Cause>>);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Cause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.1.as_deref().map(|cause| cause as _)
    }
}

fn time(entry: &Entry) -> String {
    format!("{:.6}", Timestamp::from_nanosecond(entry.end().unix_nanos().into()).unwrap())
}

#[test]
fn a_block_of_text_tells_the_whole_way() {
    let (_tasks, entry) = full();
    let retry = "             49.0 ms      2.9 s               retry: connect\n";
    assert_eq!(
        show::text(&entry),
        format!(
            "\
orders/call: error connect, failed
    at     {}, 2.9 s after it entered
    event  in.jsonl:70, in.jsonl:3
    trace  00000000000000000000000000000abc span 000000000000000d flags 00
    error  cannot call: refused\\n\\u{{1b}}[31m
    path       start       took     queued  task
              0.0 µs     7.0 µs             numbers
            500.0 µs     1.2 ms   493.0 µs  dou\\nble
              1.7 ms      2.9 s     0.0 µs  call
{}                                              2 more
",
            time(&entry),
            retry.repeat(8)
        )
    );
}

#[test]
fn a_line_of_json_tells_the_whole_way() {
    let (_tasks, entry) = full();
    let fields = show::fields(&entry);
    assert_eq!(fields.message, "flight record");
    let (path, rest) = fields.rest.split_last().unwrap();
    let expected = [
        ("flow", Value::from("orders")),
        ("task", "call".into()),
        ("task_type", "script".into()),
        ("event_id", "in.jsonl:70".into()),
        ("position", "in.jsonl:3".into()),
        ("trace_id", "00000000000000000000000000000abc".into()),
        ("span_id", "000000000000000d".into()),
        ("trace_flags", "00".into()),
        ("reason", "error".into()),
        ("at", time(&entry).into()),
        ("duration", 2.999.into()),
        ("outcome", "failed".into()),
        ("error.type", "connect".into()),
        ("error.message", "cannot call: refused\n\u{1b}[31m".into()),
    ];
    assert_eq!(rest, expected);
    let retry = serde_json::json!({"start": 0.049, "duration": 2.95, "error.type": "connect"});
    let steps = serde_json::json!([
        {"task": "numbers", "start": 0.0, "duration": 0.000_007},
        {"task": "dou\nble", "start": 0.0005, "duration": 0.0012, "queued": 0.000_493},
        {"task": "call", "start": 0.0017, "duration": 2.9973, "queued": 0.0, "retries": vec![retry; 10]},
    ]);
    assert_eq!(*path, ("path", steps));
}

#[test]
fn what_is_long_is_cut_where_it_is_shown() {
    let tasks = Tasks::new(&["call"]);
    let event = event(EventId::Text("é".repeat(10_000).into()));
    let failure = failure("connect", "ä".repeat(1_000_000));
    let entry = Entry::failed(&event, tasks.step(0, 0, 1), failure, &tasks.table);
    let text = show::text(&entry);
    assert!(text.contains(&format!(" {}… (19600 bytes more)\n", "é".repeat(200))), "{text}");
    assert!(text.contains(&format!(" {}… (1996000 bytes more)\n", "ä".repeat(2000))), "{text}");
    assert!(text.len() < 5000);
}

/// Scenario: the task that an event failed in is gone, and another one has its place. Guarantee: the entry names the
/// task that it was.
#[test]
fn an_entry_outlives_its_tasks() {
    let mut tasks = Tasks::new(&["call"]);
    let entry = tasks.failed(1, 0, "connect");
    tasks.held.clear();
    tasks.table.collect(true, 0, &mut Default::default());
    tasks.table.collect(true, 0, &mut Default::default());
    let identity = Identity { flow: "other".into(), task: "other".into(), task_type: "drop", task_id: 0 };
    let other = Series::new("task.handle", SpanKind::Internal, Some(Arc::new(identity)), &[]);
    let held = tasks.table.hold(Arc::new(other));
    assert_eq!(held.place, entry.steps[0].step.place, "the place was not used again");
    assert!(show::text(&entry).starts_with("orders/call: "), "{}", show::text(&entry));
}
