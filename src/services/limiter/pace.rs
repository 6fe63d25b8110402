//! Events that wait until a limit lets them go.

use std::sync::{Mutex, PoisonError};

use tokio::time::{Instant, sleep_until};

use super::Limiter;
use crate::{
    event::Event,
    problem::Problems,
    task::TaskError,
    template::{Template, TemplateError},
};

/// Lets events go at the rate of their key.
pub(crate) struct Pace {
    limiter: Mutex<Limiter>,
    /// What tells the events of one rate from those of another; without it all have the same one.
    key: Option<Template>,
}

impl Pace {
    /// Reports what is wrong with `key`, the template at the path of this name.
    pub(crate) fn check_key(path: &str, key: Option<&str>, problems: &mut Problems) {
        if let Some(Err(error)) = key.map(Template::compile) {
            error.report(path, problems);
        }
    }

    /// Makes one of a limiter and of the template `key`.
    pub(crate) fn new(limiter: Limiter, key: Option<&str>) -> Result<Self, TemplateError> {
        Ok(Self { limiter: Mutex::new(limiter), key: key.map(Template::compile).transpose()? })
    }

    /// Waits until an event may go. Nothing is taken from the rate before it does, so that one that is not waited for to
    /// the end, and comes again, counts once.
    pub(crate) async fn wait(&self, event: &Event) -> Result<(), TaskError> {
        let key = self.key.as_ref().map_or_else(|| Ok(String::new()), |key| key.render(event))?;
        while let Some(time) = self.admit(&key) {
            sleep_until(time).await;
        }
        Ok(())
    }

    fn admit(&self, key: &str) -> Option<Instant> {
        let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        limiter.admit(key, Instant::now()).err()
    }
}
