//! How far everything in a queue is done, in a file beside it.
//!
//! The file has its length from the start, so that a position can be kept on a disk that the queue has filled. It has two
//! places that are written in turn: a crash tears at most the one that is written.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
};

use super::sync_directory;

/// The name of the file.
const FILE: &str = "position";

/// The bytes of a place, far enough from the other one that a disk writes them apart.
const PLACE: usize = 4096;

/// What a place holds: the number of the writing, the position, and the checksum of both.
const LENGTH: usize = 20;

/// The position of a queue.
#[derive(Debug)]
pub(super) struct Kept {
    file: File,
    /// The number of the last writing.
    writing: u64,
}

impl Kept {
    /// Opens the file, and reads the position; `None` if there is none.
    pub(super) fn open(directory: &Path) -> io::Result<Option<(Self, u64)>> {
        let opened = OpenOptions::new().read(true).write(true).open(directory.join(FILE));
        let mut file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let latest = [0, PLACE].iter().filter_map(|start| read(bytes.get(*start..start + LENGTH)?)).max();
        Ok(latest.map(|(writing, position)| (Self { file, writing }, position)))
    }

    /// Makes the file, with the position of a queue that nothing was in.
    pub(super) fn make(directory: &Path) -> io::Result<Self> {
        let options = OpenOptions::new().create(true).write(true).truncate(true).to_owned();
        let mut kept = Self { file: options.open(directory.join(FILE))?, writing: 0 };
        kept.file.write_all(&[0; 2 * PLACE])?;
        kept.keep(0)?;
        kept.file.sync_all()?;
        sync_directory(directory)?;
        Ok(kept)
    }

    /// Keeps a position. Returns when it is on the disk.
    pub(super) fn keep(&mut self, position: u64) -> io::Result<()> {
        let writing = self.writing + 1;
        let start = if writing.is_multiple_of(2) { 0 } else { PLACE as u64 };
        let mut place = [writing.to_le_bytes(), position.to_le_bytes()].concat();
        let checksum = crc32fast::hash(&place);
        place.extend_from_slice(&checksum.to_le_bytes());
        self.file.seek(SeekFrom::Start(start))?;
        self.file.write_all(&place)?;
        self.file.sync_data()?;
        self.writing = writing;
        Ok(())
    }
}

/// Reads a place: the number of the writing, and the position.
fn read(place: &[u8]) -> Option<(u64, u64)> {
    let (writing, rest) = place.split_first_chunk()?;
    let (position, checksum) = rest.split_first_chunk()?;
    let is_whole = crc32fast::hash(&place[..16]).to_le_bytes() == *checksum;
    is_whole.then(|| (u64::from_le_bytes(*writing), u64::from_le_bytes(*position)))
}
