//! A worker that runs for a long time at full speed: `cargo test --release --test soak -- --nocapture`.
//!
//! `FLOWGEN_SOAK_MINUTES` says how long (30). A branching flow has one failure in a hundred events, and its collector comes
//! and goes. Memory, files, threads and series stay flat, every collection adds up, and in the end so does every event.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "../support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "it is there for all tests")]
mod support;

use std::{
    collections::BTreeMap,
    env,
    io::{self, Write as _},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use support::{
    collector::{Collector, Metrics, Number, Received},
    worker::Worker,
};

/// One event in so many fails.
const FAILS: u64 = 100;

/// How often to look, and for how many looks the collector stays, and stays away.
const LOOK: Duration = Duration::from_secs(5);
const THERE: u64 = 7;
const AWAY: u64 = 3;

/// What memory may grow by while nothing else does: pages that an allocator touches late.
const SLACK_KIB: u64 = 24 << 10;

fn flow(endpoint: &str) -> String {
    format!(
        "
telemetry: {{enabled: true, otlp_endpoint: '{endpoint}', trace_sample_rate: 0.00002, metrics_export_interval: 1s}}
logging: {{level: warn}}
flow:
  name: soak
  tasks:
    - generate: {{name: in, payload: {{kind: soak}}}}
    - script: {{name: number, code: 'event.data.n = parse_int(event.id); event'}}
    - script: {{name: flawed, code: 'if event.data.n % {FAILS} == 0 {{ throw 1 }} event'}}
    - buffer: {{name: batch, size: 50, timeout: 1s}}
    - drop: {{name: batches}}
    - filter: {{name: even, condition: 'event.data.n % 2 == 0', depends_on: number}}
    - dedupe: {{name: once, key: '{{{{ event.id }}}}', ttl: 10s}}
    - drop: {{name: evens}}
"
    )
}

#[expect(clippy::disallowed_methods, reason = "a setting of this test, not of flowgen")]
fn minutes() -> u64 {
    env::var("FLOWGEN_SOAK_MINUTES").map_or(30, |minutes| minutes.parse().unwrap())
}

/// What the worker holds at one moment.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    memory_kib: u64,
    files: usize,
    threads: usize,
}

impl Held {
    fn by(worker: &Worker) -> Self {
        Self {
            memory_kib: worker.memory("VmRSS"),
            files: worker.open_files(),
            threads: worker.thread_count(),
        }
    }

    fn most(all: &[Self]) -> Self {
        all.iter().fold(Self::default(), |most, held| Self {
            memory_kib: most.memory_kib.max(held.memory_kib),
            files: most.files.max(held.files),
            threads: most.threads.max(held.threads),
        })
    }
}

fn sum(metrics: &Metrics, name: &str) -> u64 {
    metrics.get(name).into_iter().flatten().map(|(_, point)| whole(&point.number)).sum()
}

fn whole(number: &Number) -> u64 {
    match number {
        Number::Counter(count) => *count,
        Number::UpDown(count) => u64::try_from(*count).unwrap(),
        other => panic!("{other:?} is no count"),
    }
}

/// Checks that each collection adds up. Returns how many series the last one has, by instrument.
fn check(received: &Received) -> Option<BTreeMap<String, usize>> {
    let collections = received.collections();
    for metrics in &collections {
        let ended = sum(metrics, "flowgen.flow.events") + sum(metrics, "flowgen.flow.inflight");
        assert_eq!(sum(metrics, "flowgen.flow.entered"), ended);
    }
    let last = collections.last()?;
    Some(last.names().map(|name| (name.to_owned(), last.of(name).len())).collect())
}

#[test]
fn everything_stays_flat_and_adds_up_for_as_long_as_it_takes() {
    let mut collector = Collector::start();
    let worker = Worker::start(&flow(&collector.endpoint()), &[]);
    let began = Instant::now();
    let time = Duration::from_secs(60 * minutes());
    let (mut held, mut series, mut is_there) = (Vec::new(), Vec::new(), true);
    for look in 1.. {
        thread::sleep(LOOK);
        held.push(Held::by(&worker));
        // What came is forgotten, so that it is the worker whose memory counts.
        let received = std::mem::take(&mut *collector.received());
        if let Some(latest) = check(&received) {
            series.push(latest);
        }
        let is_over = began.elapsed() >= time;
        // It is away early, so that what only an absence makes is there.
        let wants = is_over || look % (THERE + AWAY) >= AWAY;
        if wants != is_there {
            if wants {
                collector.listen()
            } else {
                collector.close()
            }
            is_there = wants;
        }
        if look % 12 == 0 {
            let _ = writeln!(io::stderr(), "{:>5} s: {:?}", began.elapsed().as_secs(), held[held.len() - 1]);
        }
        if is_over {
            break;
        }
    }
    // The last collection comes with the end, and the collector takes it.
    worker.signal(Signal::TERM);
    let ended = worker.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let received = std::mem::take(&mut *collector.received());
    check(&received);
    let last = received.collections().pop().unwrap();
    let entered = sum(&last, "flowgen.flow.entered");
    let of = |outcome| last.counter("flowgen.flow.events", &[("outcome", outcome)]);
    let failed = entered.div_ceil(FAILS);
    assert_eq!((of("completed"), of("failed")), (entered - failed, failed));
    assert_eq!(last.counter("task.handle.count", &[("task", "in")]), entered);
    assert_eq!(last.counter("task.handle.errors", &[("task", "flawed")]), failed);

    // After the first quarter nothing grows.
    let steady = &held[held.len() / 4..];
    let (first, second) = steady.split_at(steady.len() / 2);
    let (before, after) = (Held::most(first), Held::most(second));
    assert!(after.memory_kib <= before.memory_kib + SLACK_KIB, "{before:?}, then {after:?}");
    assert!(after.files <= before.files && after.threads <= before.threads, "{before:?}, then {after:?}");
    let steady = &series[series.len() / 4..];
    for pair in steady.windows(2) {
        let changed: Vec<_> =
            pair[1].iter().filter(|(name, count)| pair[0].get(*name) != Some(count)).collect();
        assert!(changed.is_empty(), "series come and go: {changed:?}");
    }
    let seconds = began.elapsed().as_secs();
    let _ = writeln!(
        io::stderr(),
        "{seconds} s, {entered} events ({} a second), {failed} failed; {before:?} in the first half, {after:?} in the second; {} series",
        entered / seconds.max(1),
        steady.last().map_or(0, |series| series.values().sum::<usize>()),
    );
}
