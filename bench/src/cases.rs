//! What is run: the flows, their counterparts and their input.

use std::{
    env,
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use flate2::read::GzDecoder;

use crate::{
    delivery, durable, faults, http, machine,
    measure::{self, Sample},
    state, telemetry,
};

/// What the cases of two groups are compared with.
pub(crate) const FLOOR: &str = "floor: bare tokio, 3 tasks";

/// One subject. The first of a group is what the others are compared with.
pub(crate) struct Case {
    pub(crate) group: &'static str,
    pub(crate) name: String,
    /// Events or rows of one run, where a cost for each makes sense.
    pub(crate) events: Option<u64>,
    /// What it is to keep to. Never fails a run.
    pub(crate) limits: Vec<Limit>,
    measure: Box<dyn FnMut() -> Result<Sample>>,
}

/// What a case may cost.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    /// CPU time an event, as a multiple of that of another case of the group.
    Cpu { times: f64, of: &'static str },
    /// At least so many events a second, as a multiple of those of another case of the group.
    Rate { times: f64, of: &'static str },
    /// At least so many events a second of CPU time.
    EventsPerCore(f64),
    /// Bytes of resident memory.
    Memory(u64),
}

impl Case {
    pub(crate) fn new(
        group: &'static str,
        name: impl Into<String>,
        events: Option<u64>,
        measure: impl FnMut() -> Result<Sample> + 'static,
    ) -> Self {
        Self { group, name: name.into(), events, limits: Vec::new(), measure: Box::new(measure) }
    }

    pub(crate) fn limited(mut self, limits: impl IntoIterator<Item = Limit>) -> Self {
        self.limits.extend(limits);
        self
    }

    /// Returns whether it is of a group that is asked for: by its name, or by what is before the first `-` in it.
    pub(crate) fn is_of(&self, group: &str) -> bool {
        self.group == group || self.group.split('-').next() == Some(group)
    }

    pub(crate) fn run(&mut self) -> Result<Sample> {
        (self.measure)()
    }
}

/// Writes a flow to a file of this name and returns what makes commands that run it.
pub(crate) type Runner<'a> = &'a dyn Fn(&str, String) -> Result<Commands>;

/// Makes the same command again and again.
pub(crate) type Commands = Box<dyn Fn() -> Command>;

/// What the cases read, and what had to be left out.
pub(crate) struct Input {
    flights: Option<(PathBuf, u64)>,
    has_jq: bool,
    pub(crate) left_out: Vec<String>,
}

impl Input {
    /// Unpacks the flights data as often as it takes to have `rows` of them.
    ///
    /// Streams, so that this process stays small: on Linux a child's peak memory is never reported below
    /// what its parent had when it was started.
    pub(crate) fn prepare(folder: &Path, rows: u64) -> Result<Self> {
        let mut left_out = Vec::new();
        let flights = flights_archive().map(|archive| unpack(&archive, folder, rows)).transpose()?;
        if flights.is_none() {
            left_out.push(
                "file: needs flights-200k.jsonl.gz, rows like {\"delay\":16,\"distance\":2,\"time\":0.5}; name it \
                 with FLOWGEN_BENCH_FLIGHTS or put it into ../shared/data or bench/data"
                    .to_owned(),
            );
        }
        let has_jq = machine::answer(Command::new("jq").arg("--version")) != "unknown";
        if flights.is_some() && !has_jq {
            left_out.push("file / jq: there is no jq here".to_owned());
        }
        Ok(Self { flights, has_jq, left_out })
    }
}

fn flights_archive() -> Option<PathBuf> {
    if let Some(named) = env::var_os("FLOWGEN_BENCH_FLIGHTS") {
        return Some(named.into());
    }
    let root = machine::repository();
    let places = ["../shared/data", "bench/data"].map(|place| root.join(place).join("flights-200k.jsonl.gz"));
    places.into_iter().find(|path| path.exists())
}

fn unpack(archive: &Path, folder: &Path, rows: u64) -> Result<(PathBuf, u64)> {
    let path = folder.join("flights.jsonl");
    let mut writer = BufWriter::with_capacity(1 << 16, File::create(&path)?);
    let (mut buffer, mut written) = (vec![0; 1 << 16], 0);
    while written < rows {
        let file =
            File::open(archive).with_context(|| format!("no flights data at {}", archive.display()))?;
        let mut unpacked = GzDecoder::new(BufReader::new(file));
        let before = written;
        while written < rows {
            let read = unpacked.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            let (end, lines) = cut_after(&buffer[..read], rows - written);
            writer.write_all(&buffer[..end])?;
            written += lines;
        }
        anyhow::ensure!(written > before, "{} holds no rows", archive.display());
    }
    writer.flush()?;
    Ok((path, written))
}

/// Returns where the first `limit` lines of `bytes` end, and how many there are.
fn cut_after(bytes: &[u8], limit: u64) -> (usize, u64) {
    let mut lines = 0;
    for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
        lines += 1;
        if lines == limit {
            return (at + 1, lines);
        }
    }
    (bytes.len(), lines)
}

/// Returns all cases that this machine can run, group by group.
pub(crate) fn all(folder: &Path, flowgen: &Path, input: &Input, events: u64) -> Result<Vec<Case>> {
    let run = |name: &str, yaml: String| -> Result<Commands> {
        let (path, flowgen) = (folder.join(name).with_extension("yaml"), flowgen.to_owned());
        fs::write(&path, yaml)?;
        Ok(Box::new(move || quiet(Command::new(&flowgen).arg("run").arg(&path))))
    };
    let mut cases = Vec::new();

    let flow = run("engine", engine_flow(events))?;
    cases.push(floor("engine", events)?);
    cases.push(Case::new("engine", "flowgen: generate → log(trace) → drop", Some(events), move || {
        measure::to_end(&mut flow())
    }));
    cases.extend(delivery::cases(events, &run)?);
    let run_engine = |events: u64| run(&format!("telemetry-{events}"), engine_flow(events));
    cases.extend(telemetry::cases(events, &run_engine)?);
    cases.extend(faults::cases(events, &run)?);

    if let Some((flights, rows)) = &input.flights {
        cases.extend(file_cases(folder, flights, *rows, input.has_jq, &run)?);
        cases.extend(state::cases(folder, flights, *rows, &run)?);
        cases.extend(durable::cases(folder, flights, *rows, &run)?);
    }

    cases.extend(http::cases(folder, events, &run)?);
    for times in [1, 4] {
        let events = events * times / 2;
        let flow = run(&format!("slow-sink-{times}"), slow_sink_flow(events))?;
        cases.push(Case::new(
            "memory",
            format!("{events} events, slow reader of stdout"),
            Some(events),
            move || {
                let sample = measure::with_slow_reader(&mut flow(), Duration::from_millis(4))?;
                anyhow::ensure!(sample.rows == Some(events), "{:?} of {events} events arrived", sample.rows);
                Ok(Sample { rows: None, ..sample })
            },
        ));
    }

    let first = run("first", slow_sink_flow(1))?;
    cases.push(Case::new(
        "start",
        "start to first event",
        None,
        move || measure::to_first_byte(&mut first()),
    ));
    let (path, binary) = (folder.join("first.yaml"), flowgen.to_owned());
    cases.push(Case::new("start", "validate of a small flow", None, move || {
        let sample = measure::to_end(&mut quiet(Command::new(&binary).arg("validate").arg(&path)))?;
        Ok(Sample { cpu: None, ..sample })
    }));
    let idle = run("idle", IDLE_FLOW.to_owned())?;
    cases.push(Case::new("start", "idle worker", None, move || {
        measure::idle(&mut idle(), Duration::from_millis(1500))
    }));
    Ok(cases)
}

/// The floor as the first case of a group.
pub(crate) fn floor(group: &'static str, events: u64) -> Result<Case> {
    let bench = env::current_exe()?;
    Ok(Case::new(group, FLOOR, Some(events), move || {
        measure::to_end(&mut quiet(Command::new(&bench).args(["floor", &events.to_string()])))
    }))
}

/// The same rows through a flow, `jq` and a bare loop. Each writes a file, whose lines are compared.
fn file_cases(folder: &Path, flights: &Path, rows: u64, has_jq: bool, run: Runner<'_>) -> Result<Vec<Case>> {
    let output = |name: &str| folder.join(name).with_extension("out");
    let case = |name: &str, out: PathBuf, mut command: Box<dyn FnMut() -> Result<Command>>| {
        Case::new("file", name, Some(rows), move || {
            fs::remove_file(&out).or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            })?;
            let sample = measure::to_end(&mut command()?)?;
            Ok(Sample { rows: Some(count_lines(&out)?), ..sample })
        })
    };
    let mut cases = Vec::new();

    let (bench, input, out) = (env::current_exe()?, flights.to_owned(), output("loop"));
    cases.push(case(
        "bare serde_json loop",
        out.clone(),
        Box::new(move || Ok(quiet(Command::new(&bench).arg("json-loop").arg(&input).arg(&out)))),
    ));
    if has_jq {
        let (input, out) = (flights.to_owned(), output("jq"));
        cases.push(case(
            "jq -c 'select(.delay > 15)'",
            out.clone(),
            Box::new(move || {
                let mut command = quiet(Command::new("jq").args(["-c", "select(.delay > 15)"]).arg(&input));
                command.stdout(File::create(&out)?);
                Ok(command)
            }),
        ));
    }
    let flow = run("file", file_flow(flights, &output("flowgen")))?;
    cases.push(case("flowgen: file → filter → file_write", output("flowgen"), Box::new(move || Ok(flow()))));
    Ok(cases)
}

pub(crate) fn count_lines(path: &Path) -> Result<u64> {
    let mut file = File::open(path).with_context(|| format!("no output at {}", path.display()))?;
    let (mut buffer, mut lines) = (vec![0; 1 << 16], 0);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(lines),
            read => lines += measure::lines(&buffer[..read]),
        }
    }
}

/// Makes a command that leaves the terminal alone and whose environment sets nothing.
fn quiet(command: &mut Command) -> Command {
    let mut quiet = Command::new(command.get_program());
    quiet.args(command.get_args()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.env_remove("RUST_LOG");
    let is_ours = |name: &str| name.starts_with("FLOWGEN_") || name.starts_with("OTEL_");
    for (name, _) in env::vars_os().filter(|(name, _)| is_ours(&name.to_string_lossy())) {
        quiet.env_remove(name);
    }
    quiet
}

/// The flow of the groups that ask what the engine costs.
pub(crate) fn engine_flow(events: u64) -> String {
    format!(
        "flow:
  name: engine
  tasks:
    - generate: {{name: source, count: {events}, payload: {{n: 1}}}}
    - log: {{name: middle, level: trace}}
    - drop: {{name: sink}}
"
    )
}

fn slow_sink_flow(events: u64) -> String {
    format!(
        "flow:
  name: slow
  tasks:
    - generate: {{name: source, count: {events}, payload: {{city: Reykjavik, temperature: 4.5}}}}
    - stdout: {{name: sink}}
"
    )
}

fn file_flow(input: &Path, output: &Path) -> String {
    let (input, output) = (input.display(), output.display());
    format!(
        "flow:
  name: file
  tasks:
    - file: {{name: flights, path: '{input}', format: jsonl}}
    - filter: {{name: late, condition: 'event.data.delay > 15'}}
    - file_write: {{name: sink, path: '{output}', format: jsonl}}
"
    )
}

const IDLE_FLOW: &str = "flow:
  name: idle
  tasks:
    - generate: {name: source, interval: 1h}
    - log: {name: sink}
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_input_has_as_many_rows_as_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("flights.gz");
        let mut packed =
            flate2::write::GzEncoder::new(File::create(&archive).unwrap(), flate2::Compression::fast());
        packed.write_all(b"{\"delay\":1}\n{\"delay\":2}\n{\"delay\":3}\n").unwrap();
        packed.finish().unwrap();
        for rows in [1, 3, 7] {
            let (path, written) = unpack(&archive, folder.path(), rows).unwrap();
            assert_eq!((written, count_lines(&path).unwrap()), (rows, rows));
        }
    }
}
