//! A cron expression in a time zone.

use croner::{
    Cron,
    errors::CronError,
    parser::{CronParser, Year},
};
use jiff::{Timestamp, tz::TimeZone};

use super::SCHEDULE;
use crate::{problem::Problems, task::TaskError};

/// The times that a cron expression names.
pub(super) struct Schedule {
    cron: Cron,
    zone: TimeZone,
}

impl Schedule {
    /// Reads an expression.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn new(cron: &str, timezone: Option<&str>) -> Result<Self, String> {
        Ok(Self { cron: parse(cron)?, zone: zone(timezone)? })
    }

    /// Reports what is wrong with `cron` and `timezone`.
    pub(super) fn check(cron: Option<&str>, timezone: Option<&str>, problems: &mut Problems) {
        if let Some(Err(message)) = cron.map(parse) {
            problems.report("cron", message).hint(
                "five fields: minute, hour, day, month, weekday; or six with seconds first: `*/30 * * * * *`",
            );
        }
        if let Err(message) = zone(timezone) {
            problems.report("timezone", message).hint("a name of the time zone database, as `Europe/Berlin`");
        }
        if timezone.is_some() && cron.is_none() {
            problems.report("timezone", "`timezone` says nothing without `cron`");
        }
    }

    /// Returns the first time after `time`.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn after(&self, time: Timestamp) -> Result<Timestamp, TaskError> {
        let time = time.to_zoned(self.zone.clone());
        let next = self.cron.find_next_occurrence(&time, false);
        next.map(|next| next.timestamp()).map_err(|error| {
            TaskError::permanent(SCHEDULE, "the schedule has come to its end").with_source(error)
        })
    }
}

fn parse(cron: &str) -> Result<Cron, String> {
    let wrong = |error: CronError| {
        let detail = error.to_string();
        let detail = detail.split_once(": ").map_or(detail.as_str(), |(_, detail)| detail);
        format!("`{cron}` is not a cron expression: {}", detail.trim_end_matches('.').to_lowercase())
    };
    let parsed = CronParser::builder().year(Year::Disallowed).build().parse(cron).map_err(wrong)?;
    let any = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
    match parsed.find_next_occurrence(&any, false) {
        Ok(_) => Ok(parsed),
        Err(_) => Err(format!("`{cron}` names no time that ever comes")),
    }
}

fn zone(name: Option<&str>) -> Result<TimeZone, String> {
    let Some(name) = name else { return Ok(TimeZone::UTC) };
    TimeZone::get(name).map_err(|_| format!("`{name}` is no time zone"))
}
