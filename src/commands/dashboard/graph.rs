//! The graph of a flow, as far as its dashboard is laid out by it.

use crate::plan::{Flow, Node, OnError};

/// Returns the depths of a flow's tasks: how many tasks the longest way from a source to each leads through.
pub(super) fn depths(flow: &Flow) -> Vec<usize> {
    let mut depths = vec![0; flow.tasks.len()];
    // Each round settles one task more of every way at least, and a way has no task twice.
    for _ in 0..flow.tasks.len() {
        for n in 0..flow.tasks.len() {
            for next in followers(&flow.tasks[n]) {
                depths[next] = depths[next].max(depths[n] + 1);
            }
        }
    }
    depths
}

/// Returns the tasks that an event may go on to from this one, whatever becomes of it.
pub(super) fn followers(node: &Node) -> impl Iterator<Item = usize> {
    let route = match node.policy.on_error {
        OnError::Route(to) => Some(to),
        OnError::Fail | OnError::Drop | OnError::DeadLetter | OnError::Continue => None,
    };
    node.downstream.iter().chain(&node.targets).copied().chain(route)
}
