//! How a source hands its events to the flow.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::oneshot;

use super::TaskError;
use crate::{
    ack::Receipt,
    event::{EventId, Meta, Payload},
    telemetry::{AnswerSpan, Attributes},
    trace::{Remote, Ticks},
};

/// Nobody downstream takes events any more: every task there has ended. A source passes it on with `?`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

/// What a source knows of an event that it brings in.
#[derive(Debug, Default)]
pub struct Record {
    /// The payload.
    pub data: Payload,
    /// Metadata.
    pub meta: Meta,
    /// The event's own time; `None` is now.
    pub timestamp: Option<Timestamp>,
}

impl From<Payload> for Record {
    fn from(data: Payload) -> Self {
        Self { data, ..Self::default() }
    }
}

/// What a source knows of an event before it is decoded.
pub struct Incoming {
    /// The event's id.
    pub id: EventId,
    /// What came with it of a trace.
    pub remote: Option<Box<Remote>>,
    /// Who learns what became of it: a source that can answer, or have the event delivered again by another program.
    /// Without one a transient failure is tried again from here on, until it is none.
    pub receipt: Option<Box<dyn Receipt>>,
    /// What a source that answers needs to do so.
    pub answering: Option<Answering>,
}

impl From<EventId> for Incoming {
    fn from(id: EventId) -> Self {
        Self { id, remote: None, receipt: None, answering: None }
    }
}

/// An event that its source answers: its span begins with the request, and ends with the answer.
#[derive(Debug)]
pub struct Answering {
    /// When the request came.
    pub since: Ticks,
    /// Who ends the span. It is sent before the event is.
    pub span: oneshot::Sender<AnswerSpan>,
}

/// What became of a time of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// An event was made.
    Fired,
    /// There was no time for one: the flow was busy.
    Skipped,
    /// The event that was made has failed at once.
    Failed,
}

impl Trigger {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Fired, Self::Skipped, Self::Failed];

    /// Returns the name used in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fired => "fired",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
        }
    }
}

/// How far a source has read one of the parts of its input, and from where it goes on when it is built anew, in this run
/// or the next.
#[derive(Clone, Debug, PartialEq)]
pub struct Position {
    /// Which part of its input it is: one of several files, or "" for what has no parts.
    pub part: Arc<str>,
    /// Where the source stands in it, in the words of its kind.
    pub at: Value,
}

/// Where a source goes on in one of the parts of its input.
#[derive(Clone, Debug, PartialEq)]
pub struct Resumption {
    /// The last position that was reached.
    pub position: Position,
    /// How many events behind it were let in besides: they are left out.
    pub events: u64,
}

/// Makes a record of the raw input that a source has in hand, and describes the event's span if that is
/// recorded, as `Output::span` does.
pub type Decode<'a> = &'a mut dyn FnMut(Option<&mut Attributes>) -> Result<Record, TaskError>;

/// The flow's side of an [`Emitter`]. The runtime implements it, and so do tests of sources.
#[async_trait]
pub trait Port: Send {
    /// Lets one event in: `decode` runs inside the event's `task.handle`, and an error of it is the
    /// event's failure. The event is staged until the next [`Self::flush`].
    fn admit(&mut self, incoming: Incoming, decode: Decode<'_>);

    /// Returns whether a flush has to come before anything new: it waits until what came before is through.
    fn is_gated(&self) -> bool {
        false
    }

    /// Returns whether it is time for a flush: enough is staged, or the source has held its thread long enough.
    fn is_full(&self) -> bool;

    /// Sends on what is staged, and waits while the flow is full.
    async fn flush(&mut self) -> Result<(), Closed>;

    /// Sends on the rest when the source has ended.
    async fn finish(&mut self);

    /// Notes whether the source has a connection to what it reads. Whoever does not care does nothing.
    fn connected(&mut self, is_connected: bool) {
        let _ = is_connected;
    }

    /// Notes that what was let in so far comes before `position`.
    fn reach(&mut self, position: Position);

    /// Drops the position of a part.
    fn forget(&mut self, part: &str);

    /// Returns where a source goes on, for each part that was reached.
    fn resumptions(&self) -> Vec<Resumption>;

    /// Notes how much of a finite input was read.
    fn advance(&mut self, bytes: u64);

    /// Notes what became of so many times of a schedule.
    fn trigger(&mut self, outcome: Trigger, count: u64);
}

/// Hands the events of one source to its flow.
///
/// Back-pressure is in the `await`: a full flow makes the source wait.
pub struct Emitter {
    port: Box<dyn Port>,
}

impl Emitter {
    /// Makes an emitter that hands events to `port`.
    pub fn new(port: Box<dyn Port>) -> Self {
        Self { port }
    }

    /// Emits one event and sends it on at once.
    ///
    /// # Errors
    /// [`Closed`] when every task downstream has ended.
    pub async fn emit(&mut self, id: EventId, record: impl Into<Record> + Send) -> Result<(), Closed> {
        let mut record = Some(record.into());
        if self.port.is_gated() {
            self.port.flush().await?;
        }
        self.port.admit(id.into(), &mut |_| Ok(record.take().unwrap_or_default()));
        self.port.flush().await
    }

    /// Stages one event that is decoded from raw input by `decode`, and sends on what is staged once
    /// that is worth it. Whoever stages calls [`Self::flush`] before waiting for more input.
    ///
    /// An error of `decode` is the failure of this event: it is counted and logged, and reading goes on.
    /// What it says of the event's span before that stays.
    ///
    /// # Errors
    /// [`Closed`] when every task downstream has ended.
    pub async fn stage(
        &mut self,
        incoming: impl Into<Incoming> + Send,
        mut decode: impl FnMut(Option<&mut Attributes>) -> Result<Record, TaskError> + Send,
    ) -> Result<(), Closed> {
        if self.port.is_gated() {
            self.port.flush().await?;
        }
        self.port.admit(incoming.into(), &mut decode);
        if self.port.is_full() { self.port.flush().await } else { Ok(()) }
    }

    /// Reports a record that cannot become an event: it entered, and failed with `error`.
    ///
    /// # Errors
    /// [`Closed`] when every task downstream has ended.
    pub async fn reject(&mut self, id: EventId, error: TaskError) -> Result<(), Closed> {
        let mut error = Some(error);
        self.stage(id, |_| Err(error.take().unwrap_or_else(|| TaskError::from(Closed)))).await
    }

    /// Sends on what is staged, and waits while the flow is full.
    ///
    /// # Errors
    /// [`Closed`] when every task downstream has ended.
    pub async fn flush(&mut self) -> Result<(), Closed> {
        self.port.flush().await
    }

    /// Sends on the rest. The runtime calls it when the source has ended.
    pub(crate) async fn finish(&mut self) {
        self.port.finish().await;
    }

    /// Notes whether the source has a connection to what it reads: as long as it has none, the worker is not ready. One that
    /// connects to something calls it with `false` before it tries and whenever the connection is gone, and with `true` once
    /// there is one. A source that never calls it is connected, and what it said last is gone with its end.
    pub fn connected(&mut self, is_connected: bool) {
        self.port.connected(is_connected);
    }

    /// Notes that all that was let in so far of this part comes before `position`. What is let in afterwards belongs to the
    /// same part, so that a source that reads several in turn says where it stands in one before it turns to it.
    ///
    /// A source that can resume calls it before its first event, and every so many events: what comes between two calls
    /// comes again together after a crash.
    pub fn reach(&mut self, position: Position) {
        self.port.reach(position);
    }

    /// Notes that the last of a part was let in, and that it will not be there again: nothing goes on from its position.
    pub fn forget(&mut self, part: &str) {
        self.port.forget(part);
    }

    /// Returns where the source goes on, for each part of its input that another one before it had reached.
    pub fn resumptions(&self) -> Vec<Resumption> {
        self.port.resumptions()
    }

    /// Notes that `bytes` more of a finite input were read.
    pub fn advance(&mut self, bytes: u64) {
        self.port.advance(bytes);
    }

    /// Notes what became of so many times of a schedule. Zero says that there is one.
    pub fn trigger(&mut self, outcome: Trigger, count: u64) {
        self.port.trigger(outcome, count);
    }
}

impl fmt::Debug for Emitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Emitter")
    }
}
