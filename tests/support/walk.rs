//! What a model says of one event: the way that it takes through a flow, and what comes of it.

use flowgen::ack::Outcome;

use super::collector::shape;

/// An event in the hands of one task, and all that came of it there.
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    pub(crate) task: usize,
    /// The event's id when the task got it.
    pub(crate) id: String,
    /// The outcome of the task's span.
    pub(crate) outcome: &'static str,
    /// What became of what went no further than this.
    pub(crate) end: Option<Outcome>,
    pub(crate) failed_attempts: u64,
    pub(crate) retries: u64,
    /// What the tasks downstream made of it.
    pub(crate) below: Vec<Walk>,
}

impl Walk {
    /// Returns what became of the event in all: the worst of its ends.
    pub(crate) fn settled(&self) -> Outcome {
        let ends = self.below.iter().map(Self::settled).chain(self.end);
        ends.max().expect("every way has an end")
    }

    /// Returns whether any end of it is a failure, whatever is made of that.
    pub(crate) fn is_failing(&self) -> bool {
        self.outcome == "failed" || self.below.iter().any(Self::is_failing)
    }

    /// Returns how the trace of it looks. Tasks are named `t` and their index.
    pub(crate) fn shape(&self) -> String {
        self.shape_of(self.below.iter().map(Self::shape).collect())
    }

    /// Returns how the part of the trace looks that leads to failures, if there are any.
    pub(crate) fn kept(&self) -> Option<String> {
        self.is_failing().then(|| self.shape_of(self.below.iter().filter_map(Self::kept).collect()))
    }

    fn shape_of(&self, mut below: Vec<String>) -> String {
        below.extend((0..self.retries).map(|_| "retry".to_owned()));
        shape(format!("t{}[{}]{}", self.task, self.id, self.outcome), below)
    }

    /// Calls `f` with this and all below.
    pub(crate) fn each(&self, f: &mut impl FnMut(&Self)) {
        f(self);
        self.below.iter().for_each(|walk| walk.each(f));
    }
}
