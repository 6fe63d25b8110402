use proptest::prelude::*;

use super::*;

fn entered() -> (Arc<Ledger>, Ack) {
    let ledger = Arc::new(Ledger::default());
    let ack = Ack::enter(&ledger, Entry::default());
    (ledger, ack)
}

#[test]
fn the_source_is_told_when_the_last_share_settles_and_not_before() {
    let (ledger, ack) = entered();
    let other = ack.clone();
    ack.settle(Outcome::Completed, Moment::default());
    assert_eq!(ledger.summary().inflight(), 1);
    other.settle(Outcome::Filtered, Moment::default());
    assert_eq!(ledger.summary().inflight(), 0);
    assert_eq!(ledger.summary().count(Outcome::Completed), 1);
}

#[test]
fn a_share_dropped_unsettled_is_failed() {
    let (ledger, ack) = entered();
    let other = ack.clone();
    other.settle(Outcome::Completed, Moment::default());
    drop(ack);
    assert_eq!(ledger.summary().count(Outcome::Failed), 1);
}

#[test]
fn a_share_dropped_unsettled_at_the_deadline_is_cancelled() {
    let (ledger, ack) = entered();
    let batch = Ack::join(vec![ack]);
    ledger.cancel();
    drop(batch);
    assert_eq!(ledger.summary().count(Outcome::Cancelled), 1);
    assert_eq!(ledger.summary().count(Outcome::Failed), 0);
}

#[test]
fn a_batch_gives_its_worst_outcome_to_each_of_its_shares() {
    let (ledger, first) = entered();
    let second = Ack::enter(&ledger, Entry::default());
    let batch = Ack::join(vec![first, second]);
    let copy = batch.clone();
    batch.settle(Outcome::Completed, Moment::default());
    assert_eq!(ledger.summary().inflight(), 2);
    copy.settle(Outcome::Dropped, Moment::default());
    assert_eq!(ledger.summary().count(Outcome::Dropped), 2);
}

#[test]
fn a_taken_share_leaves_nothing_to_settle() {
    let (ledger, mut ack) = entered();
    ack.take().settle(Outcome::Completed, Moment::default());
    drop(ack);
    assert_eq!(ledger.summary().count(Outcome::Completed), 1);
    assert_eq!(ledger.summary().entered, 1);
}

proptest! {
    /// Shares settled in any order, some never: one outcome, the worst of them.
    #[test]
    fn the_outcome_is_the_worst_of_the_shares(
        outcomes in prop::collection::vec(prop::option::of(0u8..7), 1..20),
        order in any::<prop::sample::Index>(),
    ) {
        let (ledger, ack) = entered();
        let mut shares: Vec<Ack> = outcomes.iter().map(|_| ack.clone()).collect();
        ack.settle(Outcome::Filtered, Moment::default());
        let start = order.index(outcomes.len());
        shares.rotate_left(start);
        let mut rotated = outcomes.clone();
        rotated.rotate_left(start);
        for (share, severity) in shares.into_iter().zip(&rotated) {
            prop_assert_eq!(ledger.summary().inflight(), 1);
            match severity {
                Some(severity) => drop(share.settle(Outcome::from_severity(*severity), Moment::default())),
                None => drop(share),
            }
        }
        let worst = outcomes.iter().map(|s| s.map_or(Outcome::Failed, Outcome::from_severity)).max().unwrap();
        let summary = ledger.summary();
        prop_assert_eq!(summary.inflight(), 0);
        prop_assert_eq!(summary.count(worst), 1);
        prop_assert_eq!(Outcome::ALL.iter().map(|o| summary.count(*o)).sum::<u64>(), 1);
    }
}
