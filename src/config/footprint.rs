//! What a worker that runs keeps of its configuration: enough to tell what another one changes.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use serde_json::Value;

use super::{File, Named, environment::Environment, fingerprint::Fingerprint, flow::Built, worker::Settings};
use crate::problem::{Focus, KeyPath, Problem};

/// What a worker runs by. The default is that of one that runs nothing.
#[derive(Clone, Debug, Default)]
pub struct Footprint {
    /// The blocks that stay what they are for as long as the worker lives.
    blocks: Blocks,
    flows: BTreeMap<Arc<str>, Fingerprint>,
    /// Whether the standard input has had a reader: what that one has read nobody else gets.
    has_read_stdin: bool,
}

/// The blocks of the worker that are there, by their keys.
pub(super) type Blocks = BTreeMap<String, Block>;

/// A block of the worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    pub(super) fingerprint: Fingerprint,
    /// The file that it stands in; none if variables alone make it.
    pub(super) owner: Option<usize>,
}

/// What becomes of the flows, by name. Those that are not named stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Those that there were not.
    pub started: Vec<Arc<str>>,
    /// Those that are there no longer.
    pub stopped: Vec<Arc<str>>,
    /// Those that are not what they were.
    pub restarted: Vec<Arc<str>>,
}

impl Changes {
    /// Returns whether all flows stay as they are.
    pub fn is_empty(&self) -> bool {
        self.started.is_empty() && self.stopped.is_empty() && self.restarted.is_empty()
    }
}

impl Footprint {
    pub(super) fn new(blocks: Blocks, flows: &[Named]) -> Self {
        Self {
            blocks,
            flows: flows.iter().map(|named| (Arc::from(&*named.flow.name), named.fingerprint)).collect(),
            has_read_stdin: flows.iter().any(|named| !named.flow.stdin.is_empty()),
        }
    }

    /// Returns what becomes of the flows when `next` takes the place of this one.
    pub fn changes(&self, next: &Self) -> Changes {
        let mut changes = Changes::default();
        for (name, fingerprint) in &next.flows {
            match self.flows.get(name) {
                None => changes.started.push(Arc::clone(name)),
                Some(known) if known != fingerprint => changes.restarted.push(Arc::clone(name)),
                Some(_) => {}
            }
        }
        let is_gone = |name: &&Arc<str>| !next.flows.contains_key(*name);
        changes.stopped = self.flows.keys().filter(is_gone).cloned().collect();
        changes
    }

    /// Lets `next` take the place of this one.
    pub fn replace(&mut self, next: Self) {
        let has_read_stdin = self.has_read_stdin || next.has_read_stdin;
        *self = Self { has_read_stdin, ..next };
    }

    /// Refuses what a worker that runs by this one cannot take over.
    pub(super) fn refuse(
        &self,
        blocks: &Blocks,
        flows: &[Named],
        files: &mut [File],
        problems: &mut Vec<Problem>,
    ) {
        for (key, block) in blocks {
            if self.blocks.get(key).is_none_or(|known| known.fingerprint != block.fingerprint) {
                let problem = fixed(key, "has changed");
                match block.owner {
                    Some(owner) => files[owner].problems.push(problem),
                    None => problems.push(problem),
                }
            }
        }
        let gone = self.blocks.keys().filter(|key| !blocks.contains_key(*key));
        problems.extend(gone.map(|key| fixed(key, "is gone")));
        let known = flows.iter().filter(|named| self.has_read_stdin && named.flow.complete.is_some());
        for Named { flow, fingerprint, file, .. } in known {
            let is_unchanged = self.flows.get(&*flow.name) == Some(fingerprint);
            for path in flow.stdin.iter().filter(|_| !is_unchanged) {
                let message = "the standard input cannot be read anew: what was read of it is gone";
                let mut problem = Problem::new(path.clone(), message);
                problem
                    .focus(Focus::Key)
                    .hint(format!("undo the change of the flow `{}`, or restart the worker", flow.name));
                files[*file].problems.push(problem);
            }
        }
    }
}

fn fixed(key: &str, what: &str) -> Problem {
    let message = format!("`{key}` {what}, which a worker that runs cannot take over");
    let mut problem = Problem::new(KeyPath::default().key(key), message);
    problem.focus(Focus::Key).hint("undo the change, or restart the worker");
    problem
}

/// Takes the fingerprint of the keys of a flow, but for what it promises: that is for those who look at its metrics, and no
/// reason to drain it.
pub(super) fn of_keys(keys: &Value) -> Fingerprint {
    let mut keys = keys.clone();
    if let Value::Object(keys) = &mut keys {
        keys.shift_remove("slo");
    }
    Fingerprint::of_tree(&keys)
}

/// Takes the fingerprint of a flow: of everything that it is made of. `tree` is that of its keys, and all there is of one
/// that is not complete.
pub(super) fn of_flow(
    tree: Fingerprint,
    built: &Built,
    settings: &Settings,
    environment: &dyn Environment,
) -> Fingerprint {
    let Some(flow) = &built.complete else { return tree };
    // The retries of a task may be those of the worker.
    let policies: Vec<_> = flow.tasks.iter().map(|node| format!("{:?}", node.policy)).collect();
    let directory = settings.worker.resources.as_deref();
    let resources = built.resources.iter().map(|path| directory.map(|directory| directory.join(path)));
    let files = resources.chain(built.files.iter().cloned().map(Some));
    let texts: Vec<_> = files.map(|path| text(path.as_deref(), environment)).collect();
    let capacity = settings.worker.channel_capacity.to_le_bytes();
    // All that the worker has of what the flow promises.
    let threshold = format!("{:?}", flow.threshold());
    let parts = [
        tree.bytes(),
        flow.name.as_bytes(),
        flow.base_dir.as_os_str().as_encoded_bytes(),
        &capacity,
        threshold.as_bytes(),
    ];
    let policies = policies.iter().map(|policy| policy.as_bytes());
    Fingerprint::of_parts(parts.into_iter().chain(policies).chain(texts.iter().map(Fingerprint::bytes)))
}

/// Takes the fingerprint of a file as it is now. That it cannot be read is said when the task is built.
fn text(path: Option<&Path>, environment: &dyn Environment) -> Fingerprint {
    let text = path.and_then(|path| environment.read(path).ok());
    Fingerprint::of_tree(&text.map_or(Value::Null, Value::String))
}
