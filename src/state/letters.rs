//! Dead letters: events that failed and were stored to be looked at, and which of them are to be tried once more.

use jiff::Timestamp;
use redb::TableDefinition;
use serde::{Deserialize, Serialize};

use super::{
    Owner, SavedEvent, State, StateError,
    store::{COUNTS, Change, Table, number},
    writer::Done,
};

/// The letters by their number.
const LETTERS: Table = TableDefinition::new("dead letters");
/// The numbers of those that are to be replayed.
const REPLAYS: Table = TableDefinition::new("replays");

/// An event that failed, as it came to the task that could not handle it, and why.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Letter {
    /// Its number, which no other letter ever has; given when it is stored.
    #[serde(skip)]
    pub id: u64,
    /// When it failed.
    pub time: Timestamp,
    /// The flow.
    pub flow: String,
    /// The task that it failed in.
    pub task: String,
    /// `error.type`.
    pub error_type: String,
    /// The error and what caused it, the first the last.
    pub errors: Vec<String>,
    /// How often it was attempted.
    pub attempts: u32,
    /// The event.
    pub event: SavedEvent,
}

impl Letter {
    fn owner(&self) -> Owner<'_> {
        Owner { flow: &self.flow, task: &self.task }
    }

    fn read(key: &[u8], value: &[u8]) -> Result<Self, StateError> {
        let id = key.try_into().map_or(0, u64::from_be_bytes);
        let letter: Self = serde_json::from_slice(value)
            .map_err(|error| StateError::because(format!("dead letter {id} cannot be read"), error))?;
        Ok(Self { id, ..letter })
    }
}

/// The key of a letter: in the order of the numbers.
fn key(id: u64) -> Vec<u8> {
    id.to_be_bytes().to_vec()
}

impl State {
    /// Stores a letter, and calls `done` when it is on the disk.
    pub fn bury(&self, letter: &Letter, done: Done) {
        let (id, taken) = self.next_letter();
        match serde_json::to_vec(letter) {
            Ok(text) => {
                let counted = Some(letter.owner().key(""));
                let stored = Change { counted, ..Change::new(LETTERS, key(id), Some(text)) };
                self.submit(vec![taken, stored], done);
            }
            Err(error) => done(Err(StateError::because("an event cannot be stored", error))),
        }
    }

    /// Calls `each` with every letter, the oldest first. Blocks as disks do.
    ///
    /// # Errors
    /// The state cannot be read, or a letter is none.
    pub fn letters(&self, mut each: impl FnMut(Letter)) -> Result<(), StateError> {
        self.read(LETTERS, &[], |key, value| {
            each(Letter::read(key, value)?);
            Ok(())
        })
    }

    /// Returns the letter of a number. Blocks as disks do.
    ///
    /// # Errors
    /// The state cannot be read, or the letter is none.
    pub fn letter(&self, id: u64) -> Result<Option<Letter>, StateError> {
        let key = key(id);
        self.get(LETTERS, &key)?.map(|value| Letter::read(&key, &value)).transpose()
    }

    /// Returns how many letters there are of a task. Blocks as disks do.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn count_letters(&self, owner: Owner<'_>) -> Result<u64, StateError> {
        Ok(self.get(COUNTS, &owner.key(""))?.map_or(0, |count| number(&count)))
    }

    /// Removes letters, and what is asked of them. Blocks until that is on the disk.
    ///
    /// # Errors
    /// It cannot be written; all of them are still there.
    pub fn remove_letters<'a>(&self, letters: impl Iterator<Item = &'a Letter>) -> Result<(), StateError> {
        self.write_blocking(letters.flat_map(removal).collect())
    }

    /// Removes a letter whose replay came to its end, and calls `done` when that is on the disk.
    pub fn remove_replayed(&self, letter: &Letter, done: Done) {
        self.submit(removal(letter).into(), done);
    }

    /// Asks for letters to be replayed by the worker of the state. Blocks until that is on the disk.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn request_replays(&self, ids: impl Iterator<Item = u64>) -> Result<(), StateError> {
        self.write_blocking(ids.map(|id| Change::new(REPLAYS, key(id), Some(Vec::new()))).collect())
    }

    /// Returns the numbers of the letters that are to be replayed. Blocks as disks do.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn requested_replays(&self) -> Result<Vec<u64>, StateError> {
        let mut ids = Vec::new();
        self.read(REPLAYS, &[], |key, _| {
            ids.extend(key.try_into().map(u64::from_be_bytes));
            Ok(())
        })?;
        Ok(ids)
    }

    /// Takes note that a letter was replayed and stays, or cannot be. Calls `done` when that is on the disk.
    pub fn end_replay(&self, id: u64, done: Done) {
        self.submit(vec![Change::new(REPLAYS, key(id), None)], done);
    }
}

fn removal(letter: &Letter) -> [Change; 2] {
    let counted = Some(letter.owner().key(""));
    [
        Change { counted, ..Change::new(LETTERS, key(letter.id), None) },
        Change::new(REPLAYS, key(letter.id), None),
    ]
}
