//! One open file: locked while it is mended or appended to, so that no one else's half-written lines are
//! ever looked at.
//!
//! The lock is advisory (`flock`): it holds between the tasks and the processes of flowgen. Where a file
//! system knows no locks the work goes on without.

use std::{
    collections::HashSet,
    fs::{self, File, Metadata, OpenOptions, TryLockError},
    io::{self, ErrorKind},
    mem,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime},
};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::append::{Failed, append, first_row, whole_lines};
use crate::{
    format::{self, Encoder},
    task::TaskError,
};

/// How long to wait for the lock before the attempt fails, and how long between two tries.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
const LOCK_PAUSE: Duration = Duration::from_millis(1);

/// How long a torn last line must stay as it is before it is cut off: whoever takes no lock may be at it.
const GROWTH_PAUSE: Duration = Duration::from_millis(20);

/// How many files this process remembers to have mended.
const REMEMBERED: usize = 1 << 16;

/// The files that this process has mended, or found whole, once: what it finds torn later is no work of a
/// crash before its start.
static MENDED: Mutex<Option<HashSet<Identity>>> = Mutex::new(None);

/// What file it is, whatever its path. Numbers come again, hence the time of birth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    born: Option<SystemTime>,
}

/// A file that is open for appending.
#[derive(Debug)]
pub(super) struct OpenFile {
    file: File,
    /// `None` for a pipe or device, which can neither be cut nor has a length.
    pub(super) identity: Option<Identity>,
    /// The header row that was last seen to be right, so that it is looked at once.
    header: Vec<u8>,
    /// The length that the last append left.
    end: Option<u64>,
    /// Whether something was written that is not known to be on the disk.
    is_unsynced: bool,
    /// Whether the directory is not known to name the file for good.
    is_new: bool,
}

/// What of a file is not known to be on the disk.
#[derive(Debug)]
pub(super) struct Unsynced {
    file: File,
    directory: Option<PathBuf>,
}

impl Unsynced {
    /// Puts it on the disk.
    pub(super) fn sync(self) -> io::Result<()> {
        self.file.sync_data()?;
        match self.directory {
            Some(directory) => File::open(directory)?.sync_all(),
            None => Ok(()),
        }
    }
}

/// Why lines could not be appended.
#[derive(Debug)]
pub(super) enum Refused {
    Io(io::Error),
    /// The file begins with another header row.
    OtherColumns,
}

impl Refused {
    /// Says so of the file at `path`.
    pub(super) fn into_error(self, path: &Path) -> TaskError {
        match self {
            Self::Io(error) => format::io_error(format!("cannot write to `{}`", path.display()), error),
            Self::OtherColumns => {
                let message = format!("`{}` has other columns than the event", path.display());
                TaskError::permanent(format::ENCODE, message)
            }
        }
    }
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Identity {
    /// Returns `None` for what is no regular file.
    pub(super) fn of(metadata: &Metadata) -> Option<Self> {
        metadata.is_file().then(|| Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            born: metadata.created().ok(),
        })
    }
}

impl OpenFile {
    /// Opens the file at `path` and makes it, with its directory, if there is none.
    ///
    /// What is no regular file is opened for writing only: a pipe that we could read from would never lose
    /// its last reader. That fails while there is none yet.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            let flags = i32::try_from(OFlags::NONBLOCK.bits()).expect("it is one low bit");
            let file = OpenOptions::new().write(true).custom_flags(flags).open(path)?;
            // Only to open it must not block; a write may, on its own thread.
            fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
            return Ok(Self::of(file, None));
        }
        let open = || OpenOptions::new().read(true).append(true).create(true).open(path);
        let file = match (open(), path.parent()) {
            (Err(error), Some(parent)) if error.kind() == ErrorKind::NotFound => {
                fs::create_dir_all(parent)?;
                open()?
            }
            (result, _) => result?,
        };
        let identity = Identity::of(&file.metadata()?);
        Ok(Self::of(file, identity))
    }

    fn of(file: File, identity: Option<Identity>) -> Self {
        Self { file, identity, header: Vec::new(), end: None, is_unsynced: false, is_new: true }
    }

    /// Returns what of it is not known to be on the disk, and takes it for that from here on.
    pub(super) fn take_unsynced(&mut self, path: &Path) -> io::Result<Option<Unsynced>> {
        if !mem::take(&mut self.is_unsynced) || self.identity.is_none() {
            return Ok(None);
        }
        let directory = path.parent().filter(|_| mem::take(&mut self.is_new)).map(Path::to_owned);
        // That of a bare name is the one that we are in.
        let directory =
            directory.map(|parent| if parent.as_os_str().is_empty() { ".".into() } else { parent });
        Ok(Some(Unsynced { file: self.file.try_clone()?, directory }))
    }

    /// Cuts off a torn last line, once for each file and process, and returns the CSV header row if that is
    /// asked for and there is one.
    pub(super) fn mend(&self, path: &Path, wants_header: bool) -> io::Result<Option<Vec<u8>>> {
        let _locked = self.lock()?;
        self.mend_locked(path)?;
        if wants_header && self.length()? > 0 { first_row(&self.file).map(Some) } else { Ok(None) }
    }

    fn mend_locked(&self, path: &Path) -> io::Result<()> {
        let Some(identity) = self.identity else { return Ok(()) };
        if is_mended(identity) {
            return Ok(());
        }
        let length = self.length()?;
        let whole = whole_lines(&self.file, length)?;
        if whole < length {
            thread::sleep(GROWTH_PAUSE);
            if self.length()? == length {
                self.file.set_len(whole)?;
                tracing::warn!(file.path = %path.display(), bytes = length - whole, "cut off a torn last line");
            }
        }
        remember(identity);
        Ok(())
    }

    /// Appends `lines`, with `header` before the first of the file. A failure leaves nothing of them.
    pub(super) fn append(&mut self, path: &Path, header: &[u8], lines: &[u8]) -> Result<(), Refused> {
        let locked = self.lock()?;
        self.mend_locked(path)?;
        let length = self.length()?;
        let is_headed = header.is_empty() || self.header == header;
        if !is_headed && length > 0 {
            let found = Encoder::with_header(&first_row(&self.file)?);
            if !found.is_ok_and(|found| found.header() == header) {
                return Err(Refused::OtherColumns);
            }
        }
        let needs_header = length == 0 && !header.is_empty() && (self.identity.is_some() || !is_headed);
        // What someone else tore since stays, but on a line of its own.
        let lead: &[u8] = if self.is_torn(length)? { b"\n" } else { b"" };
        let head = if needs_header { header } else { b"" };
        let done = if lead.is_empty() && head.is_empty() {
            append(&mut &self.file, length, lines)
        } else {
            append(&mut &self.file, length, &[lead, head, lines].concat())
        };
        drop(locked);
        self.is_unsynced = true;
        match done {
            Ok(done) => {
                self.end = Some(done.after);
                if self.header != header {
                    self.header = header.to_vec();
                }
                Ok(())
            }
            Err(Failed { error, undone }) => {
                self.settle_undo(path, undone);
                Err(error.into())
            }
        }
    }

    /// Says what a failed write left behind.
    fn settle_undo(&mut self, path: &Path, undone: io::Result<bool>) {
        self.end = None;
        let Some(identity) = self.identity else { return };
        match undone {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!(file.path = %path.display(), "lines of a failed write stay: others follow them");
            }
            Err(error) => {
                tracing::warn!(file.path = %path.display(), error.message = %error, "cannot undo a failed write");
                // It may end in a torn line, which is ours to cut off.
                mended(|mended| mended.remove(&identity));
            }
        }
    }

    fn length(&self) -> io::Result<u64> {
        if self.identity.is_some() { Ok(self.file.metadata()?.len()) } else { Ok(0) }
    }

    /// Returns whether the last line has no end. Reads nothing if the file is as this process left it.
    fn is_torn(&self, length: u64) -> io::Result<bool> {
        if length == 0 || self.end == Some(length) {
            return Ok(false);
        }
        let mut last = [0];
        self.file.read_exact_at(&mut last, length - 1)?;
        Ok(last != *b"\n")
    }

    /// Waits for the lock, which no one else then has.
    fn lock(&self) -> io::Result<Locked<'_>> {
        if self.identity.is_none() {
            return Ok(Locked(None));
        }
        let mut deadline = None;
        loop {
            match self.file.try_lock() {
                Ok(()) => return Ok(Locked(Some(&self.file))),
                Err(TryLockError::WouldBlock) => {
                    let deadline = *deadline.get_or_insert_with(|| Instant::now() + LOCK_PATIENCE);
                    if Instant::now() >= deadline {
                        return Err(io::Error::new(ErrorKind::WouldBlock, "someone else keeps it locked"));
                    }
                    thread::sleep(LOCK_PAUSE);
                }
                Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {
                    return Ok(Locked(None));
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }
}

/// The lock on a file, until it is dropped.
struct Locked<'a>(Option<&'a File>);

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.0.map(File::unlock) {
            tracing::warn!(error.message = %error, "cannot unlock a file");
        }
    }
}

fn mended<T>(change: impl FnOnce(&mut HashSet<Identity>) -> T) -> T {
    let mut mended = MENDED.lock().unwrap_or_else(PoisonError::into_inner);
    change(mended.get_or_insert_default())
}

fn is_mended(identity: Identity) -> bool {
    mended(|mended| mended.contains(&identity))
}

fn remember(identity: Identity) {
    mended(|mended| {
        if mended.len() >= REMEMBERED {
            mended.clear();
        }
        mended.insert(identity);
    });
}
