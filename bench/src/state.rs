//! What it costs that a source goes on where it was done, with the same rows and without; both write a file, whose lines
//! are compared.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Result;

use crate::{
    cases::{Case, Limit, Runner, count_lines},
    measure::{self, Sample},
};

/// What the other case is compared with.
const WITHOUT: &str = "file → script → file_write";

/// Returns the cases of the group.
pub(crate) fn cases(folder: &Path, input: &Path, rows: u64, run: Runner<'_>) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (name, is_kept) in [(WITHOUT, false), ("… with state: its position is kept", true)] {
        let out = folder.join(format!("state-{is_kept}.out"));
        let state = folder.join(format!("state-{is_kept}"));
        let block = if is_kept { format!("state: {{path: '{}'}}", state.display()) } else { String::new() };
        let commands = run(&format!("state-{is_kept}"), flow(&block, input, &out))?;
        let case = Case::new("state", name, Some(rows), move || {
            remove(&out, &state)?;
            let sample = measure::to_end(&mut commands())?;
            Ok(Sample { rows: Some(count_lines(&out)?), ..sample })
        });
        let limit = is_kept.then_some(Limit::Rate { times: 0.95, of: WITHOUT });
        cases.push(case.limited(limit));
    }
    Ok(cases)
}

/// Removes what the run before left.
fn remove(out: &PathBuf, state: &PathBuf) -> io::Result<()> {
    for result in [fs::remove_file(out), fs::remove_dir_all(state)] {
        match result {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn flow(block: &str, input: &Path, output: &Path) -> String {
    format!(
        "{block}
flow:
  name: state
  tasks:
    - file: {{name: flights, path: '{}', format: jsonl}}
    - script: {{name: late, code: 'event.data.late = event.data.delay > 15; event'}}
    - file_write: {{name: sink, path: '{}', format: jsonl}}
",
        input.display(),
        output.display()
    )
}
