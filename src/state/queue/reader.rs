//! Reads a queue.

use std::{
    fs::File,
    io::{self, BufReader, Read as _},
    path::PathBuf,
    sync::Arc,
};

use super::{
    Part, Queue,
    frame::{FRAME, Frame, HEAD},
    path,
};
use crate::state::StateError;

/// Bytes that are read at once.
const BUFFER: usize = 256 << 10;

/// Reads the records of one queue, each once, as far as they are appended. Blocks as disks do.
#[derive(Debug)]
pub struct QueueReader {
    queue: Arc<Queue>,
    next: u64,
    open: Option<Open>,
}

/// A file that is read.
#[derive(Debug)]
struct Open {
    part: Part,
    file: BufReader<File>,
    /// The number of the record that the file stands before.
    at: u64,
}

impl QueueReader {
    pub(super) fn new(queue: Arc<Queue>, next: u64) -> Self {
        Self { queue, next, open: None }
    }

    /// Returns the number of the next record.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Goes on with the record of this number: those before it are known.
    pub fn skip_to(&mut self, number: u64) {
        self.next = number;
    }

    /// Calls `each` with further records, in order, until they are about so many bytes or end with that before the number
    /// `end`, which is appended.
    ///
    /// # Errors
    /// A record cannot be read, or `each` could make nothing of it.
    pub fn read(
        &mut self,
        end: u64,
        bytes: usize,
        mut each: impl FnMut(u64, &[u8]) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        let mut record = Vec::new();
        let mut taken = 0;
        while self.next < end && taken < bytes {
            self.read_next(&mut record).map_err(|error| {
                let directory = self.queue.directory.display();
                StateError::because(
                    format!("cannot read event {} of the queue in `{directory}`", self.next),
                    error,
                )
            })?;
            each(self.next, &record)?;
            self.next += 1;
            taken += record.len() + FRAME;
        }
        Ok(())
    }

    fn read_next(&mut self, record: &mut Vec<u8>) -> io::Result<()> {
        let part = self.queue.part_of(self.next).ok_or(io::ErrorKind::NotFound)?;
        let open = match self.open.take() {
            Some(open) if open.part.first == part.first && open.at <= self.next => open,
            _ => Open::new(part, path(&self.queue.directory, part.first))?,
        };
        let open = self.open.insert(open);
        while open.at < self.next {
            open.skip()?;
        }
        let read = open.read(record);
        if read.is_err() {
            // It stands somewhere in the record.
            self.open = None;
        }
        read
    }
}

impl Open {
    fn new(part: Part, path: PathBuf) -> io::Result<Self> {
        let mut file = BufReader::with_capacity(BUFFER, File::open(path)?);
        file.read_exact(&mut [0; HEAD])?;
        Ok(Self { part, file, at: part.first })
    }

    fn read(&mut self, record: &mut Vec<u8>) -> io::Result<()> {
        let frame = self.frame()?;
        record.resize(frame.length, 0);
        self.file.read_exact(record)?;
        self.at += 1;
        if frame.matches(record) { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    fn skip(&mut self) -> io::Result<()> {
        let frame = self.frame()?;
        self.file.seek_relative(i64::try_from(frame.length).unwrap_or(i64::MAX))?;
        self.at += 1;
        Ok(())
    }

    fn frame(&mut self) -> io::Result<Frame> {
        let mut frame = [0; FRAME];
        self.file.read_exact(&mut frame)?;
        let frame = Frame::read(&frame).filter(|frame| frame.number == self.at);
        frame.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}
