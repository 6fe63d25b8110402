//! Reads a queue.

use std::{
    fs::File,
    io::{self, BufReader, Read as _, Seek as _, SeekFrom},
    path::PathBuf,
    sync::Arc,
};

use super::{
    Queue,
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
    /// Where it stopped. The file is open only while it is read, so that one that is removed leaves its room.
    place: Option<Place>,
}

/// A place in a file of a queue.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The number of the first record of the file.
    first: u64,
    /// The number of the record that begins here, and the bytes before it.
    at: u64,
    offset: u64,
}

/// A file that is read.
struct Open {
    file: BufReader<File>,
    place: Place,
}

impl QueueReader {
    pub(super) fn new(queue: Arc<Queue>, next: u64) -> Self {
        Self { queue, next, place: None }
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
        let mut open = None;
        let mut record = Vec::new();
        let mut taken = 0;
        while self.next < end && taken < bytes {
            self.read_next(&mut open, &mut record).map_err(|error| {
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
        self.place = open.map(|open| open.place).or(self.place);
        Ok(())
    }

    fn read_next(&self, open: &mut Option<Open>, record: &mut Vec<u8>) -> io::Result<()> {
        let part = self.queue.part_of(self.next).ok_or(io::ErrorKind::NotFound)?;
        let open = match open.take_if(|open| open.place.first == part.first) {
            Some(same) => open.insert(same),
            None => {
                let place = self.place.filter(|place| place.first == part.first && place.at <= self.next);
                let start = Place { first: part.first, at: part.first, offset: HEAD as u64 };
                let path = path(&self.queue.directory, part.first);
                open.insert(Open::new(path, place.unwrap_or(start))?)
            }
        };
        while open.place.at < self.next {
            open.skip()?;
        }
        open.read(record)
    }
}

impl Open {
    fn new(path: PathBuf, place: Place) -> io::Result<Self> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(place.offset))?;
        Ok(Self { file: BufReader::with_capacity(BUFFER, file), place })
    }

    fn read(&mut self, record: &mut Vec<u8>) -> io::Result<()> {
        let frame = self.frame()?;
        record.resize(frame.length, 0);
        self.file.read_exact(record)?;
        self.pass(&frame);
        if frame.matches(record) { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    fn skip(&mut self) -> io::Result<()> {
        let frame = self.frame()?;
        self.file.seek_relative(i64::try_from(frame.length).unwrap_or(i64::MAX))?;
        self.pass(&frame);
        Ok(())
    }

    fn pass(&mut self, frame: &Frame) {
        self.place.at += 1;
        self.place.offset += (FRAME + frame.length) as u64;
    }

    fn frame(&mut self) -> io::Result<Frame> {
        let mut frame = [0; FRAME];
        self.file.read_exact(&mut frame)?;
        let frame = Frame::read(&frame).filter(|frame| frame.number == self.place.at);
        frame.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}
