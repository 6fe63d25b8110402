//! The README's commands about telemetry, as they stand there, on the ports that they name.
//!
//! They run in a network namespace of their own, where nobody else has taken these ports.

use std::{env, fs, path::Path, process::Command};

use crate::{collector::READY, process::Process, repository};

/// Returns the shell commands of the section on telemetry, in order.
fn commands() -> Vec<String> {
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    let (_, section) = readme.split_once("\n## Telemetry\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let blocks = section.split("```sh\n").skip(1);
    blocks.map(|rest| rest.split("```").next().unwrap().trim().to_owned()).collect()
}

#[test]
fn the_commands_show_what_they_promise() {
    let commands = commands();
    let [collector, flowgen] = &commands[..] else { panic!("two commands: {commands:?}") };
    let mut shell = Command::new("unshare");
    shell.args(["--net", "--pid", "--fork", "--kill-child", "sh", "-c"]);
    shell.arg(format!("ip link set lo up && {collector}")).current_dir(repository());
    let mut collector = Process::start(&mut shell);
    collector.until(&[READY]);

    let mut shell = Command::new("nsenter");
    shell.arg(format!("--net=/proc/{}/ns/net", collector.id())).args(["sh", "-c", flowgen]);
    let ended = Process::start(shell.current_dir(repository()).env("PATH", path_with_flowgen())).end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.stdout.lines().count(), 297);
    collector.until(&["Name           : task.handle", "-> Name: task.handle.count"]);
}

/// Returns the path of programs as it is after an installation.
#[expect(clippy::disallowed_methods, reason = "the path is of the machine, not a setting of flowgen")]
fn path_with_flowgen() -> String {
    let folder = Path::new(env!("CARGO_BIN_EXE_flowgen")).parent().unwrap();
    format!("{}:{}", folder.display(), env::var("PATH").unwrap())
}
