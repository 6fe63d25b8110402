//! The table on stdout and the JSON file.

use std::{fs, path::Path, time::Duration};

use anyhow::Result;
use serde_json::{Value, json};

use crate::{
    cases::{Case, Input, Limit},
    log::Flushed,
    machine::{self, Machine},
    measure::Sample,
};

/// The medians of one case.
struct Medians {
    cpu: Option<f64>,
    wall: Option<f64>,
    memory: Option<f64>,
}

impl Medians {
    fn of(samples: &[Sample]) -> Self {
        let seconds = |pick: fn(&Sample) -> Option<Duration>| {
            median(samples.iter().filter_map(pick).map(|value| value.as_secs_f64()).collect())
        };
        Self {
            cpu: seconds(|sample| sample.cpu),
            wall: seconds(|sample| sample.wall),
            memory: median(
                samples.iter().filter_map(|sample| sample.memory).map(|bytes| bytes as f64).collect(),
            ),
        }
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

/// Prints the table and writes `bench/results/<time>.json`.
pub(crate) fn write(
    cases: &[Case],
    samples: &[Vec<Sample>],
    input: &Input,
    flowgen: &Path,
    rounds: usize,
) -> Result<()> {
    let (machine, now) = (Machine::this(), jiff::Zoned::now());
    let medians: Vec<_> = samples.iter().map(|samples| Medians::of(samples)).collect();
    let limits = limits(cases, &medians, rounds);
    let binary = fs::metadata(flowgen)?.len();
    println!(
        "{}, {} ({} cores, {} GiB), {}, {}, commit {}; medians of {rounds} interleaved rounds\n",
        now.date(),
        machine.cpu,
        machine.cores,
        machine.memory_gib,
        machine.kernel,
        machine.rustc,
        machine.commit,
    );
    println!("| case | CPU ns/event | × | events/s | × | ms | memory MiB | × |");
    println!("|---|--:|--:|--:|--:|--:|--:|--:|");
    let mut rows = Vec::new();
    for (index, (case, own)) in cases.iter().zip(&medians).enumerate() {
        let first = cases.iter().position(|other| other.group == case.group).unwrap_or(index);
        // The cases of `start` have nothing in common that could be compared.
        let base = (case.group != "start").then(|| (&medians[first], cases[first].events));
        let each = |seconds: Option<f64>, events: Option<u64>| Some(seconds? * 1e9 / events? as f64);
        let per_second = |seconds: Option<f64>, events: Option<u64>| Some(events? as f64 / seconds?);
        let cpu = each(own.cpu, case.events);
        let rate = per_second(own.wall, case.events);
        let cpu_ratio = ratio(cpu, base.and_then(|(base, events)| each(base.cpu, events)));
        let rate_ratio = ratio(rate, base.and_then(|(base, events)| per_second(base.wall, events)));
        let memory_ratio = ratio(own.memory, base.and_then(|(base, _)| base.memory));
        println!(
            "| {} / {} | {} | {} | {} | {} | {} | {} | {} |",
            case.group,
            case.name,
            shown(cpu, 1.0, 0),
            shown(cpu_ratio, 1.0, 2),
            shown(rate, 1.0, 0),
            shown(rate_ratio, 1.0, 2),
            shown(own.wall, 1e3, 1),
            shown(own.memory, 1.0 / f64::from(1 << 20), 1),
            shown(memory_ratio, 1.0, 2),
        );
        rows.push(json!({
            "group": case.group,
            "case": case.name,
            "events": case.events,
            "cpu_ns_per_event": cpu,
            "events_per_second": rate,
            "wall_seconds": own.wall,
            "memory_bytes": own.memory,
            "ratio_to_first_of_group": {"cpu": cpu_ratio, "events_per_second": rate_ratio, "memory": memory_ratio},
            "limits": limits[index],
            "samples": samples[index].iter().map(raw).collect::<Vec<_>>(),
        }));
    }
    println!();
    print_remarks(cases, samples, &limits);
    println!("binary: {:.1} MiB", binary as f64 / f64::from(1 << 20));
    for what in &input.left_out {
        println!("left out: {what}");
    }

    let folder = machine::repository().join("bench/results");
    fs::create_dir_all(&folder)?;
    let path = folder.join(now.strftime("%Y%m%dT%H%M%S.json").to_string());
    let result = json!({
        "at": now.timestamp().to_string(),
        "machine": machine,
        "rounds": rounds,
        "binary_bytes": binary,
        "cases": rows,
        "left_out": input.left_out,
    });
    fs::write(&path, serde_json::to_string_pretty(&result)? + "\n")?;
    println!("written to bench/results/{}", path.file_name().unwrap_or_default().display());
    Ok(())
}

/// Returns how each case stands to its limits. One round judges nobody.
fn limits(cases: &[Case], medians: &[Medians], rounds: usize) -> Vec<Vec<String>> {
    let cpu = |index: usize| Some(medians[index].cpu? / cases[index].events? as f64);
    let rate = |index: usize| Some(cases[index].events? as f64 / medians[index].wall?);
    let stands = |index: usize, limit: Limit| {
        let other = |name: &str| {
            cases.iter().position(|other| other.group == cases[index].group && other.name == name)
        };
        let (text, is_kept) = match limit {
            Limit::Cpu { times, of } => {
                let ratio = ratio(cpu(index), cpu(other(of)?))?;
                (format!("{ratio:.2} × the CPU time of `{of}`, at most {times:.2}"), ratio <= times)
            }
            Limit::Rate { times, of } => {
                let ratio = ratio(rate(index), rate(other(of)?))?;
                (format!("{ratio:.2} × the events/s of `{of}`, at least {times:.2}"), ratio >= times)
            }
            Limit::EventsPerCore(least) => {
                let rate = 1.0 / cpu(index)?;
                (format!("{rate:.0} events/s a core, at least {least:.0}"), rate >= least)
            }
            Limit::Memory(most) => {
                let (own, most) = (medians[index].memory?, most as f64);
                let mib = f64::from(1 << 20);
                (format!("{:.1} MiB, at most {:.1}", own / mib, most / mib), own <= most)
            }
        };
        let verdict = match (rounds, is_kept) {
            (1, _) => "not judged by one round",
            (_, true) => "kept",
            (_, false) => "NOT KEPT",
        };
        Some(format!("{text}: {verdict}"))
    };
    let of_case = |(index, case): (usize, &Case)| {
        case.limits.iter().filter_map(|limit| stands(index, *limit)).collect()
    };
    cases.iter().enumerate().map(of_case).collect()
}

/// Prints the limits, and what became of the spans in the last round.
fn print_remarks(cases: &[Case], samples: &[Vec<Sample>], limits: &[Vec<String>]) {
    for (case, limits) in cases.iter().zip(limits).filter(|(_, limits)| !limits.is_empty()) {
        println!("limit: {} / {}: {}", case.group, case.name, limits.join("; "));
    }
    for (case, samples) in cases.iter().zip(samples) {
        let lateness = |n: usize| {
            let of_all = samples.iter().filter_map(|sample| Some(sample.lateness?[n].as_secs_f64() * 1e3));
            shown(median(of_all.collect()), 1.0, 2)
        };
        if samples.iter().any(|sample| sample.lateness.is_some()) {
            let (half, most, nearly_all, all) = (lateness(0), lateness(1), lateness(2), lateness(3));
            println!(
                "late: {} / {}: p50 {half} ms, p99 {most} ms, p99.9 {nearly_all} ms, at most {all} ms",
                case.group, case.name
            );
        }
        if let Some(Flushed { created, exported, dropped, .. }) = samples.last().and_then(|last| last.spans) {
            println!(
                "spans: {} / {}: {created} created, {exported} exported, {dropped} dropped",
                case.group, case.name
            );
        }
    }
}

fn ratio(own: Option<f64>, base: Option<f64>) -> Option<f64> {
    base.filter(|base| *base > 0.0).and_then(|base| Some(own? / base))
}

fn shown(value: Option<f64>, factor: f64, digits: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{:.digits$}", value * factor))
}

fn raw(sample: &Sample) -> Value {
    let seconds = |value: Option<Duration>| value.map(|value| value.as_secs_f64());
    json!({
        "cpu_seconds": seconds(sample.cpu),
        "wall_seconds": seconds(sample.wall),
        "memory_bytes": sample.memory,
        "rows": sample.rows,
        "lateness_seconds": sample.lateness.map(|lateness| lateness.map(|value| value.as_secs_f64())),
        "spans": sample.spans.map(|it| json!({"created": it.created, "exported": it.exported, "dropped": it.dropped})),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_the_two_in_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 9.0]), Some(3.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 9.0]), Some(3.0));
    }

    #[test]
    fn a_rate_is_compared_with_that_of_the_case_that_the_limit_names() {
        let case = |group, name, events| Case::new(group, name, Some(events), || Ok(Sample::default()));
        let limit = Limit::Rate { times: 0.9, of: "off" };
        let cases = [
            case("others", "off", 1),
            case("faults", "off", 100),
            case("faults", "as fast", 200).limited([limit, Limit::Memory(1 << 20)]),
            case("faults", "slower", 100).limited([limit]),
        ];
        let medians =
            [1.0, 1.0, 2.2, 1.2].map(|wall| Medians { cpu: None, wall: Some(wall), memory: Some(3e6) });
        assert_eq!(
            limits(&cases, &medians, 2),
            [
                vec![],
                vec![],
                vec![
                    "0.91 × the events/s of `off`, at least 0.90: kept".to_owned(),
                    "2.9 MiB, at most 1.0: NOT KEPT".to_owned()
                ],
                vec!["0.83 × the events/s of `off`, at least 0.90: NOT KEPT".to_owned()],
            ]
        );
        let once = limits(&cases, &medians, 1);
        assert!(once.concat().iter().all(|limit| limit.ends_with("not judged by one round")), "{once:?}");
    }
}
