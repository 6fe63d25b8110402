//! What it costs to handle several events at a time, in order and not.
//!
//! `cargo bench --bench concurrency` prints medians over interleaved rounds: nanoseconds an event, in a flow of a source
//! and a processor that lets others go on once in each event, on one thread. All of it is cost: nothing is waited for.

use std::{fmt::Write as _, io::Write as _, sync::Arc, time::Instant};

use async_trait::async_trait;
use flowgen::{
    ack::Outcome,
    event::{Event, EventId, Payload},
    plan::{Concurrency, Flow, Node, OnTaskPanic, Order, Plan, Policy, Worker},
    registry::{KindEntry, Prepared},
    runtime::TaskManager,
    shutdown::Stop,
    task::{
        BuildContext, BuildError, Emitter, Kind, Output, Processor, Role, Source, Target, Task, TaskError,
    },
    template::Template,
};
use serde_json::json;

/// As in the released binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 15;
const EVENTS: u64 = 100_000;
const LIMITS: [usize; 3] = [1, 8, 64];

/// Keys of events, one after the other.
const KEYS: u64 = 1_000;

fn main() -> std::io::Result<()> {
    let orders = [
        ("in order", Order::Kept),
        ("as they are done", Order::Free),
        ("by key", Order::ByKey(Arc::new(Template::compile("{{ event.data }}").expect("it is one")))),
    ];
    let mut times = vec![[(); LIMITS.len()].map(|()| Vec::new()); orders.len()];
    for _ in 0..ROUNDS {
        for ((_, order), times) in orders.iter().zip(&mut times) {
            for (limit, times) in LIMITS.into_iter().zip(times) {
                times.push(nanos_an_event(&Concurrency { limit, order: order.clone() }));
            }
        }
    }
    let mut table = String::from("ns an event              1         8        64  at a time\n");
    for ((name, _), times) in orders.iter().zip(&mut times) {
        let [one, some, many] = times.each_mut().map(|times| median(times));
        writeln!(table, "{name:<18} {one:>7.0}   {some:>7.0}   {many:>7.0}").ok();
    }
    std::io::stdout().write_all(table.as_bytes())
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Runs the flow to its end.
fn nanos_an_event(concurrency: &Concurrency) -> f64 {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("it needs nothing");
    let plan = plan(concurrency);
    let started = Instant::now();
    let report = runtime
        .block_on(async { TaskManager::start(plan, None).await.expect("they always build").run().await });
    let elapsed = started.elapsed();
    assert_eq!(report.flows[0].summary.count(Outcome::Completed), EVENTS);
    elapsed.as_nanos() as f64 / EVENTS as f64
}

fn plan(concurrency: &Concurrency) -> Plan {
    let node = |name: &str, concurrency, downstream, build| Node {
        name: name.into(),
        kind: &KIND,
        prepared: Arc::new(Ready(build)),
        policy: Policy::default(),
        when: None,
        concurrency,
        parallelism: 1,
        sample_rate: None,
        downstream,
        targets: Vec::new(),
    };
    let source = || Task::Source(Box::new(Numbers));
    let processor = || Task::Processor(Box::new(Yielding));
    let flow = Flow {
        name: "concurrency".into(),
        labels: json!(null),
        file: "bench.yaml".into(),
        base_dir: ".".into(),
        on_task_panic: OnTaskPanic::Stop,
        deadline: None,
        durable: None,
        parallel_instances: 1,
        slo: None,
        tasks: vec![
            node("numbers", Concurrency::default(), vec![1], source as fn() -> Task),
            node("yielding", concurrency.clone(), Vec::new(), processor),
        ],
    };
    Plan { worker: Worker::default(), flows: vec![flow] }
}

struct Numbers;

#[async_trait]
impl Source for Numbers {
    async fn run(self: Box<Self>, emitter: &mut Emitter, _: Stop) -> Result<(), TaskError> {
        for n in 0..EVENTS {
            emitter.stage(EventId::Sequence(n), |_| Ok(Payload::from(json!(n % KEYS)).into())).await?;
        }
        Ok(())
    }
}

struct Yielding;

#[async_trait]
impl Processor for Yielding {
    async fn handle(&self, _: &Event, output: &mut Output) -> Result<(), TaskError> {
        tokio::task::yield_now().await;
        output.forward();
        Ok(())
    }
}

/// A kind whose tasks are made by hand.
struct Made;

static KIND: KindEntry = KindEntry::of::<Made>("");

impl Kind for Made {
    const NAME: &'static str = "made";
    const ROLE: Role = Role::Processor;
    const SUMMARY: &'static str = "stands in for any kind";
    const ERROR_TYPES: &'static [&'static str] = &[];
    type Config = ();

    async fn build((): &(), _: &BuildContext) -> Result<Task, BuildError> {
        Err(BuildError::new("it is never asked to"))
    }
}

struct Ready(fn() -> Task);

#[async_trait]
impl Prepared for Ready {
    fn targets(&self) -> Vec<Target> {
        Vec::new()
    }

    async fn build(&self, _: &BuildContext) -> Result<Task, BuildError> {
        Ok((self.0)())
    }
}
