//! The bytes of a queue: the head of a file, and what is around each record.

use crate::state::StateError;

/// What a file of a queue begins with: what it is, the version of its form, the number of its first record, and the
/// checksum of these.
pub(super) const HEAD: usize = 24;
const MAGIC: [u8; 8] = *b"flowgenq";
const VERSION: u32 = 1;

/// What is before each record: its length, the checksum of all that follows, its number, and the number up to which
/// all was synced when it was made.
pub(super) const FRAME: usize = 24;

/// The longest record. A length beyond it is damage.
pub(super) const LONGEST: usize = 1 << 30;

/// What a file says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// A file of this version, with the number of its first record.
    Known(u64),
    /// One of another version.
    Version(u32),
    /// None of a queue.
    Foreign,
}

/// Makes the head of the file whose first record has this number.
pub(super) fn head(first: u64) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[..8].copy_from_slice(&MAGIC);
    head[8..12].copy_from_slice(&VERSION.to_le_bytes());
    head[12..20].copy_from_slice(&first.to_le_bytes());
    let checksum = crc32fast::hash(&head[..20]);
    head[20..].copy_from_slice(&checksum.to_le_bytes());
    head
}

/// Reads the head of a file.
pub(super) fn read_head(bytes: &[u8; HEAD]) -> Head {
    if bytes[..8] != MAGIC || crc32fast::hash(&bytes[..20]) != u32_at(bytes, 20) {
        return Head::Foreign;
    }
    match u32_at(bytes, 8) {
        VERSION => Head::Known(u64_at(bytes, 12)),
        other => Head::Version(other),
    }
}

/// What is before a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) length: usize,
    checksum: u32,
    pub(super) number: u64,
    pub(super) synced: u64,
}

impl Frame {
    /// Reads one. It means nothing until its record was found to match.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; FRAME] = bytes.get(..FRAME)?.try_into().ok()?;
        let length = u32_at(bytes, 0) as usize;
        let (checksum, number, synced) = (u32_at(bytes, 4), u64_at(bytes, 8), u64_at(bytes, 16));
        (length <= LONGEST).then_some(Self { length, checksum, number, synced })
    }

    /// Returns whether it is what was put before this record.
    pub(super) fn matches(&self, record: &[u8]) -> bool {
        self.length == record.len() && self.checksum == checksum(self.number, self.synced, record)
    }
}

fn checksum(number: u64, synced: u64, record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(&synced.to_le_bytes());
    hasher.update(record);
    hasher.finalize()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// Records that are appended together, as they are in the file.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
    first: u64,
    count: u64,
    /// All before this number was synced when the first of them was made.
    synced: u64,
}

impl Frames {
    /// Begins with the record of the number `first`, when all before `synced` is synced.
    pub fn begin(&mut self, first: u64, synced: u64) {
        self.bytes.clear();
        (self.first, self.count, self.synced) = (first, 0, synced);
    }

    /// Adds the record that `write` appends to the bytes.
    ///
    /// # Errors
    /// It is too long, or `write` failed. It is not there then.
    pub fn push(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        let start = self.bytes.len();
        self.bytes.resize(start + FRAME, 0);
        let written = write(&mut self.bytes);
        let record = &self.bytes[start + FRAME..];
        let length = u32::try_from(record.len()).ok().filter(|length| *length as usize <= LONGEST);
        let length =
            written.and_then(|()| length.ok_or_else(|| StateError::new("the event is too long for a queue")));
        let length = match length {
            Ok(length) => length,
            Err(error) => {
                self.bytes.truncate(start);
                return Err(error);
            }
        };
        let number = self.first + self.count;
        let checksum = checksum(number, self.synced, record);
        let frame = &mut self.bytes[start..start + FRAME];
        frame[..4].copy_from_slice(&length.to_le_bytes());
        frame[4..8].copy_from_slice(&checksum.to_le_bytes());
        frame[8..16].copy_from_slice(&number.to_le_bytes());
        frame[16..].copy_from_slice(&self.synced.to_le_bytes());
        self.count += 1;
        Ok(())
    }

    /// Takes the records behind the first `count`.
    pub fn split_off(&mut self, count: u64) -> Self {
        let mut end = 0;
        for _ in 0..count {
            end += Frame::read(&self.bytes[end..]).map_or(0, |frame| FRAME + frame.length);
        }
        let rest = Self {
            bytes: self.bytes.split_off(end),
            first: self.first + count,
            count: self.count - count,
            synced: self.synced,
        };
        self.count = count;
        rest
    }

    /// Returns how many records are whole in the first `bytes` bytes, and how many bytes those take.
    pub(super) fn whole_in(&self, bytes: usize) -> (u64, usize) {
        let (mut count, mut end) = (0, 0);
        while let Some(frame) = Frame::read(&self.bytes[end..])
            && end + FRAME + frame.length <= bytes
        {
            count += 1;
            end += FRAME + frame.length;
        }
        (count, end)
    }

    /// Returns the number of the first record.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Returns how many records there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns all as they are in the file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}
