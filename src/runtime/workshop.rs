//! Builds flows, at the start of a worker and while it runs.

use std::{fmt, sync::Arc};

use super::registration::{BuiltTask, Registration, StartError};
use crate::{
    plan::Flow,
    task::{Cache, Resources, http::HttpServer},
    telemetry::Tracer,
    trace::TraceContext,
};

/// What the flows of a worker are built with. Cheap to clone.
#[derive(Clone)]
pub struct Workshop {
    pub(super) resources: Option<Arc<dyn Resources>>,
    /// Whether the worker has state.
    pub(super) has_state: bool,
    /// Shared by all flows.
    pub(super) cache: Arc<dyn Cache>,
    /// The worker's HTTP server, if it has one.
    pub(super) http: Option<Arc<dyn HttpServer>>,
    pub(super) tracer: Tracer,
}

impl fmt::Debug for Workshop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Workshop")
    }
}

/// A flow whose tasks are built; it does not run.
#[derive(Debug)]
pub struct BuiltFlow {
    pub(super) flow: Flow,
    pub(super) tasks: Vec<BuiltTask>,
}

impl Workshop {
    /// Builds all tasks of these flows, and starts none. Each has a span below `parent`. May be given up at any time.
    ///
    /// # Errors
    /// Every task that could not be built.
    pub async fn build(
        &self,
        flows: Vec<Flow>,
        parent: TraceContext,
    ) -> Result<Vec<BuiltFlow>, Vec<StartError>> {
        let mut registration = Registration {
            resources: self.resources.clone(),
            has_state: self.has_state,
            cache: Arc::clone(&self.cache),
            http: self.http.clone(),
            tracer: &self.tracer,
            parent,
            errors: Vec::new(),
        };
        let mut built = Vec::with_capacity(flows.len());
        for flow in flows {
            let tasks = registration.flow(&flow).await;
            built.push(BuiltFlow { flow, tasks });
        }
        if registration.errors.is_empty() { Ok(built) } else { Err(registration.errors) }
    }
}
