//! A thread of its own for what blocks as disks do, with what it works on.
//!
//! Nobody joins it: a look at a share that does not answer cannot hold up the exit. It ends with its [`Lane`].

use std::{io, sync::mpsc, thread};

use tokio::sync::oneshot;

use crate::{format, task::TaskError};

/// How many jobs wait at most. Whoever gives one waits for it to be done before the next but one.
const WAITING: usize = 2;

type Job<S> = Box<dyn FnOnce(&mut S) + Send>;

/// Does jobs on a state, one after the other.
#[derive(Debug)]
pub(super) struct Lane<S>(mpsc::SyncSender<Job<S>>);

impl<S: Send + 'static> Lane<S> {
    /// Starts the thread.
    ///
    /// # Errors
    /// No thread can be had.
    pub(super) fn start(mut state: S) -> io::Result<Self> {
        let (sender, jobs) = mpsc::sync_channel::<Job<S>>(WAITING);
        thread::Builder::new().name("flowgen-follow".to_owned()).spawn(move || {
            for job in jobs {
                job(&mut state);
            }
        })?;
        Ok(Self(sender))
    }

    /// Has a job done.
    ///
    /// # Errors
    /// An earlier job panicked.
    pub(super) fn begin(&self, job: impl FnOnce(&mut S) + Send + 'static) -> Result<(), TaskError> {
        self.0.send(Box::new(job)).map_err(|_| ended())
    }

    /// Has a job done, and waits for what comes of it.
    ///
    /// # Errors
    /// The job panicked.
    pub(super) async fn ask<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut S) -> R + Send + 'static,
    ) -> Result<R, TaskError> {
        let (answer, answered) = oneshot::channel();
        // Whoever asked may be gone.
        self.begin(move |state| drop(answer.send(job(state))))?;
        answered.await.map_err(|_| ended())
    }
}

fn ended() -> TaskError {
    TaskError::transient(format::IO, "looking at files was cut short")
}
