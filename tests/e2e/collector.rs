//! A Collector that runs with the repository's `otel-config.yaml`, and also writes what it gets to files.

use std::{fs, net::TcpListener, path::PathBuf, process::Command};

use tempfile::TempDir;

use crate::{otlp::Received, process::Process, repository};

/// What the Collector says when it listens.
pub(crate) const READY: &str = "Everything is ready";

/// A Collector that takes OTLP/gRPC on a port of its own.
pub(crate) struct Collector {
    process: Process,
    folder: TempDir,
    pub(crate) port: u16,
}

impl Collector {
    pub(crate) fn start() -> Self {
        Self::start_with("{}")
    }

    /// Starts one with a configuration on top of all others.
    pub(crate) fn start_with(configuration: &str) -> Self {
        // Somebody else may take the port between our asking for it and the Collector's.
        (0..5).find_map(|_| Self::attempt(configuration)).expect("one of five free ports stays free")
    }

    fn attempt(configuration: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("overlay.yaml"), overlay(port, &folder)).unwrap();
        fs::write(path("top.yaml"), configuration).unwrap();
        let mut command = Command::new(program());
        command.arg("--config").arg(repository().join("otel-config.yaml"));
        command.arg("--config").arg(path("overlay.yaml")).arg("--config").arg(path("top.yaml"));
        let process = Process::start(command.env_clear());
        if process.said(&[READY]) {
            return Some(Self { process, folder, port });
        }
        let ended = process.end();
        assert!(ended.stderr.contains("address already in use"), "{}", ended.stderr);
        None
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Ends it, so that everything it holds is written, and returns that.
    pub(crate) fn stop(self) -> Received {
        let ended = self.process.stop();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let read = |name: &str| fs::read_to_string(self.folder.path().join(name)).unwrap();
        Received::parse(&read("traces.json"), &read("metrics.json"), ended.stderr)
    }
}

/// Returns what the tests change: the port, the files, and no port for metrics about the Collector itself.
fn overlay(port: u16, folder: &TempDir) -> String {
    let folder = folder.path().display();
    format!(
        "
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:{port}'}}}}}}}}
exporters:
  file/traces: {{path: {folder}/traces.json}}
  file/metrics: {{path: {folder}/metrics.json}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{exporters: [debug, file/traces]}}
    metrics: {{exporters: [debug, file/metrics]}}
"
    )
}

/// Returns the configuration of a receiver that asks for the token `let-me-in`, with these keys of its `tls`.
pub(crate) fn asks_for_a_token(tls: &str) -> String {
    format!(
        "
extensions: {{bearertokenauth: {{token: let-me-in}}}}
receivers:
  otlp:
    protocols:
      grpc:
        auth: {{authenticator: bearertokenauth}}
        tls: {{{tls}}}
service: {{extensions: [bearertokenauth]}}
"
    )
}

/// Returns the path of the Collector that `tests/e2e/run` has built.
#[expect(clippy::disallowed_methods, reason = "a setting of these tests, not of flowgen")]
pub(crate) fn program() -> PathBuf {
    std::env::var_os("FLOWGEN_E2E_COLLECTOR").expect("run these tests by `tests/e2e/run`").into()
}

#[test]
fn the_repositorys_configuration_is_accepted_as_it_is() {
    let configuration = repository().join("otel-config.yaml");
    let checked = Command::new(program()).args(["validate", "--config"]).arg(configuration).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
