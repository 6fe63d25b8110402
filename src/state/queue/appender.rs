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
    pub(super) fn open(queue: Arc<Queue>, torn: u64) -> Result<Self, StateError> {
        let last = queue.files().back().copied();
        let mut appender = Self { synced: queue.end(), queue, file: None, length: 0, is_torn: torn > 0 };
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

    /// Appends records, and returns when readers find them; with `sync` they outlast a crash of the machine then.
    ///
    /// # Errors
    /// They are not there, or it is not known.
    pub fn append(&mut self, frames: &Frames, sync: bool) -> Result<(), AppendError> {
        let queue = Arc::clone(&self.queue);
        let bytes = frames.bytes().len() as u64;
        let is_full = self.length > HEAD as u64 && self.length + bytes > queue.file_bytes();
        if is_full || self.file.is_none() {
            self.sync()?;
            self.begin_file(frames.first()).map_err(|error| AppendError::Refused(self.cannot(error)))?;
        }
        self.write(frames.bytes()).map_err(|error| AppendError::Refused(self.cannot(error)))?;
        let end = frames.first() + frames.count();
        if sync && let Err(error) = self.sync_data() {
            return Err(AppendError::Unknown(self.cannot(error)));
        }
        if sync {
            self.synced = end;
        }
        if let Some(last) = queue.files().back_mut() {
            *last = Part { first: last.first, end, bytes: self.length };
        }
        queue.bytes.fetch_add(bytes, Ordering::Relaxed);
        queue.end.store(end, Ordering::Release);
        Ok(())
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

    /// Writes bytes behind the last record, all or none.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.mend()?;
        let Some(file) = &mut self.file else { return Ok(()) };
        self.is_torn = true;
        match file.write_all(bytes) {
            Ok(()) => {
                self.length += bytes.len() as u64;
                self.is_torn = false;
                Ok(())
            }
            Err(error) => {
                // If that fails too it is done before the next attempt.
                let _ = self.mend();
                Err(error)
            }
        }
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
