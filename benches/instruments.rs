//! What it costs to record one measurement: our handles, and the instruments of `opentelemetry_sdk`.
//!
//! `cargo bench --bench instruments` prints medians over interleaved rounds, so that a busy machine disturbs every row
//! alike. With two threads both record into the same series; the slower one counts. Durations are spread over six
//! orders of magnitude, one after the other as at random.

use std::{
    fmt::Write as _,
    hint::black_box,
    io::Write as _,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use flowgen::{
    telemetry::{Export, Histogram, Labels, Meter, Pipeline, Settings, instruments},
    trace::Moment,
};
use opentelemetry::{KeyValue, metrics::MeterProvider};
use opentelemetry_sdk::metrics::{Aggregation, Instrument, ManualReader, SdkMeterProvider, Stream};

/// As in the released binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rounds are many and short: most then run undisturbed.
const ROUNDS: usize = 301;
const RECORDS: usize = 4096;
const THREADS: [usize; 2] = [1, 2];

/// The upper bounds of both explicit histograms: our defaults, in seconds.
const BOUNDS: [f64; 20] = [
    0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5,
    10.0, 30.0, 60.0,
];

/// The attributes of one series.
const ATTRIBUTES: [(&str, &str); 4] =
    [("flow", "orders"), ("task", "enrich"), ("task_type", "script"), ("outcome", "completed")];

fn main() -> std::io::Result<()> {
    let (provider, durations) = (provider(), durations());
    let rows = rows(&provider);
    let mut times = vec![[(); THREADS.len()].map(|()| Vec::new()); rows.len()];
    for _ in 0..ROUNDS {
        for (row, times) in rows.iter().zip(&mut times) {
            for (threads, times) in THREADS.into_iter().zip(times) {
                times.push(nanos_a_record(&*row.record, &durations, threads));
            }
        }
    }
    let mut table = String::from("ns a record                              1 thread  2 threads\n");
    for (row, [alone, together]) in rows.iter().zip(&mut times) {
        writeln!(table, "{:<40} {:>8.1}  {:>9.1}", row.name, median(alone), median(together)).ok();
    }
    std::io::stdout().write_all(table.as_bytes())
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Lets so many threads record all durations at once. Returns what the slowest took for one.
fn nanos_a_record(record: &Record, durations: &[u64], threads: usize) -> f64 {
    let all_are_there = Barrier::new(threads);
    let timed = || {
        // The first of a thread is not like the others.
        record(&durations[..1]);
        all_are_there.wait();
        let start = Instant::now();
        record(durations);
        start.elapsed()
    };
    let slowest = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(timed)).collect();
        threads.into_iter().map(|thread| thread.join().expect("nothing panics")).max()
    });
    slowest.unwrap_or_default().as_nanos() as f64 / durations.len() as f64
}

/// Durations from a microsecond to a second, as many of each order of magnitude.
fn durations() -> Vec<u64> {
    let mut random = fastrand::Rng::with_seed(7);
    (0..RECORDS).map(|_| 10f64.powf(3.0 + 6.0 * random.f64()) as u64).collect()
}

/// Records durations in nanoseconds, one after the other.
type Record = dyn Fn(&[u64]) + Sync;

struct Row {
    name: &'static str,
    record: Box<Record>,
}

/// Makes a row of what records one duration, in nanoseconds.
fn row(name: &'static str, record: impl Fn(u64) + Sync + 'static) -> Row {
    let record = move |durations: &[u64]| durations.iter().for_each(|nanos| record(black_box(*nanos)));
    Row { name, record: Box::new(record) }
}

fn rows(provider: &SdkMeterProvider) -> Vec<Row> {
    let labels = ATTRIBUTES.iter().fold(Labels::default(), |labels, (key, value)| labels.with(key, *value));
    let explicit = meter(Histogram::default());
    let counter = explicit.counter(&instruments::TASK_RETRIES, labels.clone());
    let timer = explicit.timer(&instruments::TASK_QUEUE_DURATION, labels.clone());
    let exponential = meter(Histogram::Exponential {}).timer(&instruments::TASK_QUEUE_DURATION, labels);

    let sdk = provider.meter("bench");
    let attributes = ATTRIBUTES.map(|(key, value)| KeyValue::new(key, value));
    let sdk_counter = sdk.u64_counter("counter").build();
    let sdk_explicit = sdk.f64_histogram("explicit").with_boundaries(BOUNDS.to_vec()).build();
    let sdk_exponential = sdk.f64_histogram("exponential").build();
    let bound_counter = sdk_counter.bind(&attributes);
    let bound_explicit = sdk_explicit.bind(&attributes);
    let bound_exponential = sdk_exponential.bind(&attributes);
    let [of_counter, of_explicit, of_exponential] = [(); 3].map(|()| attributes.clone());
    let seconds = |nanos: u64| nanos as f64 * 1e-9;
    vec![
        row("counter", move |_| counter.add(1)),
        row("counter, SDK, bound", move |_| bound_counter.add(1)),
        row("counter, SDK", move |_| sdk_counter.add(1, &of_counter)),
        row("explicit histogram", move |nanos| timer.record(nanos, Moment::default())),
        row("explicit histogram, SDK, bound", move |nanos| bound_explicit.record(seconds(nanos))),
        row("explicit histogram, SDK", move |nanos| sdk_explicit.record(seconds(nanos), &of_explicit)),
        row("exponential histogram", move |nanos| exponential.record(nanos, Moment::default())),
        row("exponential histogram, SDK, bound", move |nanos| bound_exponential.record(seconds(nanos))),
        row("exponential histogram, SDK", move |nanos| {
            sdk_exponential.record(seconds(nanos), &of_exponential)
        }),
    ]
}

/// Returns a meter of ours. Nothing is exported.
fn meter(histogram: Histogram) -> Meter {
    let export = Export {
        endpoint: "http://localhost:4317".into(),
        headers: Default::default(),
        compression: Default::default(),
        timeout: Duration::from_secs(1),
        tls: Default::default(),
    };
    let settings = Settings { enabled: true, metrics: Some(export), histogram, ..Settings::default() };
    Pipeline::new(&settings).tracer().meter()
}

/// Returns the SDK, which somebody could read: else it would not count.
fn provider() -> SdkMeterProvider {
    let exponential = |instrument: &Instrument| {
        let aggregation =
            Aggregation::Base2ExponentialHistogram { max_size: 160, max_scale: 20, record_min_max: false };
        let is_it = instrument.name() == "exponential";
        is_it.then(|| Stream::builder().with_aggregation(aggregation).build().expect("it can be had"))
    };
    SdkMeterProvider::builder().with_reader(ManualReader::builder().build()).with_view(exponential).build()
}
