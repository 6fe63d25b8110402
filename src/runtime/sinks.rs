//! The processors of a flow that run, for whoever has to know that their work is on the disk.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::{processor::catch, supervisor::panic_message};
use crate::{
    task::{Processor, TaskError},
    telemetry::PANIC,
};

/// The processors of a flow that run.
#[derive(Default)]
pub(super) struct Sinks(Mutex<Vec<Weak<dyn Processor>>>);

impl std::fmt::Debug for Sinks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sinks")
    }
}

impl Sinks {
    /// Takes note of a processor, for as long as it is there.
    pub(super) fn add(&self, processor: &Arc<dyn Processor>) {
        let mut sinks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sinks.retain(|known| known.strong_count() > 0);
        sinks.push(Arc::downgrade(processor));
    }

    /// Makes what they have done so far outlast a crash of the machine.
    pub(super) async fn sync(&self) -> Result<(), TaskError> {
        let sinks: Vec<_> = {
            let sinks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            sinks.iter().filter_map(Weak::upgrade).collect()
        };
        for sink in sinks {
            catch(sink.sync())
                .await
                .unwrap_or_else(|panic| Err(TaskError::permanent(PANIC, panic_message(&*panic))))?;
        }
        Ok(())
    }
}
