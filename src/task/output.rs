//! Where a task puts what it makes of an event.

use crate::event::Event;

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

/// What leaves a task: the event it handled, or a new one.
#[derive(Debug)]
pub enum Emission {
    /// The handled event itself.
    Forward,
    /// An event derived from it.
    Event(Event),
}

/// Collects what one attempt at one event emits, in order. A failed attempt's output is discarded.
#[derive(Debug, Default)]
pub struct Output {
    emissions: Vec<(Route, Emission)>,
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
        self.emissions.push((Route::All, Emission::Event(event)));
    }

    /// Emits an event made with `Event::derive` to one downstream task.
    pub fn emit_to(&mut self, edge: Edge, event: Event) {
        self.emissions.push((Route::To(edge), Emission::Event(event)));
    }

    /// Returns how many emissions were collected.
    pub fn len(&self) -> usize {
        self.emissions.len()
    }

    /// Returns whether nothing was emitted.
    pub fn is_empty(&self) -> bool {
        self.emissions.is_empty()
    }

    /// Forgets what was emitted.
    pub fn clear(&mut self) {
        self.emissions.clear();
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
