//! What tests of sources need: a port that keeps what a source emits.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::time::Instant;

use super::{
    Closed, Decode, Emitter, Incoming, Port, Position, Record, Resumption, Source, TaskError, Trigger,
};
use crate::{event::EventId, shutdown::Stop, telemetry::Attributes, trace::Remote};

/// One event that a source let in, and when.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) id: EventId,
    #[expect(dead_code, reason = "shown where a test fails")]
    pub(crate) remote: Option<Box<Remote>>,
    pub(crate) result: Result<Record, TaskError>,
    /// What its span says.
    pub(crate) attributes: Attributes,
    pub(crate) at: Instant,
}

/// Collects what a source emits, and stops it after a number of events.
#[derive(Clone, Debug)]
pub(crate) struct Collector {
    state: Arc<Mutex<State>>,
    stop: Stop,
    limit: usize,
    resumptions: Vec<Resumption>,
    /// All that was said of positions, and how many events were let in before.
    said: Arc<Mutex<Vec<(Said, usize)>>>,
}

/// What a source says of the positions in its input.
#[derive(Clone, Debug)]
enum Said {
    Reached(Position),
    Forgotten(Arc<str>),
}

#[derive(Debug, Default)]
struct State {
    admitted: Vec<Admitted>,
    staged: usize,
    bytes: u64,
    triggers: [u64; Trigger::ALL.len()],
}

impl Collector {
    /// Makes a collector that asks the source to stop after `limit` events.
    pub(crate) fn until(limit: usize) -> Self {
        Self {
            state: Arc::default(),
            stop: Stop::default(),
            limit,
            resumptions: Vec::new(),
            said: Arc::default(),
        }
    }

    /// Says where the source before stood.
    pub(crate) fn resumed(self, resumptions: Vec<Resumption>) -> Self {
        Self { resumptions, ..self }
    }

    /// Returns where a source that is built later goes on behind the first so many events of all that were let in, as the
    /// runtime would have it.
    pub(crate) fn resumptions_at(&self, events: usize) -> Vec<Resumption> {
        let mut resumptions = self.resumptions.clone();
        let mut before = 0;
        for (said, admitted) in self.said.lock().unwrap().iter().filter(|(_, admitted)| *admitted <= events) {
            let_in(&mut resumptions, admitted - before);
            before = *admitted;
            let part = match said {
                Said::Reached(position) => &position.part,
                Said::Forgotten(part) => part,
            };
            resumptions.retain(|resumption| resumption.position.part != *part);
            if let Said::Reached(position) = said {
                resumptions.push(Resumption { position: position.clone(), events: 0 });
            }
        }
        let_in(&mut resumptions, events - before);
        resumptions
    }

    /// Asks the source to stop.
    pub(crate) fn stop(&self) {
        self.stop.stop();
    }

    /// Returns how what a source has let in so far is shown.
    pub(crate) fn so_far<R>(&self, shown: impl Fn(&Admitted) -> R) -> Vec<R> {
        self.state.lock().unwrap().admitted.iter().map(shown).collect()
    }

    /// Runs a source to its end, and returns what it let in and how many bytes it says it read.
    pub(crate) async fn run(self, source: Box<dyn Source>) -> (Result<(), TaskError>, Vec<Admitted>, u64) {
        let mut emitter = Emitter::new(Box::new(self.clone()));
        let result = source.run(&mut emitter, self.stop.clone()).await;
        let state = std::mem::take(&mut *self.state.lock().unwrap());
        (result, state.admitted, state.bytes)
    }
}

/// Counts events behind the position that was reached last.
fn let_in(resumptions: &mut [Resumption], events: usize) {
    if let Some(last) = resumptions.last_mut() {
        last.events += events as u64;
    }
}

#[async_trait]
impl Port for Collector {
    fn admit(&mut self, incoming: Incoming, decode: Decode<'_>) {
        let Incoming { id, remote, .. } = incoming;
        let mut state = self.state.lock().unwrap();
        let mut attributes = Attributes::default();
        let result = decode(Some(&mut attributes));
        state.admitted.push(Admitted { id, remote, result, attributes, at: Instant::now() });
        state.staged += 1;
        if state.admitted.len() >= self.limit {
            self.stop.stop();
        }
    }

    fn is_full(&self) -> bool {
        self.state.lock().unwrap().staged >= 16
    }

    async fn flush(&mut self) -> Result<(), Closed> {
        self.state.lock().unwrap().staged = 0;
        Ok(())
    }

    async fn finish(&mut self) {}

    fn reach(&mut self, position: Position) {
        let admitted = self.state.lock().unwrap().admitted.len();
        self.said.lock().unwrap().push((Said::Reached(position), admitted));
    }

    fn forget(&mut self, part: &str) {
        let admitted = self.state.lock().unwrap().admitted.len();
        self.said.lock().unwrap().push((Said::Forgotten(part.into()), admitted));
    }

    fn resumptions(&self) -> Vec<Resumption> {
        self.resumptions.clone()
    }

    fn advance(&mut self, bytes: u64) {
        self.state.lock().unwrap().bytes += bytes;
    }

    fn trigger(&mut self, outcome: Trigger, count: u64) {
        self.state.lock().unwrap().triggers[outcome as usize] += count;
    }
}
