//! The files that are followed: what a look at them finds, and which of them is read next.
//!
//! Blocks as disks do, and knows nothing of events. One look asks the file system for each file once, and opens those only
//! that have changed.

use std::{
    collections::{HashMap, VecDeque},
    fs,
    io::{self, ErrorKind},
    path::PathBuf,
    sync::Arc,
};

use super::{
    super::{
        beside::Beside,
        find::Names,
        identity::Identity,
        position::{Marker, Saved},
        reader::Decoding,
    },
    QUIET_LOOKS,
    handles::Handles,
    tail::Tail,
    tracked::{Stamp, Tracked},
    turn::Turn,
};
use crate::{
    format::{Filler, LastRecord, Place},
    task::Position,
};

/// What a look came upon, for the source to tell.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Notice {
    /// There is another file. Its position is told before anything of it is read: so it is found if it is renamed while
    /// nothing runs.
    Appeared { at: Position },
    /// What was read of a part is all there is: its file has left, or is nowhere.
    Finished { part: Arc<str> },
    /// A file that was read in an earlier run is nowhere.
    Gone { part: Arc<str>, name: Arc<str>, is_replaced: bool },
    /// A file was gone before it was read to its end.
    Lost { name: Arc<str> },
    /// A file may not be opened; it is tried again.
    Refused { name: Arc<str> },
}

/// A file of the flow, as it is at a look.
struct Listed {
    name: Arc<str>,
    path: PathBuf,
    identity: Identity,
    stamp: Stamp,
}

/// Watches over files.
pub(super) struct Watch {
    names: Names,
    decoding: Decoding,
    files: HashMap<Identity, Tracked>,
    /// How many files have appeared.
    numbers: u64,
    handles: Handles,
    /// Files with something new, in the order in which they are read.
    queue: VecDeque<Identity>,
    /// What is read next.
    tail: Option<Tail>,
    /// What a source before this one had read, until the first look.
    saved: Vec<Saved>,
    /// Whether what is there at the first look is read from its end.
    is_from_end: bool,
    notices: Vec<Notice>,
}

impl Watch {
    pub(super) fn new(
        names: Names,
        decoding: Decoding,
        open_files: usize,
        saved: Vec<Saved>,
        is_from_end: bool,
    ) -> Self {
        Self {
            names,
            decoding,
            files: HashMap::new(),
            numbers: 0,
            handles: Handles::new(open_files),
            queue: VecDeque::new(),
            tail: None,
            saved,
            is_from_end,
            notices: Vec::new(),
        }
    }

    /// Looks at all files, and queues those that have something new.
    ///
    /// # Errors
    /// The file system cannot say what is there.
    pub(super) fn look(&mut self) -> io::Result<()> {
        let (listed, mut beside) = (self.list()?, Beside::default());
        self.recall(&listed, &mut beside);
        self.files.values_mut().for_each(|file| file.is_listed = false);
        let mut changed = Vec::new();
        for Listed { name, path, identity, stamp } in listed {
            let is_from_end = self.is_from_end;
            let file = self.files.entry(identity).or_insert_with(|| {
                self.numbers += 1;
                if !is_from_end {
                    let at = Marker::of_new(identity, &name).position(&Place::default());
                    self.notices.push(Notice::Appeared { at });
                }
                Tracked { is_from_end, ..Tracked::new(self.numbers, name, path.clone(), None) }
            });
            // A file with two names is followed by the first.
            if !std::mem::replace(&mut file.is_listed, true) {
                file.path = path;
                changed.extend(file.see(stamp).then_some(identity));
            }
        }
        self.is_from_end = false;
        self.queue = self.look_at_unlisted(&mut beside)?;
        self.queue.extend(changed);
        self.hold_back();
        Ok(())
    }

    /// Opens the next file that has something new; `None` until the next look.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(super) fn turn(&mut self) -> io::Result<Option<Turn>> {
        while let Some(key) = self.queue.pop_front() {
            let Some(file) = self.files.get_mut(&key) else { continue };
            match Turn::open(&key, file, &mut self.handles, self.decoding) {
                Ok(Some((turn, tail))) => {
                    file.is_refused = false;
                    self.tail = Some(tail);
                    return Ok(Some(turn));
                }
                // The next look says where it is.
                Ok(None) => {}
                Err(error) if is_absence(&error) => {}
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    if !std::mem::replace(&mut file.is_refused, true) {
                        self.notices.push(Notice::Refused { name: Arc::clone(&file.name) });
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Reads what the last turn is about.
    pub(super) fn fill(&mut self, filler: Filler) {
        if let Some(tail) = &mut self.tail {
            filler.fill(tail);
        }
    }

    /// Notes where the reading of a turn has ended.
    pub(super) fn read(&mut self, key: &Identity, mut saved: Saved, last: LastRecord) {
        if let Some(tail) = self.tail.take() {
            saved.head = tail.head().fingerprint();
        }
        if last == LastRecord::Complete {
            self.drop(key, &saved.part);
        } else if let Some(file) = self.files.get_mut(key) {
            file.saved = Some(saved);
        }
    }

    /// Returns what was come upon since the last call.
    pub(super) fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// Returns whether something may happen soon: a file waits for another one, or for its last lines.
    pub(super) fn is_restless(&self) -> bool {
        self.files.values().any(|file| !file.is_listed || file.waited > 0 && file.saved.is_none())
    }

    /// Lists the files of the flow.
    fn list(&self) -> io::Result<Vec<Listed>> {
        let mut listed = Vec::new();
        for (name, path) in self.names.list()? {
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_file() => {
                    let (identity, stamp) = (Identity::of(&metadata), Stamp::of(&metadata));
                    listed.push(Listed { name, path, identity, stamp });
                }
                Err(error) if !is_absence(&error) => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
        Ok(listed)
    }

    /// Finds the files that a source before this one read, by the first look.
    fn recall(&mut self, listed: &[Listed], beside: &mut Beside) {
        for saved in std::mem::take(&mut self.saved) {
            let is_still =
                |listed: &&Listed| listed.name == saved.name && listed.identity.is_still(&saved.identity);
            let is_moved = |listed: &&Listed| listed.identity == saved.identity;
            let there = listed.iter().find(is_still).or_else(|| listed.iter().find(is_moved));
            let there = there.map(|listed| (listed.identity, listed.path.clone()));
            let path = self.names.resolve(&saved.name);
            let there =
                there.or_else(|| beside.find(&path, &saved.identity).map(|(path, _)| (saved.identity, path)));
            let (part, name) = (Arc::clone(&saved.part), Arc::clone(&saved.name));
            let Some((identity, path)) = there else {
                let is_replaced = listed.iter().any(|listed| listed.name == name);
                self.notices.push(Notice::Gone { part, name, is_replaced });
                continue;
            };
            self.numbers += 1;
            self.files.entry(identity).or_insert_with(|| Tracked::new(self.numbers, name, path, Some(saved)));
        }
    }

    /// Looks at the files that are not among those of the flow any more, and lets go of those that have come to their end.
    /// Returns the others that have something new, the older ones first.
    fn look_at_unlisted(&mut self, beside: &mut Beside) -> io::Result<VecDeque<Identity>> {
        let (mut changed, mut finished) = (Vec::new(), Vec::new());
        for (key, file) in self.files.iter_mut().filter(|(_, file)| !file.is_listed) {
            let stamp = match self.handles.peek(key) {
                Some(handle) => Some(Stamp::of(&handle.metadata()?)),
                None => beside.find(&file.path, key).map(|(path, metadata)| {
                    file.path = path;
                    Stamp::of(&metadata)
                }),
            };
            let is_there = stamp.is_some();
            if stamp.is_some_and(|stamp| file.see(stamp)) || is_there && file.is_finished() && file.has_rest()
            {
                changed.push((file.number, *key));
            } else if !is_there || file.is_finished() {
                if file.has_rest() {
                    self.notices.push(Notice::Lost { name: Arc::clone(&file.name) });
                }
                finished.push((*key, file.part(key)));
            }
        }
        for (key, part) in finished {
            self.drop(&key, &part);
        }
        changed.sort_unstable_by_key(|(number, _)| *number);
        Ok(changed.into_iter().map(|(_, key)| key).collect())
    }

    /// Takes from the queue what was not begun and waits for the file that was in its place before to be quiet.
    fn hold_back(&mut self) {
        let mut restless: HashMap<Arc<str>, u64> = HashMap::new();
        for file in self.files.values().filter(|file| file.quiet == 0) {
            let first = restless.entry(Arc::clone(&file.name)).or_insert(file.number);
            *first = file.number.min(*first);
        }
        let files = &mut self.files;
        self.queue.retain(|key| {
            let Some(file) = files.get_mut(key) else { return false };
            let has_to_wait = file.saved.is_none()
                && file.waited < QUIET_LOOKS
                && restless.get(&file.name).is_some_and(|first| *first < file.number);
            file.waited += u32::from(has_to_wait);
            !has_to_wait
        });
    }

    /// Lets go of a file.
    fn drop(&mut self, key: &Identity, part: &Arc<str>) {
        self.handles.close(key);
        self.files.remove(key);
        self.notices.push(Notice::Finished { part: Arc::clone(part) });
    }
}

/// Returns whether an error says that there is no file.
fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}
