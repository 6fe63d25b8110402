//! What the tests share.

pub(crate) mod collector;
pub(crate) mod graph;
pub(crate) mod http;
pub(crate) mod own_process;
pub(crate) mod tasks;
pub(crate) mod walk;
pub(crate) mod worker;

use std::{path::Path, process::Command};

/// Returns a command that runs the binary in `dir`, without what the environment says of logging, telemetry,
/// flowgen itself and proxies.
pub(crate) fn flowgen(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flowgen"));
    for (name, _) in std::env::vars_os() {
        if ["OTEL_", "FLOWGEN_"].iter().any(|prefix| name.as_encoded_bytes().starts_with(prefix.as_bytes())) {
            command.env_remove(name);
        }
    }
    command.current_dir(dir).env_remove("RUST_LOG").env("NO_COLOR", "1").env("NO_PROXY", "127.0.0.1");
    command
}
