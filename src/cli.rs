//! The command line: what may be said on it, and which command that means.

use std::{
    ffi::{OsStr, OsString},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
};

use clap::{CommandFactory, Parser, Subcommand, ValueHint};
use clap_complete::Shell;

use crate::{
    commands::{self, NOT_STARTED, Output},
    config,
    problem::{Origin, Problem, did_you_mean},
    report,
    telemetry::stderr,
};

/// Runs event flows that are written in YAML.
#[derive(Debug, Parser)]
#[command(version, about, arg_required_else_help = true, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  everything was handled, or a signal came and everything drained
  1  a flow could not run, a step of `doctor` failed, or the worker that `health` asks is not ready
  2  the configuration or the command line is wrong: nothing was started
  3  everything was handled, and some of it failed
  4  the shutdown ran out of time";

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs flows until their sources end or a signal comes.
    Run {
        /// Loads the worker's settings from this file.
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        config: Option<PathBuf>,
        /// Takes over changes of the files within about two seconds, and stays when all flows have ended.
        ///
        /// Only the flows that changed are restarted, once they have drained. What is wrong changes nothing and is
        /// reported. SIGHUP does the same at once, also without this.
        #[arg(long)]
        watch: bool,
        /// Files of flows, or directories of them.
        #[arg(required = true, value_name = "PATH", value_hint = ValueHint::AnyPath)]
        paths: Vec<PathBuf>,
    },
    /// Checks flows without running them, and reports all that is wrong.
    Validate {
        /// Loads the worker's settings from this file.
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        config: Option<PathBuf>,
        /// How the result is written.
        #[arg(long, value_enum, default_value_t)]
        output: Output,
        /// Files of flows, or directories of them.
        #[arg(required = true, value_name = "PATH", value_hint = ValueHint::AnyPath)]
        paths: Vec<PathBuf>,
    },
    /// Shows the settings of telemetry, and tries the way to the collector step by step.
    Doctor {
        /// Loads the worker's settings from this file.
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        config: Option<PathBuf>,
        /// How the result is written.
        #[arg(long, value_enum, default_value_t)]
        output: Output,
        /// Files of flows, or directories of them.
        #[arg(required = true, value_name = "PATH", value_hint = ValueHint::AnyPath)]
        paths: Vec<PathBuf>,
    },
    /// Asks a worker whether it is ready, and exits with 0 if it is: for containers without a shell.
    Health {
        /// Where it is asked; by default where the variable `FLOWGEN_HEALTH__ADDRESS`, the files, or else the default say.
        #[arg(long, value_name = "ADDRESS")]
        address: Option<SocketAddr>,
        /// Loads the worker's settings from this file.
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        config: Option<PathBuf>,
        /// Asks whether its process works, and not whether it is ready.
        #[arg(long)]
        live: bool,
        /// The files of the worker's flows, or directories of them.
        #[arg(value_name = "PATH", value_hint = ValueHint::AnyPath)]
        paths: Vec<PathBuf>,
    },
    /// Looks at dead letters, has them replayed, and removes them.
    Dlq {
        #[command(subcommand)]
        action: commands::dlq::Action,
    },
    /// Lists the kinds of tasks, or tells all about one.
    List {
        /// How the list is written.
        #[arg(long, value_enum, default_value_t)]
        output: Output,
        /// The kind to tell about.
        kind: Option<String>,
    },
    /// Prints the JSON Schema of a file, for editors, or describes the endpoints of flows.
    Schema {
        /// Loads the worker's settings from this file.
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "openapi")]
        config: Option<PathBuf>,
        /// Describes the endpoints of these flows instead, as a document of OpenAPI 3.1.
        #[arg(long, requires = "paths")]
        openapi: bool,
        /// Files of flows, or directories of them.
        #[arg(value_name = "PATH", value_hint = ValueHint::AnyPath, requires = "openapi")]
        paths: Vec<PathBuf>,
    },
    /// Prints rules of Prometheus for what flows promise by `slo`: how much of it is kept, and alerts.
    Rules {
        /// Loads the worker's settings from this file.
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        config: Option<PathBuf>,
        /// Whose file it is.
        #[arg(long, value_enum, default_value_t)]
        format: commands::rules::Format,
        /// Looks at the workers with this `job` only: the name of the service, behind its namespace and a slash if it has one.
        ///
        /// By default at all that run flows of these names, each `job` by itself.
        #[arg(long, value_name = "NAME")]
        job: Option<String>,
        /// Files of flows, or directories of them.
        #[arg(required = true, value_name = "PATH", value_hint = ValueHint::AnyPath)]
        paths: Vec<PathBuf>,
    },
    /// Writes a dashboard of flows for Grafana, laid out like their graphs.
    Dashboard {
        /// Loads the worker's settings from this file.
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        config: Option<PathBuf>,
        /// Calls the dashboard so; one of the same title takes its place in Grafana, whichever flows are in it.
        #[arg(long, value_name = "TITLE")]
        title: Option<String>,
        /// Files of flows, or directories of them.
        #[arg(required = true, value_name = "PATH", value_hint = ValueHint::AnyPath)]
        paths: Vec<PathBuf>,
    },
    /// Prints a script that completes command lines in a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let code = command();
    stderr::drain();
    code
}

fn command() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to stdout and are no mistake. That nobody reads them is none either.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { NOT_STARTED } else { 0 });
        }
    };
    match cli.command {
        Command::Run { config, paths, watch } => commands::start(paths, config, watch),
        Command::Validate { config, output, paths } => {
            commands::validate::execute(&paths, config.as_deref(), output)
        }
        Command::Doctor { config, output, paths } => {
            commands::doctor::execute(&paths, config.as_deref(), output)
        }
        Command::Health { address, config, live, paths } => {
            commands::health::execute(&paths, config.as_deref(), address, live)
        }
        Command::Dlq { action } => commands::dlq::execute(&action),
        Command::List { output, kind } => commands::list::execute(kind.as_deref(), output),
        Command::Schema { openapi: true, config, paths } => {
            commands::schema::describe(&paths, config.as_deref())
        }
        Command::Schema { .. } => commands::schema::execute(),
        Command::Rules { config, format, job, paths } => {
            commands::rules::execute(&commands::rules::Request {
                paths: &paths,
                worker_config: config.as_deref(),
                format,
                job: job.as_deref(),
            })
        }
        Command::Dashboard { config, paths, title } => {
            commands::dashboard::execute(&paths, config.as_deref(), title.as_deref())
        }
        Command::Completions { shell } => commands::completions::execute(shell, &mut Cli::command()),
        Command::Other(words) => other(words.first().map_or(OsStr::new(""), OsString::as_os_str)),
    }
}

fn other(name: &OsStr) -> ExitCode {
    let name = name.to_string_lossy();
    if config::planned_commands().contains(&&*name) {
        return refuse(&name, format!("the command `{name}` is not supported yet"), None);
    }
    let command = Cli::command();
    let known = command.get_subcommands().map(clap::Command::get_name);
    let hint = did_you_mean(&name, known.chain(["help"]));
    let hint = hint.or_else(|| Some("`flowgen --help` shows all commands".into()));
    refuse(&name, format!("there is no command `{name}`"), hint)
}

fn refuse(argument: &str, message: String, hint: Option<String>) -> ExitCode {
    let mut problem = Problem::new(Default::default(), message);
    problem.hint_opt(hint).origin = Some(Origin::Argument(argument.to_owned()));
    report::problems(&[problem]);
    ExitCode::from(NOT_STARTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
