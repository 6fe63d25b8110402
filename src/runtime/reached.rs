//! How far a source has read each part of its input: what another one in its place goes on from.

use std::{collections::HashMap, sync::Arc};

use crate::task::{Position, Resumption};

/// The last position of each part, and how many events were let in behind it.
#[derive(Debug, Default)]
pub(super) struct Reached {
    /// The part that is read now. It is in none of the others.
    current: Option<Resumption>,
    others: HashMap<Arc<str>, Resumption>,
}

impl Reached {
    /// Makes it of the positions of a run before.
    pub(super) fn at(saved: Vec<Position>) -> Self {
        let others = saved
            .into_iter()
            .map(|position| (Arc::clone(&position.part), Resumption { position, events: 0 }));
        Self { current: None, others: others.collect() }
    }

    /// Counts an event of the part that is read now.
    #[inline]
    pub(super) fn let_in(&mut self) {
        if let Some(current) = &mut self.current {
            current.events += 1;
        }
    }

    /// Notes a position, and reads its part from now on.
    pub(super) fn reach(&mut self, position: Position) {
        if self.current.as_ref().is_none_or(|current| current.position.part != position.part) {
            self.others.remove(&position.part);
            if let Some(left) = self.current.take() {
                self.others.insert(Arc::clone(&left.position.part), left);
            }
        }
        self.current = Some(Resumption { position, events: 0 });
    }

    /// Drops the position of a part.
    pub(super) fn forget(&mut self, part: &str) {
        self.others.remove(part);
        self.current.take_if(|current| *current.position.part == *part);
    }

    /// Returns where a source goes on.
    pub(super) fn resumptions(&self) -> Vec<Resumption> {
        self.current.iter().chain(self.others.values()).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(part: &str, at: u64) -> Position {
        Position { part: part.into(), at: at.into() }
    }

    /// Returns all parts as `<part> <at>+<events>`.
    fn shown(reached: &Reached) -> Vec<String> {
        let shown = |Resumption { position, events }: Resumption| {
            format!("{} {}+{events}", position.part, position.at)
        };
        let mut all: Vec<_> = reached.resumptions().into_iter().map(shown).collect();
        all.sort();
        all
    }

    #[test]
    fn events_count_for_the_part_that_was_reached_last_and_stay_with_it() {
        let mut reached = Reached::default();
        reached.let_in();
        assert!(shown(&reached).is_empty());
        reached.reach(position("a", 1));
        reached.let_in();
        reached.let_in();
        reached.reach(position("b", 5));
        reached.let_in();
        assert_eq!(shown(&reached), ["a 1+2", "b 5+1"]);
        reached.reach(position("a", 3));
        assert_eq!(shown(&reached), ["a 3+0", "b 5+1"]);
    }

    #[test]
    fn a_part_that_is_forgotten_is_not_there_any_more() {
        let mut reached = Reached::default();
        reached.reach(position("a", 1));
        reached.reach(position("b", 2));
        reached.forget("a");
        assert_eq!(shown(&reached), ["b 2+0"]);
        reached.forget("b");
        reached.let_in();
        assert!(shown(&reached).is_empty());
    }
}
