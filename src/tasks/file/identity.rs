//! Which file it is, whatever its path, and whether it is still the one that was read.

use std::{
    fs::{File, Metadata},
    io::{self, ErrorKind},
    os::unix::fs::{FileExt, MetadataExt},
    time::{SystemTime, UNIX_EPOCH},
};

use memchr::memrchr;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How many of the first bytes of a file tell it from others.
const HEAD_BYTES: usize = 1024;

/// How many bytes of a hash are kept.
const HASH_BYTES: usize = 16;

/// What the file system says of a file. Numbers come again once a file is gone, hence the time of birth where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    /// Nanoseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    born: Option<u64>,
}

impl Identity {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let since = |born: SystemTime| born.duration_since(UNIX_EPOCH).ok();
        let born = metadata.created().ok().and_then(since);
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            born: born.and_then(|born| u64::try_from(born.as_nanos()).ok()),
        }
    }

    /// Returns whether it is the same file at the same path, maybe after its file system was mounted anew: that gives devices
    /// other numbers.
    pub(super) fn is_still(&self, before: &Self) -> bool {
        self.inode == before.inode && self.born == before.born
    }

    pub(super) fn inode(&self) -> u64 {
        self.inode
    }

    /// Returns what the file that the flow names `name` is called among all files of that name.
    pub(super) fn part(&self, name: &str) -> String {
        format!("{name}#{}.{}", self.inode, self.born.unwrap_or_default())
    }
}

/// The first bytes of a file, as far as they were there when they were looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Head(Vec<u8>);

impl Head {
    /// Reads it.
    pub(super) fn read(file: &File) -> io::Result<Self> {
        let mut bytes = vec![0; HEAD_BYTES];
        let length = read_at(file, &mut bytes)?;
        bytes.truncate(length);
        Ok(Self(bytes))
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        let hash = Sha256::digest(&self.0)[..HASH_BYTES].iter().map(|byte| format!("{byte:02x}")).collect();
        Fingerprint { bytes: self.0.len(), hash }
    }

    /// Returns whether it begins with what a fingerprint is of.
    pub(super) fn matches(&self, fingerprint: &Fingerprint) -> bool {
        let before = self.0.get(..fingerprint.bytes);
        before.is_some_and(|before| Self(before.to_owned()).fingerprint() == *fingerprint)
    }

    /// Adds what was read of the file at `offset`, as far as it is among the first bytes.
    pub(super) fn extend(&mut self, offset: u64, read: &[u8]) {
        let known = self.0.len() as u64;
        let new = known.checked_sub(offset).and_then(|known| read.get(usize::try_from(known).ok()?..));
        self.0.extend(new.into_iter().flatten().take(HEAD_BYTES - self.0.len()));
    }

    /// Returns whether it begins with another head.
    pub(super) fn begins_with(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }
}

/// A hash of the first bytes of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fingerprint {
    bytes: usize,
    hash: String,
}

/// Returns whether a line ends right before `offset`. Whatever is read as lines goes on behind a line's end.
pub(super) fn is_behind_a_line(file: &File, offset: u64) -> io::Result<bool> {
    let Some(before) = offset.checked_sub(1) else { return Ok(true) };
    let mut byte = [0];
    match file.read_exact_at(&mut byte, before) {
        Ok(()) => Ok(byte == *b"\n"),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Returns where the last line ends that has an end.
pub(super) fn end_of_lines(file: &File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    let mut block = [0; HEAD_BYTES];
    while end > 0 {
        let start = end.saturating_sub(HEAD_BYTES as u64);
        let bytes = &mut block[..usize::try_from(end - start).unwrap_or(HEAD_BYTES)];
        file.read_exact_at(bytes, start)?;
        if let Some(place) = memrchr(b'\n', bytes) {
            return Ok(start + place as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Fills `bytes` with the first bytes of a file, and returns how many there are.
fn read_at(file: &File, bytes: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < bytes.len() {
        match file.read_at(&mut bytes[length..], length as u64) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}
