//! What a worker's log says at its end.

use std::time::Duration;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

/// What became of a worker's spans and points.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
pub(crate) struct Flushed {
    #[serde(rename = "spans_created")]
    pub(crate) created: u64,
    #[serde(rename = "spans_exported")]
    pub(crate) exported: u64,
    #[serde(rename = "spans_dropped")]
    pub(crate) dropped: u64,
    pub(crate) points_exported: u64,
    pub(crate) points_dropped: u64,
}

impl Flushed {
    /// Finds the line among those of stderr.
    pub(crate) fn find(stderr: &str) -> Option<Self> {
        find(stderr, "telemetry flushed")
    }

    /// Returns whether every span is accounted for.
    pub(crate) fn adds_up(&self) -> bool {
        self.created == self.exported + self.dropped
    }
}

/// What became of a flow's events.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
pub(crate) struct Drained {
    pub(crate) entered: u64,
    pub(crate) completed: u64,
    elapsed_ms: u64,
}

impl Drained {
    /// Finds the line of the first flow among those of stderr.
    pub(crate) fn find(stderr: &str) -> Option<Self> {
        find(stderr, "flow drained")
    }

    /// Returns how long the flow ran, from the start of its loops to the end of the last one.
    pub(crate) fn elapsed(&self) -> Duration {
        Duration::from_millis(self.elapsed_ms)
    }
}

/// Returns whether the worker said that the collector takes nothing.
pub(crate) fn warned(stderr: &str) -> bool {
    lines(stderr).any(|line| message(&line).starts_with("the collector does not take telemetry"))
}

fn find<T: DeserializeOwned>(stderr: &str, message: &str) -> Option<T> {
    let line = lines(stderr).find(|line| self::message(line) == message)?;
    serde_json::from_value(line).ok()
}

/// Returns the lines that are JSON.
fn lines(stderr: &str) -> impl Iterator<Item = Value> {
    stderr.lines().filter_map(|line| serde_json::from_str(line).ok())
}

fn message(line: &Value) -> &str {
    line["message"].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_by_their_message() {
        let stderr = "no JSON\n[1]\n{\"message\":\"another line\",\"entered\":1}\n\
            {\"message\":\"the collector does not take telemetry; flows go on\"}\n\
            {\"message\":\"flow drained\",\"flow\":\"a\",\"entered\":3,\"completed\":2,\"elapsed_ms\":40}\n\
            {\"message\":\"telemetry flushed\",\"spans_created\":5,\"spans_exported\":3,\"spans_dropped\":2,\
            \"points_exported\":7,\"points_dropped\":0,\"traces_shed\":0}\n";
        let drained = Drained::find(stderr).unwrap();
        assert_eq!((drained.entered, drained.completed), (3, 2));
        assert_eq!(drained.elapsed(), Duration::from_millis(40));
        let flushed = Flushed::find(stderr).unwrap();
        assert_eq!((flushed.created, flushed.exported, flushed.dropped), (5, 3, 2));
        assert!(flushed.adds_up() && !Flushed { dropped: 1, ..flushed }.adds_up());
        assert!(warned(stderr));
    }

    #[test]
    fn what_was_not_said_is_not_found() {
        let stderr = "{\"message\":\"flow drained\"}\n{}\n";
        assert_eq!((Drained::find(stderr), Flushed::find(stderr), warned(stderr)), (None, None, false));
    }
}
