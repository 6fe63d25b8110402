//! One file that is followed, from its appearance until it is gone.

use std::{fs::Metadata, os::unix::fs::MetadataExt, path::PathBuf, sync::Arc};

use super::{
    super::{identity::Identity, position::Saved},
    QUIET_LOOKS,
};

/// What tells whether a file was written to since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// A file and what is known of it.
#[derive(Debug)]
pub(super) struct Tracked {
    /// In the order in which they appeared.
    pub(super) number: u64,
    /// As the flow named it when it appeared.
    pub(super) name: Arc<str>,
    /// Where it was seen last.
    pub(super) path: PathBuf,
    /// Where its reading stands, once it was begun.
    pub(super) saved: Option<Saved>,
    /// How it was when its reading began the last time.
    pub(super) read_at: Option<Stamp>,
    /// Whether it is among the files of the flow.
    pub(super) is_listed: bool,
    /// Looks since there was something new in it.
    pub(super) quiet: u32,
    /// Looks for which it has waited for the file that was in its place.
    pub(super) waited: u32,
    /// Whether it is read from its end, having been there before the start.
    pub(super) is_from_end: bool,
    /// Whether it was said that it cannot be opened.
    pub(super) is_refused: bool,
}

impl Tracked {
    pub(super) fn new(number: u64, name: Arc<str>, path: PathBuf, saved: Option<Saved>) -> Self {
        Self {
            number,
            name,
            path,
            saved,
            read_at: None,
            is_listed: false,
            quiet: 0,
            waited: 0,
            is_from_end: false,
            is_refused: false,
        }
    }

    /// Returns which part of the source's input it is.
    pub(super) fn part(&self, key: &Identity) -> Arc<str> {
        self.saved.as_ref().map_or_else(|| key.part(&self.name).into(), |saved| Arc::clone(&saved.part))
    }

    /// Notes how it is now, and returns whether there is something new.
    pub(super) fn see(&mut self, stamp: Stamp) -> bool {
        let is_new = self.read_at != Some(stamp);
        self.quiet = if is_new { 0 } else { self.quiet.saturating_add(1) };
        is_new
    }

    /// Returns whether it has come to its end: it left the files of the flow and nobody writes to it any more.
    pub(super) fn is_finished(&self) -> bool {
        !self.is_listed && self.quiet >= QUIET_LOOKS
    }

    /// Returns whether something of it is not read, be it a line without its end.
    pub(super) fn has_rest(&self) -> bool {
        let length = self.read_at.map_or(0, |stamp| stamp.length);
        self.saved.as_ref().map_or(0, |saved| saved.place.offset) < length
    }
}
