//! Finds files that were renamed, in the folders where they were.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::DirEntryExt,
    path::{Path, PathBuf},
};

use super::identity::Identity;

/// What lies in some folders: each is listed once.
#[derive(Debug, Default)]
pub(super) struct Beside {
    /// By number.
    folders: HashMap<PathBuf, HashMap<u64, PathBuf>>,
}

impl Beside {
    /// Returns where a file is now that was at `path`, and what the file system says of it.
    pub(super) fn find(&mut self, path: &Path, file: &Identity) -> Option<(PathBuf, fs::Metadata)> {
        let folder = path.parent()?;
        if !self.folders.contains_key(folder) {
            self.folders.insert(folder.to_owned(), list(folder));
        }
        let path = self.folders.get(folder)?.get(&file.inode())?;
        let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
        (Identity::of(&metadata) == *file).then(|| (path.clone(), metadata))
    }
}

/// Lists a folder; one that cannot be listed has nothing.
fn list(folder: &Path) -> HashMap<u64, PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries.map(|entry| (entry.ino(), entry.path())).collect()
}
