//! The thread that writes: what is handed to it while it waits for the disk goes along with the next commit.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, Sender},
    },
    thread::{self, JoinHandle},
};

use super::{
    StateError,
    store::{Change, Store},
};

/// Changes that one commit takes at most; more would only make the first ones wait.
const MOST_AT_ONCE: usize = 4096;

/// What is called when changes are on the disk, or cannot be.
pub type Done = Box<dyn FnOnce(Result<(), StateError>) + Send>;

struct Job {
    changes: Vec<Change>,
    done: Done,
}

/// Hands changes to the thread that writes them. Dropped, it waits until all are written.
pub(super) struct Writer {
    jobs: Option<Sender<Job>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Writer")
    }
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(store: Arc<Store>) -> Result<Self, StateError> {
        let (jobs, waiting) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("flowgen-state".to_owned())
            .spawn(move || run(&store, &waiting))
            .map_err(|error| StateError::because("cannot start a thread", error))?;
        Ok(Self { jobs: Some(jobs), thread: Mutex::new(Some(thread)) })
    }

    /// Hands over changes that belong together. Whoever does bounds how many of them wait.
    pub(super) fn submit(&self, changes: Vec<Change>, done: Done) {
        if let Some(jobs) = &self.jobs {
            // Without the thread nobody is told; who waits for it learns that `done` is gone.
            let _ = jobs.send(Job { changes, done });
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.jobs.take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Whoever is told last may have been the last to know of the state.
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != thread::current().id()) {
            let _ = thread.join();
        }
    }
}

fn run(store: &Store, waiting: &Receiver<Job>) {
    while let Ok(first) = waiting.recv() {
        let mut count = first.changes.len();
        let mut jobs = vec![first];
        while count < MOST_AT_ONCE
            && let Ok(job) = waiting.try_recv()
        {
            count += job.changes.len();
            jobs.push(job);
        }
        let result = store.write(jobs.iter().flat_map(|job| &job.changes));
        for job in jobs {
            (job.done)(result.clone());
        }
    }
}
