//! A compiled script and one run of it.

use std::{
    fmt, mem,
    sync::{Arc, Mutex, TryLockError},
};

use rhai::{AST, Dynamic, Engine, Map, OptimizationLevel, Scope};
use serde_json::Value;

use super::{
    CompileError, Limits,
    analysis::Uses,
    compile::place,
    engine, native,
    projection::Projection,
    runtime_error::failure,
    shapes::Shapes,
    stack,
    tail::{self, EVENT_TAG},
    text,
};
use crate::{
    event::{Event, Payload},
    task::TaskError,
};

/// What a program is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It handles events and may change them.
    Script,
    /// The same with everything converted whole, to compare with.
    #[cfg(test)]
    WholeScript,
    /// It decides about an event and must not change it.
    Condition,
    /// It sees no event.
    Generator,
}

impl Purpose {
    /// What people call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Condition => "condition",
            _ => "script",
        }
    }
}

/// A compiled script.
pub(super) struct Program {
    purpose: Purpose,
    engine: Arc<Engine>,
    ast: AST,
    pub(super) uses: Uses,
    pub(super) shapes: Shapes,
    /// The variables. They are kept with the maps of `event`, because making these anew costs as much as
    /// a short script; what the maps hold is replaced before the next run.
    scope: Mutex<Scope<'static>>,
}

/// What a script is lent besides its event. What it is not given is `()`.
#[derive(Debug, Default)]
pub(super) struct Lent {
    /// `ctx.resource`.
    pub(super) resource: Dynamic,
    /// `ctx.cache`.
    pub(super) cache: Dynamic,
}

/// What is left after a run.
pub(super) struct Finished {
    /// What the script returned.
    pub(super) result: Dynamic,
    /// The native map `event`, `()` if the script does not use it.
    pub(super) event: Dynamic,
    /// The native map `ctx`, `()` if the script does not use it.
    pub(super) ctx: Dynamic,
}

impl Program {
    pub(super) fn compile(code: &str, limits: &Limits, purpose: Purpose) -> Result<Self, CompileError> {
        if code.trim().is_empty() {
            let message = format!("the {} is empty", purpose.name());
            return Err(CompileError { line: 1, column: 1, message, hint: None });
        }
        let known: &[&str] = if purpose == Purpose::Generator { &[] } else { &["event", "ctx"] };
        let engine = engine::with_limits(limits);
        let mut scope = Scope::new();
        for name in known {
            scope.push_dynamic(*name, Dynamic::UNIT);
        }
        let ast = engine
            .compile_with_scope(&scope, code)
            .map_err(|error| CompileError::from_parser(code, &error, known))?;
        let shapes = Shapes::collect(&ast);
        let mut ast = engine.optimize_ast(&scope, ast, OptimizationLevel::Simple);
        let mut uses = Uses::of(&ast);
        if purpose == Purpose::Script && !uses.is_shadowed {
            ast = tail::mark(&ast);
            uses = Uses::of(&ast);
        }
        #[cfg(test)]
        if purpose == Purpose::WholeScript {
            uses.whole_event();
        }
        if let Some(fault) = uses.faults.first() {
            return Err(CompileError::from_fault(code, fault));
        }
        let engine = if ast.has_functions() { engine::watched(limits) } else { engine };
        let program = Self { purpose, engine, ast, scope: Mutex::new(empty_scope(&uses)), uses, shapes };
        Ok(program)
    }

    /// Runs the script on an event, which stays as it is.
    pub(super) fn run(&self, event: &Event, lent: &Lent) -> Result<Finished, TaskError> {
        let mut kept = match self.scope.try_lock() {
            Ok(kept) => Some(kept),
            Err(TryLockError::Poisoned(kept)) => Some(kept.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        let mut made;
        let scope = match &mut kept {
            Some(kept) => &mut **kept,
            None => {
                made = empty_scope(&self.uses);
                &mut made
            }
        };
        if let Some(variable) = scope.get_mut("event") {
            self.renew_event(variable, event);
        }
        if let Some(variable) = scope.get_mut("ctx") {
            *variable = self.native_ctx(event, lent);
        }
        let result = stack::measured(|| self.engine.eval_ast_with_scope::<Dynamic>(scope, &self.ast));
        // Takes away what the script declared, which may have the names of its variables.
        scope.rewind(usize::from(self.uses.event()) + usize::from(self.uses.ctx()));
        let mut take = |name| scope.get_mut(name).map(mem::take).unwrap_or_default().flatten();
        let ctx = take("ctx");
        let event = if self.purpose == Purpose::Condition { Dynamic::UNIT } else { take("event") };
        match result {
            Ok(result) => Ok(Finished { result: result.flatten(), event, ctx }),
            Err(error) => Err(failure(self.purpose.name(), &self.ast, &error)),
        }
    }

    /// Takes back the map of a run, for the next one.
    pub(super) fn keep(&self, event: Dynamic) {
        if event.is_map()
            && let Ok(mut scope) = self.scope.try_lock()
            && let Some(variable) = scope.get_mut("event")
        {
            *variable = event;
        }
    }

    /// Runs the script on nothing.
    pub(super) fn run_alone(&self) -> Result<Dynamic, TaskError> {
        stack::measured(|| self.engine.eval_ast_with_scope(&mut Scope::new(), &self.ast))
            .map_err(|error| failure(self.purpose.name(), &self.ast, &error))
    }

    /// Makes `native` the map of `event`, in the maps of the run before where there are any.
    fn renew_event(&self, native: &mut Dynamic, event: &Event) {
        if !self.is_renewed(native, event) {
            *native = self.native_event(event);
        }
    }

    /// Tries to, for a script that uses the data only: most do.
    fn is_renewed(&self, native: &mut Dynamic, event: &Event) -> bool {
        let (Some(projection), true, false) = (&self.uses.data, self.uses.is_data_only(), native.is_shared())
        else {
            return false;
        };
        native.set_tag(EVENT_TAG);
        let Ok(mut map) = native.as_map_mut() else { return false };
        let is_alone = map.len() == 1;
        let Some(native) = map.get_mut("data") else { return false };
        // A condition reads text that nobody parsed yet without a tree.
        let is_text = self.purpose == Purpose::Condition && event.data.unparsed().is_some();
        match &event.data {
            Payload::Json(_) if !is_text => {
                projection.renew(native, event.data.json().unwrap_or(&Value::Null));
            }
            data => *native = self.native_data(projection, data),
        }
        is_alone
    }

    /// In the order of keys of a map, so that each is put at the end.
    fn native_event(&self, event: &Event) -> Dynamic {
        let mut map = Map::new();
        if let Some(projection) = &self.uses.data {
            map.insert("data".into(), self.native_data(projection, &event.data));
        }
        if self.uses.error {
            map.insert("error".into(), native::from_json(&event.error_json()));
        }
        if self.uses.id {
            map.insert("id".into(), event.id.to_string().into());
        }
        if self.uses.meta {
            map.insert("meta".into(), native_meta(event));
        }
        if self.uses.subject {
            map.insert("subject".into(), (&*event.subject).into());
        }
        if self.uses.timestamp {
            map.insert("timestamp".into(), event.timestamp.to_string().into());
        }
        let mut map = Dynamic::from_map(map);
        map.set_tag(EVENT_TAG);
        map
    }

    /// Raw bytes are a string if they are UTF-8, else a blob.
    fn native_data(&self, projection: &Projection, data: &Payload) -> Dynamic {
        match data {
            Payload::Bytes(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => text.into(),
                Err(_) => Dynamic::from_blob(bytes.to_vec()),
            },
            // A condition changes nothing, so it needs no tree to be compared with afterwards.
            Payload::Json(_) if self.purpose == Purpose::Condition => data
                .unparsed()
                .and_then(|text| text::project(projection, text).ok())
                .unwrap_or_else(|| project(projection, data)),
            Payload::Json(_) => project(projection, data),
        }
    }

    fn native_ctx(&self, event: &Event, lent: &Lent) -> Dynamic {
        let mut map = Map::new();
        if self.uses.ctx_cache {
            map.insert("cache".into(), lent.cache.clone());
        }
        if self.uses.ctx_meta {
            map.insert("meta".into(), native_meta(event));
        }
        if self.uses.ctx_resource {
            map.insert("resource".into(), lent.resource.clone());
        }
        Dynamic::from_map(map)
    }
}

fn empty_scope(uses: &Uses) -> Scope<'static> {
    let mut scope = Scope::new();
    if uses.event() {
        scope.push_dynamic("event", Dynamic::UNIT);
    }
    if uses.ctx() {
        scope.push_dynamic("ctx", Dynamic::UNIT);
    }
    scope
}

fn project(projection: &Projection, data: &Payload) -> Dynamic {
    data.json().map_or(Dynamic::UNIT, |json| projection.project(json))
}

fn native_meta(event: &Event) -> Dynamic {
    Dynamic::from_map(event.meta.entries().map(native::from_entries).unwrap_or_default())
}

impl Program {
    /// Refuses a condition that changes the event.
    pub(super) fn refuse_changes(self, code: &str) -> Result<Self, CompileError> {
        let Some(position) = self.uses.change else { return Ok(self) };
        let (line, column) = place(code, position);
        let message = "a condition cannot change the event".to_owned();
        Err(CompileError { line, column, message, hint: Some("compare with `==`".to_owned()) })
    }

    /// Refuses a condition that looks into the cache: what it says of an event must not depend on the time.
    pub(super) fn refuse_cache(self, code: &str) -> Result<Self, CompileError> {
        let Some(position) = self.uses.cache else { return Ok(self) };
        let (line, column) = place(code, position);
        let message = "`ctx.cache` is not available in conditions".to_owned();
        let hint = "let a `cache` or `script` task before put what is cached into the event".to_owned();
        Err(CompileError { line, column, message, hint: Some(hint) })
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("purpose", &self.purpose).finish_non_exhaustive()
    }
}
