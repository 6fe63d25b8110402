//! The engine against a model: any flow, with anything that goes wrong, under any policy.
//!
//! A case follows from a seed, and so does all that happens in it, on paused time. Where what becomes of an event is
//! determined, it is what the model says, attempt by attempt; elsewhere it is what the promises allow.
//! `FLOWGEN_TEST_SEED` runs one case again, `FLOWGEN_TEST_CASES` so many.

mod batcher;
mod case;
mod check;
mod collected;
mod deed;
mod expected;
mod joined;
mod numbers;
mod order;
mod reader;
mod shrink;
mod tasks;
mod world;

use std::{
    env,
    io::{self, Write as _},
    panic::{AssertUnwindSafe, catch_unwind},
    process::abort,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use flowgen::runtime::TaskManager;
use tokio::runtime::Builder;

use self::{case::Case, world::World};

/// Set to a seed, that case alone is run.
const SEED: &str = "FLOWGEN_TEST_SEED";

/// How many cases are run, if not so many.
const CASES: &str = "FLOWGEN_TEST_CASES";
const MOST: u64 = 5000;

/// Longer than any case goes on, on paused time.
const LIMIT: Duration = Duration::from_secs(24 * 3600);

/// Longer than any case takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a case and checks how it ended.
fn run(case: &Case) -> Result<(), String> {
    run_in(&World::new(case.clone()))
}

fn run_in(world: &Arc<World>) -> Result<(), String> {
    let case = &world.case;
    // Pauses are random, and the same each time.
    fastrand::seed(case.seed);
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let ran = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            let manager = TaskManager::start(tasks::plan(world, "model"), None).await.unwrap();
            let _ = world.flow.set((manager.flows().remove(0), manager.stop()));
            tokio::time::timeout(LIMIT, manager.run()).await
        })
    }));
    drop(runtime);
    let report = ran.map_err(|_| "the engine panics")?.map_err(|_| "it does not end within a day")?;
    check::check(world, &report)
}

#[expect(clippy::disallowed_methods, reason = "settings of this test, not of flowgen")]
fn setting(name: &str) -> Option<u64> {
    env::var(name).ok().map(|value| value.parse().unwrap())
}

/// Returns the seeds of the cases to run, if not told otherwise `most`.
fn seeds(most: u64) -> Vec<u64> {
    if let Some(seed) = setting(SEED) {
        return vec![seed];
    }
    let first = uuid::Uuid::now_v7().as_u64_pair().1;
    (0..setting(CASES).unwrap_or(most)).map(|n| first.wrapping_add(n)).collect()
}

/// Ends the process if a case hangs: takes each seed as its case begins.
fn watch(seeds: &mpsc::Receiver<u64>) {
    let mut current = None;
    loop {
        match seeds.recv_timeout(PATIENCE) {
            Ok(seed) => current = Some(seed),
            Err(RecvTimeoutError::Timeout) => {
                // What is printed would be kept until the test ends, which it does not.
                let seed = current.unwrap_or_default();
                let _ = writeln!(io::stderr(), "a case hangs: {SEED}={seed} runs it again");
                abort();
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Scenario: any flow of sources that can be answered or not, chains, fan-out, fan-in, named edges, arrays, filters and
/// conditions, under any policy; tasks fail for now or for good, panic, hang, are slow, are stopped. Guarantee: every
/// event that enters ends once, in the outcome that the model says; no failure is told as a success; order is kept
/// where it is promised; nothing is done twice that was done, and nothing is brought in again because of a panic at
/// something else; and no more events are there at once than fit.
#[test]
fn any_flow_delivers_as_the_model_says_whatever_goes_wrong() {
    let (begin, begun) = mpsc::channel();
    let watchdog = thread::spawn(move || watch(&begun));
    for seed in seeds(MOST) {
        begin.send(seed).unwrap();
        let case = Case::of(seed);
        if let Err(why) = run(&case) {
            let (smaller, reason) = shrink::shrink(case.clone(), why.clone(), |case| {
                begin.send(seed).unwrap();
                run(case)
            });
            let world = World::new(smaller);
            let _ = run_in(&world);
            panic!(
                "{why}\n{SEED}={seed} runs it again: {case:#?}\nand smaller: {reason}\n{:#?}\n{}",
                world.case,
                world.state()
            );
        }
    }
    drop(begin);
    watchdog.join().unwrap();
}
