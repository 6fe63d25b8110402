//! `flowgen dlq`: looks at dead letters, has them replayed, and removes them; also beside the worker that stores them.

mod show;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Args, Subcommand, ValueHint};
use jiff::Timestamp;
use serde_json::Value;

use super::{NOT_STARTED, NOT_WRITTEN, Output, print, print_json};
use crate::{
    config::{Environment, ProcessEnvironment},
    problem::{KeyPath, Origin, Problem},
    report,
    state::{Letter, State, StateError},
};

/// Where the state is if nobody says.
const DEFAULT_STATE: &str = ".flowgen";
/// The variable that says it to workers too.
const STATE_VARIABLE: &str = "FLOWGEN_STATE__PATH";

/// What is done with dead letters.
#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Lists dead letters, the oldest first.
    List {
        #[command(flatten)]
        choice: Choice,
        /// How the list is written.
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// Shows dead letters whole: the event, the error and its causes.
    Show {
        #[command(flatten)]
        choice: Choice,
        /// How they are written.
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// Has dead letters handled once more, by the task that they failed in. The worker of the state does it, within a second
    /// if it runs, else when it starts.
    Replay {
        #[command(flatten)]
        choice: Choice,
        /// Takes all of them.
        #[arg(long)]
        all: bool,
    },
    /// Removes dead letters for good.
    Purge {
        #[command(flatten)]
        choice: Choice,
        /// Takes all of them.
        #[arg(long)]
        all: bool,
    },
}

/// Which dead letters, of which state.
#[derive(Debug, Args)]
pub(crate) struct Choice {
    /// The directory of `state.path`. By default what `FLOWGEN_STATE__PATH` says, else `.flowgen`.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    state: Option<PathBuf>,
    /// Those of this flow.
    #[arg(long)]
    flow: Option<String>,
    /// Those that failed in this task.
    #[arg(long)]
    task: Option<String>,
    /// Those whose `error.type` is this.
    #[arg(long, value_name = "TYPE")]
    error_type: Option<String>,
    /// Those that failed longer ago than this (`30m`, `2h`, `7d`).
    #[arg(long, value_name = "AGE", value_parser = humantime::parse_duration)]
    older_than: Option<Duration>,
    /// Those that failed later than this ago.
    #[arg(long, value_name = "AGE", value_parser = humantime::parse_duration)]
    newer_than: Option<Duration>,
    /// Those of these numbers.
    #[arg(value_name = "NUMBER")]
    numbers: Vec<u64>,
}

impl Choice {
    /// Returns whether it leaves anything out.
    fn is_narrow(&self) -> bool {
        let Self { state: _, flow, task, error_type, older_than, newer_than, numbers } = self;
        flow.is_some()
            || task.is_some()
            || error_type.is_some()
            || older_than.is_some()
            || newer_than.is_some()
            || !numbers.is_empty()
    }

    fn takes(&self, letter: &Letter, now: Timestamp) -> bool {
        let is =
            |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        // What failed in the future has no age.
        let age = Duration::try_from(now.duration_since(letter.time)).unwrap_or_default();
        is(&self.flow, &letter.flow)
            && is(&self.task, &letter.task)
            && is(&self.error_type, &letter.error_type)
            && self.older_than.is_none_or(|limit| age > limit)
            && self.newer_than.is_none_or(|limit| age < limit)
            && (self.numbers.is_empty() || self.numbers.contains(&letter.id))
    }

    fn directory(&self) -> PathBuf {
        let named = || ProcessEnvironment.variable(STATE_VARIABLE).map(PathBuf::from);
        self.state.clone().or_else(named).unwrap_or_else(|| Path::new(DEFAULT_STATE).to_owned())
    }
}

/// Does what is asked with the dead letters that are chosen.
pub(crate) fn execute(action: &Action) -> ExitCode {
    match action {
        Action::Replay { choice, all: false } | Action::Purge { choice, all: false }
            if !choice.is_narrow() =>
        {
            let mut problem = Problem::new(KeyPath::default(), "it is not said which dead letters");
            problem.hint(
                "name their numbers, choose by `--flow`, `--task`, `--error-type` or age, or take `--all`",
            );
            problem.origin = Some(Origin::Argument("NUMBER".to_owned()));
            report::problems(&[problem]);
            return ExitCode::from(NOT_STARTED);
        }
        _ => {}
    }
    let (Action::List { choice, .. }
    | Action::Show { choice, .. }
    | Action::Replay { choice, .. }
    | Action::Purge { choice, .. }) = action;
    let done = State::look_into(&choice.directory()).and_then(|state| {
        let letters = chosen(&state, choice)?;
        Ok((letters, state))
    });
    let done = done.and_then(|(letters, state)| perform(action, &state, &letters));
    done.unwrap_or_else(|error| {
        report::failure(&error);
        ExitCode::from(NOT_WRITTEN)
    })
}

fn chosen(state: &State, choice: &Choice) -> Result<Vec<Letter>, StateError> {
    let now = Timestamp::now();
    let mut letters = Vec::new();
    state.letters(|letter| {
        if choice.takes(&letter, now) {
            letters.push(letter);
        }
    })?;
    for number in &choice.numbers {
        if !letters.iter().any(|letter| letter.id == *number) {
            report::talk(&format!(
                "warning: there is no dead letter {number}, or none that the rest asks for\n"
            ));
        }
    }
    Ok(letters)
}

fn perform(action: &Action, state: &State, letters: &[Letter]) -> Result<ExitCode, StateError> {
    Ok(match action {
        Action::List { output: Output::Text, .. } => print(&show::list(letters)),
        Action::Show { output: Output::Text, .. } => print(&show::whole(letters)),
        Action::List { output: Output::Json, .. } => print_json(&letters.iter().map(show::line).collect()),
        Action::Show { output: Output::Json, .. } => {
            print_json(&letters.iter().map(show::json).collect::<Value>())
        }
        Action::Replay { .. } => {
            state.request_replays(letters.iter().map(|letter| letter.id))?;
            count("to be replayed", letters)
        }
        Action::Purge { .. } => {
            state.remove_letters(letters.iter())?;
            count("removed", letters)
        }
    })
}

fn count(what: &str, letters: &[Letter]) -> ExitCode {
    let plural = if letters.len() == 1 { "" } else { "s" };
    report::talk(&format!("{} dead letter{plural} {what}\n", letters.len()));
    ExitCode::SUCCESS
}
