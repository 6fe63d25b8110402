//! One worker for each state: whoever has the lock on the file `lock` in its directory.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read as _, Seek as _, Write as _},
    path::Path,
    process,
};

use super::StateError;

/// The file's name.
const FILE: &str = "lock";

/// What it says once there is a store beside it.
const MADE: &str = "flowgen state";

/// The lock, until it is dropped or the process ends.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    /// Whether there was a store beside it before.
    pub(super) is_made: bool,
}

impl Lock {
    /// Takes the lock of a directory.
    pub(super) fn take(directory: &Path) -> Result<Self, StateError> {
        let path = directory.join(FILE);
        let cannot = || format!("cannot lock the state in `{}`", directory.display());
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = open.map_err(|error| StateError::because(cannot(), error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(taken(directory, &mut file)),
            Err(TryLockError::Error(error)) => return Err(StateError::because(cannot(), error)),
        }
        let is_made = read(&mut file).starts_with(MADE);
        Ok(Self { file, is_made })
    }

    /// Takes note that there is a store beside it, and who uses it.
    pub(super) fn made(&mut self, directory: &Path) -> Result<(), StateError> {
        let text = format!("{MADE}, used by process {}\n", process::id());
        // Never without the first words: it may end in between.
        let written = self
            .file
            .rewind()
            .and_then(|()| self.file.write_all(text.as_bytes()))
            .and_then(|()| self.file.set_len(text.len() as u64));
        written.map_err(|error| {
            StateError::because(format!("cannot write to the state in `{}`", directory.display()), error)
        })
    }
}

/// Reads the little that it says; what cannot be read says nothing.
fn read(file: &mut File) -> String {
    let mut text = String::new();
    let _ = file.take(100).read_to_string(&mut text);
    text
}

/// Says who has the lock.
fn taken(directory: &Path, file: &mut File) -> StateError {
    let text = read(file);
    let owner = text.trim().rsplit(' ').next().and_then(|owner| owner.parse::<u32>().ok());
    let owner = owner.map_or_else(|| "another process".to_owned(), |owner| format!("process {owner}"));
    StateError::new(format!(
        "the state in `{}` is in use by {owner}: stop that worker, or give this one a `state.path` of its own",
        directory.display()
    ))
}
