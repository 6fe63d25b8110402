//! Whole-process benchmarks of flowgen, in one command and one go.
//!
//! Builds flowgen in release and runs every case as a process of its own, in interleaved rounds, so that
//! a machine that is slower for a minute is slower for all. Prints a table of medians and writes JSON.
//! Asserts that the outputs are right, never how long they took.

mod cases;
mod delivery;
mod durable;
mod faults;
mod floor;
mod http;
mod log;
mod machine;
mod measure;
mod report;
mod sink;
mod state;
mod telemetry;

use std::{env, path::PathBuf, process::Command};

use anyhow::{Context, Result, bail, ensure};

use cases::{Case, Input};
use measure::Sample;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "\
usage: flowgen-bench [--quick] [--rounds N] [--events N] [--rows N] [--only GROUP] [--flowgen BINARY]

  --quick     one round with few events: shows that everything runs, measures nothing
  --rounds    how often each case runs; the median counts (5)
  --events    events of the engine, telemetry and faults cases (2000000), fewer with all traces or paced
  --rows      rows of the file cases (2000000)
  --only      one group: engine, delivery, fairness, telemetry, faults (or faults-paced, faults-flat-out), file,
              state, durable, http, memory, start
  --flowgen   a flowgen that was built already";

/// What the command line asks for.
struct Options {
    rounds: usize,
    events: u64,
    rows: u64,
    only: Option<String>,
    flowgen: Option<PathBuf>,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self { rounds: 5, events: 2_000_000, rows: 2_000_000, only: None, flowgen: None };
        while let Some(argument) = arguments.next() {
            let mut value =
                || arguments.next().with_context(|| format!("`{argument}` wants a value\n\n{USAGE}"));
            match argument.as_str() {
                "--quick" => (options.rounds, options.events, options.rows) = (1, 20_000, 20_000),
                "--rounds" => options.rounds = value()?.parse()?,
                "--events" => options.events = value()?.parse()?,
                "--rows" => options.rows = value()?.parse()?,
                "--only" => options.only = Some(value()?),
                "--flowgen" => options.flowgen = Some(value()?.into()),
                _ => bail!("unknown argument `{argument}`\n\n{USAGE}"),
            }
        }
        ensure!(options.rounds > 0, "at least one round");
        Ok(options)
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        // The subjects that this program measures in a process of their own.
        ["floor", count] => return floor::run(count.parse()?),
        ["json-loop", input, output] => return floor::json_loop(input.as_ref(), output.as_ref()),
        [http::ARGUMENT, address] => return http::serve(address),
        // What telemetry is exported to.
        [sink::ARGUMENT, behaviour] => return sink::serve(behaviour),
        ["--help" | "-h", ..] => {
            println!("{USAGE}");
            return Ok(());
        }
        _ => {}
    }
    let options = Options::parse(arguments.into_iter())?;
    let flowgen = match &options.flowgen {
        Some(binary) => {
            binary.canonicalize().with_context(|| format!("no binary at {}", binary.display()))?
        }
        None => build_flowgen()?,
    };
    let folder = tempfile::tempdir()?;
    let input = Input::prepare(folder.path(), options.rows)?;
    let mut cases = cases::all(folder.path(), &flowgen, &input, options.events)?;
    cases.retain(|case| options.only.as_deref().is_none_or(|only| case.is_of(only)));
    ensure!(!cases.is_empty(), "no such group\n\n{USAGE}");
    let samples = run(&mut cases, options.rounds)?;
    report::write(&cases, &samples, &input, &flowgen, options.rounds)
}

/// Runs all cases once a round; the samples of a case stand at its index.
fn run(cases: &mut [Case], rounds: usize) -> Result<Vec<Vec<Sample>>> {
    let mut samples = vec![Vec::with_capacity(rounds); cases.len()];
    for round in 1..=rounds {
        let mut rows = Vec::new();
        for (case, samples) in cases.iter_mut().zip(&mut samples) {
            eprintln!("round {round}/{rounds}: {} / {}", case.group, case.name);
            let sample = case.run().with_context(|| format!("`{}` failed", case.name))?;
            rows.extend(sample.rows.map(|rows| (case.name.clone(), case.group, rows)));
            samples.push(sample);
        }
        for (name, group, rows_of_one) in &rows {
            for (other, _, rows_of_other) in rows.iter().filter(|(_, other, _)| other == group) {
                ensure!(
                    rows_of_one == rows_of_other,
                    "`{name}` wrote {rows_of_one} rows and `{other}` {rows_of_other}, of the same input"
                );
            }
        }
    }
    Ok(samples)
}

/// Builds the release binary of the repository and returns where it is.
fn build_flowgen() -> Result<PathBuf> {
    let root = machine::repository();
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "--locked", "--bin", "flowgen"])
        .current_dir(&root)
        .env("CARGO_TARGET_DIR", &target)
        .status()?;
    ensure!(status.success(), "flowgen could not be built");
    Ok(target.join("release/flowgen").canonicalize()?)
}
