//! Flows that take the place of others while the worker runs.
//!
//! A flow that leaves is stopped and drains, for itself and in a time of its own; the one in its place starts when the
//! last task of it has ended, so that there are never two of a name that run. Flows that neither leave nor come do not
//! notice. Must not know why flows change.

use std::{collections::BTreeMap, future::pending, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    drain::abort_patience,
    flow::{FlowHandle, State},
    running::RunningFlows,
    supervisor::FlowId,
    workshop::BuiltFlow,
};

/// The worker stops: flows that do not run yet are not started any more.
#[derive(Clone, Copy, Debug)]
pub struct Stopping;

/// What is to become of the flows of a worker.
#[derive(Debug)]
pub struct Exchange {
    /// The names of those that leave, also of those that others take the place of.
    pub stop: Vec<Arc<str>>,
    /// Those that come. One that has the name of one that leaves takes its place.
    pub start: Vec<BuiltFlow>,
    /// How long those that leave may take to drain.
    pub timeout: Duration,
    /// How long a shutdown may take from now on.
    pub shutdown_timeout: Duration,
    /// Events that a channel between two tasks of those that come holds; at least 1.
    pub channel_capacity: usize,
}

type Sent = (Exchange, oneshot::Sender<()>);

/// Exchanges flows of a worker that runs.
#[derive(Clone, Debug)]
pub struct Exchanges(mpsc::Sender<Announced>);

impl Exchanges {
    /// Announces an exchange. As long as the order is there, the worker does not end because all its flows have.
    ///
    /// # Errors
    /// The worker stops.
    pub async fn order(&self) -> Result<Order, Stopping> {
        let (ready, prepared) = oneshot::channel();
        let (alive, over) = oneshot::channel();
        self.0.send(Announced { prepared: Some(prepared), over }).await.map_err(|_| Stopping)?;
        Ok(Order { ready: Some(ready), _alive: alive })
    }
}

/// An exchange that is being prepared or made. Dropped before it is made, there is none.
#[derive(Debug)]
pub struct Order {
    ready: Option<oneshot::Sender<Sent>>,
    _alive: oneshot::Sender<()>,
}

impl Order {
    /// Makes the exchange, once, and waits until all flows that leave have ended and all that come have started.
    ///
    /// # Errors
    /// The worker stops. What was not started until then is not.
    pub async fn make(&mut self, exchange: Exchange) -> Result<(), Stopping> {
        let (done, is_done) = oneshot::channel();
        let ready = self.ready.take().ok_or(Stopping)?;
        ready.send((exchange, done)).map_err(|_| Stopping)?;
        is_done.await.map_err(|_| Stopping)
    }
}

/// The worker's side of [`Exchanges`].
#[derive(Debug)]
pub(super) struct Orders {
    announced: mpsc::Receiver<Announced>,
    order: Option<Announced>,
    /// The one that is being made.
    current: Option<Current>,
}

/// The worker's side of an [`Order`].
#[derive(Debug)]
struct Announced {
    /// There until it is made.
    prepared: Option<oneshot::Receiver<Sent>>,
    /// Closed when nobody has the order any more.
    over: oneshot::Receiver<()>,
}

/// An exchange on its way.
#[derive(Debug)]
struct Current {
    leaving: BTreeMap<FlowId, Leaving>,
    patience: Duration,
    /// Dropped, it says that the worker stops.
    done: oneshot::Sender<()>,
}

/// A flow that drains, and the one that takes its place.
#[derive(Debug)]
struct Leaving {
    successor: Option<BuiltFlow>,
    /// When patience with it ends; there is none left without.
    until: Option<Instant>,
}

/// Makes what watches and stops a flow that is started.
pub(super) type MakeHandle<'a> = &'a dyn Fn(&BuiltFlow) -> FlowHandle;

impl Orders {
    pub(super) fn new() -> (Exchanges, Self) {
        // One at a time: whoever has another one waits.
        let (sender, announced) = mpsc::channel(1);
        (Exchanges(sender), Self { announced, order: None, current: None })
    }

    /// Returns whether nobody is about to exchange anything.
    pub(super) fn is_empty(&self) -> bool {
        self.current.is_none() && self.order.is_none() && self.announced.is_empty()
    }

    /// Waits until something is to be done for an exchange. Safe to drop and call again.
    pub(super) async fn next(&mut self) -> Step {
        if let Some(current) = &self.current {
            let until = current.leaving.values().filter_map(|leaving| leaving.until).min();
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => pending().await,
            }
            return Step::TimeIsUp;
        }
        if self.order.is_none() {
            self.order = self.announced.recv().await;
        }
        // Nobody who could make one is left.
        let Some(order) = &mut self.order else { return pending().await };
        let Some(prepared) = &mut order.prepared else {
            // Closed, never sent to.
            let _ = (&mut order.over).await;
            self.order = None;
            return Step::Nothing;
        };
        let sent = prepared.await;
        order.prepared = None;
        match sent {
            Ok((exchange, done)) => Step::Begin(Box::new(exchange), done),
            Err(_) => Step::Nothing,
        }
    }

    /// Does what is to be done.
    pub(super) fn take(&mut self, step: Step, flows: &mut RunningFlows, handle: MakeHandle<'_>) {
        match step {
            Step::Nothing => {}
            Step::Begin(exchange, done) => self.begin(*exchange, done, flows, handle),
            Step::TimeIsUp => {
                if let Some(current) = &mut self.current {
                    current.end_patience(Instant::now(), flows);
                }
            }
        }
    }

    fn begin(
        &mut self,
        exchange: Exchange,
        done: oneshot::Sender<()>,
        flows: &mut RunningFlows,
        handle: MakeHandle<'_>,
    ) {
        let Exchange { stop, start, timeout, channel_capacity, .. } = exchange;
        flows.capacity = channel_capacity;
        let patience = abort_patience(timeout);
        let until = Some(Instant::now() + (timeout - patience));
        let mut leaving = BTreeMap::new();
        for name in stop {
            let Some(id) = flows.find(&name) else { continue };
            match flows.get(id).filter(|flow| flow.tasks > 0) {
                Some(flow) => {
                    tracing::info!(flow = flow.handle.name(), "flow stops: what has entered drains");
                    flow.handle.enter(State::Draining);
                    flow.handle.stop().stop();
                    leaving.insert(id, Leaving { successor: None, until });
                }
                None => flows.remove(id),
            }
        }
        for built in start {
            let before = flows.find(&built.flow.name).and_then(|id| leaving.get_mut(&id));
            match before {
                Some(leaving) => leaving.successor = Some(built),
                None => {
                    let handle = handle(&built);
                    flows.start(built, handle);
                }
            }
        }
        self.current = Some(Current { leaving, patience, done });
        self.conclude();
    }

    /// Takes note of a flow that has ended. If it was to leave, the one in its place starts.
    pub(super) fn ended(&mut self, id: FlowId, flows: &mut RunningFlows, handle: MakeHandle<'_>) {
        let Some(Leaving { successor, .. }) =
            self.current.as_mut().and_then(|current| current.leaving.remove(&id))
        else {
            return;
        };
        flows.remove(id);
        if let Some(built) = successor {
            let handle = handle(&built);
            flows.start(built, handle);
        }
        self.conclude();
    }

    fn conclude(&mut self) {
        if let Some(current) = self.current.take_if(|current| current.leaving.is_empty()) {
            // Nobody waits for it any more when the worker ends.
            let _ = current.done.send(());
        }
    }
}

impl Current {
    /// Cancels what has had its time, and names what goes on even then.
    fn end_patience(&mut self, now: Instant, flows: &mut RunningFlows) {
        let due =
            self.leaving.iter_mut().filter(|(_, leaving)| leaving.until.is_some_and(|until| until <= now));
        for (id, leaving) in due {
            if flows.get(*id).is_some_and(|flow| flow.is_cancelled) {
                flows.tell_stuck(*id);
                leaving.until = None;
            } else {
                flows.cancel(*id, "the drain of a reload");
                leaving.until = Some(now + self.patience);
            }
        }
    }
}

/// What is to be done for an exchange.
#[derive(Debug)]
pub(super) enum Step {
    /// It was given up, or it is over.
    Nothing,
    /// It is prepared.
    Begin(Box<Exchange>, oneshot::Sender<()>),
    /// Some of the flows that leave have had their time.
    TimeIsUp,
}

impl Step {
    /// Returns how long a shutdown may take from now on, if that changes.
    pub(super) fn shutdown_timeout(&self) -> Option<Duration> {
        match self {
            Self::Begin(exchange, _) => Some(exchange.shutdown_timeout),
            Self::Nothing | Self::TimeIsUp => None,
        }
    }
}
