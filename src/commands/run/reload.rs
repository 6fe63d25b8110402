//! Takes over changed configurations while the worker runs: each is checked and built as a whole first, so that a bad
//! one changes nothing; then only the flows that it changes are exchanged.

use std::{
    cell::Cell,
    convert::Infallible,
    future::pending,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{runtime::Handle, task::JoinSet};

use super::{
    Configuration, Limits,
    attempt::{Attempt, Refusal, Reloads},
    triggers::Triggers,
};
use crate::{
    config::{Changes, Footprint, Loaded},
    plan::Plan,
    report,
    runtime::{Exchange, Exchanges, Order, Stopping, Workshop},
    services::http::Server,
    shutdown::Stop,
};

/// Reloads the configuration of a worker.
pub(super) struct Reloader<'a> {
    pub(super) triggers: Triggers,
    pub(super) configuration: Arc<Mutex<Configuration>>,
    /// What the worker runs by.
    pub(super) running: Footprint,
    /// The number of that configuration; it was started with the first.
    pub(super) generation: u64,
    pub(super) reloads: &'a Reloads,
    pub(super) tasks: Handle,
    pub(super) workshop: Workshop,
    pub(super) exchanges: Exchanges,
    pub(super) server: Server,
    pub(super) stop: Stop,
    pub(super) limits: &'a Cell<Limits>,
    /// Whether log lines are JSON.
    pub(super) is_json: bool,
}

/// Why a configuration was not taken over.
enum Unapplied {
    Unchanged,
    Refused(Refusal),
    Stopping,
}

impl From<Stopping> for Unapplied {
    fn from(_: Stopping) -> Self {
        Self::Stopping
    }
}

impl Reloader<'_> {
    /// Reloads whenever there is a reason to, for as long as it is polled.
    pub(super) async fn run(mut self) -> Infallible {
        loop {
            let cause = self.triggers.next().await;
            if self.reload(cause).await.is_err() {
                return pending().await;
            }
        }
    }

    async fn reload(&mut self, cause: &'static str) -> Result<(), Stopping> {
        let mut order = self.exchanges.order().await?;
        let attempt = self.reloads.begin(cause, self.generation);
        let stop = self.stop.clone();
        let taken = tokio::select! {
            biased;
            taken = self.take_over(&mut order, &attempt) => taken,
            () = stop.stopped() => Err(Unapplied::Stopping),
        };
        // Of flows that are gone, and of those that were built and did not come.
        self.server.prune();
        match taken {
            Ok(changes) => attempt.applied(self.generation, &changes),
            Err(Unapplied::Unchanged) => attempt.unchanged(),
            Err(Unapplied::Refused(refusal)) => attempt.refused(refusal),
            Err(Unapplied::Stopping) => {
                drop(attempt);
                return Err(Stopping);
            }
        }
        Ok(())
    }

    /// Lets the worker run by the configuration as it is now. Nothing changes before all of it is known to be right.
    async fn take_over(&mut self, order: &mut Order, attempt: &Attempt<'_>) -> Result<Changes, Unapplied> {
        let Loaded { plan, footprint, .. } = self.load().await?;
        let changes = self.running.changes(&footprint);
        let limits = Limits { shutdown: plan.worker.shutdown_timeout, ..self.limits.get() };
        if changes.is_empty() && limits == self.limits.get() {
            return Err(Unapplied::Unchanged);
        }
        let Plan { worker, mut flows } = plan;
        flows.retain(|flow| changes.started.contains(&flow.name) || changes.restarted.contains(&flow.name));
        let mut building = JoinSet::new();
        let (workshop, context) = (self.workshop.clone(), attempt.context());
        building.spawn_on(async move { workshop.build(flows, context).await }, &self.tasks);
        let start = match building.join_next().await {
            Some(Ok(Ok(built))) => built,
            Some(Ok(Err(errors))) => {
                let tell = if self.is_json { report::log_failure } else { report::failure };
                errors.iter().for_each(|error| tell(error));
                return Err(Unapplied::Refused(Refusal::Build));
            }
            Some(Err(_)) | None => return Err(Unapplied::Refused(Refusal::Panic)),
        };
        self.limits.set(limits);
        let exchange = Exchange {
            stop: changes.stopped.iter().chain(&changes.restarted).cloned().collect(),
            start,
            timeout: limits.shutdown,
            shutdown_timeout: limits.drain(),
            channel_capacity: worker.channel_capacity,
        };
        order.make(exchange).await?;
        self.running.replace(footprint);
        self.generation += 1;
        Ok(changes)
    }

    /// Loads the configuration, and says what is wrong with it as at a start.
    async fn load(&self) -> Result<Loaded, Unapplied> {
        let (configuration, running) = (Arc::clone(&self.configuration), self.running.clone());
        let load = move || {
            let mut configuration = configuration.lock().unwrap_or_else(PoisonError::into_inner);
            configuration.load(Some(&running))
        };
        match self.tasks.spawn_blocking(load).await {
            Ok(Ok(loaded)) => {
                let tell = if self.is_json { report::log_warnings } else { report::warnings };
                tell(&loaded.warnings);
                Ok(loaded)
            }
            Ok(Err(problems)) => {
                let tell = if self.is_json { report::log_problems } else { report::problems };
                tell(&problems);
                Err(Unapplied::Refused(Refusal::Config))
            }
            Err(_) => Err(Unapplied::Refused(Refusal::Panic)),
        }
    }
}
