//! The task kinds: one file and one line of the registry each.

use crate::registry::{KindEntry, Registry};

/// Declares the modules of the kinds and lists them in the registry.
macro_rules! kinds {
    ($($module:ident :: $kind:ident),* $(,)?) => {
        $(mod $module;)*
        const KINDS: &[KindEntry] = &[$(
            KindEntry::of::<$module::$kind>(include_str!(concat!("tasks/", stringify!($module), ".rs"))),
        )*];
    };
}

kinds! {
    buffer::Buffer,
    cache::Cache,
    dedupe::Dedupe,
    drop::Drop,
    file::File,
    file_write::FileWrite,
    filter::Filter,
    generate::Generate,
    http_endpoint::HttpEndpoint,
    http_request::HttpRequest,
    iterate::Iterate,
    log::Log,
    script::ScriptTask,
    stdin::Stdin,
    stdout::Stdout,
    switch::Switch,
    throttle::Throttle,
    validate::Validate,
}

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub use http_endpoint::fuzzing;

/// Returns all kinds that this build knows.
pub fn registry() -> Registry {
    Registry(KINDS)
}
