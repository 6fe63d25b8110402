//! The trail that an event leaves: one compact record for each task that handled it, from which spans are made
//! only if something went wrong.
//!
//! Owns what must be remembered while nobody knows yet whether it matters. Must not know what a span is.

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use smallvec::SmallVec;

use super::EventId;
use crate::trace::{Remote, Ticks, TraceContext};

/// As many steps as most flows have tasks in a row: more cost an allocation.
const INLINE: usize = 4;

/// The most attempts that are remembered of one event, the first ones.
pub const MAX_ATTEMPTS: usize = 64;

/// The way of an event from its source on. The default, of an event that nobody follows, has nothing and takes nothing.
///
/// A clone is a branch: it has the same way up to here.
#[derive(Debug, Default)]
pub struct Trail(Option<Box<Path>>);

#[derive(Debug, Default)]
struct Path {
    remote: Option<Arc<Remote>>,
    /// Whether anyone asked for the steps.
    is_followed: bool,
    /// What all branches have in common. Made when there is a second one, or something to tell.
    fate: OnceLock<Arc<Fate>>,
    steps: SmallVec<[Step; INLINE]>,
    seldom: Option<Box<Seldom>>,
}

/// What few events have.
#[derive(Clone, Debug, Default)]
struct Seldom {
    attempts: Vec<Attempt>,
    /// Ids that the event had and has no more, each with the number of steps that were made by then.
    names: Vec<(usize, EventId)>,
    /// What became one with the event in a batch, each with the step in which it did.
    batches: Vec<(usize, Arc<Batch>)>,
}

/// What a batch was made of besides the event whose way it goes on.
#[derive(Debug)]
pub struct Batch {
    /// As many of them as anything links to.
    pub parts: Box<[Part]>,
    /// How many there were besides.
    pub others: u32,
}

/// An event that has become a part of a batch.
#[derive(Debug)]
pub struct Part {
    /// Its id.
    pub id: EventId,
    /// Where it stood in its trace.
    pub trace: TraceContext,
    /// The way that it came.
    pub trail: Trail,
}

/// A task that handled the event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// The place of its span's series.
    pub place: u32,
    /// How often the event had been derived from another one.
    pub depth: u16,
    /// What the task made of it.
    pub kind: StepKind,
    /// The span; zero where spans have no ids.
    pub span_id: u64,
    /// When it began.
    pub start: Ticks,
    /// How long it took, in nanoseconds.
    pub nanos: u64,
    /// When the task upstream was done with the event; never at a source.
    pub queued: Ticks,
}

/// What a task made of an event that did not fail in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StepKind {
    /// It was handled and passed on.
    #[default]
    Handled,
    /// Nothing was passed on, on purpose.
    Filtered,
    /// It was passed on without being handled.
    Skipped,
    /// It was passed on as a batch, which is a step of its own.
    Flushed,
    /// It was passed on, and its span ends later, when its source answers.
    Open,
}

impl Step {
    /// Returns when it ended; never if it was not timed.
    pub fn end(&self) -> Ticks {
        if self.start.is_set() { self.start.after(self.nanos) } else { self.start }
    }
}

/// A further attempt of the task that makes the next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// How many steps came before it.
    pub before: usize,
    /// The attempt itself.
    pub step: Step,
    /// The type of its error, if it failed.
    pub error_type: Option<&'static str>,
}

/// What is decided once for all branches of an event.
#[derive(Debug, Default)]
pub struct Fate(Mutex<Decided>);

#[derive(Default)]
struct Decided {
    /// Whether the trace is kept, and by the number of which reason.
    kept: Option<Option<u8>>,
    /// The spans that were told already.
    told: HashSet<u64>,
    /// What is told if the trace is kept: it was over before that was known.
    waiting: Option<WhenKept>,
}

/// What is called with the number of the reason why a trace is kept.
type WhenKept = Box<dyn FnOnce(u8) + Send>;

impl fmt::Debug for Decided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Decided({:?})", self.kept)
    }
}

impl Trail {
    /// Starts the trail of an event that came in, with what came with it. Nobody asks for its steps yet.
    pub fn from_outside(remote: Remote) -> Self {
        Self(Some(Box::new(Path { remote: Some(Arc::new(remote)), ..Path::default() })))
    }

    /// Remembers the steps from here on.
    pub fn follow(&mut self) {
        self.0.get_or_insert_default().is_followed = true;
    }

    /// Returns whether anyone asked for the steps.
    pub fn is_followed(&self) -> bool {
        self.0.as_ref().is_some_and(|path| path.is_followed)
    }

    /// Returns what came from outside with the event.
    pub fn remote(&self) -> Option<&Remote> {
        self.0.as_ref()?.remote.as_deref()
    }

    /// Adds a step, if anyone follows.
    #[inline]
    pub fn push(&mut self, step: Step) {
        if let Some(path) = &mut self.0
            && path.is_followed
        {
            path.steps.push(step);
        }
    }

    /// Adds the step that made a batch of the event and of others, if anyone follows.
    pub fn join(&mut self, step: Step, batch: impl FnOnce() -> Option<Batch>) {
        let Some(path) = self.0.as_mut().filter(|path| path.is_followed) else { return };
        if let Some(batch) = batch() {
            path.seldom.get_or_insert_default().batches.push((path.steps.len(), Arc::new(batch)));
        }
        path.steps.push(Step { kind: StepKind::Flushed, ..step });
    }

    /// Adds attempts that come before the next step, if anyone follows.
    pub fn attempt(&mut self, attempts: impl IntoIterator<Item = (Step, Option<&'static str>)>) {
        let Some(path) = self.0.as_mut().filter(|path| path.is_followed) else { return };
        let before = path.steps.len();
        let mut attempts = attempts.into_iter().peekable();
        if attempts.peek().is_some() {
            let known = &mut path.seldom.get_or_insert_default().attempts;
            let room = MAX_ATTEMPTS.saturating_sub(known.len());
            known.extend(attempts.take(room).map(|(step, error_type)| Attempt { before, step, error_type }));
        }
    }

    /// Remembers the id that the event had for its first `steps` steps.
    pub fn rename(&mut self, steps: usize, id: EventId) {
        if let Some(path) = self.0.as_mut().filter(|path| path.is_followed) {
            path.seldom.get_or_insert_default().names.push((steps, id));
        }
    }

    /// Returns the steps so far, the first one first.
    pub fn steps(&self) -> &[Step] {
        self.0.as_ref().map_or(&[], |path| &path.steps)
    }

    /// Returns the attempts that were remembered, in order.
    pub fn attempts(&self) -> &[Attempt] {
        self.seldom().map_or(&[], |seldom| &seldom.attempts)
    }

    /// Returns what became one with the event in its `n`-th step.
    pub fn batch_at(&self, n: usize) -> Option<&Batch> {
        let mut batches = self.seldom()?.batches.iter();
        batches.find(|(step, _)| *step == n).map(|(_, batch)| &**batch)
    }

    /// Returns the id that the event had at its `n`-th step, `id` being the one that it has now.
    pub fn id_at(&self, n: usize, id: &EventId) -> EventId {
        let named = self.seldom().and_then(|seldom| seldom.names.iter().find(|(steps, _)| n < *steps));
        let id = named.map_or(id, |(_, id)| id);
        let depth = self.steps().get(n).map_or(u16::MAX, |step| step.depth);
        id.ancestor(depth).clone()
    }

    /// Returns what is decided for all branches, or `None` if nobody follows the event.
    pub fn fate(&self) -> Option<&Arc<Fate>> {
        self.0.as_ref().filter(|path| path.is_followed).map(|path| path.fate.get_or_init(Arc::default))
    }

    fn seldom(&self) -> Option<&Seldom> {
        self.0.as_ref()?.seldom.as_deref()
    }
}

impl Clone for Trail {
    fn clone(&self) -> Self {
        Self(self.0.as_ref().map(|path| {
            // Both need the same one from here on.
            if path.is_followed {
                path.fate.get_or_init(Arc::default);
            }
            Box::new(Path {
                remote: path.remote.clone(),
                is_followed: path.is_followed,
                fate: path.fate.clone(),
                steps: path.steps.clone(),
                seldom: path.seldom.clone(),
            })
        }))
    }
}

impl Fate {
    /// Returns whether the trace is kept, which `decide` says the first time, for the reason of this number.
    pub fn is_kept(&self, reason: u8, decide: impl FnOnce() -> bool) -> bool {
        let (kept, waiting) = {
            let mut decided = self.lock();
            let kept = *decided.kept.get_or_insert_with(|| decide().then_some(reason));
            (kept, decided.waiting.take())
        };
        // Without the lock: it asks what was told.
        if let Some((reason, tell)) = kept.zip(waiting) {
            tell(reason);
        }
        kept.is_some()
    }

    /// Returns whether it is known by now that the trace is kept.
    pub fn is_known_to_be_kept(&self) -> bool {
        self.lock().kept.flatten().is_some()
    }

    /// Calls `tell` with the number of the reason once the trace is kept, if it ever is. There is one such thing to tell.
    pub fn when_kept(&self, tell: impl FnOnce(u8) + Send + 'static) {
        let kept = {
            let mut decided = self.lock();
            match decided.kept {
                None => {
                    decided.waiting = Some(Box::new(tell));
                    return;
                }
                Some(kept) => kept,
            }
        };
        if let Some(reason) = kept {
            tell(reason);
        }
    }

    /// Returns whether the span was told.
    pub fn is_told(&self, span_id: u64) -> bool {
        self.lock().told.contains(&span_id)
    }

    /// Returns whether the span is told for the first time.
    pub fn is_new(&self, span_id: u64) -> bool {
        self.lock().told.insert(span_id)
    }

    fn lock(&self) -> MutexGuard<'_, Decided> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(span_id: u64, depth: u16) -> Step {
        Step { span_id, depth, ..Step::default() }
    }

    fn followed() -> Trail {
        let mut trail = Trail::default();
        trail.follow();
        trail
    }

    #[test]
    fn an_event_that_nobody_follows_carries_nothing_but_what_came_with_it() {
        let mut trail = Trail::default();
        trail.push(step(1, 0));
        trail.attempt([(step(2, 0), None)]);
        assert!(trail.steps().is_empty() && trail.attempts().is_empty() && trail.fate().is_none());
        assert_eq!(size_of::<Trail>(), size_of::<usize>());
        let remote = Remote::parse(None, None, Some("user=7"), true).unwrap();
        let mut trail = Trail::from_outside(remote.clone());
        trail.push(step(1, 0));
        assert_eq!((trail.clone().remote(), trail.steps().len()), (Some(&remote), 0));
        trail.follow();
        trail.push(step(1, 0));
        assert_eq!((trail.remote(), trail.steps().len()), (Some(&remote), 1));
    }

    #[test]
    fn branches_share_their_way_so_far_and_what_is_decided() {
        let mut trail = followed();
        trail.push(step(1, 0));
        let mut branch = trail.clone();
        trail.push(step(2, 0));
        branch.push(step(3, 0));
        assert_eq!((trail.steps()[1].span_id, branch.steps()[1].span_id), (2, 3));
        let (fate, of_branch) = (trail.fate().unwrap(), branch.fate().unwrap());
        assert!(fate.is_kept(1, || true) && of_branch.is_kept(0, || panic!("is decided")));
        assert!(fate.is_new(1) && !of_branch.is_new(1) && of_branch.is_new(3));
    }

    #[test]
    fn what_is_over_before_it_is_decided_is_told_afterwards_and_only_if_it_is_kept() {
        for (is_kept, is_first) in [(true, true), (true, false), (false, true), (false, false)] {
            let (trail, (tell, told)) = (followed(), std::sync::mpsc::channel());
            let fate = trail.fate().unwrap();
            if is_first {
                fate.when_kept(move |reason| tell.send(reason).unwrap());
                assert_eq!(fate.is_kept(1, || is_kept), is_kept);
            } else {
                assert_eq!(fate.is_kept(1, || is_kept), is_kept);
                fate.when_kept(move |reason| tell.send(reason).unwrap());
            }
            assert_eq!(fate.is_known_to_be_kept(), is_kept);
            assert_eq!(told.try_iter().collect::<Vec<_>>(), if is_kept { vec![1] } else { vec![] });
        }
    }

    #[test]
    fn earlier_ids_follow_from_the_last_one_unless_it_was_set() {
        let mut trail = followed();
        let root = EventId::Sequence(7);
        trail.push(step(1, 0));
        trail.push(step(2, 1));
        let derived = root.child(3);
        assert_eq!([0, 1].map(|n| trail.id_at(n, &derived).to_string()), ["7", "7-3"]);
        trail.rename(2, derived);
        trail.push(step(3, 0));
        let set = EventId::Text("mine".into());
        assert_eq!([0, 1, 2].map(|n| trail.id_at(n, &set).to_string()), ["7", "7-3", "mine"]);
        let below = set.child(0);
        assert_eq!([1, 2, 3].map(|n| trail.id_at(n, &below).to_string()), ["7-3", "mine", "mine-0"]);
    }

    #[test]
    fn attempts_are_bounded() {
        let mut trail = followed();
        trail.push(step(1, 0));
        (0..100).for_each(|n| trail.attempt([(step(n, 0), Some("timeout"))]));
        assert_eq!((trail.attempts().len(), trail.attempts()[63].step.span_id), (64, 63));
        assert!(trail.attempts().iter().all(|attempt| attempt.before == 1));
    }
}
