//! The seam: what a task kind implements and what the runtime gives it.
//!
//! A kind holds its configuration and its logic. Only the runtime loops, spawns, retries, settles acks,
//! opens spans and records metrics, so a kind cannot forget any of that.

mod cache;
mod emitter;
mod error;
mod flush_error;
pub mod http;
mod kind;
mod output;
mod remote;
#[cfg(test)]
pub(crate) mod testing;

use std::fmt;

use async_trait::async_trait;
use tokio::time::Instant;

pub use cache::{Cache, NoCache, TooLarge};
pub use emitter::{
    Answering, Closed, Decode, Emitter, Incoming, Port, Position, Record, Resumption, Trigger,
};
pub use error::{ErrorClass, TaskError};
pub use flush_error::FlushError;
pub use kind::{BuildContext, BuildError, Durability, Kind, Needs, Resources, Role, Target};
pub use output::{BatchId, Edge, Emission, Output, Route, Watcher};
pub use remote::TraceContextMode;

use crate::{event::Event, shutdown::Stop};

/// A task that was built and is ready to run.
pub enum Task {
    /// Brings events in.
    Source(Box<dyn Source>),
    /// Works on events with the CPU only.
    Transform(Box<dyn Transform>),
    /// Works on events with I/O.
    Processor(Box<dyn Processor>),
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source(_) => "Source",
            Self::Transform(_) => "Transform",
            Self::Processor(_) => "Processor",
        })
    }
}

/// How much a finite source has to read, for the progress line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// A number of events.
    Events(u64),
    /// A number of bytes; the source reports them with [`Emitter::advance`].
    Bytes(u64),
}

/// Brings events into a flow.
#[async_trait]
pub trait Source: Send {
    /// Reads until the end, or until `stop`; returning ends this source, and the flow drains once all
    /// of its sources have ended. What is staged then is still sent on.
    ///
    /// # Errors
    /// Fatal ones only: what a source can wait out it waits out. A record that cannot be parsed is no
    /// error here but [`Emitter::reject`]ed. `Closed`, passed on with `?`, ends the source quietly.
    async fn run(self: Box<Self>, emitter: &mut Emitter, stop: Stop) -> Result<(), TaskError>;

    /// Returns whether another such source that is built later goes on where this one ended, as
    /// [`Emitter::resumptions`] says. Else a failure of it ends its flow.
    fn can_resume(&self) -> bool {
        false
    }

    /// Returns how much there is to read, if it is known and finite.
    fn extent(&self) -> Option<Extent> {
        None
    }
}

/// Works on events with the CPU only: what fails once fails always, so it is never retried.
pub trait Transform: Send {
    /// Handles one event: forwards it to `output`, changed in place or not, or emits events derived
    /// from it. Emitting nothing filters it.
    ///
    /// # Errors
    /// Permanent by definition. The event must then be as it came: the runtime still needs it.
    fn apply(&mut self, event: &mut Event, output: &mut Output) -> Result<(), TaskError>;

    /// Returns whether it collects events, with `Output::hold`. Such a task is one of a kind that `IS_SERIAL`.
    fn is_batching(&self) -> bool {
        false
    }

    /// Returns when [`Self::flush`] is due because of the time, if ever. Asked between events, and after each flush.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// Releases the batches that are due at `now`, or for [`FlushReason::Shutdown`] all of them.
    fn flush(&mut self, reason: FlushReason, now: Instant, output: &mut Output) {
        let _ = (reason, now, output);
    }
}

/// Why a batch is released, other than by an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushReason {
    /// Its time has come.
    Timeout,
    /// No further events come before what is held has come to its end: the flow drains, or a source waits to bring in
    /// again what failed.
    Shutdown,
}

/// Works on events with I/O. The runtime adds timeouts and retries of transient failures, and discards
/// the output of an attempt that failed.
#[async_trait]
pub trait Processor: Send + Sync {
    /// Handles one event, as [`Transform::apply`] does, except that it cannot change it in place.
    ///
    /// # Errors
    /// Transient or permanent.
    async fn handle(&self, event: &Event, output: &mut Output) -> Result<(), TaskError>;

    /// Returns whether [`Self::handle`] only collects and [`Self::flush`] does the work. The runtime then
    /// settles and sends on nothing before the flush that follows each batch. If it panics before that, the one
    /// that is built in its place is to handle again what it had collected.
    fn is_buffered(&self) -> bool {
        false
    }

    /// Makes everything handled so far take effect, or none of it as far as the medium can take it back: a
    /// file can, a pipe cannot.
    ///
    /// # Errors
    /// Transient or permanent, for every event of the batch or for some. The runtime calls it again while
    /// one is transient, and [`Self::forget`] if any event has failed in the end. The batch ends with a
    /// success or with that.
    async fn flush(&self) -> Result<(), FlushError> {
        Ok(())
    }

    /// Forgets what still waits of the batch: the runtime gave up on it.
    fn forget(&self) {}

    /// Makes all that it has done outlast a crash of the machine, as far as it can. The runtime calls it, beside the other
    /// methods, before it takes note for good that a source is done with those events.
    ///
    /// # Errors
    /// Nobody knows what of it is lost. The flow ends.
    async fn sync(&self) -> Result<(), TaskError> {
        Ok(())
    }

    /// Ends the work after the last event, within the time that a shutdown leaves.
    ///
    /// # Errors
    /// Logged; there is no event left to fail.
    async fn close(&self) -> Result<(), TaskError> {
        Ok(())
    }
}
