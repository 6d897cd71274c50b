//! Times as people type them.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;

/// Parses a moment as a person types it: a time of day (the last time that a clock in `zone` showed
/// it), a date (its beginning), both, or an instant with its own offset.
pub(crate) fn moment(text: &str, zone: &TimeZone, now: Timestamp) -> Result<Timestamp, String> {
    let must = || {
        "a time such as 10:00, 10:00:30, 2026-03-06, 2026-03-06T10:00 (in the zone of this box, or of --timezone) or \
         2026-03-06T10:00:00Z"
            .to_owned()
    };
    // The second 60 is a leap second, which would be read as the second 59.
    if text.contains(":60") {
        return Err(must());
    }
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Ok(instant);
    }
    let instant = |local: DateTime| zone.to_timestamp(local).map_err(|_| must());
    if is_time_of_day(text) {
        let time: Time = text.parse().map_err(|_| must())?;
        let today = zone.to_datetime(now).date();
        let last = instant(today.to_datetime(time))?;
        return match last > now {
            true => instant(today.yesterday().map_err(|_| must())?.to_datetime(time)),
            false => Ok(last),
        };
    }
    instant(text.parse().map_err(|_| must())?)
}

/// Whether a moment is a time of day, without a date.
fn is_time_of_day(text: &str) -> bool {
    text.contains(':') && !text.contains(['T', ' ', '-'])
}

/// Parses the end of a time span as a person types it, like [`moment`]. But a time of day is the first one
/// after `from`, because `--from 10:00 --to 11:30` is one span also at 11:00.
pub(crate) fn end_moment(
    text: &str,
    from: Option<Timestamp>,
    zone: &TimeZone,
    now: Timestamp,
) -> Result<Timestamp, String> {
    let last = moment(text, zone, now)?;
    let Some(from) = from.filter(|_| is_time_of_day(text)) else { return Ok(last) };
    let time = zone.to_datetime(last).time();
    let day = zone.to_datetime(from).date();
    let on = |day: Date| zone.to_timestamp(day.to_datetime(time)).map_err(|error| error.to_string());
    match on(day)? {
        same_day if same_day > from => Ok(same_day),
        _ => on(day.tomorrow().map_err(|error| error.to_string())?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_that_of_the_box_unless_it_carries_its_own_zone() {
        let zone = TimeZone::get("Europe/Madrid").unwrap();
        let now: Timestamp = "2026-07-05T12:00:00Z".parse().unwrap(); // 14:00 in Madrid
        for (text, instant) in [
            ("10:00", "2026-07-05T08:00:00Z"),
            ("14:00", "2026-07-05T12:00:00Z"),
            ("14:00:01", "2026-07-04T12:00:01Z"),
            ("23:30", "2026-07-04T21:30:00Z"),
            ("10:00:00.5", "2026-07-05T08:00:00.5Z"),
            ("2026-03-06", "2026-03-05T23:00:00Z"),
            ("2026-03-06T10:00", "2026-03-06T09:00:00Z"),
            ("2026-03-06 10:00:30", "2026-03-06T09:00:30Z"),
            ("2026-03-06T10:00:00Z", "2026-03-06T10:00:00Z"),
            ("2026-03-06T10:00:00+03:00", "2026-03-06T07:00:00Z"),
        ] {
            assert_eq!(moment(text, &zone, now), Ok(instant.parse().unwrap()), "{text}");
        }
        for wrong in [
            "",
            "25:00",
            "10",
            "10:61",
            "10:00:60",
            "2026-03-06T10:00:60",
            "2026-03-06T10:00:60.5Z",
            "noon",
            "2026-02-30",
            "06.03.2026",
            "é",
        ] {
            assert!(moment(wrong, &zone, now).unwrap_err().contains("such as 10:00"), "{wrong}");
        }
    }

    #[test]
    fn the_end_of_a_span_is_the_first_time_after_its_beginning() {
        let zone = TimeZone::get("Europe/Madrid").unwrap();
        let now: Timestamp = "2026-07-05T09:00:00Z".parse().unwrap(); // 11:00 in Madrid
        let from = moment("10:00", &zone, now).unwrap();
        for (text, instant) in [
            ("11:30", "2026-07-05T09:30:00Z"), // in half an hour
            ("10:30", "2026-07-05T08:30:00Z"),
            ("09:00", "2026-07-06T07:00:00Z"),
            ("2026-07-04T11:30", "2026-07-04T09:30:00Z"),
        ] {
            assert_eq!(end_moment(text, Some(from), &zone, now), Ok(instant.parse().unwrap()), "{text}");
        }
        assert_eq!(end_moment("11:30", None, &zone, now), moment("11:30", &zone, now));
        assert!(end_moment("25:00", Some(from), &zone, now).is_err());
    }
}
