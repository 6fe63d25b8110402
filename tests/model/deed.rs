//! What a task does with an event: the model and the tasks of the test follow it, and know nothing of each other.

use fastrand::Rng;

use super::case::{Case, Role, When};

/// What goes wrong with one event in one task, by how often it was tried before, in all of its deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// So many attempts fail for now.
    Transient(u32),
    /// So many attempts fail for now, and then all.
    Spoiling(u32),
    Permanent,
    PanicOnce,
    PanicAlways,
}

/// How an attempt goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    Done,
    Transient,
    /// It fails for now because it takes too long.
    Hanging,
    Permanent,
    Panic,
}

/// What is emitted of an event with which nothing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Forward,
    Filter,
    Derive(usize),
    To(usize),
    /// To one that is named, and to all that are not.
    Both(usize),
}

/// What a task does with one event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deed {
    pub(crate) fault: Fault,
    /// What goes wrong when a batch with it is flushed.
    pub(crate) flush: Fault,
    pub(crate) way: Way,
}

/// What is wrong with a record, where the source decodes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decoding {
    Good,
    Bad,
}

impl Fault {
    pub(crate) fn step(self, earlier: u32) -> Step {
        match self {
            Self::Transient(times) | Self::Spoiling(times) if earlier < times => Step::Transient,
            Self::PanicOnce if earlier == 0 => Step::Panic,
            Self::None | Self::Transient(_) | Self::PanicOnce => Step::Done,
            Self::Spoiling(_) | Self::Permanent => Step::Permanent,
            Self::PanicAlways => Step::Panic,
        }
    }
}

impl Case {
    /// Returns what `task` does with the event of this id.
    pub(crate) fn deed(&self, task: usize, id: &str) -> Deed {
        let spec = &self.tasks[task];
        let mut rng = Rng::with_seed(self.hash(("deed", task, id)));
        let has_fault = rng.u32(..100) < spec.faults;
        let times = rng.u32(1..=2 * spec.max_attempts + 1);
        let fault = match (spec.role, rng.u32(..100)) {
            _ if !has_fault => Fault::None,
            (Role::Source(_) | Role::Tap | Role::Batching { .. }, _) => Fault::None,
            (_, 0..10) if spec.is_panicking => Fault::PanicOnce,
            (_, 10..20) if spec.is_panicking => Fault::PanicAlways,
            (Role::Transform, _) | (_, 20..35) => Fault::Permanent,
            (_, 35..45) => Fault::Spoiling(times),
            _ => Fault::Transient(times),
        };
        let times = rng.u32(1..=2 * spec.max_attempts + 1);
        let flush = match rng.u32(..100) {
            _ if spec.role != Role::Buffered || rng.u32(..100) >= spec.faults => Fault::None,
            // An event that is there twice is flushed twice at a time.
            _ if !self.has_one_path_to(task) => Fault::None,
            0..20 if spec.panics_in_flushes => Fault::PanicOnce,
            0..40 => Fault::Permanent,
            _ => Fault::Transient(times),
        };
        let edge = rng.usize(..spec.targets.len().max(1));
        let way = match rng.u32(..100) {
            0..40 if !spec.targets.is_empty() => Way::To(edge),
            40..60 if !spec.targets.is_empty() => Way::Both(edge),
            0..8 => Way::Filter,
            8..18 => Way::Derive(rng.usize(..4)),
            _ => Way::Forward,
        };
        Deed {
            fault,
            flush,
            way: if spec.role == Role::Tap || spec.is_batching() { Way::Forward } else { way },
        }
    }

    /// Returns how the attempt after `earlier` ones goes.
    pub(crate) fn step(&self, task: usize, id: &str, earlier: u32) -> Step {
        match self.deed(task, id).fault.step(earlier) {
            Step::Transient
                if self.tasks[task].timeout.is_some()
                    && self.hash(("hang", task, id, earlier)).is_multiple_of(3) =>
            {
                Step::Hanging
            }
            step => step,
        }
    }

    /// Returns what is wrong with a record.
    pub(crate) fn decoding(&self, source: usize, n: u64) -> Decoding {
        let Role::Source(reading) = self.tasks[source].role else { return Decoding::Good };
        let is_bad = reading.has_bad_records && self.hash(("bad", source, n)).is_multiple_of(6);
        if is_bad { Decoding::Bad } else { Decoding::Good }
    }

    /// Returns the key of a record.
    pub(crate) fn key(&self, source: usize, n: u64) -> u64 {
        self.hash(("key", source, n)) % 3
    }
}

impl When {
    pub(crate) fn expression(self) -> &'static str {
        match self {
            Self::Even => "event.data.n % 2 == 0",
            Self::Throwing => "if event.data.n % 5 == 4 { throw \"not that one\" } else { true }",
        }
    }

    /// Returns what it says of the record of this number; `None` if it throws.
    pub(crate) fn says(self, n: u64) -> Option<bool> {
        match self {
            Self::Even => Some(n.is_multiple_of(2)),
            Self::Throwing => (n % 5 != 4).then_some(true),
        }
    }
}

/// Returns the source and the number of the record that an event comes from.
pub(crate) fn origin(id: &str) -> (usize, u64) {
    let (source, rest) = id.split_once(':').unwrap();
    let n = rest.split('-').next().unwrap_or_default();
    (source.parse().unwrap(), n.parse().unwrap())
}

/// Returns the id of the source event that an event comes from.
pub(crate) fn root(id: &str) -> &str {
    id.split('-').next().unwrap_or_default()
}
