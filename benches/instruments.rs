//! What it costs to record one measurement: our handles, and the instruments of `opentelemetry_sdk`.
//!
//! `cargo bench --bench instruments` prints medians over interleaved rounds. Rounds in which a thread had to wait for a
//! processor do not count: so two threads, which record into the same series, do so at once indeed, also on a busy
//! machine. Durations are spread over six orders of magnitude, one after the other as at random.

use std::{
    fmt::Write as _,
    hint::black_box,
    io::Write as _,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use flowgen::{
    telemetry::{Export, Histogram, Labels, Meter, Pipeline, Settings, instruments},
    trace::Moment,
};
use opentelemetry::{KeyValue, metrics::MeterProvider};
use opentelemetry_sdk::metrics::{Aggregation, Instrument, ManualReader, SdkMeterProvider, Stream};
use rustix::time::{ClockId, clock_gettime};

/// As in the released binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rounds are many and short: some then run undisturbed.
const ROUNDS: usize = 1001;
const RECORDS: usize = 8192;

/// How much longer than its time on a processor a thread may take, and how much later than another one it may start, as a
/// share of that time.
const UNDISTURBED: f64 = 0.05;
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
                times.extend(nanos_a_record(&*row.record, &durations, threads));
            }
        }
    }
    let mut table = String::from("ns a record                              1 thread  2 threads\n");
    for (row, [alone, together]) in rows.iter().zip(&mut times) {
        writeln!(table, "{:<40} {:>8.1}  {:>9.1}", row.name, median(alone), median(together)).ok();
    }
    std::io::stdout().write_all(table.as_bytes())
}

/// Returns the median; nothing is no number.
fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Lets so many threads record all durations at once. Returns what the slowest took for one; nothing if one of them
/// had to wait for a processor.
fn nanos_a_record(record: &Record, durations: &[u64], threads: usize) -> Option<f64> {
    let (ready, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let timed = || {
        // The first of a thread is not like the others.
        record(&durations[..1]);
        ready.fetch_add(1, Ordering::SeqCst);
        while ready.load(Ordering::SeqCst) < threads {
            std::hint::spin_loop();
        }
        let (start, ran) = (Instant::now(), time_on_processor());
        record(durations);
        let (elapsed, ran) = (start.elapsed(), time_on_processor() - ran);
        // No other has it easier because this one is faster.
        done.fetch_add(1, Ordering::SeqCst);
        while done.load(Ordering::SeqCst) < threads {
            record(&durations[..64]);
        }
        (elapsed <= ran.mul_f64(1.0 + UNDISTURBED)).then_some((start, elapsed))
    };
    let times: Option<Vec<(Instant, Duration)>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(timed)).collect();
        threads.into_iter().map(|thread| thread.join().expect("nothing panics")).collect()
    });
    let times = times?;
    let (starts, elapsed) =
        (times.iter().map(|(start, _)| *start), times.iter().map(|(_, elapsed)| *elapsed));
    let (first, last, slowest) = (starts.clone().min()?, starts.max()?, elapsed.max()?);
    let are_at_once = last - first <= slowest.mul_f64(UNDISTURBED);
    are_at_once.then(|| slowest.as_nanos() as f64 / durations.len() as f64)
}

fn time_on_processor() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("a time that passed is above zero")
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
