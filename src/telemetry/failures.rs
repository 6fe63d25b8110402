//! Log lines of failures: once a second at most for each task and error type, with what was left out.

use std::{error::Error, time::Duration};

use tokio::time::Instant;

/// How often the failures of one type are logged.
const PERIOD: Duration = Duration::from_secs(1);

/// Decides which failures of one task are logged.
#[derive(Debug, Default)]
pub struct FailureLog {
    types: Vec<(&'static str, Window)>,
}

#[derive(Debug)]
struct Window {
    logged: Instant,
    suppressed: u64,
}

impl FailureLog {
    /// Counts a failure. Returns how many of this type were not logged since the last that was, or
    /// `None` if this one is not to be logged either.
    pub fn admit(&mut self, error_type: &'static str) -> Option<u64> {
        let now = Instant::now();
        match self.types.iter_mut().find(|(known, _)| *known == error_type) {
            None => {
                self.types.push((error_type, Window { logged: now, suppressed: 0 }));
                Some(0)
            }
            Some((_, window)) if now.duration_since(window.logged) < PERIOD => {
                window.suppressed += 1;
                None
            }
            Some((_, window)) => {
                window.logged = now;
                Some(std::mem::take(&mut window.suppressed))
            }
        }
    }

    /// Returns the types that have failures which no line has mentioned, with their number.
    pub fn rest(&mut self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.types
            .iter_mut()
            .map(|(error_type, window)| (*error_type, std::mem::take(&mut window.suppressed)))
            .filter(|(_, suppressed)| *suppressed > 0)
    }
}

/// Returns an error and all that caused it in one line: `outer: inner: innermost`.
pub fn error_chain(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some libraries repeat their source's text in their own.
        if !line.ends_with(&cause_text) {
            line.push_str(": ");
            line.push_str(&cause_text);
        }
        source = cause.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_a_second_and_type_and_none_goes_uncounted() {
        let mut log = FailureLog::default();
        assert_eq!(log.admit("parse"), Some(0));
        assert_eq!(log.admit("parse"), None);
        assert_eq!(log.admit("io"), Some(0));
        tokio::time::advance(PERIOD).await;
        assert_eq!(log.admit("parse"), Some(1));
        assert_eq!(log.admit("parse"), None);
        assert_eq!(log.rest().collect::<Vec<_>>(), [("parse", 1)]);
        assert_eq!(log.rest().count(), 0);
    }
}
