//! What it costs that nothing is lost: the bookkeeping of acknowledgements, redelivery and deadlines; and whether one
//! flow that takes all it can get keeps another one waiting.
//!
//! The flow has a processor that does nothing but hand its events on, because only what a processor may fail in is kept
//! for another delivery. The rows differ in what is promised.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use crate::{
    cases::{Case, Runner, floor},
    measure::{self, Sample},
};

/// Milliseconds between two events of the flow that is watched.
const PERIOD: Duration = Duration::from_millis(1);

/// How long it is watched.
const WATCHED: u64 = 3000;

/// Returns the cases of both groups.
pub(crate) fn cases(events: u64, run: Runner<'_>) -> Result<Vec<Case>> {
    let mut cases = vec![floor("delivery", events)?];
    for (name, flow, sink) in [
        ("source → transform → transform", "", "drop: {name: sink}"),
        ("… → processor, `on_error: drop`: acknowledged", "", &processor("on_error: drop")),
        ("… → processor: kept for redelivery", "", &processor("on_error: fail")),
        ("… and with a deadline", "deadline: 1h", &processor("on_error: fail")),
    ] {
        let commands = run(&format!("delivery-{}", cases.len()), self::flow(events, flow, sink))?;
        cases.push(Case::new("delivery", name, Some(events), move || measure::to_end(&mut commands())));
    }
    for (name, is_beside) in [("a flow by itself", false), ("beside a flow that takes all it can get", true)]
    {
        let commands = run(&format!("fairness-{is_beside}"), fairness(is_beside))?;
        cases.push(Case::new("fairness", name, Some(WATCHED), move || watched(&mut commands())));
    }
    Ok(cases)
}

fn processor(keys: &str) -> String {
    format!("throttle: {{name: sink, rate: 1e9, burst: 1000000000, {keys}}}")
}

fn flow(events: u64, keys: &str, sink: &str) -> String {
    format!(
        "flow:
  name: delivery
  {keys}
  tasks:
    - generate: {{name: source, count: {events}, payload: {{n: 1}}}}
    - log: {{name: middle, level: trace}}
    - {sink}
"
    )
}

/// A flow that writes an event a millisecond, and another one whose scripts can keep every core busy.
fn fairness(is_beside: bool) -> String {
    let period = PERIOD.as_millis();
    let beside = "
  - name: hot
    tasks:
      - generate: {name: source, payload: {n: 1}}
      - script: {name: one, code: 'let n = 0; for i in 0..200 { n += i; } event.data.n = n; event'}
      - script: {name: other, code: 'let n = 0; for i in 0..200 { n += i; } event.data.n = n; event'}
      - drop: {name: sink}";
    format!(
        "shutdown_timeout: 2s
flows:
  - name: watched
    tasks:
      - generate: {{name: source, interval: {period}ms, payload: {{n: 1}}}}
      - script: {{name: middle, code: 'event.data.n += 1; event'}}
      - stdout: {{name: sink}}{}
",
        if is_beside { beside } else { "" }
    )
}

/// Reads the events of a flow that makes one every [`PERIOD`], and says how late each is against the one that was least
/// so. A time of the schedule that the flow skips counts as the time until the next event.
fn watched(command: &mut Command) -> Result<Sample> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("could not start the worker")?;
    let arrivals = arrivals(&mut child);
    child.kill()?;
    child.wait()?;
    let arrivals = arrivals?;
    let mut gaps: Vec<Duration> =
        arrivals.windows(2).map(|pair| (pair[1] - pair[0]).saturating_sub(PERIOD)).collect();
    gaps.sort_unstable();
    ensure!(!gaps.is_empty(), "no events arrived");
    let of = |share: f64| gaps[((gaps.len() - 1) as f64 * share) as usize];
    Ok(Sample { lateness: Some([of(0.5), of(0.99), of(0.999), of(1.0)]), ..Sample::default() })
}

fn arrivals(child: &mut Child) -> Result<Vec<Instant>> {
    let mut lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
    let mut arrivals = Vec::new();
    for _ in 0..WATCHED {
        lines.next().context("the flow ended")??;
        arrivals.push(Instant::now());
    }
    Ok(arrivals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_is_what_goes_beyond_the_period() {
        let script = "for i in $(seq 1 3100); do echo x; done; sleep 30";
        let sample = watched(Command::new("sh").args(["-c", script])).unwrap();
        // All at once: none is late.
        assert!(sample.lateness.unwrap()[0] < PERIOD);
    }
}
