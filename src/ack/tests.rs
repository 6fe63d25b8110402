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

/// A receipt that tells what it was told.
struct Told(std::sync::mpsc::Sender<(Outcome, bool)>);

impl Receipt for Told {
    fn settled(self: Box<Self>, settled: &Settled) -> Verdict {
        self.0.send((settled.outcome, settled.is_transient)).unwrap();
        Verdict::Counted
    }
}

fn received(ledger: &Arc<Ledger>) -> (Ack, std::sync::mpsc::Receiver<(Outcome, bool)>) {
    let (sender, receiver) = std::sync::mpsc::channel();
    let entry = Entry { receipt: Some(Box::new(Told(sender))), ..Entry::default() };
    (Ack::enter(ledger, entry), receiver)
}

#[test]
fn what_follows_a_fate_ends_with_it_and_is_filtered_where_it_is_good() {
    for outcome in Outcome::ALL {
        let (ledger, _) = entered();
        let of_others = if outcome == Outcome::Completed { Outcome::Filtered } else { outcome };
        let fate = Fate::default();
        let (first, of_first) = received(&ledger);
        let (second, of_second) = received(&ledger);
        let (late, of_late) = received(&ledger);
        let first = first.decide(fate.clone());
        let (branch, other) = (first.clone(), first);
        second.follow(fate.clone()).settle(Outcome::Filtered, Moment::default());
        branch.settle(outcome, Moment::default());
        assert!(of_first.try_recv().is_err() && of_second.try_recv().is_err(), "a branch is under way");
        other.settle(Outcome::Filtered, Moment::default());
        assert_eq!(of_first.try_recv(), Ok((outcome, false)));
        assert_eq!(of_second.try_recv(), Ok((of_others, false)));
        late.follow(fate).settle(Outcome::Filtered, Moment::default());
        assert_eq!(of_late.try_recv(), Ok((of_others, false)));
    }
}

#[test]
fn what_follows_a_fate_is_given_back_with_it() {
    for is_dropped in [false, true] {
        let (ledger, _) = entered();
        let fate = Fate::default();
        let (first, of_first) = received(&ledger);
        let (second, of_second) = received(&ledger);
        let first = first.decide(fate.clone());
        second.follow(fate).settle(Outcome::Filtered, Moment::default());
        if is_dropped {
            drop(first);
        } else {
            first.give_back(Moment::default());
        }
        assert_eq!(of_first.try_recv(), Ok((Outcome::Failed, true)));
        assert_eq!(of_second.try_recv(), Ok((Outcome::Failed, true)));
    }
}

#[test]
fn a_share_that_fails_by_itself_follows_nothing() {
    let (ledger, _) = entered();
    let (share, told) = received(&ledger);
    share.follow(Fate::default()).settle(Outcome::Dropped, Moment::default());
    assert_eq!(told.try_recv(), Ok((Outcome::Dropped, false)));
    let (share, told) = received(&ledger);
    drop(share.follow(Fate::default()));
    assert_eq!(told.try_recv(), Ok((Outcome::Failed, true)));
}

#[test]
fn two_shares_of_one_event_may_decide_a_fate_and_follow_it() {
    let (ledger, first) = entered();
    let second = first.clone();
    let fate = Fate::default();
    let first = first.decide(fate.clone());
    second.follow(fate).settle(Outcome::Filtered, Moment::default());
    assert_eq!(ledger.summary().inflight(), 1);
    first.settle(Outcome::Completed, Moment::default());
    assert_eq!(ledger.summary().count(Outcome::Completed), 1);
}
