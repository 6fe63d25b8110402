//! An event of a processor that has several in its hands, from the begin of its handling until it leaves.

use super::{
    super::{
        hop::{Due, Handling, Hop},
        outlets::BATCH,
    },
    attempts::{End, Tried, conclude},
};
use crate::{event::Event, task::Output};

/// An event that is handled.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) handling: Handling,
    pub(super) output: Output,
    pub(super) tried: Tried,
}

/// An event that is done, or that is not to be handled.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "most are done, and a box would cost each an allocation")]
pub(super) enum Leaving {
    Done(Job, End),
    Undone(Box<Event>, Due),
}

/// Begins jobs and concludes them. Has no more outputs than there were events at once.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    /// Kept between events for their allocation only.
    outputs: Vec<Output>,
}

impl Jobs {
    /// Begins the handling of an event.
    #[inline]
    pub(super) fn open(&mut self, hop: &Hop, event: Box<Event>) -> Job {
        let mut output = self.outputs.pop().unwrap_or_default();
        let handling = hop.open(event, &mut output);
        Job { handling, output, tried: Tried::default() }
    }

    /// Lets an event leave.
    #[inline]
    pub(super) fn conclude(&mut self, hop: &mut Hop, leaving: Leaving) {
        let mut output = match leaving {
            Leaving::Done(Job { handling, mut output, tried }, end) => {
                conclude(hop, handling, &mut output, tried, end);
                output
            }
            Leaving::Undone(event, due) => {
                let mut output = self.outputs.pop().unwrap_or_default();
                hop.dispose(event, due, &mut output);
                output
            }
        };
        output.shrink_to(BATCH);
        self.outputs.push(output);
    }
}
