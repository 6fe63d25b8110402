//! `flowgen completions`: a script that completes command lines in a shell.

use std::process::ExitCode;

use clap_complete::Shell;

use super::print;

/// Prints the script of `shell` for the command line that `command` defines.
pub(crate) fn execute(shell: Shell, command: &mut clap::Command) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, command, "flowgen", &mut script);
    print(&String::from_utf8_lossy(&script))
}
