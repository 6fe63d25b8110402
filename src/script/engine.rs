//! The Rhai engines: those with the default limits serve all scripts.

use std::sync::{Arc, LazyLock};

use rhai::{Dynamic, Engine, OptimizationLevel};

use super::{functions, limits::Limits, stack};

/// How deeply expressions may nest, at the top and in functions. Rhai's own defaults are lower in
/// debug builds, and what compiles must not depend on the build.
const EXPRESSION_DEPTH: usize = 64;

/// Words of the language that scripts cannot use: what they do cannot be known at compile time.
pub(super) const DISABLED: [&str; 3] = ["eval", "export", "import"];

static DEFAULT: LazyLock<Arc<Engine>> = LazyLock::new(|| Arc::new(build(&Limits::default())));
static WATCHED: LazyLock<Arc<Engine>> = LazyLock::new(|| Arc::new(watch(build(&Limits::default()))));

/// Returns the engine that enforces `limits`.
pub(super) fn with_limits(limits: &Limits) -> Arc<Engine> {
    if *limits == Limits::default() { Arc::clone(&DEFAULT) } else { Arc::new(build(limits)) }
}

/// Returns the engine that also watches the stack: for scripts with functions, as others cannot recurse.
/// It looks at every operation, which costs a sixth of a short condition.
pub(super) fn watched(limits: &Limits) -> Arc<Engine> {
    if *limits == Limits::default() { Arc::clone(&WATCHED) } else { Arc::new(watch(build(limits))) }
}

fn watch(mut engine: Engine) -> Engine {
    engine.on_progress(|_| stack::is_used_up().then_some(Dynamic::UNIT));
    engine
}

fn build(limits: &Limits) -> Engine {
    let mut engine = Engine::new();
    // Scripts are optimised by `Program`, after it has seen their literals as they were written.
    engine.set_optimization_level(OptimizationLevel::None);
    engine.set_strict_variables(true);
    for word in DISABLED {
        engine.disable_symbol(word);
    }
    engine
        .set_max_expr_depths(EXPRESSION_DEPTH, EXPRESSION_DEPTH)
        .set_max_modules(0)
        .set_max_operations(limits.max_operations)
        .set_max_call_levels(limits.max_call_depth)
        .set_max_string_size(limits.max_string_size)
        .set_max_array_size(limits.max_array_size)
        .set_max_map_size(limits.max_map_size);
    engine.on_print(|text| tracing::info!(target: "flowgen::script", "{text}"));
    engine.on_debug(|text, _, _| tracing::debug!(target: "flowgen::script", "{text}"));
    functions::register(&mut engine);
    engine
}
