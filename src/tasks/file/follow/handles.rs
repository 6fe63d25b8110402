//! The files that are kept open, so many at most.

use std::{collections::HashMap, fs::File, sync::Arc};

use super::super::identity::Identity;

/// Open files, by what the file system says of them.
#[derive(Debug)]
pub(super) struct Handles {
    limit: usize,
    open: HashMap<Identity, Handle>,
    /// How often one was wanted.
    wanted: u64,
}

#[derive(Debug)]
struct Handle {
    file: Arc<File>,
    /// When it was wanted last.
    at: u64,
}

impl Handles {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, open: HashMap::new(), wanted: 0 }
    }

    /// Returns a file that is open.
    pub(super) fn get(&mut self, identity: &Identity) -> Option<Arc<File>> {
        self.wanted += 1;
        let handle = self.open.get_mut(identity)?;
        handle.at = self.wanted;
        Some(Arc::clone(&handle.file))
    }

    /// Returns a file that is open, without a claim that it stays so.
    pub(super) fn peek(&self, identity: &Identity) -> Option<&File> {
        self.open.get(identity).map(|handle| &*handle.file)
    }

    /// Keeps a file open, in place of the one that was wanted longest ago if there are too many.
    pub(super) fn keep(&mut self, identity: Identity, file: Arc<File>) {
        if self.open.len() >= self.limit
            && let Some(oldest) = self.open.iter().min_by_key(|(_, handle)| handle.at).map(|(key, _)| *key)
        {
            self.open.remove(&oldest);
        }
        self.wanted += 1;
        self.open.insert(identity, Handle { file, at: self.wanted });
    }

    /// Closes a file.
    pub(super) fn close(&mut self, identity: &Identity) {
        self.open.remove(identity);
    }
}
