//! The progress line: on a terminal, while every flow has an end.

use std::{
    future::pending,
    io::{IsTerminal, stderr},
    time::Duration,
};

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::{Instant, MissedTickBehavior};

use crate::{
    ack::Outcome,
    runtime::{FlowHandle, Roster},
    task::Extent,
    telemetry,
};

/// How often the line is redrawn.
const PERIOD: Duration = Duration::from_millis(200);

/// Keeps the line up to date for as long as it is polled; never resolves.
pub(super) async fn show(roster: &Roster) {
    if !stderr().is_terminal() {
        return pending().await;
    }
    let mut bar = None;
    let started = Instant::now();
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        // Flows come and go, and with them the end.
        let flows = roster.flows();
        let Some(total) = Total::of(&flows) else {
            if bar.take().is_some() {
                clear();
            }
            continue;
        };
        let line = total.line(&Progress::of(&flows), started.elapsed());
        bar.get_or_insert_with(begin).set_message(line);
    }
}

fn begin() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.set_style(ProgressStyle::with_template("{wide_msg}").expect("the template is a constant"));
    telemetry::stderr::set_live(Some(bar.clone()));
    bar
}

/// Takes the line away.
pub(super) fn clear() {
    telemetry::stderr::set_live(None);
}

/// What all sources have to read: rows, bytes, or some of both.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Total {
    events: u64,
    bytes: u64,
}

impl Total {
    /// Returns `None` if any source has no known end.
    fn of(flows: &[FlowHandle]) -> Option<Self> {
        let mut total = Self::default();
        for flow in flows {
            for extent in flow.extents()? {
                match extent {
                    Extent::Events(events) => total.events += events,
                    Extent::Bytes(bytes) => total.bytes += bytes,
                }
            }
        }
        Some(total)
    }

    fn line(self, now: &Progress, elapsed: Duration) -> String {
        let (fraction, amount) = match self {
            Self { bytes: 0, events } => {
                let text = format!("{}/{} rows", HumanCount(now.entered), HumanCount(events));
                (ratio(now.entered, events), text)
            }
            Self { bytes, .. } => {
                let text = format!("{}/{}", HumanBytes(now.bytes), HumanBytes(bytes));
                (ratio(now.bytes, bytes), text)
            }
        };
        let seconds = elapsed.as_secs_f64().max(0.001);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate for people")]
        let rate = HumanCount((now.entered as f64 / seconds) as u64);
        let inflight = HumanCount(now.inflight);
        let failed = HumanCount(now.failed);
        let left = time_left(fraction, elapsed).map_or_else(|| "--:--".into(), clock);
        format!(
            "{amount}  {:.0}%  {rate} events/s  {inflight} in flight  {failed} failed  {left} left",
            fraction * 100.0
        )
    }
}

/// Where all flows stand together.
#[derive(Debug, Default)]
struct Progress {
    entered: u64,
    bytes: u64,
    inflight: u64,
    failed: u64,
}

impl Progress {
    fn of(flows: &[FlowHandle]) -> Self {
        flows.iter().fold(Self::default(), |sum, flow| {
            let summary = flow.summary();
            Self {
                entered: sum.entered + summary.entered,
                bytes: sum.bytes + flow.bytes_read(),
                inflight: sum.inflight + summary.inflight(),
                failed: sum.failed + summary.count(Outcome::Failed),
            }
        })
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 1.0 } else { (part as f64 / whole as f64).min(1.0) }
}

/// Assumes that the rest goes as fast as what is done.
fn time_left(fraction: f64, elapsed: Duration) -> Option<Duration> {
    Duration::try_from_secs_f64(elapsed.as_secs_f64() * (1.0 - fraction) / fraction).ok()
}

fn clock(left: Duration) -> String {
    let seconds = left.as_secs();
    match seconds / 3600 {
        0 => format!("{:02}:{:02}", seconds / 60, seconds % 60),
        hours => format!("{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_rows_rate_and_time_left() {
        let now = Progress { entered: 500, inflight: 12, failed: 1, bytes: 0 };
        let line = Total { events: 2000, bytes: 0 }.line(&now, Duration::from_secs(10));
        assert_eq!(line, "500/2,000 rows  25%  50 events/s  12 in flight  1 failed  00:30 left");
    }

    #[test]
    fn the_line_tells_bytes_where_rows_are_not_known() {
        let now = Progress { entered: 10, bytes: 1 << 20, ..Progress::default() };
        let line = Total { events: 0, bytes: 4 << 20 }.line(&now, Duration::from_secs(3600));
        assert_eq!(line, "1.00 MiB/4.00 MiB  25%  0 events/s  0 in flight  0 failed  3:00:00 left");
    }

    #[test]
    fn nothing_read_yet_has_no_time_left() {
        let line = Total { events: 5, bytes: 0 }.line(&Progress::default(), Duration::ZERO);
        assert!(line.ends_with("--:-- left"), "{line}");
    }
}
