//! Instants as people read them: in one zone, and with its name or its offset. Programs get
//! RFC 3339 in UTC instead.
//!
//! Must hold: a time that is shown to a person carries its zone. At the end of summer time the same
//! wall time occurs twice, and the name of the zone tells the two apart.

use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};

/// The zone in which instants are shown.
#[derive(Clone, Debug)]
pub struct ShownIn(TimeZone);

impl ShownIn {
    /// Instants in `zone`.
    pub(crate) fn zone(zone: TimeZone) -> Self {
        // A system that says nothing about its zone runs in UTC.
        Self(if zone.is_unknown() { TimeZone::UTC } else { zone })
    }

    /// Instants in the zone of this box.
    pub fn of_the_box() -> Self {
        Self::zone(TimeZone::system())
    }

    /// The instant to the second, such as `2026-07-05 10:42:07 CEST`.
    pub(crate) fn second(&self, instant: Timestamp) -> String {
        self.with("%Y-%m-%d %H:%M:%S %Z", instant)
    }

    /// The time of day, such as `10:42:07 CEST`.
    pub(crate) fn time_of_day(&self, instant: Timestamp) -> String {
        self.with("%H:%M:%S %Z", instant)
    }

    /// The instant to the millisecond, cut off and not rounded: `2026-07-05 10:42:07.350 CEST`.
    pub(crate) fn milli(&self, instant: Timestamp) -> String {
        self.with("%Y-%m-%d %H:%M:%S%.3f %Z", instant)
    }

    /// The time of day alone, such as `10:42:07`, for where the zone stands beside it.
    pub(crate) fn time(&self, instant: Timestamp) -> String {
        self.with("%H:%M:%S", instant)
    }

    /// The time of day to the millisecond, cut off and not rounded: `10:42:07.350`.
    pub(crate) fn time_milli(&self, instant: Timestamp) -> String {
        self.with("%H:%M:%S%.3f", instant)
    }

    /// The day alone, such as `Sunday 29 November 2026`.
    pub(crate) fn day(&self, instant: Timestamp) -> String {
        self.with("%A %-d %B %Y", instant)
    }

    /// The day in short, such as `29 Nov`.
    pub(crate) fn short_day(&self, instant: Timestamp) -> String {
        self.with("%-d %b", instant)
    }

    /// The name of the zone at this instant, such as `CET`, or its offset if it has no name.
    pub(crate) fn zone_name(&self, instant: Timestamp) -> String {
        self.with("%Z", instant)
    }

    /// The name of the zone in the IANA database, such as `Europe/Madrid`.
    pub(crate) fn place(&self) -> Option<&str> {
        self.0.iana_name()
    }

    /// How far the zone is ahead of UTC at this instant, in seconds.
    pub(crate) fn ahead_of_utc(&self, instant: Timestamp) -> i32 {
        ZonedDateTime::new(instant, self.0.clone()).offset().seconds()
    }

    fn with(&self, form: &str, instant: Timestamp) -> String {
        ZonedDateTime::new(instant, self.0.clone()).strftime(form).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(zone: &str, instant: &str) -> String {
        ShownIn::zone(TimeZone::get(zone).unwrap()).second(instant.parse().unwrap())
    }

    #[test]
    fn a_shown_time_carries_the_name_of_its_zone_or_the_offset() {
        assert_eq!(shown("Europe/Madrid", "2026-07-05T08:42:07Z"), "2026-07-05 10:42:07 CEST");
        assert_eq!(shown("Europe/Madrid", "2026-01-05T08:42:07Z"), "2026-01-05 09:42:07 CET");
        assert_eq!(shown("UTC", "2026-07-05T08:42:07Z"), "2026-07-05 08:42:07 UTC");
        assert_eq!(shown("America/Sao_Paulo", "2026-07-05T02:42:07Z"), "2026-07-04 23:42:07 -03", "it has no name");
        assert_eq!(shown("Asia/Kathmandu", "2026-07-05T02:42:07Z"), "2026-07-05 08:27:07 +0545");
    }

    #[test]
    fn the_hour_that_occurs_twice_is_told_apart() {
        assert_eq!(shown("Europe/Madrid", "2026-10-25T00:30:00Z"), "2026-10-25 02:30:00 CEST");
        assert_eq!(shown("Europe/Madrid", "2026-10-25T01:30:00Z"), "2026-10-25 02:30:00 CET");
    }

    #[test]
    fn milliseconds_are_cut_off_and_a_box_without_a_zone_is_in_utc() {
        let instant = "2026-07-05T08:42:06.3509Z".parse().unwrap();
        let madrid = ShownIn::zone(TimeZone::get("Europe/Madrid").unwrap());
        assert_eq!(madrid.milli(instant), "2026-07-05 10:42:06.350 CEST");
        assert_eq!(ShownIn::zone(TimeZone::unknown()).milli(instant), "2026-07-05 08:42:06.350 UTC");
        let fixed = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(ShownIn::zone(fixed).milli(instant), "2026-07-05 10:42:06.350 +02");
    }
}
