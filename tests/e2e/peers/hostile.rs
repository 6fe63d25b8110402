//! Servers that mean harm: each event ends, by its type of error and after its attempts, nothing that they send is logged,
//! and none of it takes memory.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};

use super::{Server, requesting, worker};
use crate::{flowgen, process::Ended};

/// What each way does to an event: the type of its error, and how many requests are made for it.
const WAYS: [(&str, &str, usize); 15] = [
    ("drip", "timeout", 3),
    ("drip_head", "timeout", 3),
    ("silent", "timeout", 3),
    ("reset", "io", 3),
    ("fewer", "io", 3),
    ("garbage", "io", 3),
    ("long_header", "io", 3),
    ("many_headers", "io", 3),
    ("endless", "too_large", 1),
    ("chunk_of_all", "too_large", 1),
    ("loop", "302", 11),
    ("gzip", "too_large", 1),
    ("br", "too_large", 1),
    ("zstd", "too_large", 1),
    // More than was announced is not of the answer, nor of the next one.
    ("more", "", 1),
];

/// How much the bombs are, decompressed.
const BOMB: usize = 128 << 20;

/// How much memory the worker may have taken for all of it, in KiB.
const MOST_MEMORY: u64 = 96 << 10;

/// Writes bombs into a folder.
fn arm(folder: &Path) {
    fn fill(mut writer: impl Write) {
        let zeros = [0; 1 << 16];
        (0..BOMB / zeros.len()).for_each(|_| writer.write_all(&zeros).unwrap());
    }
    let file = |name: &str| fs::File::create(folder.join(name)).unwrap();
    fill(GzEncoder::new(file("bomb.gzip"), Compression::fast()));
    fill(brotli::CompressorWriter::new(file("bomb.br"), 1 << 16, 1, 22));
    fill(zstd::Encoder::new(file("bomb.zstd"), 1).unwrap().auto_finish());
    for name in ["bomb.gzip", "bomb.br", "bomb.zstd"] {
        let size = fs::metadata(folder.join(name)).unwrap().len();
        assert!((1..1 << 20).contains(&size), "{name} is within the limit as it is sent: {size}");
    }
}

/// Returns the most memory that a process has taken, in KiB.
fn peak(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Returns the dead letters of a folder, by the way that their events name.
fn letters(folder: &Path) -> BTreeMap<String, Value> {
    let command = ["dlq", "show", "--state", "state", "--output", "json"];
    let output = flowgen(&command).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let letters: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    letters.into_iter().map(|letter| (letter["data"]["way"].as_str().unwrap().to_owned(), letter)).collect()
}

fn run(folder: &Path, port: &str) -> Ended {
    let keys = format!(
        "endpoint: \"http://127.0.0.1:{port}/{{{{ event.data.way }}}}\"
        timeout: 3s
        max_response_bytes: 1MiB
        concurrency: 16
        on_error: dead_letter"
    );
    // It goes on waiting, so that its memory can be looked at.
    let yaml = requesting("state: {path: state}", &keys).replace("path: input", "path: input, follow: true");
    let mut worker = worker(folder, &yaml);
    // The letters tell of all, since of the same failures the log shows only some.
    worker.line("event failed and is stored");
    let limit = Instant::now() + Duration::from_secs(300);
    while letters(folder).len() < WAYS.len() - 1 {
        assert!(Instant::now() < limit, "{:#?}", letters(folder).keys());
    }
    let taken = peak(worker.id());
    assert!(taken < MOST_MEMORY, "{taken} KiB");
    worker.stop()
}

#[test]
fn whatever_a_server_does_the_event_ends_and_can_be_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    arm(folder);
    let input: String = WAYS.iter().map(|(way, ..)| format!("{}\n", json!({"way": way}))).collect();
    fs::write(folder.join("input"), input).unwrap();
    let server = Server::start("hostile.py", &["."], folder);
    let ended = run(folder, &server.port);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("m4rker"), "{}", ended.stderr);
    assert_eq!(ended.stdout, "true\n");
    let drained = ended.only("flow drained");
    assert_eq!((&drained["completed"], &drained["dead_lettered"]), (&json!(1), &json!(WAYS.len() - 1)));
    let letters = letters(folder);
    let asked = server.asked();
    for (way, error, requests) in WAYS {
        let made = asked.iter().filter(|path| path[1..] == *way).count();
        assert_eq!(made, requests, "{way}: {asked:?}");
        if error.is_empty() {
            continue;
        }
        let letter = &letters[way];
        assert_eq!((&letter["task"], &letter["error_type"]), (&json!("call"), &json!(error)), "{letter}");
        // Redirects are followed within one attempt.
        let attempts = if error == "302" { 1 } else { requests };
        assert_eq!(letter["attempts"], attempts, "{letter}");
        assert!(!letter.to_string().contains("m4rker"), "{letter}");
    }
}
