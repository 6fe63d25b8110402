//! What makes a worker load its configuration anew: a signal, or a change of the files if they are watched.

use std::{
    future::pending,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{runtime::Handle, time};

use super::Configuration;
use crate::commands::signals::Hangups;

/// How often it is looked whether files have changed. A change counts when it is the same at two looks.
const PERIOD: Duration = Duration::from_secs(1);

/// Tells when the configuration is to be loaded anew.
pub(super) struct Triggers {
    pub(super) hangups: Hangups,
    pub(super) configuration: Arc<Mutex<Configuration>>,
    pub(super) is_watched: bool,
    /// Where looks may block.
    pub(super) tasks: Handle,
}

impl Triggers {
    /// Waits for the next one, and returns what it is called. What comes meanwhile is one. Safe to drop and call again.
    pub(super) async fn next(&mut self) -> &'static str {
        let Self { hangups, configuration, is_watched, tasks } = self;
        tokio::select! {
            () = hangups.next() => "SIGHUP",
            () = changed(configuration, tasks), if *is_watched => "watch",
        }
    }
}

/// Waits until files have changed.
async fn changed(configuration: &Arc<Mutex<Configuration>>, tasks: &Handle) {
    loop {
        time::sleep(PERIOD).await;
        let configuration = Arc::clone(configuration);
        let look = move || configuration.lock().unwrap_or_else(PoisonError::into_inner).has_changed();
        match tasks.spawn_blocking(look).await {
            Ok(true) => return,
            Ok(false) => {}
            // It has panicked, and said so: it would again.
            Err(_) => return pending().await,
        }
    }
}
