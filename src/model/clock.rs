//! Turns decoder stamps into UTC: pure functions, and the only place that knows the rules.
//!
//! A decoder's stamp is wall time in a zone that is not on the wire. It is data and is kept as
//! sent. It is turned into UTC as late as possible, with the zone from the configuration and the
//! receive time by the box's clock. Every case has one rule:
//!
//! | stamp | UTC | doubt |
//! |---|---|---|
//! | UTC on the wire | as it is | – |
//! | UTC, live and more than 24 h from the receive time (and the box knows the time) | as it is | [`Doubt::Far`] |
//! | local, in normal time | the zone's offset at that time | – |
//! | local, more than 24 h from the receive time of a live read (and the box knows the time) | as stamped | [`Doubt::Far`] |
//! | local, skipped in spring: the wall time does not exist | the offset *before* the change: the decoder's clock has not been changed yet | [`Doubt::Gap`] |
//! | local, occurs twice in autumn | the instant nearer to the receive time | [`Doubt::Fold`] if that is more than 30 min away (a rewind: the box cannot know which one) |
//! | time of day only | on the newest day that puts it at most an hour after the receive time (23:59:59.9 received at 00:00:00.3 is yesterday's) | [`Doubt::NoDate`] |
//! | the same, live, and the result is more than 12 h before the receive time | as above | [`Doubt::LongAgo`] |
//! | date `0000-00-NN`, or a date more than [`OLDEST`] years before this version was made, local or UTC | its time of day, as above: the decoder's clock was never set | [`Doubt::ClockUnset`] |
//! | undated, received while the box's own clock was not set (a Pi has none that runs without power) | as above, but not to be used: the read waits until the receive time is known ([`corrected`]) | [`Doubt::BoxClockUnset`] |
//! | time since the decoder was switched on | the receive time, less the read's age ([`ChipRead::moment`]) | [`Doubt::NoClock`] |
//! | beyond the calendar's ends | the receive time | [`Doubt::OutOfRange`] |
//!
//! No read is made after it is received, so an undated stamp is of the past: a memory that is
//! printed 13 h after the start has the times of the start. The hour is for a decoder's clock that
//! is ahead, or that was not changed to winter time. A clock that is further ahead puts its reads
//! on the day before, nearly a day back, and this is reported. If the decoder stored a read for
//! longer than a day, its day cannot be known: it gets the newest possible day, and the doubt.
//!
//! Rejected: *the day nearest to the receive time*: a read that is 13 h old would be 11 h in the
//! future. Only one doubt is reported, the one that matters most to the timer: first the box's
//! clock, then the decoder's clock, then the change of the zone. Fractions below a millisecond are
//! cut off. A second 60 is no time. No protocol takes it, because no decoder is known that sends
//! leap seconds, and one that does must be seen.
//!
//! Clocks that were never set count from 1970, 1980, 2000, 2001, 2004, 2010 or another year that
//! their maker chose. So there is no list of years: no race is as old as that.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};

use crate::model::chip::{Caution, ChipRead, Stamp};
use crate::model::source;

/// The box's wall clock. Every part that needs a date asks this clock. Timers never use it.
#[derive(Clone, Debug, Default)]
pub struct Wall(Option<Arc<AtomicI64>>);

impl Wall {
    /// A clock that stands still at the time to which it is set: for tests and simulations.
    pub fn scripted(start: Timestamp) -> Self {
        Self(Some(Arc::new(AtomicI64::new(start.as_millisecond()))))
    }

    /// The present time by this clock. The system's clock may be wrong, and may step in either
    /// direction at any time.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            None => Timestamp::now(),
            Some(ms) => Timestamp::from_millisecond(ms.load(Ordering::SeqCst)).unwrap_or(Timestamp::MAX),
        }
    }

    /// Sets a scripted clock, for all parts that share it. The system's clock is not changed.
    pub fn set(&self, to: Timestamp) {
        if let Some(ms) = &self.0 {
            ms.store(to.as_millisecond(), Ordering::SeqCst);
        }
    }
}

/// The zones of the decoders' clocks, by decoder name. A source has the zone of its decoder. A
/// decoder that is not in the map has UTC.
#[derive(Clone, Debug, Default)]
pub struct Zones(Arc<BTreeMap<Box<str>, TimeZone>>);

impl Zones {
    /// The zone of a decoder or of one of its sources. A decoder that is not in the map has its
    /// clock in UTC.
    pub fn of(&self, source: &str) -> &TimeZone {
        static UTC: TimeZone = TimeZone::UTC;
        self.0.get(source::decoder(source)).unwrap_or(&UTC)
    }
}

/// The zone of a name in the IANA database. A system's database may lack names that the one in this
/// program has: Debian keeps `US/Eastern`, `GB` and `Asia/Calcutta` in a package of their own. So
/// the system's is asked first, because it may be newer, and then the program's. `None`: neither
/// knows it.
pub(crate) fn zone(name: &str) -> Option<TimeZone> {
    zone_of(name, jiff::tz::db())
}

fn zone_of(name: &str, system: &TimeZoneDatabase) -> Option<TimeZone> {
    static BUNDLED: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);
    system.get(name).or_else(|_| BUNDLED.get(name)).ok()
}

impl FromIterator<(Box<str>, TimeZone)> for Zones {
    fn from_iter<I: IntoIterator<Item = (Box<str>, TimeZone)>>(zones: I) -> Self {
        Self(Arc::new(zones.into_iter().collect()))
    }
}

/// A step of the box's wall clock. With it, earlier receive times can be corrected. Only the day of
/// a stamp without a date depends on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// First journal entry of the process that saw the step. Nobody can know how the clock of an
    /// earlier process differed from this one.
    pub from: u64,
    /// Entries of this process up to this number were received before the step.
    pub sure: u64,
    /// What the clock would have shown at the step without it: UTC, milliseconds since 1970.
    pub before_ms: i64,
    /// By how much the clock stepped, in ms. 0: it did not step, but reads of an earlier process
    /// wait for a box that knows the time, and now this one does.
    pub step_ms: i64,
}

impl Step {
    /// What the clock showed after the step: UTC, milliseconds since 1970.
    pub fn after_ms(&self) -> i64 {
        self.before_ms.saturating_add(self.step_ms)
    }

    /// Whether the box knows the time after this step.
    pub fn sets(&self) -> bool {
        Timestamp::from_millisecond(self.after_ms()).is_ok_and(box_clock_set)
    }
}

/// The receive time of the entry `seq`, corrected by later steps of the clock. `steps`: each step
/// with the number of its own entry, in the order of the log.
///
/// A read of the process that saw the step was received by the same monotonic clock, so its receive
/// time was wrong by exactly the step. If an earlier process received a read while the box's clock
/// was not set, only the order is known. The read then counts as received within the day before the
/// box knew the time, so [`resolve`] puts it there.
pub(crate) fn corrected(steps: &[(u64, Step)], seq: u64, received: Timestamp) -> Timestamp {
    let mut ms = received.as_millisecond();
    for (place, (at, step)) in steps.iter().enumerate() {
        let awaited = step.sets() && Timestamp::from_millisecond(ms).is_ok_and(|known| !box_clock_set(known));
        if awaited && (seq < step.from || step.step_ms == 0) {
            // Then even the newest possible time of day is not in the future.
            ms = step.after_ms() - AHEAD_MS;
            continue;
        }
        let nearer = (ms - step.before_ms).abs() < (ms - step.after_ms()).abs();
        // Reads that waited for the disk during the step are behind the step in the log. The unset
        // clock distinguishes them from the others.
        let late = awaited && steps[place + 1..].iter().all(|(_, next)| seq > next.sure);
        if seq >= step.from && (seq <= step.sure || (seq < *at && nearer) || late) {
            ms = ms.saturating_add(step.step_ms);
        }
    }
    if ms == received.as_millisecond() { received } else { Timestamp::from_millisecond(ms).unwrap_or(received) }
}

/// Whether the day of a stamp, or the whole stamp, comes from the receive time.
pub(crate) fn is_undated(stamp: &Stamp) -> bool {
    match stamp {
        Stamp::Utc(utc) => was_never_set(*utc),
        Stamp::Local(local) => local.year() < FIRST_YEAR,
        Stamp::TimeOfDay { .. } | Stamp::Uptime(_) => true,
    }
}

/// A clock that shows this was never set.
pub(crate) fn was_never_set(utc: Timestamp) -> bool {
    TimeZone::UTC.to_datetime(utc).year() < FIRST_YEAR
}

/// A stamp that is undated, and was not for version 0.1.0: it took every UTC for set, and every
/// local year after 2000. What it kept has to be known when it comes again.
pub(crate) fn was_dated(stamp: &Stamp) -> bool {
    match stamp {
        Stamp::Local(local) => local.year() > 2000 && is_undated(stamp),
        Stamp::Utc(_) => is_undated(stamp),
        Stamp::TimeOfDay { .. } | Stamp::Uptime(_) => false,
    }
}

/// A stamp as an instant, and the reason why it may be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// UTC, whole milliseconds.
    pub utc: Timestamp,
    /// What the timer should check, if anything.
    pub doubt: Option<Doubt>,
}

/// Why an instant may not be what the decoder meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Doubt {
    /// The wall time does not exist, because it is in the hour that is skipped in spring.
    Gap,
    /// The wall time occurs twice in autumn, and the receive time does not show which one is meant.
    Fold,
    /// The stamp has no date.
    NoDate,
    /// The stamp's date is that of a clock that was never set.
    ClockUnset,
    /// The stamp has no date, and the box did not know its own date when it received the read.
    BoxClockUnset,
    /// The stamp has no date, and on the newest possible day a live read is more than 12 h before
    /// its receive time.
    LongAgo,
    /// The stamp of a live read is more than a day from its receive time.
    Far,
    /// The stamp is no instant of the calendar.
    OutOfRange,
    /// The decoder has no clock.
    NoClock,
    /// The decoder tells only when the chip was seen last.
    OnlyLastSeen,
    /// The decoder had no valid start number.
    NoValidNumber,
}

impl Doubt {
    /// Stable name, as in problems and exports.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Gap => "decoder_time_skipped",
            Self::Fold => "decoder_time_twice",
            Self::NoDate => "decoder_time_no_date",
            Self::ClockUnset => "decoder_clock_unset",
            Self::BoxClockUnset => "box_clock_unset",
            Self::LongAgo => "decoder_time_long_ago",
            Self::Far => "decoder_clock_far",
            Self::OutOfRange => "decoder_time_out_of_range",
            Self::NoClock => "decoder_without_clock",
            Self::OnlyLastSeen => "decoder_time_last_seen",
            Self::NoValidNumber => "decoder_number_not_valid",
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gap => {
                "the decoder's time is in the hour that the change to summer time skips; it was taken as winter time. \
                 Compare the decoder's clock and the configured `timezone`"
            }
            Self::Fold => {
                "the decoder's time occurs twice in the night of the change to winter time; of the two, the one nearer \
                 to the receipt was taken, which may be an hour wrong. Compare with other reads of the same chip"
            }
            Self::NoDate => {
                "the decoder sends a time without a date; the newest day was taken on which it is not after the receipt. \
                 Set the decoder's date, and check the day of reads that were stored earlier"
            }
            Self::ClockUnset => {
                "the decoder's clock was never set; its time of day was taken as it is, on the newest day on which it is \
                 not after the receipt. Set the decoder's clock and correct the times of these reads by the difference"
            }
            Self::BoxClockUnset => {
                "the decoder sends no date and this box does not know its own. These reads are kept, and wait: they are \
                 uploaded with the right day once the box knows the time. Give the box a network or a clock, or set it \
                 by hand (`date -s`)"
            }
            Self::LongAgo => {
                "the decoder sends a time without a date, and this one is more than 12 hours before its receipt: nothing \
                 is read after it was received. If the decoder did not just give what it had stored, its clock or the \
                 configured `timezone` is hours ahead. Compare both with a clock you trust"
            }
            Self::Far => {
                "the decoder's time is more than a day from the box's; it was taken as stamped. Compare the decoder's \
                 date, the configured `timezone` and the box's clock"
            }
            Self::OutOfRange => {
                "the decoder's time is no time of the calendar; the time of receipt was taken. Look at the raw record \
                 and the decoder's clock"
            }
            Self::NoClock => {
                "the decoder does not know the time, only how long it has been on; the time was reckoned from the \
                 receipt, by the clock of this box. Give the decoder a time server (NTP)"
            }
            Self::OnlyLastSeen => {
                "the decoder tells only when it saw a chip for the last time, which may be seconds after the crossing. \
                 Set its reports so that they have the time of the first seen (FirstSeenTimestampUTC)"
            }
            Self::NoValidNumber => {
                "the decoder had no valid start number for an impulse; it was kept and uploaded with a `?` before the \
                 number. Look at the decoder's print for the record that corrects it"
            }
        })
    }
}

impl From<Caution> for Doubt {
    fn from(caution: Caution) -> Self {
        match caution {
            Caution::OnlyLastSeen => Self::OnlyLastSeen,
            Caution::NoValidNumber => Self::NoValidNumber,
        }
    }
}

/// The year in which this version was made. It goes up with a release, together with
/// [`BOX_SET_MS`].
const MADE_YEAR: i16 = 2026;
/// A date more than so many years before this version was made is one of a clock that was never
/// set.
pub(crate) const OLDEST: i16 = 10;
/// The first year of a clock that was set.
const FIRST_YEAR: i16 = MADE_YEAR - OLDEST;
/// While a box's clock shows less than this, the box does not know the time yet: 2025-01-01 in UTC,
/// ms since 1970.
const BOX_SET_MS: i64 = 1_735_689_600_000;
/// How far an undated stamp may be after its receive time.
const AHEAD_MS: i64 = 60 * 60 * 1000;
/// A live read without a date is reported when it is older than this.
const LONG_AGO_MS: i64 = 12 * 60 * 60 * 1000;
const FOLD_LIMIT_MS: i64 = 30 * 60 * 1000;
const FAR_LIMIT_MS: i64 = 24 * 60 * 60 * 1000;

/// The instant that `stamp` means in `zone`, for a read received at `received` (box clock).
/// `replay`: the decoder said that the read was stored earlier, so the receive time says little.
pub fn resolve(stamp: &Stamp, zone: &TimeZone, received: Timestamp, replay: bool) -> Resolved {
    let resolved = match *stamp {
        Stamp::Uptime(_) => {
            let doubt = if box_clock_set(received) { Doubt::NoClock } else { Doubt::BoxClockUnset };
            Some(Resolved { utc: received, doubt: Some(doubt) })
        }
        Stamp::Utc(instant) if was_never_set(instant) => {
            undated(TimeZone::UTC.to_datetime(instant).time(), &TimeZone::UTC, received, Doubt::ClockUnset)
        }
        Stamp::Utc(instant) => {
            Some(Resolved { utc: instant, doubt: is_far(instant, received, replay).then_some(Doubt::Far) })
        }
        Stamp::Local(local) if local.year() >= FIRST_YEAR => dated(local, zone, received, replay),
        Stamp::Local(local) => undated(local.time(), zone, received, Doubt::ClockUnset),
        Stamp::TimeOfDay { time, day: Some(_) } => undated(time, zone, received, Doubt::ClockUnset),
        Stamp::TimeOfDay { time, day: None } => undated(time, zone, received, Doubt::NoDate).map(|resolved| {
            let old = !replay && received.as_millisecond() - resolved.utc.as_millisecond() > LONG_AGO_MS;
            let old = old && resolved.doubt == Some(Doubt::NoDate);
            if old { Resolved { doubt: Some(Doubt::LongAgo), ..resolved } } else { resolved }
        }),
    };
    let resolved = resolved.unwrap_or(Resolved { utc: received, doubt: Some(Doubt::OutOfRange) });
    Resolved { utc: whole_ms(resolved.utc), ..resolved }
}

/// The instant of a read that was received at `received` (box clock), as [`resolve`] tells it.
pub(crate) fn resolve_read(read: &ChipRead, zone: &TimeZone, received: Timestamp) -> Resolved {
    resolve(&read.stamp, zone, read.moment(received), read.replay)
}

/// Decoder clock minus box clock in milliseconds, for a clock reading that arrived at `received`.
pub fn offset_ms(clock: &Stamp, zone: &TimeZone, received: Timestamp) -> i64 {
    let decoder = match *clock {
        // The offset of an unset clock is shown in full, not only the offset of its time of day.
        Stamp::Local(local) => one_of(local, zone, received).map_or(received, |(utc, _)| utc),
        Stamp::Utc(utc) => utc,
        _ => resolve(clock, zone, received, false).utc,
    };
    let offset_ms = decoder.as_millisecond() - received.as_millisecond();
    match clock {
        // The decoder says what time it is now, so its clock is more likely hours ahead than nearly
        // a day behind.
        Stamp::TimeOfDay { .. } if offset_ms < -FAR_LIMIT_MS / 2 => offset_ms + FAR_LIMIT_MS,
        _ => offset_ms,
    }
}

/// A stored read may be of any time, and a box that does not know the time cannot decide.
fn is_far(utc: Timestamp, received: Timestamp, replay: bool) -> bool {
    !replay && box_clock_set(received) && distance_ms(utc, received) > FAR_LIMIT_MS
}

fn dated(local: DateTime, zone: &TimeZone, received: Timestamp, replay: bool) -> Option<Resolved> {
    let (utc, doubt) = one_of(local, zone, received)?;
    Some(Resolved { utc, doubt: if is_far(utc, received, replay) { Some(Doubt::Far) } else { doubt } })
}

fn undated(time: Time, zone: &TimeZone, received: Timestamp, doubt: Doubt) -> Option<Resolved> {
    let (_, utc) = newest_day(time, zone, received)?;
    let doubt = if box_clock_set(received) { doubt } else { Doubt::BoxClockUnset };
    Some(Resolved { utc, doubt: Some(doubt) })
}

/// The wall time that a stamp without a believable date means, on the day that follows from its
/// receive time. `None`: the stamp has a date, or is no time of day, or the receive time is at the
/// calendar's ends.
pub(crate) fn dated_by(stamp: &Stamp, zone: &TimeZone, received: Timestamp) -> Option<DateTime> {
    let (time, zone) = match *stamp {
        Stamp::Local(local) if is_undated(stamp) => (local.time(), zone),
        Stamp::Utc(utc) if was_never_set(utc) => (TimeZone::UTC.to_datetime(utc).time(), &TimeZone::UTC),
        Stamp::TimeOfDay { time, .. } => (time, zone),
        Stamp::Local(_) | Stamp::Utc(_) | Stamp::Uptime(_) => return None,
    };
    newest_day(time, zone, received).map(|(date, _)| date.to_datetime(time))
}

/// The newest day that puts `time` at most [`AHEAD_MS`] after the receive time, and the instant
/// that it is on that day.
fn newest_day(time: Time, zone: &TimeZone, received: Timestamp) -> Option<(Date, Timestamp)> {
    let limit = received.as_millisecond().saturating_add(AHEAD_MS);
    let here = zone.to_datetime(received);
    // Tomorrow is at most an hour away only in the evening, also on the day of a change. Two days
    // back, because zones have left out days.
    let days = if here.hour() >= 20 { 1 } else { 0 };
    (-2..=days).rev().find_map(|day| {
        let date = here.date().checked_add(day.days()).ok()?;
        let (utc, _) = one_of(date.to_datetime(time), zone, received)?;
        (utc.as_millisecond() <= limit).then_some((date, utc))
    })
}

/// Whether the box knew the time then. An earlier time is that of a clock that nobody has set yet.
pub(crate) fn box_clock_set(received: Timestamp) -> bool {
    received.as_millisecond() >= BOX_SET_MS
}

/// The instant that a wall time means, by the rules for the hours that are skipped in spring and
/// repeated in autumn.
fn one_of(local: DateTime, zone: &TimeZone, received: Timestamp) -> Option<(Timestamp, Option<Doubt>)> {
    let ambiguous = zone.to_ambiguous_timestamp(local);
    match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { .. } => Some((ambiguous.compatible().ok()?, None)),
        AmbiguousOffset::Gap { .. } => Some((ambiguous.later().ok()?, Some(Doubt::Gap))),
        AmbiguousOffset::Fold { before, after } => {
            let both = [before, after].into_iter().filter_map(|offset| offset.to_timestamp(local).ok());
            let utc = both.min_by_key(|utc| distance_ms(*utc, received))?;
            let known = distance_ms(utc, received) <= FOLD_LIMIT_MS;
            Some((utc, (!known).then_some(Doubt::Fold)))
        }
    }
}

/// This cannot overflow: the calendar spans 2e4 years, 6e14 ms.
fn distance_ms(one: Timestamp, other: Timestamp) -> i64 {
    (one.as_millisecond() - other.as_millisecond()).abs()
}

fn whole_ms(instant: Timestamp) -> Timestamp {
    // Rounds towards 1970, so the result stays inside the calendar at its ends too (where
    // `from_millisecond` refuses).
    let nanos = instant.subsec_nanosecond();
    Timestamp::new(instant.as_second(), nanos - nanos % 1_000_000).unwrap_or(instant)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn madrid() -> TimeZone {
        TimeZone::get("Europe/Madrid").unwrap()
    }

    /// UTC and doubt of a live read, as text.
    fn live(stamp: &str, received: &str) -> (String, Option<Doubt>) {
        told(stamp, received, false)
    }

    fn told(stamp: &str, received: &str, replay: bool) -> (String, Option<Doubt>) {
        let resolved = resolve(&stamp.parse().unwrap(), &madrid(), received.parse().unwrap(), replay);
        (format!("{:.3}", resolved.utc), resolved.doubt)
    }

    fn sure(utc: &str) -> (String, Option<Doubt>) {
        (utc.to_owned(), None)
    }

    fn doubted(utc: &str, doubt: Doubt) -> (String, Option<Doubt>) {
        (utc.to_owned(), Some(doubt))
    }

    #[test]
    fn a_time_on_the_wire_in_utc_is_taken_as_it_is() {
        assert_eq!(live("2026-03-06T20:27:47.350Z", "2020-01-01T00:00:00Z"), sure("2026-03-06T20:27:47.350Z"));
    }

    #[test]
    fn utc_that_is_days_off_is_kept_and_doubted() {
        let stamp = "2026-07-01T10:00:00.000Z";
        assert_eq!(told(stamp, "2026-07-06T10:00:00Z", false), doubted(stamp, Doubt::Far));
        assert_eq!(told(stamp, "2026-07-06T10:00:00Z", true), sure(stamp));
    }

    #[test]
    fn a_time_beyond_the_end_of_the_calendar_is_that_of_its_receipt() {
        let expected = doubted("2026-07-06T10:00:00.000Z", Doubt::OutOfRange);
        assert_eq!(told("9999-12-31T23:59:59.000", "2026-07-06T10:00:00Z", false), expected);
    }

    #[test]
    fn utc_of_a_clock_that_was_never_set_is_a_time_of_day_in_utc() {
        for stamp in ["1970-01-01T09:50:00.000Z", "2000-01-01T09:50:00.000Z", "2001-05-05T09:50:00.000Z"] {
            for replay in [false, true] {
                let expected = doubted("2026-07-06T09:50:00.000Z", Doubt::ClockUnset);
                assert_eq!(told(stamp, "2026-07-06T10:00:00Z", replay), expected, "{stamp}");
            }
        }
        let unknown = doubted("1970-01-01T00:10:00.000Z", Doubt::BoxClockUnset);
        assert_eq!(told("1970-01-01T00:10:00.000Z", "1970-01-01T00:20:00Z", false), unknown);
        let day =
            dated_by(&"2000-01-01T23:50:00Z".parse().unwrap(), &madrid(), "2026-07-06T00:10:00Z".parse().unwrap());
        assert_eq!(day.unwrap().to_string(), "2026-07-05T23:50:00", "in UTC, whatever the zone");
    }

    #[test]
    fn a_date_is_one_of_a_clock_that_was_never_set_when_no_race_can_be_so_old() {
        for year in [1970, 1980, 1999, 2000, 2001, 2004, 2007, 2010, MADE_YEAR - OLDEST - 1] {
            let stamp = format!("{year}-01-01T12:00:00.000");
            let expected = doubted("2026-07-06T10:00:00.000Z", Doubt::ClockUnset);
            assert_eq!(live(&stamp, "2026-07-06T10:00:01Z"), expected, "{stamp}");
        }
        let box_set = Timestamp::from_millisecond(BOX_SET_MS).unwrap();
        let year = TimeZone::UTC.to_datetime(box_set).year();
        assert_eq!(MADE_YEAR, year + 1, "a release raises both");
        let real = format!("{}-01-01T12:00:00.000", MADE_YEAR - OLDEST);
        assert_eq!(live(&real, "2026-07-06T10:00:01Z").1, Some(Doubt::Far));
    }

    #[test]
    fn a_stamp_without_a_time_is_reckoned_back_from_its_receipt() {
        let received = "2026-07-06T10:00:00Z".parse().unwrap();
        let at = |age: Option<crate::model::chip::Age>| {
            let read = ChipRead { age: age.map(Box::new), ..ChipRead::new("A", Stamp::Uptime(1)) };
            resolve_read(&read, &madrid(), received)
        };
        use crate::model::chip::Age::{AfterGreeting, BeforeReceipt};
        for (age, utc) in [
            (None, "2026-07-06T10:00:00Z"),
            (Some(BeforeReceipt(30_000)), "2026-07-06T09:59:30Z"),
            (Some(AfterGreeting(5200).at_receipt(7200)), "2026-07-06T09:59:58Z"),
            (Some(AfterGreeting(5200).at_receipt(0)), "2026-07-06T10:00:05.2Z"),
            (Some(AfterGreeting(i64::MAX).at_receipt(0)), "2026-07-06T10:00:00Z"),
            (Some(AfterGreeting(-315_360_000_000).at_receipt(7200)), "2026-07-06T10:00:00Z"),
            (Some(BeforeReceipt(315_360_000_000).at_receipt(7200)), "2026-07-06T10:00:00Z"),
        ] {
            assert_eq!(at(age), Resolved { utc: utc.parse().unwrap(), doubt: Some(Doubt::NoClock) }, "{age:?}");
        }
    }

    #[test]
    fn a_zone_that_the_system_does_not_know_is_that_of_the_program() {
        for name in
            ["US/Eastern", "GB", "CET", "EST5EDT", "Europe/Kiev", "Asia/Calcutta", "Japan", "UTC", "Europe/Madrid"]
        {
            assert!(zone(name).is_some(), "{name}");
            let bare = zone_of(name, &TimeZoneDatabase::none());
            assert_eq!(bare.unwrap().iana_name(), Some(name));
        }
        for name in ["Europe/Nowhere", "", "local", "../etc/passwd", "Etc/Unknown"] {
            assert!(zone(name).is_none_or(|zone| zone.is_unknown()), "{name}");
        }
    }

    #[test]
    fn local_time_gets_the_offset_of_its_own_season() {
        assert_eq!(live("2026-03-06T20:27:47.350", "2026-03-06T19:27:48Z"), sure("2026-03-06T19:27:47.350Z"));
        assert_eq!(live("2026-07-06T20:27:47.350", "2026-07-06T18:27:48Z"), sure("2026-07-06T18:27:47.350Z"));
    }

    #[test]
    fn a_time_that_spring_skips_is_that_of_a_decoder_not_yet_changed() {
        // 29 March 2026, 02:00 -> 03:00. A decoder still on winter time shows 02:30 at 01:30 UTC.
        let expected = doubted("2026-03-29T01:30:00.000Z", Doubt::Gap);
        assert_eq!(live("2026-03-29T02:30:00.000", "2026-03-29T01:30:01Z"), expected);
    }

    #[test]
    fn a_time_that_autumn_repeats_is_the_one_at_which_it_was_received() {
        // 25 October 2026, 03:00 -> 02:00: 02:30 is 00:30 UTC and 01:30 UTC.
        let stamp = "2026-10-25T02:30:00.000";
        assert_eq!(live(stamp, "2026-10-25T00:30:01Z"), sure("2026-10-25T00:30:00.000Z"));
        assert_eq!(live(stamp, "2026-10-25T01:30:01Z"), sure("2026-10-25T01:30:00.000Z"));
        assert_eq!(live(stamp, "2026-10-25T02:00:00Z"), sure("2026-10-25T01:30:00.000Z"));
    }

    #[test]
    fn a_time_that_autumn_repeats_cannot_be_known_when_it_comes_late() {
        let expected = doubted("2026-10-25T01:30:00.000Z", Doubt::Fold);
        assert_eq!(told("2026-10-25T02:30:00.000", "2026-10-25T02:00:00.001Z", true), expected);
        assert_eq!(told("2026-10-25T02:30:00.000", "2026-10-27T02:00:00Z", true), expected);
    }

    #[test]
    fn a_time_without_a_date_is_of_the_newest_day_that_is_not_after_its_receipt() {
        let day = |utc| doubted(utc, Doubt::NoDate);
        assert_eq!(live("12:00:00.000", "2026-07-06T10:00:00.2Z"), day("2026-07-06T10:00:00.000Z"));
        // Around local midnight (22:00 UTC in summer), either way.
        assert_eq!(live("23:59:59.900", "2026-07-06T22:00:00.3Z"), day("2026-07-06T21:59:59.900Z"));
        assert_eq!(live("00:00:00.100", "2026-07-06T21:59:59.8Z"), day("2026-07-06T22:00:00.100Z"));
        // Around UTC midnight nothing happens in Madrid.
        assert_eq!(live("01:59:59.900", "2026-07-07T00:00:00.3Z"), day("2026-07-06T23:59:59.900Z"));
        // A clock that is up to an hour ahead, also over midnight.
        assert_eq!(live("13:00:00.000", "2026-07-06T10:00:00Z"), day("2026-07-06T11:00:00.000Z"));
        assert_eq!(live("00:30:00.000", "2026-07-06T21:40:00Z"), day("2026-07-06T22:30:00.000Z"));
        assert_eq!(live("00:00:01.000", "2026-07-06T10:00:00Z"), day("2026-07-05T22:00:01.000Z"));
    }

    #[test]
    fn nothing_was_read_after_it_was_received_and_what_seems_long_ago_is_told() {
        let old = |utc| doubted(utc, Doubt::LongAgo);
        // A memory that is printed 13 h after the start, and 23 h after.
        assert_eq!(live("09:00:00.000", "2026-07-06T20:00:00Z"), old("2026-07-06T07:00:00.000Z"));
        assert_eq!(live("09:00:00.000", "2026-07-07T05:59:59.999Z"), old("2026-07-06T07:00:00.000Z"));
        // A stamp that is more than an hour ahead is of the day before, also if the clock is wrong.
        assert_eq!(live("13:00:00.001", "2026-07-06T10:00:00Z"), old("2026-07-05T11:00:00.001Z"));
        // The decoder says that the read was stored, so it may be this old.
        let stored = told("09:00:00.000", "2026-07-06T20:00:00Z", true);
        assert_eq!(stored, doubted("2026-07-06T07:00:00.000Z", Doubt::NoDate));
    }

    #[test]
    fn the_day_of_a_stamp_without_one_is_that_of_the_instant_it_is_taken_for() {
        for hour in 0..24 {
            for received in
                ["2026-03-29T00:59:59.9Z", "2026-03-29T01:00:00.1Z", "2026-10-25T00:59:59Z", "2026-07-06T22:10:00Z"]
            {
                let (stamp, received) = (format!("{hour:02}:59:59.950").parse().unwrap(), received.parse().unwrap());
                let day = dated_by(&stamp, &madrid(), received).unwrap();
                let utc = resolve(&stamp, &madrid(), received, false).utc;
                assert!(utc.as_millisecond() <= received.as_millisecond() + AHEAD_MS);
                assert!(utc.as_millisecond() > received.as_millisecond() + AHEAD_MS - 25 * 3_600_000);
                let there = madrid().to_datetime(utc);
                // The hour that is skipped in spring has no wall time of its own.
                assert!(day == there || hour == 2, "{day} {there}");
            }
        }
        assert_eq!(dated_by(&"2026-07-06T10:00:00.000".parse().unwrap(), &madrid(), Timestamp::UNIX_EPOCH), None);
        assert_eq!(dated_by(&"up7.000".parse().unwrap(), &madrid(), Timestamp::UNIX_EPOCH), None);
    }

    #[test]
    fn a_time_without_a_date_is_right_on_the_days_of_the_change() {
        let day = |utc| doubted(utc, Doubt::NoDate);
        assert_eq!(live("23:59:59.000", "2026-03-28T23:00:01Z"), day("2026-03-28T22:59:59.000Z"));
        assert_eq!(live("03:00:00.500", "2026-03-29T01:00:01Z"), day("2026-03-29T01:00:00.500Z"));
        assert_eq!(live("02:30:00.000", "2026-10-25T00:30:01Z"), day("2026-10-25T00:30:00.000Z"));
        assert_eq!(live("02:30:00.000", "2026-10-25T01:30:01Z"), day("2026-10-25T01:30:00.000Z"));
        assert_eq!(live("23:59:59.000", "2026-10-25T23:00:01Z"), day("2026-10-25T22:59:59.000Z"));
    }

    #[test]
    fn a_clock_that_was_never_set_counts_as_a_time_of_day() {
        let expected = doubted("2026-07-06T10:00:00.000Z", Doubt::ClockUnset);
        for stamp in ["1970-01-01T12:00:00.000", "2000-01-03T12:00:00.000", "0000-00-00T12:00:00.000"] {
            assert_eq!(live(stamp, "2026-07-06T10:00:01Z"), expected, "{stamp}");
        }
        assert_eq!(live("0000-00-02T12:00:00.000", "2026-07-06T10:00:01Z"), expected);
    }

    #[test]
    fn a_stored_read_without_a_date_is_always_in_doubt() {
        let expected = doubted("2026-07-06T10:00:00.000Z", Doubt::NoDate);
        assert_eq!(told("12:00:00.000", "2026-07-06T10:00:01Z", true), expected);
    }

    #[test]
    fn a_box_that_did_not_know_its_own_date_says_so_and_blames_no_decoder() {
        let expected = doubted("1970-01-01T11:00:00.000Z", Doubt::BoxClockUnset);
        assert_eq!(live("12:00:00.000", "1970-01-01T11:00:09Z"), expected);
        assert_eq!(live("2026-07-06T12:00:00.000", "1970-01-01T00:00:09Z"), sure("2026-07-06T10:00:00.000Z"));
    }

    #[test]
    fn a_live_read_stamped_more_than_a_day_away_is_kept_as_stamped_and_doubted() {
        let stamp = "2026-07-06T12:00:00.000";
        assert_eq!(live(stamp, "2026-07-07T10:00:00Z"), sure("2026-07-06T10:00:00.000Z"));
        assert_eq!(live(stamp, "2026-07-07T10:00:00.001Z"), doubted("2026-07-06T10:00:00.000Z", Doubt::Far));
        assert_eq!(live(stamp, "2026-07-01T10:00:00Z"), doubted("2026-07-06T10:00:00.000Z", Doubt::Far));
        assert_eq!(told(stamp, "2026-07-20T10:00:00Z", true), sure("2026-07-06T10:00:00.000Z"));
    }

    #[test]
    fn the_cloud_gets_whole_milliseconds() {
        let stamp = Stamp::Utc("2026-07-06T10:00:00.123999Z".parse().unwrap());
        let resolved = resolve(&stamp, &madrid(), "2026-07-06T10:00:00Z".parse().unwrap(), false);
        assert_eq!(resolved.utc, "2026-07-06T10:00:00.123Z".parse().unwrap());
    }

    #[test]
    fn the_offset_of_a_decoder_clock_is_decoder_minus_box() {
        let offset =
            |stamp: &str, box_time: &str| offset_ms(&stamp.parse().unwrap(), &madrid(), box_time.parse().unwrap());
        assert_eq!(offset("2026-07-06T12:00:01.500", "2026-07-06T10:00:00Z"), 1_500);
        assert_eq!(offset("11:59:59.000", "2026-07-06T10:00:00Z"), -1_000);
        assert_eq!(offset("14:00:00.000", "2026-07-06T10:00:00Z"), 7_200_000);
        assert_eq!(offset("00:30:00.000", "2026-07-06T21:00:00Z"), 5_400_000);
        assert_eq!(offset("22:30:00.000", "2026-07-06T22:00:00Z"), -5_400_000);
        assert_eq!(offset("2026-10-25T02:30:00.000", "2026-10-25T01:30:00Z"), 0);
        assert_eq!(offset("1970-01-01T01:00:00.000", "2026-07-06T10:00:00Z"), -1_783_332_000_000);
    }

    #[test]
    fn every_doubt_has_a_name_of_its_own_and_tells_what_to_do() {
        use Doubt::{
            BoxClockUnset, ClockUnset, Far, Fold, Gap, LongAgo, NoClock, NoDate, NoValidNumber, OnlyLastSeen,
            OutOfRange,
        };
        let all = [
            Gap,
            Fold,
            NoDate,
            LongAgo,
            ClockUnset,
            BoxClockUnset,
            Far,
            OutOfRange,
            NoClock,
            OnlyLastSeen,
            NoValidNumber,
        ];
        let codes: std::collections::BTreeSet<_> = all.iter().map(|doubt| doubt.code()).collect();
        assert_eq!(codes.len(), all.len());
        for doubt in all {
            let text = doubt.to_string();
            assert!(["Set ", "Compare ", "Give ", "Look "].iter().any(|verb| text.contains(verb)), "{text}");
        }
    }

    /// What happens to a box: reads, steps of its clock, and a look about once a second that
    /// notices the steps.
    #[derive(Clone, Debug)]
    enum Event {
        Read,
        Step(i64),
        Look,
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let hour = 3_600_000i64;
        let years = 56 * 365 * 24 * hour;
        let step = prop_oneof![Just(hour), Just(-hour), Just(24 * hour), Just(-24 * hour), Just(years), 5_000..hour];
        let event = prop_oneof![6 => Just(Event::Read), 1 => step.prop_map(Event::Step), 2 => Just(Event::Look)];
        proptest::collection::vec(event, 0..60)
    }

    proptest! {
        #[test]
        fn the_receipt_of_every_read_of_a_process_is_right_once_its_steps_are_known(
            events in events(), start in prop_oneof![Just(0i64), Just(1_781_683_200_000)],
        ) {
            let (mut anchor, mut seen, mut at_look, mut head, mut monotonic) = (start, start, 0, 0, 0);
            let mut reads: Vec<(u64, i64, i64)> = Vec::new();
            let mut steps: Vec<(u64, Step)> = Vec::new();
            // If the clock steps twice between two looks, the box can see only the sum. So at most
            // one step is made between two looks.
            let mut stepped = false;
            for event in events.into_iter().chain([Event::Look]) {
                monotonic += 10;
                match event {
                    Event::Read => {
                        head += 1;
                        reads.push((head, anchor + monotonic, monotonic));
                    }
                    Event::Step(by) if !stepped => (anchor, stepped) = (anchor + by, true),
                    Event::Step(_) => {}
                    Event::Look => {
                        let step_ms = anchor - std::mem::replace(&mut seen, anchor);
                        let sure = std::mem::replace(&mut at_look, head);
                        if step_ms != 0 {
                            head += 1;
                            steps.push((head, Step { from: 1, sure, before_ms: anchor + monotonic - step_ms, step_ms }));
                        }
                        stepped = false;
                    }
                }
            }
            for (seq, received, monotonic) in reads {
                let received = Timestamp::from_millisecond(received).unwrap();
                prop_assert_eq!(corrected(&steps, seq, received).as_millisecond(), anchor + monotonic);
            }
        }
    }

    #[test]
    fn a_read_of_an_earlier_process_with_an_unset_clock_is_of_the_day_before_the_box_knew_the_time() {
        let known: Timestamp = "2026-06-18T06:30:00Z".parse().unwrap();
        let step = Step { from: 100, sure: 120, before_ms: known.as_millisecond(), step_ms: 0 };
        let at = |time: &str, received: &str| {
            let received = corrected(&[(130, step)], 50, received.parse().unwrap());
            resolve(&time.parse().unwrap(), &TimeZone::UTC, received, false).utc.to_string()
        };
        assert_eq!(at("05:50:00", "1970-01-01T00:10:00Z"), "2026-06-18T05:50:00Z");
        assert_eq!(at("06:29:59", "1970-01-01T00:10:00Z"), "2026-06-18T06:29:59Z");
        assert_eq!(at("07:00:00", "1970-01-01T00:10:00Z"), "2026-06-17T07:00:00Z", "it is not of the future");
        assert_eq!(at("05:50:00", "2026-06-10T05:50:01Z"), "2026-06-10T05:50:00Z", "that clock was set");
    }

    #[test]
    fn a_read_that_waited_for_the_disk_while_the_clock_was_set_is_still_found() {
        let known: Timestamp = "2026-06-18T06:30:00Z".parse().unwrap();
        let step = Step { from: 1, sure: 20, before_ms: 60_000, step_ms: known.as_millisecond() - 60_000 };
        let late = corrected(&[(25, step)], 300, "1970-01-01T00:00:30Z".parse().unwrap());
        assert_eq!(late.to_string(), "2026-06-18T06:29:30Z");
    }

    fn stamps() -> impl Strategy<Value = Stamp> {
        let time = (0i8..24, 0i8..60, 0i8..60, 0i32..1_000_000_000)
            .prop_map(|(hour, minute, second, nanos)| Time::new(hour, minute, second, nanos).unwrap());
        let date =
            (-9999i16..=9999, 1i8..=12, 1i8..=28).prop_map(|(year, month, day)| jiff::civil::date(year, month, day));
        let instant = (Timestamp::MIN.as_second()..=Timestamp::MAX.as_second())
            .prop_map(|second| Timestamp::from_second(second).unwrap());
        prop_oneof![
            (date, time.clone()).prop_map(|(date, time)| Stamp::Local(date.to_datetime(time))),
            Just(Stamp::Local(DateTime::MIN)),
            Just(Stamp::Local(DateTime::MAX)),
            (time, proptest::option::of(any::<u32>())).prop_map(|(time, day)| Stamp::TimeOfDay { time, day }),
            instant.prop_map(Stamp::Utc),
            Just(Stamp::Utc(Timestamp::MIN)),
            Just(Stamp::Utc(Timestamp::MAX)),
        ]
    }

    proptest! {
        #[test]
        fn no_stamp_and_no_receipt_makes_it_panic(
            stamp in stamps(),
            received in prop_oneof![
                Just(Timestamp::MIN),
                Just(Timestamp::MAX),
                (Timestamp::MIN.as_second()..=Timestamp::MAX.as_second()).prop_map(|s| Timestamp::from_second(s).unwrap()),
            ],
            zone in prop_oneof![Just("UTC"), Just("Europe/Madrid"), Just("Pacific/Apia"), Just("America/St_Johns")],
            replay: bool,
        ) {
            let zone = TimeZone::get(zone).unwrap();
            let resolved = resolve(&stamp, &zone, received, replay);
            prop_assert!(resolved.utc == received || resolved.utc.as_nanosecond() % 1_000_000 == 0);
            offset_ms(&stamp, &zone, received);
        }
    }
}
