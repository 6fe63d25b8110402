//! What the tests share.

pub(crate) mod graph;
pub(crate) mod http;
pub(crate) mod tasks;
pub(crate) mod worker;

use std::{path::Path, process::Command};

/// Returns a command that runs the binary in `dir`, without the environment's logging settings and proxies.
pub(crate) fn flowgen(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flowgen"));
    command.current_dir(dir).env_remove("RUST_LOG").env("NO_COLOR", "1").env("NO_PROXY", "127.0.0.1");
    command
}
