//! Appends to one file, all or nothing.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write},
};

use memchr::{memchr_iter, memrchr};

/// How much is read at once to look for the last line end.
const TAIL_BYTES: u64 = 64 * 1024;

/// How long a CSV header may be.
const HEADER_BYTES: u64 = 1024 * 1024;

/// What appending needs of a file.
pub(super) trait Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// `None` for what has no length.
    fn length(&self) -> io::Result<Option<u64>>;
    fn cut(&mut self, length: u64) -> io::Result<()>;
}

impl Disk for &File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(self, bytes)
    }

    fn length(&self) -> io::Result<Option<u64>> {
        Ok(Some(self.metadata()?).filter(|metadata| metadata.is_file()).map(|metadata| metadata.len()))
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
}

/// What an append changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Appended {
    before: u64,
    pub(super) after: u64,
}

/// Why an append failed, and what became of the part of it that was written.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: io::Error,
    /// As of [`undo`].
    pub(super) undone: io::Result<bool>,
}

/// Appends `bytes` to a file of length `before`. A failure leaves none of them, unless someone else has
/// written behind them or they cannot be cut off.
pub(super) fn append(disk: &mut impl Disk, before: u64, bytes: &[u8]) -> Result<Appended, Failed> {
    let mut count = 0;
    while count < bytes.len() {
        let error = match disk.write(&bytes[count..]) {
            Ok(0) => ErrorKind::WriteZero.into(),
            Ok(written) => {
                count += written;
                continue;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => error,
        };
        let done = Appended { before, after: before + count as u64 };
        let undone = if count > 0 { undo(disk, done) } else { Ok(true) };
        return Err(Failed { error, undone });
    }
    Ok(Appended { before, after: before + count as u64 })
}

/// Cuts off what an append added, and returns whether it could: it must still be the end of the file.
fn undo(disk: &mut impl Disk, done: Appended) -> io::Result<bool> {
    let is_last = disk.length()? == Some(done.after);
    if is_last {
        disk.cut(done.before)?;
    }
    Ok(is_last)
}

/// Returns how many of a file's bytes are whole lines.
pub(super) fn whole_lines(mut file: &File, length: u64) -> io::Result<u64> {
    let mut end = length;
    let mut tail = Vec::new();
    while end > 0 {
        // Most files end with a line end: the first look is at one byte.
        let start = if end == length { end - 1 } else { end.saturating_sub(TAIL_BYTES) };
        file.seek(SeekFrom::Start(start))?;
        tail.clear();
        file.take(end - start).read_to_end(&mut tail)?;
        if let Some(place) = memrchr(b'\n', &tail) {
            return Ok(start + place as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Returns the first CSV row of a file with its line end, or as much of it as a header may be long.
pub(super) fn first_row(mut file: &File) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(0))?;
    let mut reader = BufReader::new(file.take(HEADER_BYTES));
    let mut row = Vec::new();
    // A line end between quotes belongs to the row.
    while reader.read_until(b'\n', &mut row)? > 0 && !memchr_iter(b'"', &row).count().is_multiple_of(2) {}
    Ok(row)
}

#[cfg(test)]
mod tests;
