//! How a file that was opened is read on, after a look at whether it is still the one that was read.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    sync::Arc,
};

use super::{
    identity::{Head, Identity, is_behind_a_line},
    position::{Marker, Saved},
};
use crate::format::{Decoder, InputFormat, Place};

/// What befell a file since it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Replaced,
    Truncated,
    /// Something else stands in it where it was read.
    Rewritten,
}

impl Change {
    /// Says so of the file that the flow calls `name`.
    pub(super) fn tell(self, name: &str) {
        let change = match self {
            Self::Replaced => "replaced",
            Self::Truncated => "truncated",
            Self::Rewritten => "rewritten",
        };
        tracing::warn!(
            file.path = name,
            "the file was {change}: what was not read of it before is lost, and it is read from its start"
        );
    }
}

/// How a file that was opened is read on.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) decoder: Decoder,
    pub(super) place: Place,
    /// The byte of the file that `decoder` wants first.
    pub(super) skipped: u64,
    /// How the file begins.
    pub(super) head: Head,
    pub(super) marker: Marker,
    /// Why it is read from its start although it was read before.
    pub(super) change: Option<Change>,
}

impl Opened {
    /// Looks in a file for where a source before left off. Blocks as disks do.
    pub(super) fn look(
        file: &File,
        name: Arc<str>,
        saved: Option<Saved>,
        format: InputFormat,
        limit: usize,
    ) -> io::Result<Self> {
        let (identity, head) = (Identity::of(&file.metadata()?), Head::read(file)?);
        let change = match &saved {
            Some(saved) => change(file, &identity, &head, saved)?,
            None => None,
        };
        let part = match &saved {
            Some(saved) if change != Some(Change::Replaced) => Arc::clone(&saved.part),
            _ => identity.part(&name).into(),
        };
        let place = saved.filter(|_| change.is_none()).map(|saved| saved.place).unwrap_or_default();
        let (decoder, skipped) = if place == Place::default() {
            (Decoder::new(format, limit), 0)
        } else {
            Decoder::resume(format, limit, &place, FromStart { file, offset: 0 })?
        };
        let marker = Marker::new(part, name, identity, &head);
        Ok(Self { decoder, place, skipped, head, marker, change })
    }
}

/// Returns what befell a file since it was read, if anything did.
fn change(file: &File, identity: &Identity, head: &Head, saved: &Saved) -> io::Result<Option<Change>> {
    Ok(if !identity.is_still(&saved.identity) {
        Some(Change::Replaced)
    } else if file.metadata()?.len() < saved.place.offset {
        Some(Change::Truncated)
    } else if !head.matches(&saved.head) || !is_behind_a_line(file, saved.place.offset)? {
        Some(Change::Rewritten)
    } else {
        None
    })
}

/// Reads a file from its start, wherever it stands.
struct FromStart<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for FromStart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read_at(buffer, self.offset)?;
        self.offset += length as u64;
        Ok(length)
    }
}
