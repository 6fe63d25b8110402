//! Functions on time: seconds since the epoch unless a name says `ms`, and always UTC.

use jiff::{Timestamp, Zoned, fmt::rfc2822, fmt::strtime, tz::TimeZone};
use rhai::Engine;

use super::Thrown;
use crate::script::cause::thrown;

pub(super) fn register(engine: &mut Engine) {
    engine.register_fn("timestamp_now", || Timestamp::now().as_second());
    engine.register_fn("timestamp_format", |seconds: i64, format: &str| -> Thrown<String> {
        strtime::format(format, &utc(seconds)?).map_err(|_| thrown("the format is none of `strftime`"))
    });
    engine.register_fn("timestamp_to_iso", |seconds: i64| -> Thrown<String> {
        Ok(second(seconds)?.to_string())
    });
    engine.register_fn("timestamp_ms_to_iso", |milliseconds: i64| -> Thrown<String> {
        let timestamp = Timestamp::from_millisecond(milliseconds)
            .map_err(|_| thrown("no time has so many milliseconds"))?;
        Ok(format!("{timestamp:.3}"))
    });
    engine
        .register_fn("timestamp_to_year", |seconds: i64| -> Thrown<i64> { Ok(utc(seconds)?.year().into()) });
    engine.register_fn("timestamp_to_month", |seconds: i64| -> Thrown<i64> {
        Ok(utc(seconds)?.month().into())
    });
    engine.register_fn("timestamp_to_day", |seconds: i64| -> Thrown<i64> { Ok(utc(seconds)?.day().into()) });
    engine
        .register_fn("timestamp_to_hour", |seconds: i64| -> Thrown<i64> { Ok(utc(seconds)?.hour().into()) });
    engine.register_fn("timestamp_round_to_hour", |seconds: i64| seconds - seconds.rem_euclid(3600));
    engine.register_fn("timestamp_to_hive_path", |seconds: i64| -> Thrown<String> {
        Ok(utc(seconds)?.strftime("year=%Y/month=%m/day=%d/hour=%H").to_string())
    });
    engine.register_fn("parse_timestamp", |text: &str| -> Thrown<i64> {
        let timestamp: Timestamp =
            text.parse().map_err(|_| thrown("the text is no timestamp of RFC 3339"))?;
        Ok(timestamp.as_millisecond())
    });
    engine.register_fn("parse_rfc2822_timestamp", |text: &str| -> Thrown<i64> {
        let time = rfc2822::parse(text).map_err(|_| thrown("the text is no timestamp of RFC 2822"))?;
        Ok(time.timestamp().as_millisecond())
    });
}

fn second(seconds: i64) -> Thrown<Timestamp> {
    Timestamp::from_second(seconds).map_err(|_| thrown("no time has so many seconds"))
}

fn utc(seconds: i64) -> Thrown<Zoned> {
    Ok(second(seconds)?.to_zoned(TimeZone::UTC))
}
