//! Small tasks for hand-made flows.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use flowgen::{
    event::{Event, EventId, Payload},
    shutdown::Stop,
    task::{Emitter, Output, Processor, Source, Task, TaskError, Transform},
};

/// Emits events until `count`, or until it is stopped.
pub(crate) struct Numbers {
    pub(crate) count: u64,
}

#[async_trait]
impl Source for Numbers {
    async fn run(self: Box<Self>, emitter: &mut Emitter, stop: Stop) -> Result<(), TaskError> {
        for n in 0..self.count {
            if stop.is_stopped() {
                break;
            }
            emitter.stage(EventId::Sequence(n), |_| Ok(Payload::default().into())).await?;
        }
        Ok(())
    }
}

/// Emits `count` events and then waits to be stopped.
pub(crate) struct Waiting {
    pub(crate) count: u64,
}

#[async_trait]
impl Source for Waiting {
    async fn run(self: Box<Self>, emitter: &mut Emitter, stop: Stop) -> Result<(), TaskError> {
        Box::new(Numbers { count: self.count }).run(emitter, stop.clone()).await?;
        emitter.flush().await?;
        stop.stopped().await;
        Ok(())
    }
}

/// A transform that calls a function.
pub(crate) struct Apply<F>(pub(crate) F);

impl<F: FnMut(&mut Event, &mut Output) -> Result<(), TaskError> + Send> Transform for Apply<F> {
    fn apply(&mut self, event: &mut Event, output: &mut Output) -> Result<(), TaskError> {
        (self.0)(event, output)
    }
}

/// A processor that takes its time over each event, calls a function, and forwards.
pub(crate) struct Slow<F> {
    pub(crate) time: Duration,
    pub(crate) handle: F,
}

#[async_trait]
impl<F: Fn(&Event) -> Result<(), TaskError> + Send + Sync> Processor for Slow<F> {
    async fn handle(&self, event: &Event, output: &mut Output) -> Result<(), TaskError> {
        tokio::time::sleep(self.time).await;
        output.forward();
        (self.handle)(event)
    }
}

/// A source of `count` events.
pub(crate) fn numbers(count: u64) -> Task {
    Task::Source(Box::new(Numbers { count }))
}

/// A transform that forwards and counts.
pub(crate) fn counting(count: &Arc<AtomicU64>) -> Task {
    let count = Arc::clone(count);
    Task::Transform(Box::new(Apply(move |_: &mut Event, output: &mut Output| {
        count.fetch_add(1, Ordering::Relaxed);
        output.forward();
        Ok(())
    })))
}

/// A processor that takes `time` and does as `handle` says.
pub(crate) fn slow(
    time: Duration,
    handle: impl Fn(&Event) -> Result<(), TaskError> + Send + Sync + 'static,
) -> Task {
    Task::Processor(Box::new(Slow { time, handle }))
}
