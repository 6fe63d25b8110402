//! A queue on the disk: records are appended to files and read in the same order, and files that everything is done with
//! are removed.
//!
//! Owns the directory of one queue, its files and the bytes in them, and how far all of it is done. Must not know what the
//! records are.
//!
//! Records are numbered without a gap. A file has the number of its first record as its name, and ends where the next
//! one begins. What a crash tears is at the end of the last file, behind everything that was synced: it is cut off when
//! the queue is opened. Anything else that is not as it was written is damage, and the queue is refused.

mod appender;
mod frame;
mod position;
mod reader;
mod scan;

use std::{
    collections::VecDeque,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

pub use appender::{AppendError, Appender};
pub use frame::Frames;
pub use reader::QueueReader;

use self::position::Kept;
use super::StateError;

/// The shortest and the longest file before another one is begun.
const SHORTEST_FILE: u64 = 64 << 10;
const LONGEST_FILE: u64 = 64 << 20;

/// The most bytes that are to be appended at once, about.
const MOST_AT_ONCE: usize = 4 << 20;

/// How many files a queue is divided into when it is full, about: whole files are removed.
const FILES: u64 = 16;

/// One queue of a worker. Shared by what appends to it, what reads it, and whoever wants to know of it.
#[derive(Debug)]
pub struct Queue {
    directory: PathBuf,
    max_bytes: u64,
    /// In the order of their records; the last one is appended to.
    files: Mutex<VecDeque<Part>>,
    bytes: AtomicU64,
    /// The number of the next record that is appended: all before it can be read.
    end: AtomicU64,
    /// Everything before this number is done, and that is kept.
    done: AtomicU64,
    kept: Mutex<Kept>,
}

/// One file of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    /// The number of its first record, and of the one behind its last.
    first: u64,
    end: u64,
    bytes: u64,
}

/// A queue that was opened.
#[derive(Debug)]
pub struct Opened {
    /// The queue.
    pub queue: Arc<Queue>,
    /// What appends to it.
    pub appender: Appender,
    /// What reads it, from the first record that is not done.
    pub reader: QueueReader,
    /// Bytes of records that were never accepted, which were cut off.
    pub torn: u64,
}

impl Queue {
    /// Opens the queue in a directory, which is made if there is none. Blocks as disks do.
    ///
    /// # Errors
    /// It is damaged, of another version, or cannot be read. It is then as it was.
    pub fn open(directory: &Path, max_bytes: u64) -> Result<Opened, StateError> {
        let was_there = directory.try_exists().unwrap_or(true);
        let cannot =
            |error| StateError::because(format!("cannot open the queue in `{}`", directory.display()), error);
        fs::create_dir_all(directory).map_err(cannot)?;
        // With the directories of the flow and of all queues.
        for made in directory.ancestors().take(if was_there { 0 } else { 4 }) {
            File::open(made).and_then(|made| made.sync_all()).map_err(cannot)?;
        }
        let lock = lock(directory).map_err(cannot)?;
        let known = Kept::open(directory).map_err(cannot)?;
        let done = known.as_ref().map(|(_, done)| *done);
        let scan::Found { mut files, torn } = scan::scan(directory, done)?;
        let (kept, done) = match known {
            Some(known) => known,
            None => (Kept::make(directory).map_err(cannot)?, 0),
        };
        let end = files.back().map_or(done, |last| last.end).max(done);
        // What is done is removed, also what was lost of it because it was not synced yet.
        while let Some(part) = files.pop_front_if(|part| part.end <= done) {
            fs::remove_file(path(directory, part.first)).map_err(cannot)?;
        }
        let queue = Arc::new(Self {
            directory: directory.to_owned(),
            max_bytes,
            bytes: AtomicU64::new(files.iter().map(|part| part.bytes).sum()),
            files: Mutex::new(files),
            end: AtomicU64::new(end),
            done: AtomicU64::new(done),
            kept: Mutex::new(kept),
        });
        let appender = Appender::open(Arc::clone(&queue), torn, lock)?;
        let reader = QueueReader::new(Arc::clone(&queue), done);
        Ok(Opened { queue, appender, reader, torn })
    }

    /// Returns how many records wait in the queue in a directory, which is not opened. Blocks as disks do.
    ///
    /// # Errors
    /// It is damaged, of another version, or cannot be read.
    pub fn waiting(directory: &Path) -> Result<u64, StateError> {
        let known = Kept::open(directory);
        let known = known.map_err(|error| {
            StateError::because(format!("cannot read the queue in `{}`", directory.display()), error)
        })?;
        let done = known.map(|(_, done)| done);
        let found = scan::scan(directory, done)?;
        Ok(found.files.back().map_or(0, |last| last.end.saturating_sub(done.unwrap_or_default())))
    }

    /// Returns the number of the next record that is appended: all before it can be read.
    pub fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// Returns how many bytes it takes on the disk.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns whether it has room for so many bytes more. One that is empty has room for anything.
    pub fn has_room(&self, bytes: u64) -> bool {
        self.bytes().saturating_add(bytes) <= self.max_bytes
            || self.done.load(Ordering::Acquire) == self.end()
    }

    /// Returns how many bytes are to be appended at once, about: a small part of what it may take.
    pub fn batch_bytes(&self) -> usize {
        usize::try_from(self.max_bytes / 4).map_or(MOST_AT_ONCE, |bytes| bytes.min(MOST_AT_ONCE))
    }

    /// Keeps that everything before the number `done` is done, and removes the files that are no longer needed. Blocks as
    /// disks do.
    ///
    /// # Errors
    /// It cannot be kept, or a file cannot be removed. That is tried again the next time.
    pub fn keep(&self, done: u64) -> Result<(), StateError> {
        let cannot = |error| {
            let directory = self.directory.display();
            StateError::because(format!("cannot keep how far the queue in `{directory}` is done"), error)
        };
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).keep(done).map_err(cannot)?;
        self.done.fetch_max(done, Ordering::AcqRel);
        let mut files = self.files();
        while files.len() > 1 && files[0].end <= done {
            fs::remove_file(path(&self.directory, files[0].first)).map_err(cannot)?;
            let bytes = files.pop_front().map_or(0, |part| part.bytes);
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Returns how long a file gets, about.
    fn file_bytes(&self) -> u64 {
        (self.max_bytes / FILES).clamp(SHORTEST_FILE, LONGEST_FILE)
    }

    /// Returns the file that holds the record of this number.
    fn part_of(&self, number: u64) -> Option<Part> {
        let files = self.files();
        let index = files.partition_point(|part| part.end <= number);
        files.get(index).copied().filter(|part| part.first <= number)
    }

    fn files(&self) -> MutexGuard<'_, VecDeque<Part>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until nobody appends to the queue any more: a flow that was cut short may have left a write that goes on, which no
/// other one may come upon. Dropped, what is returned lets the next one go on.
fn lock(directory: &Path) -> io::Result<File> {
    let options = fs::OpenOptions::new().create(true).write(true).truncate(false).to_owned();
    let lock = options.open(directory.join("lock"))?;
    lock.lock()?;
    Ok(lock)
}

/// Returns the path of the file whose first record has this number.
fn path(directory: &Path, first: u64) -> PathBuf {
    directory.join(format!("{first:020}.log"))
}

/// Returns the number of the first record of the file of this name, if it is one of a queue.
fn first_of(name: &str) -> Option<u64> {
    let number = name.strip_suffix(".log")?;
    let is_number = number.len() == 20 && number.bytes().all(|digit| digit.is_ascii_digit());
    number.parse().ok().filter(|_| is_number)
}

/// Makes the name of a file in a directory outlast a crash of the machine.
fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests;
