//! What a sick collector costs a flow: the same flow past collectors that are sick in all the ways in which they are.
//!
//! Two flows are run. One has room, being paced, and is compared with itself without telemetry: nothing that a
//! collector does may slow it down. The other one takes what it can get, and is compared with itself past a collector
//! that is well. Telemetry is left at its defaults, every trace is exported.

use std::{process::Command, time::Duration};

use anyhow::{Context, Result, ensure};

use crate::{
    cases::{Case, Limit, Runner, engine_flow},
    log::{self, Drained, Flushed},
    measure::{self, Sample},
    sink::{Behaviour, PERMISSION_DENIED, RESOURCE_EXHAUSTED, Sink, Tally, UNAVAILABLE},
    telemetry::MAX_MEMORY,
};

const OFF: &str = "off";
const WELL: &str = "well";

/// Events a second of the paced flow.
const PACE: u64 = 100_000;
/// More events a second than the other flow can make while it exports.
const FLAT_OUT: u64 = 4_000_000;
/// The share of the other case's events a second that a row is to keep.
const SHARE: f64 = 0.9;

/// Spans that may be under way at a time: four batches. When a collector hangs up they may have arrived without an
/// answer, and are sent again. A collection of metrics has fewer points.
const UNDER_WAY: u64 = 4 * 2048;

/// A fifth of it is for the flush, which would otherwise take seconds past most of these collectors.
const SHUTDOWN_TIMEOUT: &str = "2s";

/// What is at the other end.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Collector {
    /// Nothing: telemetry is off.
    None,
    /// A collector that does this.
    That(Behaviour),
    /// A name that nobody has.
    NoSuchName,
}

/// Returns the cases: both flows, past every collector.
pub(crate) fn cases(events: u64, run: Runner<'_>) -> Result<Vec<Case>> {
    // Three seconds of two million events, and never so few that nothing could happen meanwhile.
    let paced = (events * 3 / 20).max(PACE / 5);
    let mut cases = Vec::new();
    for (group, base, events, pace, flow) in [
        ("faults-paced", OFF, paced, PACE, paced_flow(paced)),
        ("faults-flat-out", WELL, events, FLAT_OUT, engine_flow(events)),
    ] {
        let mut rows = rows(Duration::from_secs_f64(events as f64 / pace as f64));
        // The first of a group is what the others are compared with.
        rows.sort_by_key(|(name, _)| *name != base);
        for (name, collector) in rows {
            let commands = run(group, format!("shutdown_timeout: {SHUTDOWN_TIMEOUT}\n{flow}"))?;
            let case =
                Case::new(group, name, Some(events), move || measured(collector, &mut commands(), events));
            let is_compared = name != base && collector != Collector::None;
            let rate = is_compared.then_some(Limit::Rate { times: SHARE, of: base });
            cases.push(case.limited(rate.into_iter().chain([Limit::Memory(MAX_MEMORY)])));
        }
    }
    Ok(cases)
}

/// Returns the names of the rows and what is at the other end, of a flow that takes so long at least.
fn rows(least: Duration) -> [(&'static str, Collector); 12] {
    let that = Collector::That;
    let restart = Behaviour::Restart { after: least / 3, away: least / 6 };
    [
        (OFF, Collector::None),
        (WELL, that(Behaviour::Well)),
        ("refused: nothing listens", that(Behaviour::Refused)),
        ("black hole: accepts, says nothing", that(Behaviour::BlackHole)),
        ("slow: answers after 2 s", that(Behaviour::Slow(Duration::from_secs(2)))),
        ("UNAVAILABLE, always", that(Behaviour::Refuse(UNAVAILABLE))),
        ("RESOURCE_EXHAUSTED, always", that(Behaviour::Refuse(RESOURCE_EXHAUSTED))),
        ("PERMISSION_DENIED, always", that(Behaviour::Refuse(PERMISSION_DENIED))),
        ("too large: takes 64 KiB a call", that(Behaviour::UpTo(1 << 16))),
        ("too large: whatever it gets", that(Behaviour::UpTo(0))),
        ("restarted", that(restart)),
        ("no such name", Collector::NoSuchName),
    ]
}

/// Runs the flow past a collector. The time is that of the flow, without the start and the flush around it.
fn measured(collector: Collector, command: &mut Command, events: u64) -> Result<Sample> {
    let sink = match collector {
        Collector::That(behaviour) => Some(Sink::start(behaviour)?),
        Collector::None | Collector::NoSuchName => None,
    };
    command.env("FLOWGEN_LOGGING__FORMAT", "json");
    if collector != Collector::None {
        let endpoint = sink.as_ref().map_or("http://collector.invalid:4317", |sink| &sink.endpoint);
        command.env("FLOWGEN_TELEMETRY__ENABLED", "true").env("FLOWGEN_TELEMETRY__OTLP_ENDPOINT", endpoint);
    }
    let (sample, stderr) = measure::with_stderr(command)?;
    let tally = sink.map(Sink::finish).transpose()?.unwrap_or_default();
    let (drained, spans) =
        checked(collector, &stderr, tally, events).with_context(|| format!("the worker said:\n{stderr}"))?;
    Ok(Sample { wall: Some(drained.elapsed()), spans, ..sample })
}

/// Compares what the worker says with what arrived, and looks whether the collector was as sick as it should be.
fn checked(
    collector: Collector,
    stderr: &str,
    tally: Tally,
    events: u64,
) -> Result<(Drained, Option<Flushed>)> {
    let drained = Drained::find(stderr).context("it did not say what became of its events")?;
    ensure!(
        (drained.entered, drained.completed) == (events, events),
        "not all of {events} events came through: {drained:?}"
    );
    let flushed = Flushed::find(stderr);
    if collector == Collector::None {
        ensure!(flushed.is_none(), "it exported while off: {flushed:?}");
        return Ok((drained, None));
    }
    let flushed = flushed.context("it did not say what became of its spans")?;
    ensure!(flushed.adds_up(), "it lost count of its spans: {flushed:?}");
    let Flushed { exported, dropped, points_exported, points_dropped, .. } = flushed;
    ensure!(
        has_arrived(collector, exported, dropped, tally.spans)
            && has_arrived(collector, points_exported, points_dropped, tally.points),
        "it says {flushed:?}, and what arrived is {tally:?}"
    );
    ensure!(was_as_told(collector, &tally, log::warned(stderr)), "it was not {collector:?}: {tally:?}");
    Ok((drained, Some(flushed)))
}

/// Returns whether as many items arrived as the worker says. What it gave up may have arrived too late to be heard of.
fn has_arrived(collector: Collector, exported: u64, dropped: u64, arrived: u64) -> bool {
    let twice = if let Collector::That(Behaviour::Restart { .. }) = collector { UNDER_WAY } else { 0 };
    (exported..=exported + dropped + twice).contains(&arrived)
}

/// Returns whether the collector did what the row is about.
fn was_as_told(collector: Collector, tally: &Tally, is_warned: bool) -> bool {
    match collector {
        Collector::None => true,
        Collector::NoSuchName => is_warned,
        Collector::That(behaviour) => match behaviour {
            Behaviour::Well => tally.calls > 0 && tally.refused == 0,
            Behaviour::Refused | Behaviour::BlackHole => is_warned && tally.calls + tally.refused == 0,
            Behaviour::Slow(_) => is_warned,
            Behaviour::Refuse(_) => is_warned && tally.refused > 0 && tally.calls == 0,
            Behaviour::UpTo(_) => tally.refused > 0,
            Behaviour::Restart { .. } => tally.restarts == 1,
        },
    }
}

fn paced_flow(events: u64) -> String {
    format!(
        "flow:
  name: paced
  tasks:
    - generate: {{name: source, rate: {PACE}, count: {events}, payload: {{n: 1}}}}
    - script: {{name: middle, code: 'event.data.n += 1; event'}}
    - drop: {{name: sink}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "{\"message\":\"flow drained\",\"entered\":10,\"completed\":10,\"elapsed_ms\":7}\n";
    const WARNED: &str = "{\"message\":\"the collector does not take telemetry; flows go on\"}\n";

    fn flushed(spans: [u64; 3], points: [u64; 2]) -> String {
        let ([created, exported, dropped], [points_exported, points_dropped]) = (spans, points);
        format!(
            "{{\"message\":\"telemetry flushed\",\"spans_created\":{created},\"spans_exported\":{exported},\
             \"spans_dropped\":{dropped},\"points_exported\":{points_exported},\"points_dropped\":{points_dropped}}}\n"
        )
    }

    fn arrived(spans: u64, points: u64) -> Tally {
        Tally { calls: 2, spans, points, ..Tally::default() }
    }

    #[test]
    fn every_item_has_arrived_or_is_dropped() {
        let check = |spans, points, tally| {
            let stderr = SAID.to_owned() + &flushed(spans, points);
            checked(Collector::That(Behaviour::Well), &stderr, tally, 10).is_ok()
        };
        assert!(check([30, 30, 0], [9, 0], arrived(30, 9)));
        assert!(!check([30, 30, 0], [9, 0], arrived(31, 9)));
        assert!(!check([30, 30, 0], [9, 0], arrived(30, 8)));
        assert!(!check([31, 30, 0], [9, 0], arrived(30, 9)));
        // An answer that came too late.
        assert!(check([30, 20, 10], [9, 0], arrived(30, 9)));
        assert!(!check([30, 20, 10], [9, 0], arrived(31, 9)));
        assert!(!check([30, 20, 10], [9, 0], arrived(19, 9)));
    }

    #[test]
    fn what_a_collector_took_before_it_was_restarted_may_arrive_twice() {
        let restart = Behaviour::Restart { after: Duration::ZERO, away: Duration::ZERO };
        let stderr = SAID.to_owned() + &flushed([30, 30, 0], [9, 0]);
        let check = |tally| checked(Collector::That(restart), &stderr, tally, 10).is_ok();
        assert!(check(Tally { restarts: 1, ..arrived(30 + UNDER_WAY, 18) }));
        assert!(!check(Tally { restarts: 1, ..arrived(31 + UNDER_WAY, 18) }));
        assert!(!check(arrived(30, 9)));
    }

    #[test]
    fn every_event_must_have_come_through() {
        let off = |stderr: &str| checked(Collector::None, stderr, Tally::default(), 10);
        assert_eq!(off(SAID).unwrap().0.elapsed(), Duration::from_millis(7));
        assert!(off(&SAID.replace("10", "9")).is_err());
        assert!(off(WARNED).is_err());
        assert!(off(&(SAID.to_owned() + &flushed([0; 3], [0; 2]))).is_err());
        assert!(checked(Collector::NoSuchName, SAID, Tally::default(), 10).is_err());
    }

    #[test]
    fn a_collector_must_have_been_as_sick_as_it_should() {
        let check = |behaviour, tally, is_warned| was_as_told(Collector::That(behaviour), &tally, is_warned);
        let refused = Tally { refused: 3, ..Tally::default() };
        assert!(check(Behaviour::Refuse(UNAVAILABLE), refused, true));
        assert!(!check(Behaviour::Refuse(UNAVAILABLE), refused, false));
        assert!(!check(Behaviour::Refuse(UNAVAILABLE), Tally { calls: 1, ..refused }, true));
        assert!(!check(Behaviour::Refuse(UNAVAILABLE), Tally::default(), true));
        assert!(check(Behaviour::BlackHole, Tally { connections: 1, ..Tally::default() }, true));
        assert!(!check(Behaviour::BlackHole, refused, true));
        assert!(!check(Behaviour::Well, refused, false));
        assert!(!check(Behaviour::Slow(Duration::ZERO), arrived(3, 9), false));
        assert!(check(Behaviour::UpTo(9), refused, false));
        assert!(!check(Behaviour::UpTo(9), arrived(3, 9), false));
        assert!(was_as_told(Collector::NoSuchName, &Tally::default(), true));
        assert!(!was_as_told(Collector::NoSuchName, &Tally::default(), false));
    }

    #[test]
    fn each_group_begins_with_what_its_rows_are_compared_with() {
        let run: Runner<'_> = &|_, _| Ok(Box::new(|| Command::new("true")));
        let cases = cases(2_000_000, run).unwrap();
        for (group, base) in [("faults-paced", OFF), ("faults-flat-out", WELL)] {
            let rows: Vec<_> = cases.iter().filter(|case| case.group == group).collect();
            assert_eq!((rows.len(), rows[0].name.as_str()), (12, base));
            assert!(rows.iter().all(|row| row.is_of("faults")));
            let compared =
                rows.iter().filter(|row| matches!(row.limits[0], Limit::Rate { of, .. } if of == base));
            assert_eq!(compared.count(), if base == OFF { 11 } else { 10 });
        }
    }
}
