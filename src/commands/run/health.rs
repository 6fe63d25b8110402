//! What a worker says of its health, in the words of the draft "Health Check Response Format for HTTP APIs".
//!
//! Nothing that an error says is in it, nor anything else that events bring: who may ask may not be who may read the log.

use std::{
    convert::Infallible,
    future::pending,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, Ordering},
    },
    time::Instant,
};

use serde_json::{Map, Value, json};

use crate::{
    runtime::{Ailment, Roster, State as FlowState},
    services::health::{Answer, HealthServer, Question},
    state::{State, StateWatch},
    telemetry::error_chain,
};

/// What is known of a worker's health. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    began: Instant,
    phase: AtomicU8,
    /// There once flows run.
    roster: OnceLock<Roster>,
    /// There once the state is open, if there is one.
    state: OnceLock<StateWatch>,
}

/// Where a worker is between its start and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    /// Nothing runs yet.
    Starting,
    Running,
    /// It takes in no more, and will end.
    Draining,
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Draining => "draining",
        }
    }
}

/// One thing that was looked at.
struct Check {
    /// Its key among the checks.
    key: &'static str,
    component: &'static str,
    id: Option<String>,
    observed: &'static str,
    /// What is wrong, if anything is.
    fault: Option<String>,
}

impl Health {
    /// Makes that of a worker that starts.
    pub(super) fn new() -> Self {
        Self(Arc::new(Inner {
            began: Instant::now(),
            phase: AtomicU8::new(Phase::Starting as u8),
            roster: OnceLock::new(),
            state: OnceLock::new(),
        }))
    }

    /// Takes note that this is the state.
    pub(super) fn watch(&self, state: &State) {
        self.0.state.get_or_init(|| state.watch());
    }

    /// Takes note that these flows run.
    pub(super) fn run(&self, roster: Roster) {
        self.0.roster.get_or_init(|| roster);
        self.0.phase.fetch_max(Phase::Running as u8, Ordering::Relaxed);
    }

    /// Takes note that the worker takes in no more.
    pub(super) fn drain(&self) {
        self.0.phase.store(Phase::Draining as u8, Ordering::Relaxed);
    }

    /// Answers whoever asks `server`, for as long as it is polled.
    pub(super) async fn answer(&self, server: Option<&mut HealthServer>) -> Infallible {
        let Some(server) = server else { return pending().await };
        let health = self.clone();
        match server.serve(Arc::new(move |question| health.ask(question))).await {
            Ok(never) => match never {},
            Err(error) => {
                tracing::error!(error.message = error_chain(&error), "health cannot be asked");
                pending().await
            }
        }
    }

    fn ask(&self, question: Question) -> Answer {
        if question == Question::Live {
            return Answer { is_ok: true, body: json!({"status": status(true)}) };
        }
        let checks = self.checks();
        let faults: Vec<&str> = checks.iter().filter_map(|check| check.fault.as_deref()).collect();
        let is_ok = faults.is_empty();
        let mut body = json!({"status": status(is_ok)});
        if !is_ok {
            body["output"] = faults.join("; ").into();
        }
        if question == Question::Whole {
            body["version"] = env!("CARGO_PKG_VERSION").into();
            body["uptime"] = self.0.began.elapsed().as_secs().into();
            body["checks"] = Value::Object(by_key(checks));
        }
        Answer { is_ok, body }
    }

    fn phase(&self) -> Phase {
        match self.0.phase.load(Ordering::Relaxed) {
            phase if phase == Phase::Starting as u8 => Phase::Starting,
            phase if phase == Phase::Running as u8 => Phase::Running,
            _ => Phase::Draining,
        }
    }

    /// Looks at everything.
    fn checks(&self) -> Vec<Check> {
        let phase = self.phase();
        let mut checks = vec![Check {
            key: "worker:phase",
            component: "system",
            id: None,
            observed: phase.name(),
            fault: (phase != Phase::Running).then(|| format!("the worker is {}", phase.name())),
        }];
        for flow in self.0.roster.get().map(Roster::flows).unwrap_or_default() {
            let (name, state) = (flow.name(), flow.state());
            checks.push(Check {
                key: "flow:state",
                component: "component",
                id: Some(name.to_owned()),
                observed: state.name(),
                fault: fault_of(state).map(|fault| format!("flow `{name}` {fault}")),
            });
            checks.extend(flow.ailing().into_iter().map(|(task, ailment)| Check {
                key: "task:state",
                component: "component",
                id: Some(format!("{name}/{task}")),
                observed: ailment.name(),
                fault: Some(format!("task `{task}` of flow `{name}` {}", told(ailment))),
            }));
        }
        if let Some(state) = self.0.state.get() {
            let is_writable = state.is_writable();
            checks.push(Check {
                key: "state:writes",
                component: "datastore",
                id: None,
                observed: if is_writable { "accepted" } else { "refused" },
                fault: (!is_writable).then(|| "the state cannot be written".to_owned()),
            });
        }
        checks
    }
}

/// Says what is wrong with a flow in this state. One that drains has read its input to the end or is about to be replaced,
/// and one that is done has done what it was to do.
fn fault_of(state: FlowState) -> Option<&'static str> {
    match state {
        FlowState::Starting => Some("is starting"),
        FlowState::Restarting => Some("is restarting"),
        FlowState::Failed => Some("has failed"),
        FlowState::Running | FlowState::Draining | FlowState::Done => None,
    }
}

/// Says what is wrong with a task.
fn told(ailment: Ailment) -> &'static str {
    match ailment {
        Ailment::Restarting => "waits to be built again",
        Ailment::Disconnected => "has no connection",
        Ailment::Refused => "waits because its queue cannot be written",
    }
}

fn status(is_ok: bool) -> &'static str {
    if is_ok { "pass" } else { "fail" }
}

/// Writes the checks, by their keys.
fn by_key(checks: Vec<Check>) -> Map<String, Value> {
    let mut all = Map::new();
    for Check { key, component, id, observed, fault } in checks {
        let mut check =
            json!({"componentType": component, "observedValue": observed, "status": status(fault.is_none())});
        if let Some(id) = id {
            check["componentId"] = id.into();
        }
        if let Some(fault) = fault {
            check["output"] = fault.into();
        }
        if let Value::Array(of_key) = all.entry(key).or_insert_with(|| json!([])) {
            of_key.push(check);
        }
    }
    all
}
