//! The current-hop cell: which task a thread works for right now, and on which event, so that a log line
//! can say so without a span.

use std::{
    cell::RefCell,
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use scoped_tls::scoped_thread_local;
use tokio::task::JoinHandle;

use crate::event::Event;

// Lent, not cloned: an event's id is shared by all events of its source, and counting who holds it would cost
// more than handling it.
scoped_thread_local!(static EVENT: Event);

thread_local! {
    static CURRENT: RefCell<Option<Arc<Identity>>> = const { RefCell::new(None) };
}

/// Who a task is, in log lines, spans and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The flow's name.
    pub flow: Arc<str>,
    /// The task's name.
    pub task: Arc<str>,
    /// The kind's name.
    pub task_type: &'static str,
    /// The task's index in its flow.
    pub task_id: usize,
}

/// Calls `f` with the task that the current thread works for.
pub(super) fn current<R>(f: impl FnOnce(Option<&Identity>) -> R) -> R {
    // A destructor of another thread-local may log when the cell is already gone.
    let identity = CURRENT.try_with(|cell| cell.borrow().clone()).ok().flatten();
    f(identity.as_deref())
}

/// Makes whatever `f` logs that of `event`.
///
/// The runtime does so around [`Processor::handle`](crate::task::Processor::handle). A transform has its event
/// for itself, so one that logs does it.
pub fn inside<R>(event: &Event, f: impl FnOnce() -> R) -> R {
    EVENT.set(event, f)
}

/// Makes whatever `future` logs that of `event`.
pub async fn inside_async<F: Future>(event: &Event, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|context| EVENT.set(event, || future.as_mut().poll(context))).await
}

/// Calls `f` with the event that the current thread works on.
pub(super) fn current_event<R>(f: impl FnOnce(Option<&Event>) -> R) -> R {
    if EVENT.is_set() { EVENT.with(|event| f(Some(event))) } else { f(None) }
}

/// A future that fills the current-hop cell while it is polled.
pub struct Scoped<F> {
    identity: Option<Arc<Identity>>,
    future: Pin<Box<F>>,
}

impl<F: Future> Scoped<F> {
    /// Makes whatever `future` logs that of `identity`.
    pub fn new(identity: Arc<Identity>, future: F) -> Self {
        Self { identity: Some(identity), future: Box::pin(future) }
    }
}

impl<F: Future> Future for Scoped<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let _entered = Entered::new(&mut this.identity);
        this.future.as_mut().poll(context)
    }
}

/// Runs `work` on a thread that may block, for the task that the current thread works for.
pub fn spawn_blocking<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> JoinHandle<R> {
    let mut identity = CURRENT.try_with(|cell| cell.borrow().clone()).ok().flatten();
    #[expect(clippy::disallowed_methods, reason = "this is the wrapper that everyone else uses")]
    let handle = tokio::task::spawn_blocking(move || {
        let _entered = Entered::new(&mut identity);
        work()
    });
    handle
}

/// Holds the cell filled. The identity moves in and back, so that a poll touches no counter; a panic
/// moves it back too, after the panic hook has read it.
struct Entered<'a>(&'a mut Option<Arc<Identity>>);

impl<'a> Entered<'a> {
    fn new(identity: &'a mut Option<Arc<Identity>>) -> Self {
        CURRENT.with(|cell| std::mem::swap(&mut *cell.borrow_mut(), identity));
        Self(identity)
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        CURRENT.with(|cell| std::mem::swap(&mut *cell.borrow_mut(), self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(task: &str) -> Arc<Identity> {
        Arc::new(Identity { flow: "orders".into(), task: task.into(), task_type: "script", task_id: 1 })
    }

    fn task() -> Option<String> {
        current(|identity| identity.map(|identity| identity.task.to_string()))
    }

    #[tokio::test]
    async fn a_task_is_current_while_it_is_polled_and_not_while_it_waits() {
        let outer = Scoped::new(identity("outer"), async {
            assert_eq!(task().as_deref(), Some("outer"));
            Scoped::new(identity("inner"), async { assert_eq!(task().as_deref(), Some("inner")) }).await;
            assert_eq!(task().as_deref(), Some("outer"));
            tokio::task::yield_now().await;
            assert_eq!(task().as_deref(), Some("outer"));
        });
        let blocking = Scoped::new(identity("blocking"), async {
            assert_eq!(spawn_blocking(task).await.unwrap().as_deref(), Some("blocking"));
        });
        blocking.await;
        let other = async { assert_eq!(task(), None) };
        tokio::join!(outer, other);
        assert_eq!(task(), None);
    }
}
