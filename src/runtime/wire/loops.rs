//! The loops of one task: those of a source, with its queue if it has one, and those of each instance of any other.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::{
    super::{
        checkpoints::{Checkpoints, InState, Keeper},
        durable::{self, Durable, InQueue, Intake, Outflow},
        hop::Hop,
        inbox::Inbox,
        meters::SourceMeters,
        processor::ProcessorWork,
        registration::Instance,
        restart::{Life, Work},
        source::SourceWork,
        supervisor::{FlowId, Spawn, Supervisor},
        transform::{Conductor, TransformWork},
        upkeep::{Again, Upkeep},
    },
    Shared,
};
use crate::{
    plan,
    state::{Owner, State},
    task::Task,
    telemetry::{Identity, SpanKind, Tracer, error_chain},
};

/// The loops of one task.
pub(super) struct Loops<'a> {
    pub(super) supervisor: &'a mut Supervisor,
    pub(super) flow: FlowId,
    pub(super) life: Life,
    pub(super) tracer: &'a Tracer,
    /// How many were spawned.
    pub(super) count: usize,
}

impl Loops<'_> {
    /// Spawns the loop of a source.
    pub(super) fn source(
        &mut self,
        shared: &Shared<'_>,
        instances: Vec<Instance>,
        again: Option<Again>,
        state: Option<&State>,
    ) {
        let keeper = state.map(|state| in_state(shared, state, None));
        self.reading(shared, instances, shared.hop(&shared.meters), again, keeper);
    }

    /// Spawns the loops of a source whose events a queue accepts, and of the queue.
    pub(super) fn durable_source(
        &mut self,
        shared: &Shared<'_>,
        instances: Vec<Instance>,
        again: Option<Again>,
        state: &State,
        settings: plan::Durable,
    ) -> Arc<Durable> {
        let Identity { flow, task, .. } = &*shared.identity;
        let durable = Durable::new(state.queue_directory(Owner { flow, task }));
        let (sender, inbox) = mpsc::channel(shared.capacity);
        let (intake, opened) = oneshot::channel();
        let keeper = InQueue { durable: Arc::clone(&durable), flow: shared.flow.clone() };
        let checkpoints = self.checkpoints(shared, Box::new(keeper));
        let identity = Some(Arc::clone(&shared.identity));
        let outflow = Outflow {
            durable: Arc::clone(&durable),
            max_bytes: settings.max_bytes,
            hop: shared.hop(&Arc::default()),
            upkeep: Upkeep::new(shared.flow.clone(), again, Some(checkpoints)),
            error_types: shared.node.error_types(),
            recover: self.tracer.spans("flow.recover", SpanKind::Internal, identity, durable::ERROR_TYPES),
            intake,
        };
        self.spawn_as(true, outflow.run());
        let intake = Intake {
            flow: shared.flow.clone(),
            task: Arc::clone(&shared.identity.task),
            durable: Arc::clone(&durable),
            fsync: settings.fsync,
            inbox,
            opened,
        };
        self.spawn_as(false, intake.run());
        let keeper = in_state(shared, state, Some(Arc::clone(&durable)));
        self.reading(shared, instances, shared.hop_to_queue(sender), None, Some(keeper));
        durable
    }

    /// Spawns the loop that reads a source.
    fn reading(
        &mut self,
        shared: &Shared<'_>,
        instances: Vec<Instance>,
        hop: Hop,
        again: Option<Again>,
        keeper: Option<InState>,
    ) {
        // A source is there once.
        let Some(Instance { task, .. }) = instances.into_iter().next() else { return };
        let is_queued = keeper.as_ref().is_some_and(|keeper| keeper.queue.is_some());
        let keeper = keeper.filter(|_| matches!(&task, Task::Source(source) if source.can_resume()));
        let saved = keeper.as_ref().map(InState::saved).transpose().unwrap_or_else(|error| {
            let message = error_chain(&error);
            tracing::error!(error.message = message, "it is not known how far the source has read");
            shared.flow.fail(message);
            None
        });
        let checkpoints = keeper.map(|keeper| self.checkpoints(shared, Box::new(keeper)));
        let upkeep = Upkeep::new(shared.flow.clone(), again, checkpoints);
        let work = SourceWork::new(hop, self.tracer, upkeep, saved.unwrap_or_default(), is_queued);
        self.live(task, Work::Source(work));
    }

    fn checkpoints(&self, shared: &Shared<'_>, keeper: Box<dyn Keeper>) -> Checkpoints {
        let timer = SourceMeters::new(self.tracer.meter(), Arc::clone(&shared.identity)).checkpoints();
        Checkpoints::new(shared.flow.clone(), keeper, timer)
    }

    /// Spawns the loops of a task that has inboxes, one for each of its instances.
    pub(super) fn others(&mut self, shared: &Shared<'_>, instances: Vec<Instance>, inboxes: Vec<Inbox>) {
        // What the instances log is counted together.
        let first = shared.hop(&shared.meters);
        let hop = || shared.hop(&shared.meters).beside(&first);
        for (Instance { task, beside }, inbox) in instances.into_iter().zip(inboxes) {
            let mut hop_of = hop();
            match &task {
                Task::Transform(_) if beside.is_empty() => {
                    self.live(task, Work::Transform(TransformWork::new(inbox, hop_of)));
                }
                Task::Transform(_) => {
                    let (conductor, lanes) = Conductor::new(inbox, hop_of, (0..=beside.len()).map(|_| hop()));
                    self.spawn(conductor.run());
                    for (task, lane) in [task].into_iter().chain(beside).zip(lanes) {
                        self.live(task, Work::Lane(lane));
                    }
                }
                Task::Processor(processor) => {
                    if !processor.is_buffered() {
                        hop_of.describe_all();
                    }
                    let work = ProcessorWork::new(inbox, hop_of, &shared.node.concurrency, &**processor);
                    self.live(task, Work::Processor(work));
                }
                Task::Source(_) => unreachable!("a source has no inbox"),
            }
        }
    }

    /// Spawns the life of a task.
    fn live(&mut self, task: Task, work: Work) {
        let life = self.life.clone();
        self.spawn(life.run(task, work));
    }

    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn_as(self.life.is_source, task);
    }

    fn spawn_as(&mut self, is_source: bool, task: impl Future<Output = ()> + Send + 'static) {
        let spawn = Spawn { flow: self.flow, identity: Arc::clone(&self.life.identity), is_source };
        self.supervisor.spawn(spawn, task);
        self.count += 1;
    }
}

/// Returns what keeps how far a source has read.
fn in_state(shared: &Shared<'_>, state: &State, queue: Option<Arc<Durable>>) -> InState {
    InState {
        state: state.clone(),
        flow: shared.flow.clone(),
        task: Arc::clone(&shared.identity.task),
        queue,
    }
}
