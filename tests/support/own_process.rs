//! Telemetry of tasks that a test makes: in a process of the test's own, because there is one subscriber for log lines
//! and spans in each, and that of the tests has none.
//!
//! The process runs the same test again, which finds there where to export to.

use std::{
    collections::BTreeMap,
    env,
    process::{ChildStdin, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use flowgen::{
    plan::Plan,
    runtime::{Lent, Report, TaskManager},
    telemetry::{self, Compression, Export, LoggingConfig, Pipeline, Settings, Telemetry, TlsConfig},
    trace::Ticks,
};
use tokio::runtime::Handle;

use super::collector::Collector;

/// Where the process sends its telemetry.
const ENDPOINT: &str = "FLOWGEN_TEST_ENDPOINT";

const LIMIT: Duration = Duration::from_secs(60);

/// How much is shown of what a failed process said, the end of it.
const SHOWN: usize = 4000;

/// Runs the test of this name again in a process of its own, to its end. Returns the collector that it exported to.
pub(crate) fn run_again(test: &str) -> Collector {
    run_again_logged(test).0
}

/// As [`run_again`], with what the process left on stderr.
pub(crate) fn run_again_logged(test: &str) -> (Collector, String) {
    let collector = Collector::start();
    let said = finish(&collector, command(&collector, test), drop);
    (collector, said)
}

/// As [`run_again`], with what `prepare` does to the command.
pub(crate) fn run_again_with(test: &str, prepare: impl FnOnce(&mut Command)) -> Collector {
    let collector = Collector::start();
    let mut command = command(&collector, test);
    prepare(&mut command);
    finish(&collector, command, drop);
    collector
}

/// As [`run_again`], with this collector. A thread of its own may write to the process as long as it lives.
pub(crate) fn run_with(collector: &Collector, test: &str, write: impl FnOnce(ChildStdin) + Send + 'static) {
    finish(collector, command(collector, test), write);
}

fn command(collector: &Collector, test: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", test]).env(ENDPOINT, collector.endpoint());
    command
}

/// Runs a command to its end. Returns what it left on stderr.
fn finish(
    collector: &Collector,
    mut command: Command,
    write: impl FnOnce(ChildStdin) + Send + 'static,
) -> String {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let stdin = child.stdin.take().unwrap();
    thread::spawn(move || write(stdin));
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let shown = said.char_indices().rev().nth(SHOWN).map_or(&*said, |(start, _)| &said[start..]);
    assert!(output.status.success(), "{}: {shown}", output.status);
    assert!(!collector.calls().is_empty(), "there is no such test: {command:?}");
    said
}

/// Returns the settings of telemetry in the process of a test's own, and nothing elsewhere.
#[expect(clippy::disallowed_methods, reason = "a setting of the test, not of flowgen")]
pub(crate) fn settings() -> Option<Settings> {
    let export = Export {
        endpoint: env::var(ENDPOINT).ok()?,
        headers: BTreeMap::new(),
        compression: Compression::None,
        timeout: LIMIT,
        tls: TlsConfig::default(),
    };
    let (traces, metrics) = (Some(export.clone()), Some(export));
    Some(Settings { enabled: true, traces, metrics, ..Settings::default() })
}

/// Starts telemetry. Once a process.
pub(crate) fn start(settings: &Settings) -> Telemetry {
    let pipeline = Pipeline::new(settings);
    telemetry::init(&LoggingConfig::default(), None, "test", false, &pipeline);
    Telemetry::start(settings, pipeline).unwrap()
}

/// Runs a plan to its end on the current runtime.
pub(crate) async fn run(plan: Plan, telemetry: &Telemetry) -> Report {
    let built = TaskManager::build(plan, Lent::default(), telemetry.tracer().clone(), Ticks::now()).await;
    built.unwrap().start(Handle::current()).run().await
}

/// Exports what is left, and writes what is left to log. Blocks: not to be called from a future.
pub(crate) fn flush(telemetry: Telemetry) {
    telemetry.shutdown(Instant::now() + LIMIT);
    telemetry::stderr::drain();
}
