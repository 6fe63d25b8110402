//! A transform on several threads at once, in order: a conductor deals what comes to lanes in turn, and sends on what they
//! made of it in the same turn.

use std::collections::VecDeque;

use tokio::sync::mpsc;

use crate::{
    event::Event,
    runtime::{
        RunEnd,
        hop::Hop,
        inbox::Inbox,
        outlets::{BATCH, Staged},
        turn::Turn,
    },
    task::Transform,
    telemetry::Hold,
};

/// Lots that each lane has at most: one that it works on, and one that waits.
const LOTS: usize = 2;

/// As many events as a loop takes at once.
type Lot = VecDeque<Box<Event>>;

/// What a lane made of a lot, or of a part of it.
#[derive(Debug)]
struct Handed {
    staged: Staged,
    /// Whether it is done with the lot.
    is_last: bool,
}

/// Deals events to lanes, and sends on what they make of them.
pub(in crate::runtime) struct Conductor {
    inbox: Inbox,
    /// What sends; it handles nothing.
    hop: Hop,
    lanes: Vec<Ends>,
}

/// The conductor's ends of the channels of one lane.
struct Ends {
    lots: mpsc::Sender<Lot>,
    handed: mpsc::Receiver<Handed>,
}

/// What one of the transforms works on, and what is left of it when it panics.
pub(in crate::runtime) struct Lane {
    lots: mpsc::Receiver<Lot>,
    handed: mpsc::Sender<Handed>,
    hop: Hop,
    /// What is left of the lot that it works on, if it does.
    lot: Option<Lot>,
}

impl Conductor {
    /// Makes the conductor of an inbox, and a lane for each of the hops.
    pub(in crate::runtime) fn new(
        inbox: Inbox,
        hop: Hop,
        hops: impl IntoIterator<Item = Hop>,
    ) -> (Self, Vec<Lane>) {
        let lane = |hop| {
            let (lots, dealt) = mpsc::channel(LOTS);
            let (done, handed) = mpsc::channel(1);
            (Ends { lots, handed }, Lane { lots: dealt, handed: done, hop, lot: None })
        };
        let (ends, lanes) = hops.into_iter().map(lane).unzip();
        (Self { inbox, hop, lanes: ends }, lanes)
    }

    /// Goes on until no one upstream is left, or until a lane has ended before that.
    pub(in crate::runtime) async fn run(mut self) {
        let Self { inbox, hop, lanes } = &mut self;
        let count = lanes.len();
        let (mut next_dealt, mut next_handed) = (0, 0);
        let mut is_open = true;
        // One for each lot that is dealt, in order.
        let mut inflight: VecDeque<Hold> = VecDeque::with_capacity(count * LOTS);
        let mut taken = Vec::with_capacity(BATCH);
        while is_open || !inflight.is_empty() {
            tokio::select! {
                biased;
                handed = lanes[next_handed].handed.recv(), if !inflight.is_empty() => {
                    let is_last = match handed {
                        Some(Handed { staged, is_last }) => {
                            hop.outlets.put_staged(staged);
                            hop.flush().await;
                            is_last
                        }
                        // It is over for good, and so is the task.
                        None => {
                            is_open = false;
                            true
                        }
                    };
                    if is_last {
                        inflight.pop_front();
                        next_handed = (next_handed + 1) % count;
                    }
                }
                received = inbox.recv_many(&mut taken, BATCH), if is_open && inflight.len() < count * LOTS => {
                    is_open = received > 0;
                    if is_open {
                        inflight.push_back(hop.meters.inflight.hold(received));
                        // There is room; only a lane that is over does not take it.
                        drop(lanes[next_dealt].lots.try_send(taken.drain(..).collect()));
                        next_dealt = (next_dealt + 1) % count;
                    }
                }
            }
        }
        hop.finish().await;
    }
}

impl Lane {
    /// Handles what it is dealt until there is no more, or until the transform panics.
    pub(in crate::runtime) async fn run(&mut self, mut transform: Box<dyn Transform>) -> RunEnd {
        let mut turn = Turn::new();
        loop {
            if self.lot.is_none() {
                self.lot = self.lots.recv().await;
            }
            let Some(lot) = &mut self.lot else { return RunEnd::Completed };
            while let Some(event) = lot.pop_front() {
                let handled = self.hop.handle(event, |event, output| transform.apply(event, output));
                if let Err(panic) = handled {
                    hand(&mut self.hop, &self.handed, false).await;
                    return RunEnd::Panicked(panic);
                }
                // An event may emit many; when it is this lane's turn, that is sent on at once.
                if self.hop.is_full() {
                    hand(&mut self.hop, &self.handed, false).await;
                }
                if turn.is_over() {
                    turn.pass().await;
                }
            }
            hand(&mut self.hop, &self.handed, true).await;
            self.lot = None;
        }
    }

    /// Ends the work for good.
    pub(in crate::runtime) async fn finish(&mut self) {
        self.hop.finish().await;
    }
}

/// Hands over what is staged. If nobody takes it any more, it is given back.
async fn hand(hop: &mut Hop, handed: &mpsc::Sender<Handed>, is_last: bool) {
    let staged = hop.outlets.take_staged();
    drop(handed.send(Handed { staged, is_last }).await);
}
