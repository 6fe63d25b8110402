//! Bad configurations and their exact reports, through the real binary.
//!
//! A case is `config/<name>.yaml`, or a folder of such files, with its report in `config/<name>.stderr`.
//! Lines `# variable: NAME=value` at the top of a file set the environment. `UPDATE_GOLDEN=1` writes the
//! reports anew; read them before you commit them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config")
}

/// Returns the names of all cases.
fn cases() -> Vec<String> {
    let entries = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<_> = entries
        .filter(|path| path.extension().is_none_or(|extension| extension == "yaml"))
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

fn validate(case: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flowgen"));
    command.current_dir(folder()).env_clear().env("NO_COLOR", "1").args(["validate", case]);
    let text = fs::read(folder().join(case)).unwrap_or_default();
    for line in String::from_utf8_lossy(&text).lines() {
        let Some(variable) = line.strip_prefix("# variable: ") else { break };
        let (name, value) = variable.split_once('=').unwrap();
        command.env(name, value);
    }
    command
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a switch of the test, not of the program")]
fn every_bad_configuration_is_refused_with_its_exact_report() {
    let is_update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for case in cases() {
        let output = validate(&case).output().unwrap();
        let report = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{case}: {report}");
        assert!(output.stdout.is_empty(), "{case}");
        assert!(!report.contains("hunter2"), "{case} shows a secret: {report}");
        let golden = folder().join(&case).with_extension("stderr");
        if is_update {
            fs::write(&golden, &report).unwrap();
        } else if fs::read_to_string(&golden).unwrap_or_default() != report {
            wrong.push(format!("{case}:\n{report}"));
        }
    }
    assert!(wrong.is_empty(), "other reports than written down:\n{}", wrong.join("\n"));
    assert!(cases().len() >= 25);
}

#[test]
fn a_report_does_not_depend_on_the_run() {
    let report = || validate("two_files").output().unwrap().stderr;
    assert_eq!(report(), report());
}
