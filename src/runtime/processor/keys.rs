//! Which events wait for another one of the same key.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use crate::{event::Event, task::TaskError, template::Template};

/// What events of one key have in common.
pub(super) type Key = Arc<str>;

/// The keys of which an event is being handled, and the events that wait for one of them.
#[derive(Debug)]
pub(super) struct Keys {
    template: Arc<Template>,
    /// Of each key that is busy, the events that wait for it.
    busy: HashMap<Key, VecDeque<Box<Event>>>,
    /// The events that have waited long enough; their keys stay busy.
    ready: VecDeque<(Key, Box<Event>)>,
    waiting: usize,
}

/// An event whose turn it is.
pub(super) enum Turn {
    /// Its key is busy from here on.
    Of(Key),
    /// It has no key.
    Without(TaskError),
}

impl Keys {
    pub(super) fn new(template: Arc<Template>) -> Self {
        Self { template, busy: HashMap::new(), ready: VecDeque::new(), waiting: 0 }
    }

    /// Returns how many events wait here.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Returns the next event whose turn it is, and takes in those of `arrived` that must wait.
    pub(super) fn next(&mut self, arrived: &mut VecDeque<Box<Event>>) -> Option<(Box<Event>, Turn)> {
        if let Some((key, event)) = self.ready.pop_front() {
            self.waiting -= 1;
            return Some((event, Turn::Of(key)));
        }
        while let Some(event) = arrived.pop_front() {
            let key = match self.template.render(&event) {
                Ok(key) => key,
                Err(error) => return Some((event, Turn::Without(error))),
            };
            if let Some(waiting) = self.busy.get_mut(&*key) {
                waiting.push_back(event);
                self.waiting += 1;
            } else {
                let key = Key::from(key);
                self.busy.insert(Arc::clone(&key), VecDeque::new());
                return Some((event, Turn::Of(key)));
            }
        }
        None
    }

    /// Lets the next event of a key have its turn: the one before is done.
    pub(super) fn release(&mut self, key: Key) {
        let next = self.busy.get_mut(&key).and_then(VecDeque::pop_front);
        match next {
            Some(event) => self.ready.push_back((key, event)),
            None => drop(self.busy.remove(&key)),
        }
    }
}
