//! Where events wait for a task: the receiving end of its channel.
//!
//! Several instances of a task share one. Whoever is free takes what comes next, so that none has events waiting while
//! another one has nothing to do.

use std::sync::Arc;

use tokio::sync::{Mutex, mpsc};

use crate::event::Event;

/// The inbox of one loop.
#[derive(Debug)]
pub(super) enum Inbox {
    /// Of a task that is there once.
    Own(mpsc::Receiver<Box<Event>>),
    /// Of one of several instances.
    Shared(Arc<Mutex<mpsc::Receiver<Box<Event>>>>, usize),
}

impl Inbox {
    /// Makes the inboxes of so many instances, all of which take from `receiver`.
    pub(super) fn of(receiver: mpsc::Receiver<Box<Event>>, instances: usize) -> Vec<Self> {
        if instances == 1 {
            return vec![Self::Own(receiver)];
        }
        let receiver = Arc::new(Mutex::new(receiver));
        (0..instances).map(|_| Self::Shared(Arc::clone(&receiver), instances)).collect()
    }

    /// Waits for events and takes up to `limit` of them, of a shared inbox no more than its part of what is there.
    /// Returns how many; zero when no one upstream is left. Safe to drop and call again.
    #[expect(clippy::vec_box, reason = "the boxes travel on; here they only wait")]
    pub(super) async fn recv_many(&mut self, taken: &mut Vec<Box<Event>>, limit: usize) -> usize {
        match self {
            Self::Own(receiver) => receiver.recv_many(taken, limit).await,
            Self::Shared(receiver, instances) => {
                let mut receiver = receiver.lock().await;
                let part = receiver.len().div_ceil(*instances).max(1);
                receiver.recv_many(taken, part.min(limit)).await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::event::{EventId, Payload};

    fn event(n: u64) -> Box<Event> {
        Box::new(Event::new(EventId::Sequence(n), "test".into(), Payload::from(Value::Null)))
    }

    #[tokio::test]
    async fn instances_take_their_part_and_learn_of_the_end() {
        let (sender, receiver) = mpsc::channel(100);
        let mut inboxes = Inbox::of(receiver, 4);
        for n in 0..100 {
            sender.send(event(n)).await.unwrap();
        }
        drop(sender);
        let mut parts = Vec::new();
        for inbox in &mut inboxes {
            let mut taken = Vec::new();
            parts.push(inbox.recv_many(&mut taken, 64).await);
            assert_eq!(taken.len(), parts[parts.len() - 1]);
        }
        assert_eq!(parts, [25, 19, 14, 11]);
        while inboxes[0].recv_many(&mut Vec::new(), 64).await > 0 {}
        assert_eq!(inboxes[3].recv_many(&mut Vec::new(), 64).await, 0);
    }

    #[tokio::test]
    async fn an_instance_that_gives_up_waiting_leaves_the_inbox_to_the_others() {
        let (sender, receiver) = mpsc::channel(1);
        let mut inboxes = Inbox::of(receiver, 2);
        let mut taken = Vec::new();
        let waiting = inboxes[0].recv_many(&mut taken, 64);
        assert!(futures_util::poll!(std::pin::pin!(waiting)).is_pending());
        sender.send(event(7)).await.unwrap();
        assert_eq!(inboxes[1].recv_many(&mut taken, 64).await, 1);
        assert_eq!(taken[0].id, EventId::Sequence(7));
    }
}
