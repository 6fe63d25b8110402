//! Every flow that the repository shows runs: the files of `examples/` and `flows/`, by the very command
//! that stands in their header, and the minimal flow of every kind's module doc.
//!
//! They run in a copy of the two folders, so that what they write stays out of the repository.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{flowgen, http::example_endpoint};

/// Far more than any of them takes: a flow that hangs fails its test.
const PATIENCE: Duration = Duration::from_secs(120);

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Makes a folder with copies of `examples/` and `flows/`.
fn workspace() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["examples", "flows"] {
        copy(&repository().join(name), &folder.path().join(name));
    }
    folder
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else if !path.to_string_lossy().ends_with(".out.jsonl") {
            fs::copy(&path, &target).unwrap();
        }
    }
}

fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    files
}

/// Returns whether a flow goes on until it is stopped: a schedule without a count, a file that is followed, or one that
/// serves.
fn is_endless(yaml: &str) -> bool {
    let tree: Value = serde_yaml::from_str(yaml).unwrap();
    let tasks = tree["flow"]["tasks"].as_array().unwrap();
    tasks.iter().any(|task| {
        let generate = &task["generate"];
        (generate.is_object() && generate["count"].is_null())
            || task["file"]["follow"] == json!(true)
            || !task["http_endpoint"].is_null()
    })
}

/// Returns the arguments and the stdin of the command in a header, `#   $ flowgen run PATH [< INPUT]`.
fn command_in_header(yaml: &str) -> Option<(Vec<&str>, Option<&str>)> {
    let line = yaml.lines().find_map(|line| line.strip_prefix('#')?.trim().strip_prefix("$ flowgen "))?;
    let (arguments, input) =
        line.split_once('<').map_or((line, None), |(left, right)| (left, Some(right.trim())));
    Some((arguments.split_whitespace().collect(), input))
}

/// Runs a finite flow to its end.
fn run_to_end(command: &mut Command) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let id = child.id();
    let (done, ended) = mpsc::channel();
    thread::spawn(move || done.send(child.wait_with_output()));
    ended
        .recv_timeout(PATIENCE)
        .unwrap_or_else(|_| {
            signal(id, Signal::KILL);
            panic!("it did not end");
        })
        .unwrap()
}

/// Runs an endless flow until it says something, then asks it to stop.
fn run_and_stop(command: &mut Command) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (said, heard) = mpsc::channel();
    let stdout = collect(child.stdout.take().unwrap(), said.clone());
    let stderr = collect(child.stderr.take().unwrap(), said);
    let first = heard.recv_timeout(PATIENCE);
    signal(child.id(), if first.is_ok() { Signal::TERM } else { Signal::KILL });
    let status = wait(&mut child);
    let output = Output { status, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() };
    assert!(first.is_ok(), "it said nothing");
    output
}

fn wait(child: &mut Child) -> std::process::ExitStatus {
    let (id, (done, ended)) = (child.id(), mpsc::channel::<()>());
    let watchdog = thread::spawn(move || {
        if ended.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
            signal(id, Signal::KILL);
        }
    });
    let status = child.wait().unwrap();
    drop(done);
    watchdog.join().unwrap();
    status
}

/// Reads a stream to its end and tells of each line.
fn collect(stream: impl Read + Send + 'static, said: mpsc::Sender<()>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let (mut reader, mut all) = (BufReader::new(stream), Vec::new());
        while reader.read_until(b'\n', &mut all).unwrap() > 0 {
            let _ = said.send(());
        }
        all
    })
}

fn signal(id: u32, signal: Signal) {
    let id = i32::try_from(id).ok().and_then(Pid::from_raw).unwrap();
    kill_process(id, signal).unwrap();
}

/// Validates and runs one flow, and returns what is wrong with it.
fn attempt(dir: &Path, arguments: &[&str], input: Option<&str>, is_endless: bool) -> Result<Output, String> {
    let shown = |what: &str, output: &Output| {
        format!("{what}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr))
    };
    let path = arguments.last().ok_or("no path")?;
    let checked = run_to_end(flowgen(dir).args(["validate", path]).stdin(Stdio::null()));
    if !checked.status.success() {
        return Err(shown("validate", &checked));
    }
    let mut command = flowgen(dir);
    command.env("HTTP_ENDPOINT", example_endpoint()).env("HTTP_ADDRESS", "127.0.0.1:0");
    command.args(arguments).stdin(match input {
        Some(name) => Stdio::from(File::open(dir.join(name)).map_err(|error| format!("{name}: {error}"))?),
        None => Stdio::null(),
    });
    let ran = if is_endless { run_and_stop(&mut command) } else { run_to_end(&mut command) };
    if !ran.status.success() {
        return Err(shown("run", &ran));
    }
    if !String::from_utf8_lossy(&ran.stderr).contains("flow drained") {
        return Err(shown("no summary", &ran));
    }
    Ok(ran)
}

fn assert_none(failures: &[String]) {
    assert!(failures.is_empty(), "{} flows fail:\n\n{}", failures.len(), failures.join("\n\n"));
}

#[test]
fn every_flow_in_the_repository_runs_by_the_command_in_its_header() {
    let mut failures = Vec::new();
    for folder in ["examples", "flows"] {
        let files = yaml_files(&repository().join(folder));
        assert!(!files.is_empty(), "there is nothing in {folder}/");
        for file in files {
            let name = format!("{folder}/{}", file.file_name().unwrap().display());
            let yaml = fs::read_to_string(&file).unwrap();
            let place = workspace();
            let outcome = match command_in_header(&yaml) {
                Some((arguments, input)) if arguments == ["run", &name] => {
                    attempt(place.path(), &arguments, input, is_endless(&yaml))
                }
                _ => Err(format!("its header names no command `$ flowgen run {name}`")),
            };
            failures.extend(outcome.err().map(|error| format!("{name}: {error}")));
        }
    }
    assert_none(&failures);
}

#[test]
fn the_flow_in_every_kinds_module_doc_runs() {
    let mut failures = Vec::new();
    for kind in ::flowgen::tasks::registry().kinds() {
        let (place, yaml) = (workspace(), kind.example());
        if !yaml.contains(&format!("- {}:", kind.name)) {
            failures.push(format!("{}: its module doc holds no flow with it", kind.name));
            continue;
        }
        fs::write(place.path().join("flow.yaml"), &yaml).unwrap();
        fs::write(place.path().join("input"), "{\"n\":1}\n{\"n\":2}\n").unwrap();
        let outcome = attempt(place.path(), &["run", "flow.yaml"], Some("input"), is_endless(&yaml));
        failures.extend(outcome.err().map(|error| format!("{}: {error}", kind.name)));
    }
    assert_none(&failures);
}

#[test]
fn every_kind_has_an_example() {
    let files = yaml_files(&repository().join("examples"));
    let all: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let without: Vec<_> = ::flowgen::tasks::registry()
        .kinds()
        .iter()
        .map(|kind| kind.name)
        .filter(|name| !all.contains(&format!("- {name}:")))
        .collect();
    assert_eq!(without, Vec::<&str>::new());
}

#[test]
fn the_earthquakes_are_the_strong_ones_in_file_order_each_time() {
    let text = fs::read_to_string(repository().join("examples/data/earthquakes.jsonl")).unwrap();
    let features = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let expected: Vec<Value> = features
        .filter(|feature| {
            let quake = &feature["properties"];
            quake["type"] == "earthquake" && quake["mag"].as_f64().is_some_and(|magnitude| magnitude >= 2.5)
        })
        .map(|feature| {
            let quake = &feature["properties"];
            json!({
                "id": feature["id"],
                "place": quake["place"],
                "magnitude": quake["mag"],
                "depth_km": feature["geometry"]["coordinates"][2],
                "time": utc(quake["time"].as_i64().unwrap()),
            })
        })
        .collect();
    assert_eq!(expected.len(), 297);
    assert_eq!(expected[0]["time"].as_str().map(str::len), Some("2018-02-07T00:41:58.200Z".len()));

    let place = workspace();
    let run = || attempt(place.path(), &["run", "examples/earthquakes.yaml"], None, false).unwrap().stdout;
    let (first, second) = (run(), run());
    let written = String::from_utf8(first.clone()).unwrap();
    let rows: Vec<Value> = written.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (number, (row, expected)) in rows.iter().zip(&expected).enumerate() {
        assert_eq!(row, expected, "line {}", number + 1);
    }
    assert_eq!(rows.len(), expected.len());
    assert!(first == second, "the second run gave other output");
}

#[test]
fn csv_becomes_json_lines() {
    let place = workspace();
    attempt(place.path(), &["run", "examples/csv.yaml"], None, false).unwrap();
    let written = fs::read_to_string(place.path().join("examples/regions.out.jsonl")).unwrap();
    let regions: Vec<_> =
        written.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["region"].clone()).collect();
    assert_eq!(regions, ["Alaska", "California", "Hawaii", "Puerto Rico"]);
}

#[test]
fn a_pipe_passes_on_what_matches() {
    let place = workspace();
    let input = Some("examples/data/earthquakes.jsonl");
    let output = attempt(place.path(), &["run", "examples/pipe.yaml"], input, false).unwrap();
    let text = fs::read_to_string(repository().join("examples/data/earthquakes.jsonl")).unwrap();
    let expected = text
        .lines()
        .filter(|line| {
            let feature: Value = serde_json::from_str(line).unwrap();
            feature["properties"]["place"].as_str().unwrap().contains("Hawaii")
        })
        .fold(String::new(), |all, line| all + line + "\n");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
}

/// Formats milliseconds since 1970 by the calendar rules alone, without the library that flowgen uses.
fn utc(milliseconds: i64) -> String {
    let (days, rest) = (milliseconds.div_euclid(86_400_000), milliseconds.rem_euclid(86_400_000));
    let is_leap = |year: i64| (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let (mut year, mut day) = (1970, days);
    while day >= 365 + i64::from(is_leap(year)) {
        day -= 365 + i64::from(is_leap(year));
        year += 1;
    }
    let mut month = 1;
    for length in [31, 28 + i64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    let (hour, minute, second) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1000 % 60);
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", day + 1, rest % 1000)
}

#[test]
fn the_tests_own_calendar_is_right() {
    assert_eq!(utc(0), "1970-01-01T00:00:00.000Z");
    assert_eq!(utc(951_782_400_001), "2000-02-29T00:00:00.001Z");
    assert_eq!(utc(1_517_966_773_840), "2018-02-07T01:26:13.840Z");
    assert_eq!(utc(1_609_459_199_999), "2020-12-31T23:59:59.999Z");
}
