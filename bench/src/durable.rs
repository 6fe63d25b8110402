//! What it costs that a queue on the disk accepts every event, beside what the disk itself needs for as many bytes that are
//! appended and synced.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
    process::Stdio,
    time::Instant,
};

use anyhow::{Context as _, Result};

use crate::{
    cases::{Case, Runner},
    measure::{self, Sample},
};

/// Bytes that a queue takes for an event besides its data: its frame, its id and its times.
const AROUND: usize = 170;

/// Events that are appended between two syncs: as many as the queue appends at once at most.
const AT_ONCE: usize = 8_192;

/// Returns the cases of the group.
pub(crate) fn cases(folder: &Path, input: &Path, rows: u64, run: Runner<'_>) -> Result<Vec<Case>> {
    let length = usize::try_from(fs::metadata(input)?.len() / rows.max(1))? + AROUND;
    let file = folder.join("durable.floor");
    let floor = format!("the disk: append and fdatasync {AT_ONCE} records of {length} bytes at a time");
    let mut cases =
        vec![Case::new("durable", floor, Some(rows), move || append(&file, usize::try_from(rows)?, length))];
    for (name, durable) in [
        ("stdin → drop", None),
        ("… durable, fsync: always", Some("always")),
        ("… durable, fsync: interval", Some("interval")),
    ] {
        let state = folder.join("durable-state");
        let commands = run(&format!("durable-{}", durable.unwrap_or("not")), flow(&state, durable))?;
        let input = input.to_owned();
        cases.push(Case::new("durable", name, Some(rows), move || {
            match fs::remove_dir_all(&state) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
            measure::to_end(commands().stdin(Stdio::from(File::open(&input)?)))
        }));
    }
    Ok(cases)
}

fn append(path: &Path, rows: usize, length: usize) -> Result<Sample> {
    let batch = vec![b'x'; AT_ONCE * length];
    let mut file = File::create(path).context("the file of the floor")?;
    let begin = Instant::now();
    for first in (0..rows).step_by(AT_ONCE) {
        file.write_all(&batch[..(rows - first).min(AT_ONCE) * length])?;
        file.sync_data()?;
    }
    let wall = Some(begin.elapsed());
    fs::remove_file(path)?;
    Ok(Sample { wall, ..Sample::default() })
}

fn flow(state: &Path, fsync: Option<&str>) -> String {
    let durable = fsync.map(|fsync| {
        format!(
            "state: {{path: '{}'}}\nflow:\n  name: durable\n  durable: {{fsync: {fsync}}}",
            state.display()
        )
    });
    format!(
        "{}
  tasks:
    - stdin: {{name: flights}}
    - drop: {{name: sink}}
",
        durable.unwrap_or_else(|| "flow:\n  name: durable".to_owned())
    )
}
