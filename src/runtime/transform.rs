//! The loop of a transform: events, and the batches that it releases by itself.

mod lanes;

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use tokio::time::{Instant, sleep, sleep_until};

pub(super) use self::lanes::{Conductor, Lane};
use super::{RunEnd, hop::Hop, inbox::Inbox, outlets::BATCH, supervisor::panic_message, turn::Turn};
use crate::{
    ack,
    event::Event,
    task::{Emission, FlushReason, Output, Transform},
};

/// How long a task waits in a hurry for what may still come of those upstream.
const PATIENCE: Duration = Duration::from_millis(100);

/// What a transform works on, and what is left of it when one panics.
pub(super) struct TransformWork {
    inbox: Inbox,
    hop: Hop,
    /// What was taken from the inbox and not handled yet.
    batch: VecDeque<Box<Event>>,
}

/// What a transform has to do next.
enum Next {
    /// There are so many events.
    Events(usize),
    /// A batch has to leave.
    Flush(FlushReason),
}

impl TransformWork {
    pub(super) fn new(inbox: Inbox, hop: Hop) -> Self {
        Self { inbox, hop, batch: VecDeque::with_capacity(BATCH) }
    }

    /// Handles events until no one upstream is left, or until the task panics.
    pub(super) async fn run(&mut self, mut transform: Box<dyn Transform>) -> RunEnd {
        let end = self.handle_all(&mut *transform).await;
        if let RunEnd::Panicked(_) = &end {
            // What was collected of it has gone down with the task.
            self.hop.outlets.give_back_held();
        }
        end
    }

    async fn handle_all(&mut self, transform: &mut dyn Transform) -> RunEnd {
        let Self { inbox, hop, batch } = self;
        let mut turn = Turn::new();
        let mut taken = Vec::with_capacity(BATCH);
        let mut is_asked = false;
        let mut held = None;
        loop {
            if batch.is_empty() {
                match next(inbox, &mut taken, hop, transform.deadline(), is_asked).await {
                    Next::Events(0) if hop.outlets.held() == 0 || is_asked => return RunEnd::Completed,
                    Next::Events(0) | Next::Flush(FlushReason::Shutdown) => {
                        is_asked = true;
                        if let Err(panic) = flush(hop, transform, FlushReason::Shutdown).await {
                            return RunEnd::Panicked(panic);
                        }
                    }
                    Next::Flush(FlushReason::Timeout) => {
                        if let Err(panic) = flush(hop, transform, FlushReason::Timeout).await {
                            return RunEnd::Panicked(panic);
                        }
                    }
                    Next::Events(_) => {
                        is_asked = false;
                        batch.extend(taken.drain(..));
                    }
                }
            }
            let inflight = hop.meters.inflight.hold(hop.outlets.held() + batch.len());
            drop(held.take());
            while !batch.is_empty() {
                let handled = ack::batch(|| handle_some(hop, batch, transform, &mut turn));
                // An event may emit many; without this a batch of arrays would pile up.
                if handled.is_err() || hop.is_full() {
                    hop.flush().await;
                }
                match handled {
                    Err(panic) => return RunEnd::Panicked(panic),
                    Ok(true) => turn.pass().await,
                    Ok(false) => {}
                }
            }
            // What is held back is not done with.
            if hop.outlets.held() > 0 {
                held = Some(hop.meters.inflight.hold(hop.outlets.held()));
            }
            drop(inflight);
            hop.flush().await;
        }
    }

    /// Ends the work for good.
    pub(super) async fn finish(&mut self) {
        self.hop.finish().await;
    }
}

/// Handles the events of a batch until enough is staged or the turn is over, and returns whether it is. The error is what
/// the transform panicked with.
fn handle_some(
    hop: &mut Hop,
    batch: &mut VecDeque<Box<Event>>,
    transform: &mut dyn Transform,
    turn: &mut Turn,
) -> Result<bool, String> {
    while let Some(event) = batch.pop_front() {
        hop.handle(event, |event, output| transform.apply(event, output))?;
        let is_over = turn.is_over();
        if is_over || hop.is_full() {
            return Ok(is_over);
        }
    }
    Ok(false)
}

/// Waits for events, or until a batch has to leave: when it is due, and while nothing comes before what is held as soon
/// as there is nothing else to do. `is_asked` says that it was asked for that since the last event.
#[expect(clippy::vec_box, reason = "the boxes travel on; here they only wait")]
async fn next(
    inbox: &mut Inbox,
    taken: &mut Vec<Box<Event>>,
    hop: &Hop,
    deadline: Option<Instant>,
    is_asked: bool,
) -> Next {
    let is_holding = hop.outlets.held() > 0;
    if deadline.is_none() && !is_holding {
        return Next::Events(inbox.recv_many(taken, BATCH).await);
    }
    if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
        return Next::Flush(FlushReason::Timeout);
    }
    let due = async {
        match deadline {
            Some(deadline) => sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    // Those upstream may still be at work, and each event of theirs deserves its batch.
    let hurried = async {
        hop.flow.hurry().begun().await;
        sleep(PATIENCE).await;
    };
    tokio::select! {
        biased;
        count = inbox.recv_many(taken, BATCH) => Next::Events(count),
        () = hurried, if is_holding && !is_asked => Next::Flush(FlushReason::Shutdown),
        () = due => Next::Flush(FlushReason::Timeout),
    }
}

/// Lets a transform release batches. The error is what it panicked with.
async fn flush(hop: &mut Hop, transform: &mut dyn Transform, reason: FlushReason) -> Result<(), String> {
    let mut output = Output::default();
    let now = Instant::now();
    catch_unwind(AssertUnwindSafe(|| transform.flush(reason, now, &mut output)))
        .map_err(|panic| panic_message(&*panic))?;
    for (route, emission) in output.drain() {
        // There is no event to do anything else with.
        if let Emission::Release(batch, data) = emission
            && let Some((event, ended)) = hop.outlets.release(route, batch, data)
        {
            hop.keep_slow(&event, ended, None);
        }
    }
    hop.flush().await;
    Ok(())
}
