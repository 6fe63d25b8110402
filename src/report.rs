//! What the program tells people: problems with their place and a hint, on stderr; data, on stdout.
//!
//! The only place that writes to either, besides the log and the tasks that do so by trade.

use std::{
    collections::BTreeSet,
    error::Error,
    fmt::Write as _,
    io::{self, IsTerminal, Write},
};

use crate::{
    problem::{Origin, Place, Problem},
    telemetry::{error_chain, stderr},
};

const RED: &str = "\x1b[1;31m";
const YELLOW: &str = "\x1b[1;33m";
const BLUE: &str = "\x1b[1;34m";
const CYAN: &str = "\x1b[1;36m";
const RESET: &str = "\x1b[0m";

/// Whether a report is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    /// Plain text.
    Off,
    /// ANSI colours.
    On,
}

impl Colours {
    /// Returns what suits stderr: colours on a terminal, unless `NO_COLOR` is set.
    pub fn of_stderr() -> Self {
        let is_refused = is_colour_refused();
        if io::stderr().is_terminal() && !is_refused { Self::On } else { Self::Off }
    }

    fn paint(self, colour: &str, text: &str) -> String {
        match self {
            Self::Off => text.to_owned(),
            Self::On => format!("{colour}{text}{RESET}"),
        }
    }
}

/// Returns whether `NO_COLOR` is set, to anything but nothing.
#[expect(clippy::disallowed_methods, reason = "how reports look is no part of the configuration")]
fn is_colour_refused() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Nothing starts.
    Error,
    /// Everything starts.
    Warning,
}

/// Writes problems as text, each with the line it is about.
pub fn render(problems: &[Problem], severity: Severity, colours: Colours) -> String {
    let mut text = String::new();
    for problem in problems {
        one(&mut text, problem, severity, colours);
        text.push('\n');
    }
    text
}

/// Writes the line that counts problems: `error: 3 problems in 2 files`.
pub fn summary(problems: &[Problem], colours: Colours) -> String {
    let files: BTreeSet<_> = problems
        .iter()
        .filter_map(|problem| match &problem.origin {
            Some(Origin::Place(place)) => Some(&place.file),
            _ => None,
        })
        .collect();
    let plural = |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    let error = colours.paint(RED, "error");
    let count = plural(problems.len(), "problem");
    match files.len() {
        0 => format!("{error}: {count}\n"),
        files => format!("{error}: {count} in {}\n", plural(files, "file")),
    }
}

fn one(text: &mut String, problem: &Problem, severity: Severity, colours: Colours) {
    let label = match severity {
        Severity::Error => colours.paint(RED, "error"),
        Severity::Warning => colours.paint(YELLOW, "warning"),
    };
    let _ = writeln!(text, "{label}: {}", problem.message);
    let arrow = colours.paint(BLUE, "-->");
    let path = match problem.path.0.is_empty() {
        true => String::new(),
        false => format!(" ({})", problem.path),
    };
    match &problem.origin {
        Some(Origin::Place(place)) if place.line == 0 => {
            let _ = writeln!(text, "  {arrow} {}{path}", place.file.display());
        }
        Some(Origin::Place(place)) => excerpt(text, place, &path, colours),
        Some(Origin::Variable(name)) => {
            let _ = writeln!(text, "  {arrow} the variable {name}{path}");
        }
        Some(Origin::Argument(argument)) => {
            let _ = writeln!(text, "  {arrow} the argument {argument}{path}");
        }
        None => {}
    }
    if let Some(hint) = &problem.hint {
        let _ = writeln!(text, "{}: {hint}", colours.paint(CYAN, "hint"));
    }
}

fn excerpt(text: &mut String, place: &Place, path: &str, colours: Colours) {
    let arrow = colours.paint(BLUE, "-->");
    let number = place.line.to_string();
    let margin = " ".repeat(number.len());
    let bar = colours.paint(BLUE, "|");
    let position = if place.column > 0 { format!(":{}", place.column) } else { String::new() };
    let _ = writeln!(text, "{margin}{arrow} {}:{number}{position}{path}", place.file.display());
    if place.column == 0 {
        return;
    }
    // A tab takes one column of the count but more on the screen.
    let shown = place.text.replace('\t', " ");
    let carets = colours.paint(RED, &"^".repeat(place.width));
    let indent = " ".repeat(place.column - 1);
    let _ = writeln!(text, "{margin} {bar}");
    let _ = writeln!(text, "{} {bar} {shown}", colours.paint(BLUE, &number));
    let _ = writeln!(text, "{margin} {bar} {indent}{carets}");
}

/// Tells problems that stop the program.
pub fn problems(problems: &[Problem]) {
    let colours = Colours::of_stderr();
    talk(&[render(problems, Severity::Error, colours), summary(problems, colours)].concat());
}

/// Tells problems that do not stop the program.
pub fn warnings(warnings: &[Problem]) {
    talk(&render(warnings, Severity::Warning, Colours::of_stderr()));
}

/// Logs problems, where a program reads what is told.
pub fn log_problems(problems: &[Problem]) {
    for problem in problems {
        let source = source(problem);
        tracing::error!(source, key = %problem.path, hint = problem.hint, "{}", problem.message);
    }
}

/// Logs warnings, where a program reads what is told.
pub fn log_warnings(warnings: &[Problem]) {
    for warning in warnings {
        let source = source(warning);
        tracing::warn!(source, key = %warning.path, hint = warning.hint, "{}", warning.message);
    }
}

/// Returns where a problem is, in one line.
fn source(problem: &Problem) -> Option<String> {
    problem.origin.as_ref().map(|origin| match origin {
        Origin::Place(place) if place.line == 0 => place.file.display().to_string(),
        Origin::Place(place) => format!("{}:{}:{}", place.file.display(), place.line, place.column),
        Origin::Variable(name) | Origin::Argument(name) => name.clone(),
    })
}

/// Tells an error with the chain of its causes.
pub fn failure(error: &(dyn Error + 'static)) {
    let colours = Colours::of_stderr();
    let mut text = format!("{}: {error}\n", colours.paint(RED, "error"));
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = writeln!(text, "  {} {error}", colours.paint(BLUE, "because:"));
        cause = error.source();
    }
    talk(&text);
}

/// Logs an error with the chain of its causes, where a program reads what is told.
pub fn log_failure(error: &(dyn Error + 'static)) {
    let cause = error.source().map(error_chain);
    tracing::error!(error.message = cause, "{error}");
}

/// Writes text for people to stderr. That nobody listens is no error.
pub fn talk(text: &str) {
    stderr::write(text.as_bytes());
}

/// Writes data to stdout.
///
/// # Errors
/// Those of stdout; a reader that went away is none.
pub fn data(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::KeyPath;

    fn problem() -> Problem {
        let path = KeyPath::default().key("flow").key("tasks").index(0).key("generate").key("intreval");
        let mut problem = Problem::new(path, "unknown field `intreval`");
        problem.hint("did you mean `interval`?");
        problem.origin = Some(Origin::Place(Place {
            file: "flows/orders.yaml".into(),
            line: 12,
            column: 7,
            width: 8,
            text: "      intreval: 5s".into(),
        }));
        problem
    }

    #[test]
    fn shows_the_place_with_a_caret_and_the_hint() {
        assert_eq!(
            render(&[problem()], Severity::Error, Colours::Off),
            "\
error: unknown field `intreval`
  --> flows/orders.yaml:12:7 (flow.tasks[0].generate.intreval)
   |
12 |       intreval: 5s
   |       ^^^^^^^^
hint: did you mean `interval`?

"
        );
    }

    #[test]
    fn counts_problems_and_files() {
        assert_eq!(summary(&[problem()], Colours::Off), "error: 1 problem in 1 file\n");
        let mut elsewhere = problem();
        elsewhere.origin = Some(Origin::Variable("X".into()));
        assert_eq!(summary(&[problem(), elsewhere.clone()], Colours::Off), "error: 2 problems in 1 file\n");
        assert_eq!(summary(&[elsewhere], Colours::Off), "error: 1 problem\n");
    }

    #[test]
    fn colours_only_where_asked() {
        assert!(!render(&[problem()], Severity::Warning, Colours::Off).contains('\x1b'));
        assert!(render(&[problem()], Severity::Warning, Colours::On).contains(YELLOW));
    }
}
