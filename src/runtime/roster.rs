//! The flows that a worker runs at this moment, for whoever watches them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::flow::FlowHandle;

/// The flows of a worker, as they come and go. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Roster(Arc<Mutex<Vec<FlowHandle>>>);

impl Roster {
    /// Returns the flows, those first that are there for longest.
    pub fn flows(&self) -> Vec<FlowHandle> {
        self.lock().clone()
    }

    pub(super) fn add(&self, flow: FlowHandle) {
        self.lock().push(flow);
    }

    pub(super) fn remove(&self, flow: &FlowHandle) {
        self.lock().retain(|known| !known.is_same(flow));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<FlowHandle>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
