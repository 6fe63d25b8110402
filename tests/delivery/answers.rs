//! A source that can answer: it keeps what it is told of each of its events.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use flowgen::{
    ack::{Outcome, Receipt, Settled, Verdict},
    event::{EventId, Payload},
    shutdown::Stop,
    task::{Emitter, Incoming, Source, Task, TaskError},
};

use super::number;
use crate::support::tasks::slow;

/// What became of the events of a source that can answer.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// How often something that came of an event has reached a leaf so far.
    arrivals: Mutex<BTreeMap<u64, usize>>,
    told: Mutex<Vec<Answer>>,
}

/// What a source is told of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) event: u64,
    pub(super) outcome: Outcome,
    pub(super) is_transient: bool,
    /// How often something that came of it had reached a leaf by then.
    pub(super) arrived: usize,
}

impl Answers {
    /// Returns what the source was told, in the order of its events, after checking that it was told once of each.
    pub(super) fn told(&self) -> Vec<Answer> {
        let mut told = self.told.lock().unwrap().clone();
        told.sort_by_key(|answer| answer.event);
        assert!(told.is_sorted_by(|one, next| one.event < next.event), "told twice: {told:?}");
        told
    }

    /// Returns the events that the source was told of, in the order of that.
    pub(super) fn order(&self) -> Vec<u64> {
        self.told.lock().unwrap().iter().map(|answer| answer.event).collect()
    }

    /// Checks what the source was told of each of its `count` events: its outcome and what had arrived by then.
    pub(super) fn assert_told(&self, count: u64, expected: impl Fn(u64) -> (Outcome, usize)) {
        let told: Vec<_> =
            self.told().iter().map(|answer| (answer.event, answer.outcome, answer.arrived)).collect();
        let expected: Vec<_> = (0..count)
            .map(|n| {
                let (outcome, arrived) = expected(n);
                (n, outcome, arrived)
            })
            .collect();
        assert_eq!(told, expected);
    }

    /// Returns how many events have arrived at all.
    pub(super) fn arrived(&self) -> usize {
        self.arrivals.lock().unwrap().len()
    }

    /// Takes note that something that came of an event has reached a leaf.
    pub(super) fn arrive(&self, event: u64) {
        *self.arrivals.lock().unwrap().entry(event).or_default() += 1;
    }

    fn tell(&self, event: u64, settled: &Settled) {
        let arrived = self.arrivals.lock().unwrap().get(&event).copied().unwrap_or_default();
        let Settled { outcome, is_transient, .. } = *settled;
        self.told.lock().unwrap().push(Answer { event, outcome, is_transient, arrived });
    }
}

/// A source of `count` events that is told what becomes of each.
pub(super) fn answered(count: u64, answers: &Arc<Answers>) -> Task {
    Task::Source(Box::new(Answered { count, answers: Arc::clone(answers) }))
}

/// A leaf that takes `time` over each event.
pub(super) fn leaf(time: Duration, answers: &Arc<Answers>) -> Task {
    let answers = Arc::clone(answers);
    slow(time, move |event| {
        answers.arrive(number(event));
        Ok(())
    })
}

struct Answered {
    count: u64,
    answers: Arc<Answers>,
}

#[async_trait]
impl Source for Answered {
    async fn run(self: Box<Self>, emitter: &mut Emitter, stop: Stop) -> Result<(), TaskError> {
        for event in (0..self.count).take_while(|_| !stop.is_stopped()) {
            let receipt: Box<dyn Receipt> = Box::new(Asked { event, answers: Arc::clone(&self.answers) });
            let incoming = Incoming { receipt: Some(receipt), ..Incoming::from(EventId::Sequence(event)) };
            emitter.stage(incoming, |_| Ok(Payload::default().into())).await?;
        }
        Ok(())
    }
}

/// An event that its source has not been told of yet.
struct Asked {
    event: u64,
    answers: Arc<Answers>,
}

impl Receipt for Asked {
    fn settled(self: Box<Self>, settled: &Settled) -> Verdict {
        self.answers.tell(self.event, settled);
        Verdict::Counted
    }
}
