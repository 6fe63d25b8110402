//! What the tests share.

pub(crate) mod client;
pub(crate) mod collector;
pub(crate) mod frames;
pub(crate) mod graph;
pub(crate) mod http;
pub(crate) mod own_process;
pub(crate) mod tasks;
pub(crate) mod walk;
pub(crate) mod worker;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Returns the binary that is tested: that of `FLOWGEN_TEST_BINARY`, a released one for instance, or what was built for the
/// tests.
#[expect(clippy::disallowed_methods, reason = "a setting of the tests, not of flowgen")]
fn binary() -> PathBuf {
    let other = std::env::var_os("FLOWGEN_TEST_BINARY");
    other.map_or_else(|| env!("CARGO_BIN_EXE_flowgen").into(), |path| std::fs::canonicalize(path).unwrap())
}

/// Returns a command that runs the binary in `dir`, without what the environment says of logging, telemetry,
/// flowgen itself and proxies.
pub(crate) fn flowgen(dir: &Path) -> Command {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars_os() {
        if ["OTEL_", "FLOWGEN_"].iter().any(|prefix| name.as_encoded_bytes().starts_with(prefix.as_bytes())) {
            command.env_remove(name);
        }
    }
    command.current_dir(dir).env_remove("RUST_LOG").env("NO_COLOR", "1").env("NO_PROXY", "127.0.0.1");
    command
}
