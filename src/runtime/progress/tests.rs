use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::trace::Ticks;

#[derive(Clone, Debug)]
enum Op {
    /// An event enters.
    Enter,
    /// The source says where it stands.
    Reach,
    /// The event of this place among those under way ends as `is_good` says.
    End(usize, bool),
    /// What is done is taken.
    Take,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        4 => Just(Op::Enter),
        2 => Just(Op::Reach),
        // Few are lost: behind one that is, nothing is done any more.
        5 => (any::<usize>(), prop::bool::weighted(0.98)).prop_map(|(n, is_good)| Op::End(n, is_good)),
        1 => Just(Op::Take),
    ];
    prop::collection::vec(op, 0..200)
}

fn settled(is_good: bool) -> Settled {
    let outcome = if is_good { Outcome::Completed } else { Outcome::Cancelled };
    Settled { outcome, is_transient: false, entered: Ticks::default(), expires: None }
}

fn position(at: usize) -> Position {
    Position { part: "in".into(), at: json!(at) }
}

/// Returns how far steps lead that were taken one after the other.
fn last(steps: Vec<Step>) -> Option<usize> {
    steps.last().map(|step| match step {
        Step::Reached(position) => position.at.as_u64().unwrap() as usize,
        Step::Gone(part) => panic!("{part}"),
    })
}

proptest! {
    /// Scenario: events enter and end in any order, well or cut off, while their source says where it stands. Guarantee:
    /// at every moment exactly the last position is done before which every event has ended well.
    #[test]
    fn a_position_is_done_when_everything_before_it_is(ops in ops()) {
        let progress = Arc::new(Progress::default());
        let mut reading = Reading::new(Arc::clone(&progress));
        let (mut entered, mut positions) = (0_usize, Vec::new());
        let mut underway: Vec<(usize, Pending)> = Vec::new();
        let mut lost = usize::MAX;
        let mut done = None;
        for op in ops.into_iter().chain([Op::Take]) {
            match op {
                Op::Enter => {
                    underway.push((entered, reading.pending()));
                    entered += 1;
                }
                Op::Reach => {
                    positions.push(entered);
                    reading.end(Step::Reached(position(entered)));
                }
                Op::End(n, is_good) if !underway.is_empty() => {
                    let (event, pending) = underway.swap_remove(n % underway.len());
                    pending.settled(&settled(is_good));
                    if !is_good {
                        lost = lost.min(event);
                    }
                }
                Op::End(..) => {}
                Op::Take => {
                    let taken = last(progress.take_done());
                    prop_assert!(taken.is_none_or(|taken| done.is_none_or(|done| done <= taken)));
                    done = taken.or(done);
                    let first = underway.iter().map(|(event, _)| *event).min().unwrap_or(usize::MAX).min(lost);
                    let expected = positions.iter().copied().filter(|position| *position <= first).max();
                    prop_assert_eq!(done, expected);
                }
            }
        }
    }
}

#[test]
fn what_failed_for_now_and_what_was_dropped_is_for_the_next_run() {
    let failed = |is_transient| Settled { outcome: Outcome::Failed, is_transient, ..settled(true) };
    for (end, is_done) in [(Some(failed(false)), true), (Some(failed(true)), false), (None, false)] {
        let progress = Arc::new(Progress::default());
        let mut reading = Reading::new(Arc::clone(&progress));
        let pending = reading.pending();
        reading.end(Step::Reached(position(1)));
        match end {
            Some(settled) => pending.settled(&settled),
            None => drop(pending),
        }
        assert_eq!(progress.take_done().len(), usize::from(is_done), "{end:?}");
    }
}

#[test]
fn a_source_that_stands_still_takes_no_memory() {
    let progress = Arc::new(Progress::default());
    let mut reading = Reading::new(Arc::clone(&progress));
    let underway = reading.pending();
    reading.end(Step::Reached(position(1)));
    (2..1000).for_each(|at| reading.end(Step::Reached(position(at))));
    assert_eq!(progress.stretches().len(), 2);
    underway.done();
    assert_eq!(last(progress.take_done()), Some(999));
}
