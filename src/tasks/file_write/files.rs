//! The files that a task has open: not too many of them at once.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::append::{Appended, Failed, append, first_line, undo, whole_lines};
use crate::{
    format::{self, io_error},
    task::TaskError,
};

/// How many files stay open.
pub(super) const OPEN_FILES: usize = 64;

/// How often to look whether a path still leads to the file that is open.
pub(super) const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// What to append to one file.
#[derive(Debug)]
pub(super) struct Write {
    /// Whose lines these are, for the caller.
    pub(super) place: usize,
    pub(super) path: Arc<Path>,
    /// The line that belongs first in the file; empty if there is none.
    pub(super) header: Vec<u8>,
    pub(super) lines: Vec<u8>,
}

/// Open files; the one that was not used for longest is closed for another.
#[derive(Debug, Default)]
pub(super) struct Files {
    open: HashMap<Arc<Path>, Open>,
    uses: u64,
}

/// One open file.
#[derive(Debug)]
struct Open {
    file: File,
    /// What file it is, device and number; `None` for a pipe or device, which can neither be cut nor has a
    /// length.
    identity: Option<(u64, u64)>,
    /// The header row that was last seen to be right, so that it is looked at once.
    header: Vec<u8>,
    last_use: u64,
    last_look: Instant,
}

impl Files {
    /// Opens the file at `path`, and mends it, if it is not open.
    pub(super) fn open(&mut self, path: &Arc<Path>, now: Instant) -> io::Result<()> {
        self.get(path, now).map(drop)
    }

    fn get(&mut self, path: &Arc<Path>, now: Instant) -> io::Result<&mut Open> {
        self.uses += 1;
        if !self.open.contains_key(path) {
            let opened = open(path, now)?;
            if self.open.len() >= OPEN_FILES {
                let oldest = self.open.iter().min_by_key(|(_, open)| open.last_use);
                if let Some(oldest) = oldest.map(|(path, _)| Arc::clone(path)) {
                    self.open.remove(&oldest);
                }
            }
            self.open.insert(Arc::clone(path), opened);
        }
        let open = self.open.get_mut(path).expect("it was just put there");
        open.last_use = self.uses;
        Ok(open)
    }

    /// Closes a file that was renamed or deleted, as log rotation does, so that a new one is made.
    fn look_after(&mut self, path: &Path, now: Instant) {
        let Some(open) = self.open.get_mut(path) else { return };
        let Some(identity) = open.identity else { return };
        if now.duration_since(open.last_look) < LOOK_PERIOD {
            return;
        }
        open.last_look = now;
        let is_there = match fs::metadata(path) {
            Ok(metadata) => (metadata.dev(), metadata.ino()) == identity,
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        };
        if !is_there {
            self.open.remove(path);
        }
    }

    /// Appends to several files, or to none of them.
    pub(super) fn append(&mut self, writes: &[Write], now: Instant) -> Result<(), TaskError> {
        let mut appended = Vec::with_capacity(writes.len());
        for write in writes {
            self.look_after(&write.path, now);
            match self.append_one(write, now) {
                Ok(done) => appended.push(done),
                Err(error) => {
                    for (write, done) in writes.iter().zip(appended) {
                        let undone = self.get(&write.path, now).and_then(|open| undo(&mut open.file, done));
                        self.settle_undo(&write.path, undone);
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn append_one(&mut self, write: &Write, now: Instant) -> Result<Appended, TaskError> {
        let cannot = |error| io_error(format!("cannot write to `{}`", write.path.display()), error);
        let open = self.get(&write.path, now).map_err(cannot)?;
        let length = open.length().map_err(cannot)?;
        let is_headed = write.header.is_empty() || open.header == write.header;
        if !is_headed && length > 0 && first_line(&open.file, write.header.len()).map_err(cannot)? != write.header
        {
            let message = format!("`{}` has other columns than the event", write.path.display());
            return Err(TaskError::permanent(format::ENCODE, message));
        }
        let needs_header = length == 0 && !write.header.is_empty() && (open.identity.is_some() || !is_headed);
        let done = if needs_header {
            append(&mut open.file, length, &[write.header.as_slice(), &write.lines].concat())
        } else {
            append(&mut open.file, length, &write.lines)
        };
        let done = match done {
            Ok(done) => done,
            Err(Failed { error, undone }) => {
                if open.identity.is_some() {
                    self.settle_undo(&write.path, undone);
                }
                return Err(cannot(error));
            }
        };
        if open.header != write.header {
            open.header.clone_from(&write.header);
        }
        Ok(done)
    }

    /// Says what a failed write left behind.
    fn settle_undo(&mut self, path: &Path, undone: io::Result<bool>) {
        match undone {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!(file.path = %path.display(), "lines of a failed write stay: others follow them");
            }
            Err(error) => {
                tracing::warn!(file.path = %path.display(), error.message = %error, "cannot undo a failed write");
                // It may end in a torn line, which is cut off when it is opened again.
                self.open.remove(path);
            }
        }
    }
}

impl Open {
    fn length(&self) -> io::Result<u64> {
        if self.identity.is_some() { Ok(self.file.metadata()?.len()) } else { Ok(0) }
    }
}

fn open(path: &Path, now: Instant) -> io::Result<Open> {
    let open = || OpenOptions::new().read(true).append(true).create(true).open(path);
    let file = match (open(), path.parent()) {
        (Err(error), Some(parent)) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(parent)?;
            open()?
        }
        (result, _) => result?,
    };
    let metadata = file.metadata()?;
    if metadata.is_file() {
        let whole = whole_lines(&file, metadata.len())?;
        if whole < metadata.len() {
            file.set_len(whole)?;
            let bytes = metadata.len() - whole;
            tracing::warn!(file.path = %path.display(), bytes, "cut off a torn last line");
        }
    }
    let identity = metadata.is_file().then(|| (metadata.dev(), metadata.ino()));
    Ok(Open { file, identity, header: Vec::new(), last_use: 0, last_look: now })
}
