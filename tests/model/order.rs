//! What is promised of order: events keep theirs, what failed for now is brought in again in its own, and nothing new
//! comes before that is through.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    case::{Case, Kept, Role},
    check::{Check, ensure},
    deed::origin,
    world::Note,
};

pub(crate) fn check(case: &Case, notes: &[Note], has_failed: bool) -> Check {
    arrivals(case, notes)?;
    if case.is_tapped {
        case.sources().try_for_each(|(source, _)| deliveries(case, source, notes, has_failed))?;
    }
    Ok(())
}

/// Checks that events come to each task in the order of their deliveries.
fn arrivals(case: &Case, notes: &[Note]) -> Check {
    let mut last: BTreeMap<(usize, u64), (Vec<u64>, &str)> = BTreeMap::new();
    for note in notes {
        let Note::Attempt { task, id, delivery, place, .. } = note else { continue };
        let spec = &case.tasks[*task];
        let is_single = spec.limit == 1 && spec.parallelism == 1 && case.instances(*task) == 1;
        let order = case.order_at(*task);
        if !is_single || order == Kept::No {
            continue;
        }
        let (source, n) = origin(id);
        // Nobody counts the deliveries: only what comes once is known to be in order.
        if *delivery == 0 {
            continue;
        }
        let key = if order == Kept::ByKey { case.key(source, n) } else { 0 };
        let mut this = vec![*place];
        this.extend(id.split('-').skip(1).map(|part| part.parse::<u64>().unwrap()));
        if let Some((last, before)) = last.get(&(*task, key)) {
            ensure!(*last <= this, "t{task} got {id} (place {this:?}) after {before} (place {last:?})");
        }
        last.insert((*task, key), (this, id));
    }
    Ok(())
}

/// Where the events of a source stand that are brought in again: in rounds, the first one of each alone.
#[derive(Default)]
struct Outage {
    /// What failed for now, for the next round.
    returned: BTreeSet<u64>,
    /// The first one of this round, until it has ended.
    probe: Option<u64>,
    /// What this round still brings in, if the first one does not fail again.
    rest: BTreeSet<u64>,
    /// What was brought in again and has not ended.
    underway: BTreeSet<u64>,
    /// How often the source has ended: each time a round may be broken off, and begun anew.
    ends: usize,
}

impl Outage {
    fn is_over(&self) -> bool {
        self.returned.is_empty() && self.rest.is_empty() && self.underway.is_empty()
    }

    /// Takes note of an event that is brought in again.
    fn again(&mut self, n: u64) -> Check {
        let is_broken_off = self.rest.first() != Some(&n) && self.ends > 0 && self.probe.is_none();
        if is_broken_off && !self.rest.is_empty() {
            self.ends -= 1;
            self.returned.append(&mut self.rest);
        }
        let is_new_round = self.rest.is_empty() && self.probe.is_none();
        if is_new_round {
            ensure!(self.underway.is_empty(), "{n} came again before {:?} had ended", self.underway);
            self.rest = std::mem::take(&mut self.returned);
        }
        ensure!(self.probe.is_none(), "{n} came again before {:?} had ended", self.probe);
        let next = self.rest.pop_first();
        ensure!(next == Some(n), "{n} came again in the place of {next:?}");
        self.probe = is_new_round.then_some(n);
        self.underway.insert(n);
        Ok(())
    }

    /// Takes note of the end of a delivery.
    fn end(&mut self, n: u64, is_returned: bool) {
        self.underway.remove(&n);
        if is_returned {
            self.returned.insert(n);
        }
        if self.probe.take_if(|probe| *probe == n).is_some() && is_returned {
            self.returned.append(&mut self.rest);
        }
    }
}

/// Checks what comes from a source: new events in order and not in an outage, the others in order, the first one alone.
fn deliveries(case: &Case, source: usize, notes: &[Note], has_failed: bool) -> Check {
    let is_of = |id: &str| origin(id).0 == source;
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for note in notes {
        if let Note::Tapped { id, .. } = note {
            *counts.entry(id).or_default() += 1;
        }
    }
    // What has become too old is not seen by the tap.
    let is_followed = !has_failed && case.deadline.is_none();
    let mut outage = Outage::default();
    let (mut newest_entered, mut newest_tapped) = (None, None);
    for note in notes {
        match note {
            Note::Entered { source: of, n, is_exact } if *of == source => {
                ensure!(newest_entered < Some(*n), "{source}:{n} entered after {newest_entered:?}");
                newest_entered = Some(*n);
                ensure!(
                    outage.is_over() || !is_exact || !is_followed,
                    "{source}:{n} entered in an outage of {:?} {:?}",
                    outage.returned,
                    outage.underway
                );
            }
            Note::Ended { source: of } if *of == source => outage.ends += 1,
            Note::Tapped { id, delivery: 1 } if is_of(id) => {
                let (_, n) = origin(id);
                ensure!(newest_tapped < Some(n), "{id} came after {newest_tapped:?}");
                newest_tapped = Some(n);
            }
            Note::Tapped { id, .. } if is_of(id) && is_followed => outage.again(origin(id).1)?,
            Note::Watched { task, id, delivery, .. } if is_of(id) && case.tasks[*task].role == Role::Tap => {
                outage.end(origin(id).1, counts[&**id] > *delivery);
            }
            _ => {}
        }
    }
    Ok(())
}
