//! `script`: runs a Rhai script on each event.
//!
//! ```yaml
//! flow:
//!   name: totals
//!   tasks:
//!     - generate:
//!         name: orders
//!         count: 3
//!         payload: {price: 12.5, quantity: 2}
//!     - script:
//!         name: total
//!         code: |
//!           event.data.total = event.data.price * event.data.quantity;
//!           event.data
//!     - drop:
//!         name: nowhere
//! ```

use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    ack::Ack,
    event::{Event, Trail},
    problem::Problems,
    script::{self, Limits, Script},
    task::{
        BuildContext, BuildError, Emission, Kind, Needs, Output, Processor, Role, Route, Task, TaskError,
        Transform,
    },
    telemetry::spawn_blocking,
};

/// The `script` kind. A script that names `ctx.resource` reads files, so it is built as a processor.
pub(super) struct ScriptTask(Arc<Script>);

/// What is run.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// The language of the script.
    #[serde(default)]
    #[expect(dead_code, reason = "there is only one engine; the key names it")]
    engine: Engine,
    /// The script, or the file it is in.
    code: Code,
    /// What one run may use up.
    #[serde(default)]
    limits: Limits,
}

/// The language of a script.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Engine {
    /// <https://rhai.rs>
    #[default]
    Rhai,
}

/// Where a script is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged, deny_unknown_fields, expecting = "expected the script's text or `{resource: <path>}`")]
enum Code {
    /// The script itself.
    Inline(String),
    /// A file below `resources.path`.
    File {
        /// Its path.
        resource: String,
    },
}

impl Kind for ScriptTask {
    const NAME: &'static str = "script";
    const ROLE: Role = Role::Transform;
    const SUMMARY: &'static str = "runs a Rhai script on each event";
    const ERROR_TYPES: &'static [&'static str] = script::ERROR_TYPES;
    type Config = Config;

    fn check(config: &Config, problems: &mut Problems) {
        config.limits.check("limits", problems);
        match &config.code {
            Code::Inline(code) => {
                if let Err(error) = Script::compile(code, &config.limits) {
                    error.report("code", problems);
                }
            }
            Code::File { resource } if resource.is_empty() => {
                problems.report("code.resource", "the path of the script is empty");
            }
            Code::File { .. } => {}
        }
    }

    fn needs(config: &Config) -> Needs {
        let resources = match &config.code {
            Code::File { .. } => Some("code.resource"),
            Code::Inline(code) => {
                let script = Script::compile(code, &config.limits);
                script.is_ok_and(|script| script.uses_resources()).then_some("code")
            }
        };
        Needs { resources, ..Needs::default() }
    }

    async fn build(config: &Config, context: &BuildContext) -> Result<Task, BuildError> {
        let script = match &config.code {
            Code::Inline(code) => Script::compile(code, &config.limits)
                .map_err(|error| BuildError::new("cannot compile `code`").with_source(error))?,
            Code::File { resource } => {
                let resources = context.resources.as_ref().ok_or_else(|| {
                    BuildError::new(format!("cannot read script `{resource}` without `resources.path`"))
                })?;
                let code = resources.read(resource).map_err(|error| {
                    BuildError::new(format!("cannot read script `{resource}`")).with_source(error)
                })?;
                Script::compile(&code, &config.limits).map_err(|error| {
                    BuildError::new(format!("cannot compile script `{resource}`")).with_source(error)
                })?
            }
        };
        let script = script.with_cache(Arc::clone(&context.cache));
        if !script.uses_resources() {
            return Ok(Task::Transform(Box::new(Self(Arc::new(script)))));
        }
        let resources = context.resources.clone().ok_or_else(|| {
            BuildError::new("cannot give the script `ctx.resource` without `resources.path`")
        })?;
        Ok(Task::Processor(Box::new(Self(Arc::new(script.with_resources(resources))))))
    }
}

impl Transform for ScriptTask {
    fn apply(&mut self, event: &mut Event, output: &mut Output) -> Result<(), TaskError> {
        self.0.run(event, output)
    }
}

#[async_trait]
impl Processor for ScriptTask {
    /// Reads of files block, so the script gets a thread that may.
    async fn handle(&self, event: &Event, output: &mut Output) -> Result<(), TaskError> {
        let script = Arc::clone(&self.0);
        let mut event = without_ack(event);
        let work = spawn_blocking(move || {
            let mut output = Output::default();
            script.run(&mut event, &mut output).map(|()| (event, output))
        });
        let (event, mut emitted) = work.await.map_err(|error| {
            TaskError::permanent(script::SCRIPT, "the script was interrupted").with_source(error)
        })??;
        for (route, emission) in emitted.drain() {
            let event = match emission {
                Emission::Forward => without_ack(&event),
                Emission::Event(event) => *event,
                Emission::Hold(_) | Emission::Release(..) => continue,
            };
            match route {
                Route::All => output.emit(event),
                Route::To(edge) => output.emit_to(edge, event),
            }
        }
        Ok(())
    }
}

/// A copy that shares the payload, but is no share of the source event.
fn without_ack(event: &Event) -> Event {
    Event {
        id: event.id.clone(),
        subject: Arc::clone(&event.subject),
        timestamp: event.timestamp,
        data: event.data.clone(),
        meta: event.meta.clone(),
        error: event.error.clone(),
        trace: event.trace,
        queued: event.queued,
        trail: Trail::default(),
        ack: Ack::default(),
    }
}

#[cfg(test)]
mod tests;
