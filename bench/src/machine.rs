//! Where and with what the figures were taken.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use serde::Serialize;

/// What a reader needs to know of the machine; nothing that tells whose it is.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: u64,
    pub(crate) kernel: String,
    pub(crate) rustc: String,
    pub(crate) commit: String,
}

impl Machine {
    pub(crate) fn this() -> Self {
        let field = |file: &str, name: &str| {
            fs::read_to_string(file).ok()?.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                (key.trim() == name).then(|| value.trim().to_owned())
            })
        };
        let kilobytes = field("/proc/meminfo", "MemTotal")
            .and_then(|value| value.trim_end_matches(" kB").parse::<u64>().ok())
            .unwrap_or_default();
        Self {
            cpu: field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned()),
            cores: thread::available_parallelism().map_or(0, usize::from),
            memory_gib: (kilobytes + (1 << 19)) >> 20,
            kernel: release(&answer(Command::new("uname").arg("-sr"))),
            rustc: answer(Command::new("rustc").arg("--version").current_dir(repository())),
            commit: answer(
                Command::new("git").args(["describe", "--always", "--dirty"]).current_dir(repository()),
            ),
        }
    }
}

/// Cuts a kernel's release down to its first two numbers; the rest is whoever built it.
fn release(name: &str) -> String {
    name.splitn(3, '.').take(2).collect::<Vec<_>>().join(".")
}

/// Returns the root of the repository.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| ".".into(), Path::to_owned)
}

/// Returns the first line that a command prints, or `unknown`.
pub(crate) fn answer(command: &mut Command) -> String {
    let output = command.output().ok().filter(|output| output.status.success());
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.as_deref().and_then(|text| text.lines().next()).unwrap_or("unknown").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_named_without_its_builder() {
        assert_eq!(release("Linux 6.18.44-somebodys-v1"), "Linux 6.18");
        assert_eq!(release("unknown"), "unknown");
    }
}
