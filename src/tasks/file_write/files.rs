//! The files that a task has open: not too many of them at once.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io,
    path::Path,
    sync::Arc,
};

use super::append::{Appended, append, first_line, undo, whole_lines};
use crate::{
    format::{self, io_error},
    task::TaskError,
};

/// How many files stay open.
pub(super) const OPEN_FILES: usize = 64;

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
pub(super) struct Open {
    file: File,
    /// Whether it can be cut and has a length: not a pipe nor a device.
    is_regular: bool,
    /// The header row that was last seen to be right, so that it is looked at once.
    header: Vec<u8>,
    last_use: u64,
}

impl Files {
    /// Returns the file at `path`, opened and mended if it is not open.
    pub(super) fn open(&mut self, path: &Arc<Path>) -> io::Result<&mut Open> {
        self.uses += 1;
        if !self.open.contains_key(path) {
            let opened = open(path)?;
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

    /// Appends to several files, or to none of them.
    pub(super) fn append(&mut self, writes: &[Write]) -> Result<(), TaskError> {
        let mut appended = Vec::with_capacity(writes.len());
        for write in writes {
            match self.append_one(write) {
                Ok(done) => appended.push(done),
                Err(error) => {
                    for (write, done) in writes.iter().zip(appended) {
                        self.undo(write, done);
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn append_one(&mut self, write: &Write) -> Result<Appended, TaskError> {
        let cannot = |error| io_error(format!("cannot write to `{}`", write.path.display()), error);
        let open = self.open(&write.path).map_err(cannot)?;
        let length = open.length().map_err(cannot)?;
        let is_headed = write.header.is_empty() || open.header == write.header;
        if !is_headed && length > 0 && first_line(&open.file, write.header.len()).map_err(cannot)? != write.header
        {
            let message = format!("`{}` has other columns than the event", write.path.display());
            return Err(TaskError::permanent(format::ENCODE, message));
        }
        let needs_header = length == 0 && !write.header.is_empty() && (open.is_regular || !is_headed);
        let done = if needs_header {
            append(&mut open.file, length, &[write.header.as_slice(), &write.lines].concat())
        } else {
            append(&mut open.file, length, &write.lines)
        };
        let done = done.map_err(cannot)?;
        if open.header != write.header {
            open.header.clone_from(&write.header);
        }
        Ok(done)
    }

    fn undo(&mut self, write: &Write, done: Appended) {
        let path = write.path.display();
        match self.open(&write.path).and_then(|open| undo(&mut open.file, done)) {
            Ok(true) => {}
            Ok(false) => tracing::warn!(file.path = %path, "lines of a failed write stay: others follow them"),
            Err(error) => tracing::warn!(file.path = %path, error.message = %error, "cannot undo a failed write"),
        }
    }
}

impl Open {
    fn length(&self) -> io::Result<u64> {
        if self.is_regular { Ok(self.file.metadata()?.len()) } else { Ok(0) }
    }
}

fn open(path: &Path) -> io::Result<Open> {
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
    Ok(Open { file, is_regular: metadata.is_file(), header: Vec::new(), last_use: 0 })
}
