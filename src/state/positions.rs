//! How far sources have read: for each source and part of its input the position behind which all is done.

use serde_json::Value;

use super::{
    State, StateError,
    store::{Change, POSITIONS},
};
use crate::task::Position;

/// Whose positions they are.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// The flow.
    pub flow: &'a str,
    /// The task in it.
    pub task: &'a str,
}

impl Owner<'_> {
    /// Returns the key of one part of it.
    pub(super) fn key(&self, part: &str) -> Vec<u8> {
        let mut key = Vec::with_capacity(self.flow.len() + self.task.len() + part.len() + 16);
        for name in [self.flow, self.task] {
            // With its length, so that no name is the beginning of another.
            key.extend_from_slice(&(name.len() as u64).to_be_bytes());
            key.extend_from_slice(name.as_bytes());
        }
        key.extend_from_slice(part.as_bytes());
        key
    }
}

impl State {
    /// Returns how far a source has read each part of its input. Blocks as disks do.
    ///
    /// # Errors
    /// The state cannot be read, or a position is none.
    pub fn positions(&self, owner: Owner<'_>) -> Result<Vec<Position>, StateError> {
        let mut positions = Vec::new();
        let prefix = owner.key("");
        self.read(POSITIONS, &prefix, |key, value| {
            let Owner { flow, task } = owner;
            let broken = || format!("the position of `{task}` in flow `{flow}` cannot be read");
            let part =
                str::from_utf8(&key[prefix.len()..]).map_err(|error| StateError::because(broken(), error))?;
            let at: Value =
                serde_json::from_slice(value).map_err(|error| StateError::because(broken(), error))?;
            positions.push(Position { part: part.into(), at });
            Ok(())
        })?;
        Ok(positions)
    }

    /// Keeps how far a source has read, and forgets the parts that are no more. Returns when that is on the disk.
    ///
    /// # Errors
    /// It cannot be written; the positions before hold.
    pub async fn keep_positions(
        &self,
        owner: Owner<'_>,
        reached: &[Position],
        gone: impl Iterator<Item = &str>,
    ) -> Result<(), StateError> {
        let change = |part: &str, value| Change::new(POSITIONS, owner.key(part), value);
        let mut changes: Vec<Change> = gone.map(|part| change(part, None)).collect();
        changes.extend(
            reached.iter().map(|position| change(&position.part, Some(position.at.to_string().into_bytes()))),
        );
        self.write(changes).await
    }
}
