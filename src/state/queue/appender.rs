//! Appends records to a queue.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    sync::{Arc, atomic::Ordering},
};

use super::{
    Frames, Part, Queue,
    frame::{HEAD, head},
    path, sync_directory,
};
use crate::state::StateError;

/// Appends records to one queue. Blocks as disks do.
#[derive(Debug)]
pub struct Appender {
    queue: Arc<Queue>,
    /// The last file of the queue; none until one is made.
    file: Option<File>,
    /// Its length up to the last record.
    length: u64,
    /// Whether something may be behind that.
    is_torn: bool,
    /// Everything before this number is synced.
    synced: u64,
    /// There is no other one of this queue as long as it is there.
    _lock: File,
}

/// Why records cannot be appended.
#[derive(Clone, Debug)]
pub enum AppendError {
    /// None of them is there. They can be tried again.
    Refused(StateError),
    /// It is not known what the disk has of what was appended before.
    Unknown(StateError),
}

impl Appender {
    /// Opens the last file of a queue, and cuts off what is torn of it.
    pub(super) fn open(queue: Arc<Queue>, torn: u64, lock: File) -> Result<Self, StateError> {
        let last = queue.files().back().copied();
        let mut appender =
            Self { synced: queue.end(), queue, file: None, length: 0, is_torn: torn > 0, _lock: lock };
        if let Some(last) = last.filter(|last| last.bytes >= HEAD as u64) {
            let name = path(&appender.queue.directory, last.first);
            let opened = OpenOptions::new().append(true).open(&name).and_then(|file| {
                appender.length = last.bytes;
                appender.file = Some(file);
                appender.mend()?;
                // The run before may not have got to it.
                appender.file.as_ref().map_or(Ok(()), File::sync_all)
            });
            opened.map_err(|error| appender.cannot(error))?;
        } else {
            // Its first file was being made.
            if last.is_some() {
                appender.queue.files().pop_back();
            }
            appender.is_torn = false;
            appender.begin_file(appender.queue.end()).map_err(|error| appender.cannot(error))?;
        }
        Ok(appender)
    }

    /// Returns the number before which everything is synced.
    pub fn synced(&self) -> u64 {
        self.synced
    }

    /// Appends records, as many of them from the first on as there is room for, and returns how many those are. Readers
    /// find them then; with `sync` they outlast a crash of the machine.
    ///
    /// # Errors
    /// There is room for none of them, or it is not known what is there.
    pub fn append(&mut self, frames: &Frames, sync: bool) -> Result<u64, AppendError> {
        let queue = Arc::clone(&self.queue);
        let bytes = frames.bytes().len() as u64;
        let is_full = self.length > HEAD as u64 && self.length + bytes > queue.file_bytes();
        if is_full || self.file.is_none() {
            self.sync()?;
            self.begin_file(frames.first()).map_err(|error| AppendError::Refused(self.cannot(error)))?;
        }
        let written = match self.write(frames) {
            // There may be room in the place of what is done.
            Err(_) if queue.done.load(Ordering::Acquire) == queue.end() => {
                self.begin_anew(frames.first()).and_then(|()| self.write(frames))
            }
            written => written,
        };
        let count = written.map_err(|error| AppendError::Refused(self.cannot(error)))?;
        let end = frames.first() + count;
        if sync {
            self.sync_data().map_err(|error| AppendError::Unknown(self.cannot(error)))?;
            self.synced = end;
        }
        if let Some(last) = queue.files().back_mut() {
            let added = self.length - last.bytes;
            queue.bytes.fetch_add(added, Ordering::Relaxed);
            *last = Part { first: last.first, end, bytes: self.length };
        }
        queue.end.store(end, Ordering::Release);
        Ok(count)
    }

    /// Makes all that was appended outlast a crash of the machine.
    ///
    /// # Errors
    /// It is not known what the disk has of it.
    pub fn sync(&mut self) -> Result<(), AppendError> {
        if self.synced < self.queue.end() {
            self.sync_data().map_err(|error| AppendError::Unknown(self.cannot(error)))?;
            self.synced = self.queue.end();
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), File::sync_data)
    }

    /// Writes records behind the last one, as many of them as there is room for. Returns how many those are.
    fn write(&mut self, frames: &Frames) -> io::Result<u64> {
        self.mend()?;
        let Some(file) = &mut self.file else { return Ok(0) };
        self.is_torn = true;
        let (mut written, mut result) = (0, Ok(()));
        while written < frames.bytes().len() && result.is_ok() {
            match file.write(&frames.bytes()[written..]) {
                Ok(0) => result = Err(io::ErrorKind::WriteZero.into()),
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => result = Err(error),
            }
        }
        let (count, whole) = frames.whole_in(written);
        self.length += whole as u64;
        self.is_torn = whole < written;
        // If that fails it is done before the next attempt.
        let _ = self.mend();
        if count == 0 { result.map(|()| 0) } else { Ok(count) }
    }

    /// Cuts off what is behind the last record.
    fn mend(&mut self) -> io::Result<()> {
        if self.is_torn
            && let Some(file) = &self.file
        {
            file.set_len(self.length)?;
            self.is_torn = false;
        }
        Ok(())
    }

    /// Begins with the record of this number where everything before it is done.
    fn begin_anew(&mut self, first: u64) -> io::Result<()> {
        self.file = None;
        let queue = Arc::clone(&self.queue);
        let mut files = queue.files();
        while let Some(part) = files.front() {
            fs::remove_file(path(&queue.directory, part.first))?;
            queue.bytes.fetch_sub(part.bytes, Ordering::Relaxed);
            files.pop_front();
        }
        drop(files);
        self.begin_file(first)
    }

    /// Begins the file whose first record has this number.
    fn begin_file(&mut self, first: u64) -> io::Result<()> {
        let queue = Arc::clone(&self.queue);
        let name = path(&queue.directory, first);
        // One of the name was being made, or holds nothing.
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).open(&name)?;
        let made = file.write_all(&head(first)).and_then(|()| {
            file.sync_all()?;
            sync_directory(&queue.directory)?;
            OpenOptions::new().append(true).open(&name)
        });
        match made {
            Ok(file) => self.file = Some(file),
            Err(error) => {
                let _ = fs::remove_file(&name);
                return Err(error);
            }
        }
        (self.length, self.is_torn) = (HEAD as u64, false);
        queue.files().push_back(Part { first, end: first, bytes: self.length });
        queue.bytes.fetch_add(self.length, Ordering::Relaxed);
        Ok(())
    }

    fn cannot(&self, error: io::Error) -> StateError {
        let message = format!("cannot write the queue in `{}`", self.queue.directory.display());
        StateError::because(message, error)
    }
}
