//! How many connections there is room for: each is a file that is open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that are not connections of clients: those of flows, of telemetry, of the worker.
const OTHERS: u64 = 256;

/// Returns as many of the `wanted` connections as the process may have files for, after asking for all that it may have.
pub(super) fn connections(wanted: usize) -> usize {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Few are given by default, for the sake of programs that cannot count beyond them.
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    if let Err(error) = raised {
        tracing::debug!(error.message = %error, "the limit of open files stays what it is");
    }
    let Some(files) = getrlimit(Resource::Nofile).current else { return wanted };
    let room = usize::try_from(files.saturating_sub(OTHERS).max(files / 2).max(1)).unwrap_or(usize::MAX);
    if room < wanted {
        tracing::warn!(
            files,
            max_connections = room,
            "there are fewer files that may be open than `http_server.max_connections` needs: raise the limit (`ulimit -n`)"
        );
    }
    room.min(wanted)
}
