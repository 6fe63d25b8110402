//! The files that a task has open: not too many of them at once.

use std::{collections::HashMap, fs, io, path::Path, sync::Arc, time::Duration};

use rustix::io::Errno;
use tokio::time::Instant;

use super::open_file::{Identity, OpenFile, Refused, Unsynced};

/// How many files stay open.
pub(super) const OPEN_FILES: usize = 64;

/// How often to look whether a path still leads to the file that is open.
pub(super) const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// What to append to one file.
#[derive(Debug)]
pub(super) struct Write {
    /// Whose lines these are, for the caller.
    pub(super) place: usize,
    /// The events that they are of, for the caller.
    pub(super) events: Vec<usize>,
    pub(super) path: Arc<Path>,
    /// The line that belongs first in the file; empty if there is none.
    pub(super) header: Vec<u8>,
    pub(super) lines: Vec<u8>,
}

/// Open files; the one that was not used for longest is closed for another.
#[derive(Debug)]
pub(super) struct Files {
    open: HashMap<Arc<Path>, Open>,
    uses: u64,
    /// Whether what was written is to be on the disk before its file is closed.
    is_synced: bool,
    /// Why it could not be, if that is so and nobody knows.
    unsynced: Option<io::Error>,
}

/// One of them.
#[derive(Debug)]
struct Open {
    file: OpenFile,
    last_use: u64,
    last_look: Instant,
}

impl Files {
    /// Makes none that are open.
    pub(super) fn new(is_synced: bool) -> Self {
        Self { open: HashMap::new(), uses: 0, is_synced, unsynced: None }
    }

    /// Returns what of the open files is not known to be on the disk.
    pub(super) fn take_unsynced(&mut self) -> io::Result<Vec<Unsynced>> {
        if let Some(error) = self.unsynced.take() {
            return Err(error);
        }
        self.open.iter_mut().filter_map(|(path, open)| open.file.take_unsynced(path).transpose()).collect()
    }

    /// Closes a file, once it is on the disk if that is wanted.
    fn close(&mut self, path: &Path) -> bool {
        let Some(mut open) = self.open.remove(path) else { return false };
        if self.is_synced
            && let Err(error) = open
                .file
                .take_unsynced(path)
                .and_then(|unsynced| unsynced.map_or(Ok(()), |unsynced| unsynced.sync()))
        {
            self.unsynced = Some(error);
        }
        true
    }

    /// Opens the file at `path`, and mends it, if it is not open. Returns the CSV header row that it has, if
    /// that is asked for.
    pub(super) fn open(
        &mut self,
        path: &Arc<Path>,
        wants_header: bool,
        now: Instant,
    ) -> io::Result<Option<Vec<u8>>> {
        self.get(path, now)?.file.mend(path, wants_header)
    }

    fn get(&mut self, path: &Arc<Path>, now: Instant) -> io::Result<&mut Open> {
        self.uses += 1;
        if !self.open.contains_key(path) {
            if self.open.len() >= OPEN_FILES {
                self.close_oldest();
            }
            let file = loop {
                match OpenFile::open(path) {
                    // There is room for another if one of ours is closed.
                    Err(error) if is_out_of_files(&error) && self.close_oldest() => {}
                    result => break result?,
                }
            };
            self.open.insert(Arc::clone(path), Open { file, last_use: 0, last_look: now });
        }
        let open = self.open.get_mut(path).expect("it was just put there");
        open.last_use = self.uses;
        Ok(open)
    }

    /// Closes the file that was not used for longest, and returns whether there was one. A pipe stays: its
    /// reader would take it for the end.
    fn close_oldest(&mut self) -> bool {
        let files = self.open.iter().filter(|(_, open)| open.file.identity.is_some());
        let oldest = files.min_by_key(|(_, open)| open.last_use).map(|(path, _)| Arc::clone(path));
        oldest.is_some_and(|oldest| self.close(&oldest))
    }

    /// Closes a file that was renamed or deleted, as log rotation does, so that a new one is made.
    fn look_after(&mut self, path: &Path, now: Instant) {
        let Some(open) = self.open.get_mut(path) else { return };
        let Some(identity) = open.file.identity else { return };
        if now.duration_since(open.last_look) < LOOK_PERIOD {
            return;
        }
        open.last_look = now;
        let is_there = match fs::metadata(path) {
            Ok(metadata) => Identity::of(&metadata) == Some(identity),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        };
        if !is_there {
            self.close(path);
        }
    }

    /// Appends to one file: all or nothing.
    pub(super) fn append(&mut self, write: &Write, now: Instant) -> Result<(), Refused> {
        self.look_after(&write.path, now);
        self.get(&write.path, now)?.file.append(&write.path, &write.header, &write.lines)
    }
}

impl Drop for Files {
    /// What a task that panicked has written is acknowledged.
    fn drop(&mut self) {
        let paths: Vec<_> = if self.is_synced { self.open.keys().cloned().collect() } else { Vec::new() };
        for path in paths {
            self.close(&path);
        }
        if let Some(error) = &self.unsynced {
            tracing::error!(error.message = %error, "cannot sync what was written");
        }
    }
}

/// Returns whether the process or the system has too many files open.
fn is_out_of_files(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}
