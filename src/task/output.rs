//! Where a task puts what it makes of an event.

use std::fmt;

use crate::{
    ack::{Ack, Fate, Outcome},
    event::{Event, Payload},
    telemetry::Attributes,
};

/// One of the tasks that a task's configuration names, by its place in `Kind::targets`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge(pub usize);

/// Which of the downstream tasks an event goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// All that depend on this task.
    All,
    /// The one that the configuration names.
    To(Edge),
}

/// A batch that is being collected, by a number that the task chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BatchId(pub u64);

/// What leaves a task: the event it handled, or a new one.
#[derive(Debug)]
pub enum Emission {
    /// The handled event itself.
    Forward,
    /// An event derived from it. Boxed, as all events are on their way: what most tasks emit is small then.
    Event(Box<Event>),
    /// Nothing yet: the handled event has become a part of a batch.
    Hold(BatchId),
    /// One event with this data, derived from all that the batch holds.
    Release(BatchId, Payload),
}

/// Collects what one attempt at one event emits, in order, and what its span says of it.
///
/// A failed attempt's emissions are discarded. What the last attempt said of itself stays, failed or not.
#[derive(Debug, Default)]
pub struct Output {
    emissions: Vec<(Route, Emission)>,
    /// `None` while nobody records the span of the event that is handled.
    span: Option<Attributes>,
    watcher: Option<Watcher>,
    fate: Option<Tie>,
}

/// Learns what becomes of a part of an event.
pub struct Watcher(pub Box<dyn FnOnce(Outcome) + Send + Sync>);

/// How an event is tied to the fate of others.
#[derive(Debug)]
enum Tie {
    /// It decides it.
    Decides(Fate),
    /// It follows.
    Follows(Fate),
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watcher")
    }
}

impl Output {
    /// Passes the handled event on to all downstream tasks.
    pub fn forward(&mut self) {
        self.emissions.push((Route::All, Emission::Forward));
    }

    /// Passes the handled event on to one downstream task.
    pub fn forward_to(&mut self, edge: Edge) {
        self.emissions.push((Route::To(edge), Emission::Forward));
    }

    /// Emits an event made with `Event::derive` to all downstream tasks.
    pub fn emit(&mut self, event: Event) {
        self.emissions.push((Route::All, Emission::Event(Box::new(event))));
    }

    /// Emits an event made with `Event::derive` to one downstream task.
    pub fn emit_to(&mut self, edge: Edge, event: Event) {
        self.emissions.push((Route::To(edge), Emission::Event(Box::new(event))));
    }

    /// Makes the handled event a part of a batch, and ends its own way there: what becomes of the batch becomes of it.
    /// Transforms only, and nothing else may be done with that event.
    pub fn hold(&mut self, batch: BatchId) {
        self.emissions.push((Route::All, Emission::Hold(batch)));
    }

    /// Sends one event with this data to all downstream tasks, in the place of all events that the batch holds. It is
    /// derived from the last of them. The number may be used again.
    pub fn release(&mut self, batch: BatchId, data: Payload) {
        self.emissions.push((Route::All, Emission::Release(batch, data)));
    }

    /// Lets `watcher` learn what becomes of all that comes of the handled event from here on, before its source does.
    /// It is not called if the event goes no further than this task.
    pub fn watch(&mut self, watcher: impl FnOnce(Outcome) + Send + Sync + 'static) {
        self.watcher = Some(Watcher(Box::new(watcher)));
    }

    /// Lets what becomes of all that comes of the handled event from here on become of every event that follows `fate`.
    pub fn decide(&mut self, fate: Fate) {
        self.fate = Some(Tie::Decides(fate));
    }

    /// Ends the way of the handled event here, but not the event: that is filtered once all is well with the one that
    /// decides `fate`, and else has the same outcome. Nothing may be emitted of it.
    pub fn follow(&mut self, fate: Fate) {
        self.fate = Some(Tie::Follows(fate));
    }

    /// Ties the share of the handled event to all that the task said of it, if `is_done`: else it said nothing. The
    /// runtime does.
    #[must_use]
    pub fn tie(&mut self, mut ack: Ack, is_done: bool) -> Ack {
        let (watcher, fate) = (self.watcher.take(), self.fate.take());
        if !is_done {
            return ack;
        }
        match fate {
            Some(Tie::Decides(fate)) => ack = ack.decide(fate),
            Some(Tie::Follows(fate)) => ack = ack.follow(fate),
            None => {}
        }
        // The last one to be tied is the first one to learn.
        match watcher {
            Some(Watcher(watcher)) => ack.watch(watcher),
            None => ack,
        }
    }

    /// Returns whether the task said anything that [`Self::tie`] would do. The runtime asks.
    #[inline]
    pub fn has_ties(&self) -> bool {
        self.watcher.is_some() || self.fate.is_some()
    }

    /// Returns the attributes of the event's span, or `None` if nobody records it: then there is nothing
    /// to find out or to format for it. They change what is shown of the event and nothing else.
    ///
    /// Never a payload, a header's value, a query or a credential.
    #[inline]
    pub fn span(&mut self) -> Option<&mut Attributes> {
        self.span.as_mut()
    }

    /// Says whether the span of the event that is handled next is recorded. The runtime does.
    #[inline]
    pub fn trace(&mut self, is_recorded: bool) {
        self.span = is_recorded.then(Attributes::default);
    }

    /// Takes out what the span says, when the event is handled. The runtime does.
    #[inline]
    pub fn take_attributes(&mut self) -> Attributes {
        self.span.take().unwrap_or_default()
    }

    /// Returns how many emissions were collected.
    pub fn len(&self) -> usize {
        self.emissions.len()
    }

    /// Returns whether nothing was emitted.
    pub fn is_empty(&self) -> bool {
        self.emissions.is_empty()
    }

    /// Forgets what an attempt emitted and said of itself, before the next one.
    pub fn clear(&mut self) {
        self.emissions.clear();
        self.watcher = None;
        self.fate = None;
        if let Some(attributes) = &mut self.span {
            attributes.clear();
        }
    }

    /// Gives back room beyond that of `capacity` emissions.
    pub fn shrink_to(&mut self, capacity: usize) {
        self.emissions.shrink_to(capacity);
    }

    /// Takes out what was emitted, in order.
    pub fn drain(&mut self) -> impl ExactSizeIterator<Item = (Route, Emission)> + '_ {
        self.emissions.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_collected_only_while_a_span_is_recorded() {
        let mut output = Output::default();
        assert_eq!(output.span(), None);
        output.trace(true);
        output.span().unwrap().set("a", 1_i64);
        assert_eq!(output.take_attributes().get("a"), Some(&1_i64.into()));
        assert_eq!(output.span(), None, "the span is over");
        output.trace(true);
        output.trace(false);
        assert_eq!(output.span(), None);
        assert_eq!(output.take_attributes(), Attributes::default());
    }

    #[test]
    fn the_last_attempt_describes_the_span() {
        let mut output = Output::default();
        output.trace(true);
        output.span().unwrap().set("first", true);
        output.forward();
        output.clear();
        assert!(output.is_empty());
        output.span().unwrap().set("second", true);
        output.drain().for_each(drop);
        let attributes = output.take_attributes();
        assert_eq!((attributes.get("first"), attributes.get("second")), (None, Some(&true.into())));
    }
}
