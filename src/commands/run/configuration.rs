//! Where the configuration of a worker stands, how it is loaded, and whether it has changed since.

use std::path::PathBuf;

use crate::{
    config::{self, Footprint, Loaded, ProcessEnvironment, Recorder, Watch},
    problem::Problem,
    tasks,
};

/// The files of a worker.
#[derive(Debug)]
pub(crate) struct Configuration {
    paths: Vec<PathBuf>,
    worker_config: Option<PathBuf>,
    watch: Option<Watch>,
}

impl Configuration {
    /// Names the files, and watches them if that is asked for.
    pub(crate) fn new(paths: Vec<PathBuf>, worker_config: Option<PathBuf>, is_watched: bool) -> Self {
        let watch = is_watched.then(|| Watch::new(paths.clone(), worker_config.clone()));
        Self { paths, worker_config, watch }
    }

    /// Loads it, for a worker that runs by `running` if there is one. Blocks.
    ///
    /// # Errors
    /// Every problem of every file.
    pub(crate) fn load(&mut self, running: Option<&Footprint>) -> Result<Loaded, Vec<Problem>> {
        // First, so that what changes while it is loaded is seen.
        if let Some(watch) = &mut self.watch {
            watch.take();
        }
        let environment = Recorder::new(&ProcessEnvironment);
        let (worker_config, registry) = (self.worker_config.as_deref(), tasks::registry());
        let loaded = match running {
            Some(running) => config::reload(running, &self.paths, worker_config, registry, &environment),
            None => config::load(&self.paths, worker_config, registry, &environment),
        };
        if let Some(watch) = &mut self.watch {
            watch.add(environment.into_contents());
        }
        loaded
    }

    /// Returns whether changes are looked for.
    pub(super) fn is_watched(&self) -> bool {
        self.watch.is_some()
    }

    /// Returns whether it has changed since it was loaded, and stands still. Blocks.
    pub(super) fn has_changed(&mut self) -> bool {
        self.watch.as_mut().is_some_and(Watch::has_changed)
    }
}
