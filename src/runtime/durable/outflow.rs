//! Lets the events of a queue into the flow behind it.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

use super::{Batch, Durable, STATE, age, now};
use crate::{
    ack::{Ack, Entry, Origin, Receipt},
    event::Event,
    runtime::{
        hop::Hop,
        progress::{Reading, Step},
        redelivery::Redelivery,
        turn::Turn,
        upkeep::Upkeep,
    },
    state::{Accepted, Appender, Opened, Queue, QueueReader, StateError},
    task::Position,
    telemetry::{Attributes, OTHER_ERROR, SpanOutcome, Spans, error_chain, spawn_blocking},
    trace::{Ticks, TraceContext},
};

/// Bytes that are read from the queue at once, about.
const AT_ONCE: usize = 256 << 10;

/// Lets the events of one queue into its flow.
pub(in crate::runtime) struct Outflow {
    pub(in crate::runtime) durable: Arc<Durable>,
    pub(in crate::runtime) max_bytes: u64,
    /// Of the source, behind the queue.
    pub(in crate::runtime) hop: Hop,
    pub(in crate::runtime) upkeep: Upkeep,
    /// The types that errors of the source have.
    pub(in crate::runtime) error_types: Vec<&'static str>,
    /// Makes the span of opening the queue.
    pub(in crate::runtime) recover: Spans,
    /// Who appends, once the queue is open.
    pub(in crate::runtime) intake: oneshot::Sender<Appender>,
}

/// The errors that the span of opening a queue may have.
pub(in crate::runtime) const ERROR_TYPES: &[&str] = &[STATE];

impl Outflow {
    /// Opens the queue, and lets in what it holds until its source has ended and it is empty, or the flow stops.
    pub(in crate::runtime) async fn run(self) {
        let opened = self.open().await;
        let Self { durable, mut hop, mut upkeep, error_types, intake, .. } = self;
        match opened {
            Ok(Opened { queue, appender, reader, .. }) => {
                let recovered = queue.end();
                durable.next.store(reader.next(), Ordering::Release);
                durable.end.store(recovered, Ordering::Release);
                durable.synced.store(recovered, Ordering::Release);
                durable.queue.get_or_init(|| queue);
                // Without it the source has ended.
                let _ = intake.send(appender);
                let progress = upkeep.checkpoints().map(|checkpoints| Arc::clone(checkpoints.progress()));
                let mut gate = Gate {
                    redelivery: upkeep.redelivery(),
                    reading: Reading::new(progress.unwrap_or_default()),
                    durable: &durable,
                    hop: &mut hop,
                    turn: Turn::new(),
                    error_types: error_types.into(),
                    recovered,
                };
                if let Err(error) = upkeep.beside(gate.run(reader)).await {
                    let message = error_chain(&error);
                    tracing::error!(error.type = STATE, error.message = message, "the queue cannot be read");
                    hop.flow.fail(message);
                }
            }
            Err(error) => {
                let message = error_chain(&error);
                tracing::error!(error.type = STATE, error.message = message, "the queue of the source cannot be opened");
                hop.flow.fail(message);
                drop(intake);
            }
        }
        hop.finish().await;
        drop(hop);
        upkeep.finish().await;
        let events = durable.depth();
        if events > 0 {
            tracing::info!(
                events,
                bytes = durable.bytes(),
                "what waits in the queue is left for the next run"
            );
        }
    }

    /// Opens the queue where it was left.
    async fn open(&self) -> Result<Opened, StateError> {
        let mut span = self.recover.lifecycle(TraceContext::default());
        let (directory, max_bytes) = (self.durable.directory.clone(), self.max_bytes);
        let opened = spawn_blocking(move || Queue::open(&directory, max_bytes)).await;
        let opened =
            opened.unwrap_or_else(|error| Err(StateError::because("the queue ended in a panic", error)));
        match &opened {
            Ok(Opened { queue, reader, torn, .. }) => {
                let events = queue.end() - reader.next();
                if let Some(record) = span.record() {
                    let mut attributes = Attributes::default();
                    attributes.set("flowgen.durable.depth", i64::try_from(events).unwrap_or(i64::MAX));
                    attributes.set("flowgen.durable.bytes", i64::try_from(queue.bytes()).unwrap_or(i64::MAX));
                    record.add_attributes(attributes);
                }
                span.end(SpanOutcome::Completed, None);
                if *torn > 0 {
                    tracing::warn!(
                        bytes = torn,
                        "what was being written to the queue when the worker ended is cut off: it was not accepted"
                    );
                }
                if events > 0 {
                    tracing::info!(events, "the queue goes on with what an earlier run accepted");
                }
            }
            Err(_) => {
                span.end(SpanOutcome::Failed, Some(STATE));
            }
        }
        opened
    }
}

/// What lets events in.
struct Gate<'a> {
    durable: &'a Durable,
    hop: &'a mut Hop,
    redelivery: Option<Arc<Redelivery>>,
    reading: Reading,
    turn: Turn,
    error_types: Arc<[&'static str]>,
    /// Everything before this number was accepted by an earlier run.
    recovered: u64,
}

/// When the events of a batch come in.
#[derive(Clone, Copy)]
struct Now {
    micros: i64,
    ticks: Ticks,
    instant: Instant,
}

impl Now {
    fn read() -> Self {
        Self { micros: now(), ticks: Ticks::now(), instant: Instant::now() }
    }
}

impl Gate<'_> {
    async fn run(&mut self, mut reader: QueueReader) -> Result<(), StateError> {
        let stopping = self.hop.flow.stop().clone();
        while !stopping.is_stopped() && !self.hop.is_closed() {
            let appended = self.durable.appended.notified();
            let is_closed = self.durable.is_closed.load(Ordering::Acquire);
            let (next, end) =
                (self.durable.next.load(Ordering::Relaxed), self.durable.end.load(Ordering::Acquire));
            if next == end {
                self.durable.oldest.store(0, Ordering::Relaxed);
                if is_closed {
                    break;
                }
                tokio::select! {
                    () = appended => {}
                    () = stopping.stopped() => {}
                }
                self.turn.begin();
                continue;
            }
            let batch = match self.durable.take(next, end) {
                Ok(Batch { events, at, .. }) => events.into_iter().map(|event| (at, event)).collect(),
                Err(end) => {
                    let read;
                    (reader, read) = self.read(reader, next, end).await?;
                    read
                }
            };
            self.let_in(batch).await;
        }
        Ok(())
    }

    /// Reads events from the queue, from the number `next` on.
    async fn read(
        &self,
        mut reader: QueueReader,
        next: u64,
        end: u64,
    ) -> Result<(QueueReader, Vec<(i64, Box<Event>)>), StateError> {
        let error_types = Arc::clone(&self.error_types);
        let known =
            move |name: &str| error_types.iter().copied().find(|known| *known == name).unwrap_or(OTHER_ERROR);
        let read = spawn_blocking(move || {
            let mut events = Vec::new();
            reader.skip_to(next);
            reader.read(end, AT_ONCE, |_, record| {
                let Accepted { at, event } = Accepted::read(record, &known)?;
                events.push((at, Box::new(event)));
                Ok(())
            })?;
            Ok((reader, events))
        });
        read.await
            .unwrap_or_else(|error| Err(StateError::because("reading the queue ended in a panic", error)))
    }

    /// Lets events in, which come in a row. When the flow stops the rest stays in the queue.
    async fn let_in(&mut self, batch: Vec<(i64, Box<Event>)>) {
        let stopping = self.hop.flow.stop().clone();
        let mut moment = Now::read();
        for (at, event) in batch {
            self.durable.oldest.store(at, Ordering::Relaxed);
            if self.redelivery.as_ref().is_some_and(|redelivery| redelivery.is_gated()) {
                self.pass_on().await;
                if let Some(redelivery) = &self.redelivery {
                    tokio::select! {
                        () = redelivery.opened() => {}
                        () = stopping.stopped() => {}
                    }
                }
                moment = Now::read();
            }
            if stopping.is_stopped() || self.hop.is_closed() {
                break;
            }
            self.enter(event, at, moment);
            let is_over = self.turn.is_over();
            if is_over || self.hop.is_full() {
                self.pass_on().await;
                moment = Now::read();
            }
            if is_over {
                self.turn.pass().await;
            }
        }
        self.pass_on().await;
    }

    fn enter(&mut self, mut event: Box<Event>, at: i64, moment: Now) {
        let number = self.durable.next.fetch_add(1, Ordering::AcqRel);
        let pending = self.reading.pending();
        let receipt: Box<dyn Receipt> = match &self.redelivery {
            Some(redelivery) => redelivery.original(&event, Some(pending)),
            None => Box::new(pending),
        };
        let waited = age(at, moment.micros);
        let left = |deadline: Duration| deadline.saturating_sub(Duration::from_nanos(waited));
        let entry = Entry {
            at: moment.ticks.before(waited),
            expires: self.hop.flow.deadline().map(|deadline| moment.instant + left(deadline)),
            receipt: Some(receipt),
            origin: if number < self.recovered { Origin::Recovery } else { Origin::Source },
        };
        event.ack = Ack::enter(self.hop.flow.ledger(), entry);
        event.queued = moment.ticks;
        self.hop.resume(event);
    }

    /// Sends on what was let in, and takes note of how far that is.
    async fn pass_on(&mut self) {
        self.hop.flush().await;
        let next = self.durable.next.load(Ordering::Relaxed);
        self.reading.end(Step::Reached(Position { part: "".into(), at: next.into() }));
    }
}
