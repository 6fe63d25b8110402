//! Looks whether the files of a configuration have changed: their content, whichever way their paths lead to it.
//!
//! By looking again and again, because that works on every file system. A symbolic link that leads elsewhere, as
//! Kubernetes swaps the `..data` of a ConfigMap, is seen by what it leads to.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{environment::Contents, fingerprint::Fingerprint, sources};

/// A file whose data of the file system stayed the same for so long is not read again. Before that it may have been
/// written to twice within what its clock tells apart.
const QUIET: Duration = Duration::from_secs(10);

/// Watches the files of a configuration.
#[derive(Debug)]
pub struct Watch {
    paths: Vec<PathBuf>,
    worker_config: Option<PathBuf>,
    /// What was loaded last, or refused.
    taken: Look,
    latest: Look,
    known: BTreeMap<PathBuf, Known>,
}

/// What all files hold at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Look {
    named: Contents,
    /// The files that those name, as far as they are known.
    others: Contents,
}

/// A file that was read.
#[derive(Debug)]
struct Known {
    stamp: Stamp,
    /// When it was first seen with this stamp.
    since: Instant,
    content: Option<Fingerprint>,
}

/// What changes with a file, most of the time: device, inode, size, and the times of its latest changes.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

impl Watch {
    /// Watches the files of `paths` and of `worker_config`, from what they hold now on.
    pub fn new(paths: Vec<PathBuf>, worker_config: Option<PathBuf>) -> Self {
        let (taken, latest) = Default::default();
        let mut watch = Self { paths, worker_config, taken, latest, known: BTreeMap::new() };
        watch.take();
        watch
    }

    /// Takes what all files hold now to be what is loaded.
    pub fn take(&mut self) {
        self.taken = self.look(Instant::now());
        self.latest = self.taken.clone();
    }

    /// Watches these files as well and no others, of which this was loaded.
    pub fn add(&mut self, others: Contents) {
        let before = std::mem::take(&mut self.taken.others);
        // One that was watched before may have changed between the look and its load.
        let taken = |(path, content)| {
            let content = before.get(&path).copied().unwrap_or(content);
            (path, content)
        };
        self.taken.others = others.into_iter().map(taken).collect();
        self.latest = self.taken.clone();
    }

    /// Returns whether the files hold something else than what was taken, and the same as when this was last asked:
    /// whoever writes them may not be done.
    pub fn has_changed(&mut self) -> bool {
        let look = self.look(Instant::now());
        let is_settled = look == self.latest;
        self.latest = look;
        is_settled && self.latest != self.taken
    }

    fn look(&mut self, now: Instant) -> Look {
        // What is wrong with the paths is told when they are loaded.
        let named = sources::named(&self.paths, self.worker_config.as_deref(), &mut Vec::new());
        let named: BTreeSet<_> = named.into_iter().map(|(path, _)| path).collect();
        let others: BTreeSet<_> = self.taken.others.keys().cloned().collect();
        self.known.retain(|path, _| named.contains(path) || others.contains(path));
        let mut contents = |paths: BTreeSet<PathBuf>| {
            paths.into_iter().map(|path| (path.clone(), self.content(path, now))).collect()
        };
        Look { named: contents(named), others: contents(others) }
    }

    fn content(&mut self, path: PathBuf, now: Instant) -> Option<Fingerprint> {
        let stamp = stamp(&path)?;
        let known = self.known.get(&path).filter(|known| known.stamp == stamp);
        if let Some(known) = known.filter(|known| now.duration_since(known.since) > QUIET) {
            return known.content;
        }
        let since = known.map_or(now, |known| known.since);
        let content = fs::read(&path).ok().map(|bytes| Fingerprint::of(&bytes));
        self.known.insert(path, Known { stamp, since, content });
        content
    }
}

/// Returns nothing for what is no file: it may be read once only.
fn stamp(path: &Path) -> Option<Stamp> {
    let data = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    let (modified, changed) = ((data.mtime(), data.mtime_nsec()), (data.ctime(), data.ctime_nsec()));
    Some((data.dev(), data.ino(), data.size(), modified, changed))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn watch(dir: &Path) -> Watch {
        Watch::new(vec![dir.to_path_buf()], None)
    }

    #[test]
    fn a_change_counts_once_it_has_stood_still() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.yaml");
        fs::write(&file, "a").unwrap();
        let mut watch = watch(dir.path());
        assert!(!watch.has_changed());
        fs::write(&file, "b").unwrap();
        assert!(!watch.has_changed(), "it may not be whole yet");
        fs::write(&file, "c").unwrap();
        assert!(!watch.has_changed(), "and it was not");
        assert!(watch.has_changed());
        assert!(watch.has_changed(), "nobody has taken it");
        watch.take();
        assert!(!watch.has_changed() && !watch.has_changed());
    }

    #[test]
    fn a_change_that_is_undone_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.yaml");
        fs::write(&file, "a").unwrap();
        let mut watch = watch(dir.path());
        fs::write(&file, "b").unwrap();
        assert!(!watch.has_changed());
        fs::write(&file, "a").unwrap();
        assert!(!watch.has_changed() && !watch.has_changed());
    }

    #[test]
    fn files_that_come_and_go_are_changes() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.yaml"), "a").unwrap();
        let mut watch = watch(dir.path());
        fs::write(dir.path().join("notes.txt"), "").unwrap();
        assert!(!watch.has_changed() && !watch.has_changed(), "it is no flow");
        fs::write(dir.path().join("b.yaml"), "b").unwrap();
        assert!(!watch.has_changed() && watch.has_changed());
        watch.take();
        fs::remove_file(dir.path().join("a.yaml")).unwrap();
        assert!(!watch.has_changed() && watch.has_changed());
    }

    #[test]
    fn a_link_that_leads_elsewhere_is_a_change() {
        let dir = tempfile::tempdir().unwrap();
        for (version, text) in [("..1", "a"), ("..2", "b"), ("..3", "b")] {
            fs::create_dir(dir.path().join(version)).unwrap();
            fs::write(dir.path().join(version).join("a.yaml"), text).unwrap();
        }
        let swap = |version: &str| {
            symlink(version, dir.path().join("..new")).unwrap();
            fs::rename(dir.path().join("..new"), dir.path().join("..data")).unwrap();
        };
        swap("..1");
        symlink("..data/a.yaml", dir.path().join("a.yaml")).unwrap();
        let mut watch = watch(dir.path());
        swap("..2");
        assert!(!watch.has_changed() && watch.has_changed());
        watch.take();
        swap("..3");
        assert!(!watch.has_changed() && !watch.has_changed(), "it leads to the same text");
    }

    #[test]
    fn a_file_that_another_one_names_counts_from_what_was_read_of_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.yaml"), "a").unwrap();
        let secret = dir.path().join("secret");
        let mut watch = watch(dir.path());
        fs::write(&secret, "new").unwrap();
        watch.add(Contents::from([(secret, Some(Fingerprint::of(b"old")))]));
        assert!(!watch.has_changed() && watch.has_changed(), "it changed after it was read");
        watch.take();
        watch.add(Contents::new());
        assert!(!watch.has_changed() && !watch.has_changed(), "nobody names it any more");
    }

    #[test]
    fn a_file_that_is_written_twice_within_a_tick_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.yaml");
        fs::write(&file, "a").unwrap();
        let mut watch = watch(dir.path());
        // As if what its data says of it were too coarse to show the change.
        watch.known.get_mut(&file).unwrap().content = None;
        let now = Instant::now();
        assert_eq!(watch.content(file.clone(), now), Some(Fingerprint::of(b"a")));
        watch.known.get_mut(&file).unwrap().content = None;
        assert_eq!(watch.content(file, now + 2 * QUIET), None, "it stood still for long enough");
    }
}
