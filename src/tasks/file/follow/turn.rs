//! A file whose turn it is: opened where it is to be read on.

use std::{fs::File, io, sync::Arc};

use super::{
    super::{
        identity::Identity,
        opened::{Change, Opened},
        position::{Marker, Saved},
        reader::Decoding,
    },
    handles::Handles,
    tail::Tail,
    tracked::{Stamp, Tracked},
};
use crate::format::{Decoder, LastRecord, Place};

/// A file that is to be read on.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) key: Identity,
    pub(super) name: Arc<str>,
    pub(super) decoder: Decoder,
    pub(super) place: Place,
    pub(super) last: LastRecord,
    pub(super) marker: Marker,
    pub(super) change: Option<Change>,
}

impl Turn {
    /// Opens a file where it is to be read on; `None` if it is not where it was.
    pub(super) fn open(
        key: &Identity,
        file: &mut Tracked,
        handles: &mut Handles,
        Decoding { format, limit, .. }: Decoding,
    ) -> io::Result<Option<(Self, Tail)>> {
        let handle = match handles.get(key) {
            Some(handle) => handle,
            None => {
                let handle = Arc::new(File::open(&file.path)?);
                if Identity::of(&handle.metadata()?) != *key {
                    return Ok(None);
                }
                handles.keep(*key, Arc::clone(&handle));
                handle
            }
        };
        let stamp = Stamp::of(&handle.metadata()?);
        if file.saved.is_none() && file.is_from_end {
            file.saved = Some(Saved::at_end(&handle, *key, &file.name)?);
        }
        let opened = Opened::look(&handle, Arc::clone(&file.name), file.saved.clone(), format, limit)?;
        let Opened { decoder, place, skipped, head, marker, change } = opened;
        let tail = Tail::new(handle, skipped, head, limit);
        // What is more than a turn has more at the next look, whatever that finds.
        file.read_at = (stamp.length.saturating_sub(skipped) < tail.room()).then_some(stamp);
        let is_last = file.is_finished() && place.left_out == 0;
        let last = if is_last { LastRecord::Complete } else { LastRecord::Awaited };
        Ok(Some((
            Self { key: *key, name: Arc::clone(&file.name), decoder, place, last, marker, change },
            tail,
        )))
    }
}
