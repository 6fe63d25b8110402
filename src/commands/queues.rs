//! Tells of queues on the disk that no flow has any more: what waits in them would never be handled.

use std::{collections::HashSet, path::PathBuf};

use crate::{
    plan::Flow,
    state::{Owner, Queue, State},
    task::Role,
    telemetry::error_chain,
};

/// Warns of every queue that holds events and is none of these flows'.
pub(super) fn tell_left(state: &State, flows: &[Flow]) {
    let sources = |flow: &Flow| -> Vec<PathBuf> {
        let sources = flow.tasks.iter().filter(|node| node.kind.role == Role::Source);
        sources.map(|node| state.queue_directory(Owner { flow: &flow.name, task: &node.name })).collect()
    };
    let used: HashSet<_> = flows.iter().filter(|flow| flow.durable.is_some()).flat_map(sources).collect();
    for directory in state.queues().into_iter().filter(|directory| !used.contains(directory)) {
        let at = directory.display();
        match Queue::waiting(&directory) {
            Ok(0) => {}
            Ok(events) => tracing::warn!(
                events,
                "the queue in `{at}` holds events that no flow takes: let a `durable` flow and its source have these names"
            ),
            Err(error) => {
                tracing::warn!(error.message = error_chain(&error), "no flow has the queue in `{at}`")
            }
        }
    }
}
