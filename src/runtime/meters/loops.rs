//! What is counted of the loops of one task.

use super::{super::RunEnd, of_task};
use crate::telemetry::{
    Counter, Identity, Level, Meter,
    instruments::{TASK_ACTIVE, TASK_STARTS, TASK_STOPS},
};

/// What is counted of the loops of one task. Lasts as long as its flow.
#[derive(Clone, Debug, Default)]
pub(in crate::runtime) struct LoopMeters {
    active: Level,
    starts: Counter,
    completed: Counter,
    failed: Counter,
    panicked: Counter,
    cancelled: Counter,
}

impl LoopMeters {
    pub(in crate::runtime) fn new(meter: &Meter, identity: &Identity) -> Self {
        let stops = |reason| meter.counter(&TASK_STOPS, of_task(identity).with("reason", reason));
        Self {
            active: meter.level(&TASK_ACTIVE, of_task(identity)),
            starts: meter.counter(&TASK_STARTS, of_task(identity)),
            completed: stops("completed"),
            failed: stops("failed"),
            panicked: stops("panic"),
            cancelled: stops("cancelled"),
        }
    }

    /// Begins a loop, which is cancelled if what is returned is dropped before its end.
    pub(in crate::runtime) fn begin(&self) -> Tenure {
        self.starts.add(1);
        self.active.add(1);
        Tenure { meters: self.clone(), is_over: false }
    }
}

/// Counts one loop of a task to its end, however it ends.
#[derive(Debug)]
pub(in crate::runtime) struct Tenure {
    meters: LoopMeters,
    is_over: bool,
}

impl Tenure {
    /// Ends it in order.
    pub(in crate::runtime) fn end(mut self, end: &RunEnd) {
        self.is_over = true;
        match end {
            RunEnd::Completed => self.meters.completed.add(1),
            RunEnd::Failed(_) => self.meters.failed.add(1),
            RunEnd::Panicked(_) => self.meters.panicked.add(1),
        }
    }
}

impl Drop for Tenure {
    fn drop(&mut self) {
        self.meters.active.add(-1);
        if std::thread::panicking() {
            self.meters.panicked.add(1);
        } else if !self.is_over {
            self.meters.cancelled.add(1);
        }
    }
}
