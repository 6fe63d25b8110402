//! The thread that no task keeps busy: where signals and deadlines are watched for, and probes are answered.

use std::{io, net::SocketAddr, thread};

use tokio::{
    runtime::{Builder, Runtime},
    sync::oneshot,
};

use super::health::Health;
use crate::{
    commands::signals::Hangups,
    services::health::{BindError, HealthServer},
};

/// Where signals and deadlines are watched for, and probes are answered.
pub(crate) struct Control {
    pub(super) runtime: Runtime,
    pub(super) hangups: Hangups,
    pub(super) health: Health,
    /// Who asks for the health, if anybody may.
    pub(super) probes: Option<HealthServer>,
}

impl Control {
    /// Makes it. From here on SIGHUP does not end the process; a reload that it asks for comes after the start.
    pub(crate) fn new() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let hangups = {
            let _inside = runtime.enter();
            Hangups::new()?
        };
        Ok(Self { runtime, hangups, health: Health::new(), probes: None })
    }

    /// Lets the worker be asked how it is at this address, from when probes are answered.
    ///
    /// # Errors
    /// It cannot be listened on.
    pub(crate) fn listen(&mut self, address: SocketAddr) -> Result<(), BindError> {
        self.probes = Some(HealthServer::bind(address)?);
        Ok(())
    }

    /// Does what blocks, on a thread of its own, and answers probes meanwhile.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub(crate) fn answering<T: Send>(&mut self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        let (done, is_done) = oneshot::channel();
        thread::scope(|scope| {
            let work = move || {
                // The other side is there until then.
                let _ = done.send(work());
            };
            thread::Builder::new().name("flowgen-open".into()).spawn_scoped(scope, work)?;
            self.runtime.block_on(async {
                tokio::select! {
                    result = is_done => result.map_err(io::Error::other),
                    never = self.health.answer(self.probes.as_mut()) => match never {},
                }
            })
        })
    }
}
