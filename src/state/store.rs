//! The store itself: its directory, its tables, reading them, and handing changes to the thread that writes.

mod watch;

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    time::Instant,
};

use redb::{
    Builder, ConcurrencyMode, Database, DatabaseError, ReadableDatabase, ReadableTable as _, StorageError,
    TableDefinition, TableError,
};
use tokio::sync::oneshot;

pub use self::watch::StateWatch;
use super::{
    Owner, StateError,
    lock::Lock,
    writer::{Done, Writer},
};

/// The file of the store in its directory, and its name while it is made.
const FILE: &str = "state.redb";
const UNFINISHED: &str = "state.redb.new";

/// The directory of all queues in that of the state.
const QUEUES: &str = "queues";

/// The form in which everything is kept. Another one is not looked into.
const FORMAT: u64 = 1;
const FORMAT_KEY: &[u8] = b"format";
const LETTERS_KEY: &[u8] = b"letters";

/// What the store keeps of itself in memory.
const CACHE_BYTES: usize = 16 << 20;

/// Entries of one table: keys in order, and values in the words of whoever keeps them.
pub(super) type Table = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// What the store says of itself.
const ABOUT: Table = TableDefinition::new("about");
/// How many entries there are of a kind, as eight bytes.
pub(super) const COUNTS: Table = TableDefinition::new("counts");
/// How far sources have read.
pub(super) const POSITIONS: Table = TableDefinition::new("positions");

/// What is kept instead of what is there: a value, or nothing.
pub(super) struct Change {
    pub(super) table: Table,
    pub(super) key: Vec<u8>,
    pub(super) value: Option<Vec<u8>>,
    /// The key among the [`COUNTS`] of how many such entries there are.
    pub(super) counted: Option<Vec<u8>>,
}

impl Change {
    pub(super) fn new(table: Table, key: Vec<u8>, value: Option<Vec<u8>>) -> Self {
        Self { table, key, value, counted: None }
    }
}

/// The state of a worker. Clones are the same state.
#[derive(Clone, Debug)]
pub struct State(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// First, so that what is under way is written before the lock is gone.
    writer: Writer,
    store: Arc<Store>,
    /// The worker's; whoever looks in beside it has none.
    _lock: Option<Lock>,
    /// The number of the latest dead letter.
    letters: AtomicU64,
    /// When it was last tried whether there can be writes.
    tried: Mutex<Option<Instant>>,
}

/// The store, which is opened anew after a failed write.
#[derive(Debug)]
pub(super) struct Store {
    path: PathBuf,
    open: RwLock<Option<Database>>,
    /// Whether the last write failed.
    is_failing: AtomicBool,
}

impl State {
    /// Opens the state in a directory, which is made if there is none. Blocks as disks do.
    ///
    /// # Errors
    /// It is in use, is no state of this version, or is broken. It is then as it was.
    pub fn open(directory: &Path) -> Result<Self, StateError> {
        let cannot = || format!("cannot make the directory `{}` for the state", directory.display());
        fs::create_dir_all(directory).map_err(|error| StateError::because(cannot(), error))?;
        let mut lock = Lock::take(directory)?;
        let path = directory.join(FILE);
        if !path.try_exists().unwrap_or(true) {
            if lock.is_made {
                return Err(StateError::new(format!(
                    "the state in `{}` is incomplete, `{FILE}` is gone: restore it from a copy, or remove the whole \
                     directory to begin anew",
                    directory.display()
                )));
            }
            make(directory, &path)?;
        }
        let store = Store::open(path, true)?;
        lock.made(directory)?;
        Self::of(store, Some(lock))
    }

    /// Opens the state in a directory beside the worker that uses it, if there is one. Blocks as disks do.
    ///
    /// # Errors
    /// There is none, or none of this version.
    pub fn look_into(directory: &Path) -> Result<Self, StateError> {
        let path = directory.join(FILE);
        if !path.try_exists().unwrap_or(true) {
            return Err(StateError::new(format!(
                "there is no state in `{}`: name the directory of `state.path`",
                directory.display()
            )));
        }
        Self::of(Store::open(path, false)?, None)
    }

    fn of(store: Store, lock: Option<Lock>) -> Result<Self, StateError> {
        let store = Arc::new(store);
        let writer = Writer::start(Arc::clone(&store))?;
        let letters = AtomicU64::new(store.get(ABOUT, LETTERS_KEY)?.map_or(0, |last| number(&last)));
        Ok(Self(Arc::new(Inner { writer, store, _lock: lock, letters, tried: Mutex::default() })))
    }

    /// Returns what tells whether it can be written.
    pub fn watch(&self) -> StateWatch {
        StateWatch(Arc::downgrade(&self.0))
    }

    /// Returns the directory of a queue that belongs to this state.
    pub fn queue_directory(&self, owner: Owner<'_>) -> PathBuf {
        let directory = self.0.store.path.parent().unwrap_or(Path::new(""));
        directory.join(QUEUES).join(file_name(owner.flow)).join(file_name(owner.task))
    }

    /// Returns the directories of all queues that are there.
    pub fn queues(&self) -> Vec<PathBuf> {
        let directory = self.0.store.path.parent().unwrap_or(Path::new("")).join(QUEUES);
        let inside = |directory: PathBuf| {
            let entries = fs::read_dir(directory).into_iter().flatten();
            entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| path.is_dir())
        };
        let mut queues: Vec<_> = inside(directory).flat_map(inside).collect();
        queues.sort();
        queues
    }

    /// Returns the number of the next dead letter, and what keeps that it is taken.
    pub(super) fn next_letter(&self) -> (u64, Change) {
        let number = self.0.letters.fetch_add(1, Ordering::Relaxed) + 1;
        (number, Change::new(ABOUT, LETTERS_KEY.to_vec(), Some(number.to_le_bytes().to_vec())))
    }

    /// Hands over changes of which all are kept or none, and calls `done` when they are on the disk.
    pub(super) fn submit(&self, changes: Vec<Change>, done: Done) {
        self.0.writer.submit(changes, done);
    }

    /// The same as [`Self::write`] where waiting may block.
    pub(super) fn write_blocking(&self, changes: Vec<Change>) -> Result<(), StateError> {
        let (done, is_done) = mpsc::channel();
        self.submit(changes, Box::new(move |result| drop(done.send(result))));
        is_done.recv().unwrap_or_else(|_| Err(StateError::new("the state is closed")))
    }

    /// Returns one entry.
    pub(super) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        self.0.store.get(table, key)
    }

    /// Keeps all of these changes or none. Returns when they are on the disk.
    pub(super) async fn write(&self, changes: Vec<Change>) -> Result<(), StateError> {
        let (done, is_done) = oneshot::channel();
        self.submit(changes, Box::new(move |result| drop(done.send(result))));
        is_done.await.unwrap_or_else(|_| Err(StateError::new("the state is closed")))
    }

    /// Calls `each` with every entry of a table whose key begins with `prefix`, in the order of the keys.
    pub(super) fn read(
        &self,
        table: Table,
        prefix: &[u8],
        each: impl FnMut(&[u8], &[u8]) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        self.0.store.read(table, prefix, each)
    }
}

impl Store {
    fn open(path: PathBuf, is_checked: bool) -> Result<Self, StateError> {
        let open = open(&path, is_checked)?;
        let store = Self { path, open: RwLock::new(Some(open)), is_failing: AtomicBool::new(false) };
        store.check_format()?;
        Ok(store)
    }

    fn check_format(&self) -> Result<(), StateError> {
        let found = self.get(ABOUT, FORMAT_KEY)?.map(|format| number(&format));
        let at = self.path.display();
        match found {
            Some(FORMAT) => Ok(()),
            Some(other) => Err(StateError::new(format!(
                "the state in `{at}` is of format {other}, and this version of flowgen knows format {FORMAT}: \
                 use the version that wrote it, or another `state.path`"
            ))),
            None => Err(StateError::new(format!(
                "`{at}` is a store of another program: give the worker a `state.path` of its own"
            ))),
        }
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        let mut found = None;
        self.read(table, key, |known, value| {
            if known == key {
                found = Some(value.to_vec());
            }
            Ok(())
        })?;
        Ok(found)
    }

    fn read(
        &self,
        table: Table,
        prefix: &[u8],
        mut each: impl FnMut(&[u8], &[u8]) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let store = open.as_ref().ok_or_else(|| StateError::new("the state cannot be opened again"))?;
        let mut visit = || -> Result<Result<(), StateError>, redb::Error> {
            let reading = store.begin_read()?;
            let table = match reading.open_table(table) {
                Ok(table) => table,
                Err(TableError::TableDoesNotExist(_)) => return Ok(Ok(())),
                Err(error) => return Err(error.into()),
            };
            for entry in table.range(prefix..)? {
                let (key, value) = entry?;
                if !key.value().starts_with(prefix) {
                    break;
                }
                if let Err(error) = each(key.value(), value.value()) {
                    return Ok(Err(error));
                }
            }
            Ok(Ok(()))
        };
        visit().map_err(|error| {
            StateError::because(format!("cannot read the state in `{}`", self.path.display()), error)
        })?
    }

    /// Writes all changes or none, and returns when they are on the disk.
    pub(super) fn write<'a>(&self, changes: impl Iterator<Item = &'a Change>) -> Result<(), StateError> {
        let result = {
            let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
            match open.as_ref() {
                Some(store) => write(store, changes),
                None => Err(StorageError::PreviousIo.into()),
            }
        };
        self.is_failing.store(result.is_err(), Ordering::Relaxed);
        result.map_err(|error| {
            // What failed once fails from then on, until the file is opened anew.
            self.open_again();
            StateError::because(format!("cannot write the state in `{}`", self.path.display()), error)
        })
    }

    fn open_again(&self) {
        let mut store = self.open.write().unwrap_or_else(PoisonError::into_inner);
        drop(store.take());
        *store = open(&self.path, false).ok();
    }
}

fn write<'a>(store: &Database, changes: impl Iterator<Item = &'a Change>) -> Result<(), redb::Error> {
    let writing = store.begin_write()?;
    for Change { table, key, value, counted } in changes {
        let mut table = writing.open_table(*table)?;
        let was_there = match value {
            Some(value) => table.insert(key.as_slice(), value.as_slice())?.is_some(),
            None => table.remove(key.as_slice())?.is_some(),
        };
        if let Some(counted) = counted.as_ref().filter(|_| was_there != value.is_some()) {
            let mut counts = writing.open_table(COUNTS)?;
            let count = counts.get(counted.as_slice())?.map_or(0, |count| number(count.value()));
            let count = if was_there { count.saturating_sub(1) } else { count + 1 };
            counts.insert(counted.as_slice(), count.to_le_bytes().as_slice())?;
        }
    }
    Ok(writing.commit()?)
}

/// Returns the name of a file for a name of the configuration: letters, digits, `-`, `_` and dots as they are, all else
/// as `%` and its bytes.
fn file_name(name: &str) -> String {
    let mut file = String::with_capacity(name.len());
    for (n, byte) in name.bytes().enumerate() {
        if byte.is_ascii_alphanumeric() || b"-_".contains(&byte) || byte == b'.' && n > 0 {
            file.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(file, "%{byte:02X}");
        }
    }
    file
}

/// Reads a number that was kept.
pub(super) fn number(value: &[u8]) -> u64 {
    value.try_into().map_or(0, u64::from_le_bytes)
}

/// Returns the change that says of what form a store is.
fn format_change() -> Change {
    Change::new(ABOUT, FORMAT_KEY.to_vec(), Some(FORMAT.to_le_bytes().to_vec()))
}

/// Makes a store. It has its name once it is whole.
fn make(directory: &Path, path: &Path) -> Result<(), StateError> {
    let cannot = || format!("cannot make the state in `{}`", directory.display());
    let unfinished = directory.join(UNFINISHED);
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(StateError::because(cannot(), error));
        }
        _ => {}
    }
    let made = || -> Result<(), redb::Error> {
        let store = builder().create(&unfinished)?;
        write(&store, [&format_change()].into_iter())
    };
    made().map_err(|error| StateError::because(cannot(), error))?;
    let named = fs::rename(&unfinished, path).and_then(|()| fs::File::open(directory)?.sync_all());
    named.map_err(|error| StateError::because(cannot(), error))
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    // Commands look into the state of a worker that runs.
    builder.set_concurrency_mode(ConcurrencyMode::MultiWriter);
    builder
}

/// Opens a store that is there.
fn open(path: &Path, is_checked: bool) -> Result<Database, StateError> {
    builder().set_check_integrity_on_open(is_checked).open(path).map_err(|error| {
        let at = path.display();
        let aside = "keep it for examination under another name; without it sources begin anew";
        let message = match &error {
            DatabaseError::Storage(StorageError::Corrupted(_)) => {
                format!("the state in `{at}` is broken: restore it from a copy, or {aside}")
            }
            DatabaseError::Storage(StorageError::Io(cause))
                if matches!(cause.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
            {
                format!("`{at}` is no state of flowgen, or is broken: restore it from a copy, or {aside}")
            }
            DatabaseError::UpgradeRequired(_) => {
                format!("the state in `{at}` was written by an older version of flowgen: {aside}")
            }
            _ => format!("cannot open the state in `{at}`"),
        };
        StateError::because(message, error)
    })
}

#[cfg(test)]
mod tests;
