//! Over which times it is looked at how fast a budget is spent.

use std::{collections::BTreeSet, time::Duration};

/// The shortest window in minutes. Metrics come once a minute, and fewer than five say little.
const LEAST_WINDOW: u64 = 5;

/// How often metrics have to come within a window at least.
const LEAST_EXPORTS: u32 = 4;

/// How urgent an alert is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    /// It wakes somebody.
    Page,
    /// It waits for the morning.
    Ticket,
}

impl Severity {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Ticket => "ticket",
        }
    }
}

/// A budget that is spent this many times as fast as it may, in both windows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Burn {
    pub(super) severity: Severity,
    pub(super) rate: f64,
    /// In minutes. In 30 days: an hour, six, and three days.
    pub(super) long: u64,
    /// In minutes, a twelfth of it: what is over is no reason any more.
    pub(super) short: u64,
}

/// The windows of an objective.
#[derive(Clone, Copy, Debug)]
pub(super) struct Windows {
    days: u32,
    /// In minutes.
    least: u64,
}

impl Windows {
    /// How good an objective has to be for a page.
    pub(super) const LEAST_PAGED: &'static str = "pages begin where a budget is spent 6 times as fast as it may, which \
        takes an objective above 0.8333";

    /// Returns those of an objective that holds over so many days, of metrics that come so often.
    pub(super) fn new(days: u32, export_interval: Duration) -> Self {
        let exports = export_interval.saturating_mul(LEAST_EXPORTS).as_secs().div_ceil(60);
        Self { days, least: exports.max(LEAST_WINDOW) }
    }

    /// Returns what alerts look at, the fastest first: a page for 2 % of the budget in the first long window and for 5 % in
    /// the second, a ticket for 10 % in the third. The windows are as long a part of the whole as those of 30 days are.
    pub(super) fn burns(self) -> [Burn; 3] {
        let of = |severity, rate, minutes_a_day: u64| {
            let long = (u64::from(self.days) * minutes_a_day).max(self.least);
            Burn { severity, rate, long, short: long.div_ceil(12).max(self.least) }
        };
        [of(Severity::Page, 14.4, 2), of(Severity::Page, 6.0, 12), of(Severity::Ticket, 1.0, 144)]
    }

    /// Returns those of pages, and those that only a ticket looks at: all of them in minutes, from the shortest.
    pub(super) fn distinct(self) -> (Vec<u64>, Vec<u64>) {
        let all: BTreeSet<_> = self.burns().iter().flat_map(|burn| [burn.short, burn.long]).collect();
        let longest_of_pages = self.burns()[1].long;
        all.into_iter().partition(|window| *window <= longest_of_pages)
    }

    /// Returns the whole, in minutes.
    pub(super) fn whole(self) -> u64 {
        u64::from(self.days) * 24 * 60
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(days: u32, seconds: u64) -> [(u64, u64); 3] {
        Windows::new(days, Duration::from_secs(seconds)).burns().map(|burn| (burn.long, burn.short))
    }

    #[test]
    fn those_of_thirty_days_are_those_of_the_book() {
        assert_eq!(windows(30, 60), [(60, 5), (6 * 60, 30), (3 * 24 * 60, 6 * 60)]);
        assert_eq!(windows(90, 60), [(180, 15), (18 * 60, 90), (9 * 24 * 60, 18 * 60)]);
    }

    #[test]
    fn none_is_shorter_than_metrics_allow() {
        assert_eq!(windows(7, 60), [(14, 5), (84, 7), (1008, 84)]);
        assert_eq!(windows(7, 150), [(14, 10), (84, 10), (1008, 84)]);
        assert_eq!(windows(7, 3600), [(240, 240), (240, 240), (1008, 240)]);
    }

    #[test]
    fn a_burn_spends_its_part_of_the_budget_in_its_long_window() {
        for days in 7..=90 {
            let windows = Windows::new(days, Duration::from_secs(60));
            for (burn, part) in windows.burns().iter().zip([0.02, 0.05, 0.1]) {
                #[expect(clippy::cast_precision_loss, reason = "a few minutes")]
                let spent = burn.rate * burn.long as f64 / windows.whole() as f64;
                assert!((spent - part).abs() < 1e-9, "{days}: {burn:?}");
            }
        }
    }

    #[test]
    fn the_least_objective_of_a_page_is_what_people_are_told() {
        let least = Windows::new(30, Duration::ZERO).burns().map(|burn| burn.rate)[1];
        assert!(Windows::LEAST_PAGED.contains(&format!("{least} times")));
        assert!(Windows::LEAST_PAGED.ends_with(&format!("{:.4}", 1.0 - 1.0 / least)));
    }
}
