//! One body on its way to the collector: tried again for as long as that may help, then accounted for.

use std::{
    collections::BTreeMap,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::sleep;

use super::{
    accounts::{Accounts, FLUSH_DEADLINE, Ledger, REJECTED},
    client::{Accepted, Client},
    collector::Collector,
    error::ExportError,
    flush::Flush,
};
use crate::{
    retry::RetryPolicy,
    telemetry::{Meter, Signal, Timer, instruments::EXPORT_DURATION, own},
    trace::{Moment, Ticks},
};

/// While the worker runs.
const RUNNING: RetryPolicy = RetryPolicy {
    max_attempts: u32::MAX,
    initial_backoff: Duration::from_secs(1),
    max_backoff: Duration::from_secs(30),
    max_elapsed: None,
};

/// While the worker waits for the flush.
const FLUSHING: RetryPolicy = RetryPolicy {
    initial_backoff: Duration::from_millis(100),
    max_backoff: Duration::from_secs(1),
    ..RUNNING
};

/// The longest that a collector can ask to wait while the worker runs; during the flush there is no time.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// Sends the bodies of one signal.
pub(super) struct Sender {
    client: Client,
    collector: Arc<Collector>,
    accounts: Arc<Accounts>,
    flush: Flush,
    meter: Meter,
    /// By the type of the error; kept, because a series lasts no longer than its handle.
    timers: Mutex<BTreeMap<Option<&'static str>, Timer>>,
}

/// What became of a body. All but the last are accounted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// The collector took it, or a part of it.
    Accepted,
    /// It is dropped; the next one may succeed.
    Dropped,
    /// It is dropped for this reason, and there is no time for another one.
    GivenUp(&'static str),
    /// It is too large for the collector, which may take its parts.
    TooLarge,
}

impl Sender {
    pub(super) fn new(
        client: Client,
        collector: Arc<Collector>,
        accounts: Arc<Accounts>,
        flush: Flush,
        meter: Meter,
    ) -> Self {
        Self { client, collector, accounts, flush, meter, timers: Mutex::default() }
    }

    pub(super) fn ledger(&self) -> &Ledger {
        match self.client.signal() {
            Signal::Traces => &self.accounts.spans,
            Signal::Metrics => &self.accounts.points,
        }
    }

    pub(super) fn flush(&self) -> Flush {
        self.flush.clone()
    }

    /// Sends a body that holds `items`, until it is taken or refused for good, the flush is over, or
    /// `give_up` resolves while it waits to be sent again.
    pub(super) async fn send(&self, body: Bytes, items: u64, give_up: impl Future<Output = ()>) -> Sent {
        let mut give_up = pin!(give_up);
        let mut attempts = 0;
        loop {
            let began = Ticks::now();
            let result = tokio::select! {
                biased;
                result = self.client.export(body.clone()) => result,
                () = over(self.flush()) => {
                    // The first that is heard of a collector which never answers may be this.
                    let error = ExportError::cut_off();
                    self.time(began, Some(&error));
                    self.collector.failed(self.client.signal(), &error);
                    return self.give_up(FLUSH_DEADLINE, items);
                }
            };
            self.time(began, result.as_ref().err());
            let error = match result {
                Ok(accepted) => return self.accepted(&accepted, items),
                Err(error) if error.is_too_large() && items > 1 => return Sent::TooLarge,
                Err(error) => error,
            };
            self.collector.failed(self.client.signal(), &error);
            if !error.is_retryable() {
                self.ledger().dropped(error.error_type(), items);
                return Sent::Dropped;
            }
            attempts += 1;
            match self.pause(&error, attempts, give_up.as_mut()).await {
                Pause::Over => {}
                Pause::Flush => attempts = 0,
                Pause::GivenUp(reason) => return self.give_up(reason, items),
            }
        }
    }

    /// Records how long a call took.
    fn time(&self, began: Ticks, error: Option<&ExportError>) {
        let nanos = Ticks::now().since(began);
        let error_type = error.map(ExportError::error_type);
        let mut timers = self.timers.lock().unwrap_or_else(PoisonError::into_inner);
        let timer = timers.entry(error_type).or_insert_with(|| {
            let labels = own::of_exporter(self.client.signal());
            let labels =
                error_type.into_iter().fold(labels, |labels, error| labels.with("error.type", error));
            self.meter.timer(&EXPORT_DURATION, labels)
        });
        timer.record(nanos, Moment::default());
    }

    /// Waits for the next attempt. The order to flush ends the wait: it may be the last chance.
    async fn pause(
        &self,
        error: &ExportError,
        attempts: u32,
        give_up: Pin<&mut impl Future<Output = ()>>,
    ) -> Pause {
        let is_flushing = self.flush.has_begun();
        let (policy, longest) =
            if is_flushing { (FLUSHING, FLUSHING.max_backoff) } else { (RUNNING, MAX_RETRY_AFTER) };
        let asked = error.retry_after().map(|asked| asked.min(longest));
        let delay = policy.delay(attempts, Duration::ZERO, asked).unwrap_or(policy.max_backoff);
        let mut flush = self.flush();
        tokio::select! {
            biased;
            () = give_up => Pause::GivenUp(error.error_type()),
            () = over(self.flush()) => Pause::GivenUp(FLUSH_DEADLINE),
            _ = flush.begun(), if !is_flushing => Pause::Flush,
            () = sleep(delay) => Pause::Over,
        }
    }

    fn accepted(&self, accepted: &Accepted, items: u64) -> Sent {
        let rejected = accepted.rejected.min(items);
        self.ledger().exported(items - rejected);
        self.ledger().dropped(REJECTED, rejected);
        let message = accepted.message.clone();
        self.collector.accepted(self.client.signal(), &Accepted { rejected, message });
        if rejected < items { Sent::Accepted } else { Sent::Dropped }
    }

    /// Drops a body that is sent no more.
    pub(super) fn give_up(&self, reason: &'static str, items: u64) -> Sent {
        self.ledger().dropped(reason, items);
        Sent::GivenUp(reason)
    }
}

/// How a wait for the next attempt ended.
enum Pause {
    Over,
    Flush,
    GivenUp(&'static str),
}

async fn over(mut flush: Flush) {
    flush.over().await;
}
