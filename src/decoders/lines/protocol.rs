//! Any decoder that writes lines: what a line looks like is said in the configuration.
//!
//! ```toml
//! protocol = "lines"
//! [decoder.set]
//! pattern = '^(?<chip>[0-9A-F]{12,24});(?<date>[^;]+);(?<time>[^;]+);(?<antenna>\d+)'
//! date_format = "%d.%m.%Y"        # as strftime; needed with a group `date`
//! time_format = "%H:%M:%S%.f"     # as strftime; this is the default
//! # epoch = "s"                   # unit of `epoch` since 1970: s (with decimals), ms or us
//! # clock = "local"               # local: in the decoder's `timezone`; utc: the times are UTC.
//!                                 # Without it an epoch is UTC and a time is local
//! # ignore = '^(#|HELLO)'         # lines that mean nothing: life signs, headings
//! ```
//!
//! An epoch with `clock = "local"` is the local wall time, counted as if it were UTC: so count
//! controllers that know no zone.
//!
//! The pattern is a regular expression (crate `regex`: linear in time, so no line can hold the box
//! up) with named groups: `chip` (needed), `time` or `epoch` (one of them), `date`, `antenna`,
//! `rssi`, `position`. Where `time` holds the date as well, `time_format` says so
//! (`%Y-%m-%dT%H:%M:%S%.f`). A time without a date is taken as such, with the doubt said. An option
//! that has no effect with the pattern is refused. A date that does not exist, a weekday that is
//! not the date's, and a second 60 are rejected. Microseconds keep apart what is within a
//! millisecond. A pattern that begins with `^`, and in which the next character always tells how it
//! goes on (`[^;]+;`, not `\S+;`), is matched several times as fast: which matters to nobody but a
//! mass start on a small box.
//!
//! A line that the pattern does not match is kept as rejected (`not_mine`); one that it matches, but whose part does not
//! hold what it should, is rejected with the name of that group (`field:time`). Nothing is sent to the decoder. Lines end at
//! CR, LF or both, and have at most [`crate::decoders::line::LIMIT`] bytes. `position` makes two reads with the same stamp different;
//! nothing is asked for by it.

use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::TimeZone;
use regex::{Captures, Regex};

use crate::decoders::line::{Line, Lines};
use crate::decoders::{Frame, Info, Output, Protocol, Reject, SettingError, Settings, civil, options};
use crate::model::chip::{ChipRead, Label, Position, Stamp};

const GROUPS: [&str; 7] = ["chip", "time", "date", "epoch", "antenna", "rssi", "position"];
const OPTIONS: &str = "the options are `pattern`, `time_format`, `date_format`, `epoch`, `clock` and `ignore`";
const TIME_FORMAT: &str = "%H:%M:%S%.f";

/// Its name in the configuration.
pub(super) const NAME: &str = "lines";

/// A value for one connection.
pub(super) fn make(settings: &Settings) -> Result<Box<dyn Protocol>, SettingError> {
    Ok(Box::new(FreeLines { lines: Lines::default(), form: Form::new(settings)? }))
}

struct FreeLines {
    lines: Lines,
    form: Form,
}

/// What a line looks like.
struct Form {
    pattern: Regex,
    /// Where each of [`GROUPS`] is in the pattern, if it is.
    groups: [Option<usize>; GROUPS.len()],
    ignore: Option<Regex>,
    time_format: String,
    date_format: Option<String>,
    unit: Unit,
    utc: bool,
    /// The group `time` holds a date as well.
    dated: bool,
}

/// What a group `epoch` counts.
#[derive(Clone, Copy)]
enum Unit {
    Seconds,
    Milliseconds,
    Microseconds,
}

impl Protocol for FreeLines {
    fn feed(&mut self, bytes: &[u8], out: &mut Output) {
        self.lines.feed(bytes, |line| self.form.take(line, out));
    }

    fn end(&mut self, out: &mut Output) {
        // Whether a line without its end is whole, no pattern can say: half a chip code may match as well.
        self.lines.end(|line| {
            let (Line::Whole(bytes) | Line::TooLong(bytes)) = line;
            out.frame(Frame::Rejected(Reject::Unfinished), bytes);
        });
    }
}

fn wrong(key: &str, value: &str, allowed: impl Into<String>) -> SettingError {
    options::wrong(NAME, key, value, allowed)
}

fn regex(key: &str, text: &str) -> Result<Regex, SettingError> {
    Regex::new(text).map_err(|error| wrong(key, text, format!("is no regular expression: {error}")))
}

impl Form {
    fn new(settings: &Settings) -> Result<Self, SettingError> {
        let text = settings.get("pattern").ok_or_else(|| {
            wrong("pattern", "", "a regular expression with a group `chip` and a group `time` or `epoch` is needed")
        })?;
        let pattern = regex("pattern", text)?;
        let mut form = Self {
            groups: GROUPS.map(|group| pattern.capture_names().position(|name| name == Some(group))),
            pattern,
            ignore: None,
            time_format: TIME_FORMAT.to_owned(),
            date_format: None,
            unit: Unit::Seconds,
            utc: false,
            dated: false,
        };
        form.check_pattern(text)?;
        form.utc = form.has("epoch"); // unless `clock` says otherwise
        for (key, value) in settings {
            form.needs_group(key, value)?;
            match (key.as_str(), value.as_str()) {
                ("pattern", _) => {}
                ("ignore", _) => form.ignore = Some(regex(key, value)?),
                ("time_format", _) => form.time_format.clone_from(value),
                ("date_format", _) => form.date_format = Some(value.clone()),
                ("epoch", "s") => form.unit = Unit::Seconds,
                ("epoch", "ms") => form.unit = Unit::Milliseconds,
                ("epoch", "us") => form.unit = Unit::Microseconds,
                ("epoch", _) => return Err(wrong(key, value, "allowed are `s`, `ms` and `us`")),
                ("clock", "local") => form.utc = false,
                ("clock", "utc") => form.utc = true,
                ("clock", _) => return Err(wrong(key, value, "allowed are `local` and `utc`")),
                _ => return Err(wrong(key, value, format!("unknown; {OPTIONS}"))),
            }
        }
        form.check_formats(text)?;
        if form.utc && form.has("time") && !form.has("date") && !form.dated {
            let allowed = "has no effect on times without a date: set `timezone = \"UTC\"` for this decoder instead";
            return Err(wrong("clock", "utc", allowed));
        }
        Ok(form)
    }

    fn has(&self, group: &str) -> bool {
        GROUPS.iter().zip(self.groups).any(|(name, at)| *name == group && at.is_some())
    }

    /// An option that has no effect is a mistake: somebody believes that it has one.
    fn needs_group(&self, key: &str, value: &str) -> Result<(), SettingError> {
        let group = match key {
            "time_format" => "time",
            "date_format" => "date",
            "epoch" => "epoch",
            _ => return Ok(()),
        };
        if self.has(group) {
            return Ok(());
        }
        let allowed =
            format!("has no effect, because the pattern has no group `{group}`: add the group, or take it out");
        Err(wrong(key, value, allowed))
    }

    /// The groups are known, and those that are needed are there.
    fn check_pattern(&self, pattern: &str) -> Result<(), SettingError> {
        let wrong_pattern = |allowed: String| Err(wrong("pattern", pattern, allowed));
        if let Some(unknown) = self.pattern.capture_names().flatten().find(|name| !GROUPS.contains(name)) {
            return wrong_pattern(format!("has the group `{unknown}`; the groups are {}", GROUPS.join(", ")));
        }
        if !self.has("chip") {
            return wrong_pattern("has no group `chip`: write `(?<chip>…)` around the chip code".to_owned());
        }
        if self.has("time") == self.has("epoch") {
            return wrong_pattern("needs either a group `time` or a group `epoch`".to_owned());
        }
        Ok(())
    }

    /// The formats are formats, and each holds what it should.
    fn check_formats(&mut self, pattern: &str) -> Result<(), SettingError> {
        if self.has("date") != self.date_format.is_some() || self.has("date") && !self.has("time") {
            let allowed = "a group `date` goes with a group `time`, and with the option `date_format`";
            return Err(wrong("pattern", pattern, allowed));
        }
        // What a format says of a moment it must be able to read again.
        let sample = jiff::civil::date(2026, 7, 26).at(21, 5, 3, 0);
        let again = |key: &str, format: &str| {
            let written = jiff::fmt::strtime::format(format, sample);
            let read = written.and_then(|text| BrokenDownTime::parse(format, text));
            read.map_err(|error| wrong(key, format, format!("is no format as strftime has them: {error}")))
        };
        let lacks = |key, format: &str, what: &str| Err(wrong(key, format, format!("does not hold all of it: {what}")));
        if self.has("time") {
            let read = again("time_format", &self.time_format)?;
            if read.to_time().ok() != Some(sample.time()) {
                return lacks("time_format", &self.time_format, "hour, minute and second");
            }
            self.dated = read.to_date().is_ok();
        }
        let Some(format) = &self.date_format else { return Ok(()) };
        if again("date_format", format)?.to_date().ok() != Some(sample.date()) {
            return lacks("date_format", format, "year, month and day");
        }
        if self.dated {
            let allowed = "has no effect, because the group `time` holds the date as well: take one of them out";
            return Err(wrong("date_format", format, allowed));
        }
        Ok(())
    }

    fn take(&self, line: Line<'_>, out: &mut Output) {
        match line {
            Line::TooLong(bytes) => out.frame(Frame::Rejected(Reject::TooLong), bytes),
            Line::Whole(b"") => {}
            Line::Whole(bytes) => out.frame(self.frame(bytes).unwrap_or_else(Frame::Rejected), bytes),
        }
    }

    fn frame(&self, bytes: &[u8]) -> Result<Frame, Reject> {
        let line = std::str::from_utf8(bytes).map_err(|_| Reject::NotMine)?;
        if self.ignore.as_ref().is_some_and(|ignore| ignore.is_match(line)) {
            return Ok(Frame::Info(Info::Alive));
        }
        let found = Found { captures: self.pattern.captures(line).ok_or(Reject::NotMine)?, groups: &self.groups };
        let chip = found.text("chip").map(str::trim).filter(|chip| !chip.is_empty());
        let (stamp, micros) = self.stamp(&found)?;
        let mut read = ChipRead::new(chip.ok_or(Reject::Field("chip"))?, stamp);
        read.micros = micros;
        read.antenna = found
            .text("antenna")
            .filter(|antenna| !antenna.is_empty())
            .map(|antenna| antenna.parse().map_or_else(|_| Label::Text(antenna.into()), Label::Number));
        read.rssi = found.number::<f64>("rssi")?.map(|rssi| rssi as i32); // whole units
        read.position = found.number("position")?.map(|number| Position { unit: None, file: None, number });
        Ok(Frame::Read(read))
    }

    /// The stamp, and the microseconds below its millisecond if there are any.
    fn stamp(&self, found: &Found<'_>) -> Result<(Stamp, Option<u16>), Reject> {
        if let Some(epoch) = found.text("epoch") {
            let (instant, micros) = self.instant(epoch).ok_or(Reject::Field("epoch"))?;
            let local = || Stamp::Local(TimeZone::UTC.to_datetime(instant));
            return Ok((if self.utc { Stamp::Utc(instant) } else { local() }, micros));
        }
        let time = found.text("time").ok_or(Reject::Field("time"))?;
        let parsed = parse(&self.time_format, time).ok_or(Reject::Field("time"))?;
        let of_day: Time = parsed.to_time().map_err(|_| Reject::Field("time"))?;
        let micros = Some((of_day.microsecond(), of_day.nanosecond())).filter(|below| *below != (0, 0));
        let micros = micros.and_then(|(micros, _)| u16::try_from(micros).ok());
        let date: Option<Date> = match (found.text("date"), &self.date_format) {
            (Some(date), Some(format)) => {
                let date = parse(format, date).and_then(|parsed| parsed.to_date().ok()).ok_or(Reject::Field("date"))?;
                if parsed.weekday().is_some_and(|day| day != date.weekday()) {
                    return Err(Reject::Field("date"));
                }
                Some(date)
            }
            // A date that does not exist, or has another weekday.
            _ if self.dated => Some(parsed.to_date().map_err(|_| Reject::Field("time"))?),
            // Day and month without a year are no date, but they must be possible.
            _ => match parsed.month().zip(parsed.day()) {
                Some((month, day)) if Date::new(2024, month, day).is_err() => return Err(Reject::Field("time")),
                _ => None,
            },
        };
        let Some(date) = date else { return Ok((Stamp::TimeOfDay { time: of_day, day: None }, micros)) };
        let local = DateTime::from_parts(date, of_day);
        if !self.utc {
            return Ok((Stamp::Local(local), micros));
        }
        let utc = TimeZone::UTC.to_timestamp(local).map_err(|_| Reject::Field("date"))?;
        Ok((Stamp::Utc(utc), micros))
    }

    /// Digits, for seconds with decimals, as an instant and the microseconds below its millisecond.
    fn instant(&self, text: &str) -> Option<(Timestamp, Option<u16>)> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let plain = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !plain(whole) || !plain(fraction) {
            return None;
        }
        let number: i64 = whole.parse().ok()?;
        match self.unit {
            Unit::Seconds => {
                let (ms, micros) = civil::split_fraction(fraction)?;
                let ms = number.checked_mul(1000)?.checked_add(ms.into())?;
                Some((Timestamp::from_millisecond(ms).ok()?, micros))
            }
            Unit::Milliseconds => Some((Timestamp::from_millisecond(number).ok()?, None)),
            Unit::Microseconds => {
                let micros = u16::try_from(number % 1000).ok()?;
                Some((Timestamp::from_microsecond(number).ok()?, Some(micros)))
            }
        }
    }
}

/// What a text of this format says. A second 60 is none: the crate makes 59 of it and keeps the
/// decimals, so that it would lie before what was read before it. It shows by this: with 59 in its
/// place the text says the same.
fn parse(format: &str, text: &str) -> Option<BrokenDownTime> {
    let parsed = BrokenDownTime::parse(format, text).ok()?;
    let said = |parsed: &BrokenDownTime| (parsed.to_time().ok(), parsed.to_date().ok(), parsed.minute());
    let is_second_60 = |(at, _): (usize, &str)| {
        let mut other = text.to_owned();
        other.replace_range(at..at + 2, "59");
        BrokenDownTime::parse(format, other).is_ok_and(|other| said(&other) == said(&parsed))
    };
    (!text.match_indices("60").any(is_second_60)).then_some(parsed)
}

/// A line that the pattern matches. The crate would look a group's name up in a map, in every line.
struct Found<'a> {
    captures: Captures<'a>,
    groups: &'a [Option<usize>; GROUPS.len()],
}

impl<'a> Found<'a> {
    /// What a group holds, `None` if it is not there.
    fn text(&self, group: &str) -> Option<&'a str> {
        let number = self.groups[GROUPS.iter().position(|name| *name == group)?]?;
        self.captures.get(number).map(|text| text.as_str())
    }

    /// The number in a group, `None` if the group is not there or empty.
    fn number<T: FromStr>(&self, group: &'static str) -> Result<Option<T>, Reject> {
        let text = self.text(group).map(str::trim).filter(|text| !text.is_empty());
        text.map(|text| text.parse().map_err(|_| Reject::Field(group))).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(settings: &[(&str, &str)]) -> Result<Form, String> {
        let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Form::new(&settings).map_err(|error| error.to_string())
    }

    fn read(form: &Form, line: &str) -> ChipRead {
        match form.frame(line.as_bytes()) {
            Ok(Frame::Read(read)) => read,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn a_line_is_what_the_configuration_says_it_is() {
        let german = form(&[
            (
                "pattern",
                r"^(?<chip>[0-9A-F]+);(?<date>\S+) (?<time>\S+);(?<antenna>\w*);(?<rssi>-?[\d.]*);(?<position>\d*)$",
            ),
            ("date_format", "%d.%m.%Y"),
            ("ignore", "^#"),
        ])
        .unwrap();
        let one = read(&german, "00AB12;26.07.2026 09:05:03.125;4;-61.5;17");
        assert_eq!((&*one.chip, &*one.stamp.to_string(), one.rssi), ("00AB12", "2026-07-26T09:05:03.125", Some(-61)));
        assert_eq!((one.antenna, one.position.map(|at| at.number)), (Some(Label::Number(4)), Some(17)));
        let bare = read(&german, "00AB12;26.07.2026 09:05:03;A;;");
        assert_eq!((bare.antenna, bare.rssi, bare.position), (Some(Label::Text("A".into())), None, None));
        assert_eq!(german.frame(b"# hello"), Ok(Frame::Info(Info::Alive)));
        assert_eq!(german.frame(b"00AB12"), Err(Reject::NotMine));
    }

    #[test]
    fn an_error_points_at_the_group() {
        let form = form(&[
            ("pattern", r"^(?<chip>\w*);(?<date>[^;]*);(?<time>[^;]*);(?<rssi>[^;]*);(?<position>.*)$"),
            ("date_format", "%F"),
        ])
        .unwrap();
        for (line, group) in [
            (";2026-07-26;09:00:00;;", "chip"),
            ("A;2026-02-30;09:00:00;;", "date"),
            ("A;2026-07-26;9 o'clock;;", "time"),
            ("A;2026-07-26;09:00:00;loud;", "rssi"),
            ("A;2026-07-26;09:00:00;;-1", "position"),
        ] {
            assert_eq!(form.frame(line.as_bytes()), Err(Reject::Field(group)), "{line}");
        }
    }

    #[test]
    fn an_epoch_and_a_date_inside_the_time_are_understood() {
        let epoch = |unit| form(&[("pattern", "^(?<chip>.+),(?<epoch>.+)$"), ("epoch", unit)]).unwrap();
        for (unit, number) in [("s", "1785056703.1259"), ("ms", "1785056703125"), ("us", "1785056703125999")] {
            let read = read(&epoch(unit), &format!("A,{number}"));
            assert_eq!(read.stamp.to_string(), "2026-07-26T09:05:03.125Z", "{unit}");
        }
        assert_eq!(epoch("s").frame(b"A,-1"), Err(Reject::Field("epoch")));
        let pattern = ("pattern", "^(?<chip>.+),(?<time>.+)$");
        let utc = form(&[pattern, ("time_format", "%Y-%m-%dT%H:%M:%S%.f"), ("clock", "utc")]).unwrap();
        assert_eq!(read(&utc, "A,2026-07-26T09:05:03.1").stamp.to_string(), "2026-07-26T09:05:03.100Z");
        let plain = form(&[pattern]).unwrap();
        assert_eq!(read(&plain, "A,09:05:03").stamp.to_string(), "09:05:03.000");
    }

    #[test]
    fn an_epoch_is_utc_or_the_local_clock_counted_as_if_it_were() {
        let pattern = ("pattern", "^(?<chip>.+),(?<epoch>.+)$");
        let stamp = |settings: &[(&str, &str)], line: &str| {
            let settings: Vec<_> = [pattern].into_iter().chain(settings.iter().copied()).collect();
            read(&form(&settings).unwrap(), line).stamp.to_string()
        };
        assert_eq!(stamp(&[("clock", "local")], "A,1620458343.17"), "2021-05-08T07:19:03.170");
        assert_eq!(stamp(&[("clock", "local"), ("epoch", "ms")], "A,1620458343170"), "2021-05-08T07:19:03.170");
        assert_eq!(stamp(&[("clock", "local"), ("epoch", "us")], "A,1620458343170001"), "2021-05-08T07:19:03.170");
        for clock in [&[][..], &[("clock", "utc")]] {
            assert_eq!(stamp(clock, "A,1620458343.17"), "2021-05-08T07:19:03.170Z");
        }
    }

    #[test]
    fn a_date_that_does_not_exist_and_a_weekday_that_is_not_its_own_are_rejected_in_whatever_group() {
        let pattern = ("pattern", "^(?<chip>[^,]+),(?<time>.+)$");
        let two = ("pattern", "^(?<chip>[^,]+),(?<date>[^,]+),(?<time>.+)$");
        for (settings, good, bad) in [
            (vec![pattern, ("time_format", "%d.%m.%Y %H:%M:%S%.f")], "28.02.2026 09:05:03.1", "30.02.2026 09:05:03.1"),
            (vec![pattern, ("time_format", "%Y-%m-%dT%H:%M:%S%.f")], "2026-02-28T09:05:03", "2026-02-29T09:05:03"),
            (
                vec![pattern, ("time_format", "%a %d.%m.%Y %H:%M:%S")],
                "Sun 29.11.2026 09:05:03",
                "Mon 29.11.2026 09:05:03",
            ),
            (vec![pattern, ("time_format", "%Y-%j %H:%M:%S")], "2026-365 09:05:03", "2026-366 09:05:03"),
            (vec![pattern, ("time_format", "%d.%m. %H:%M:%S")], "29.02. 09:05:03", "30.02. 09:05:03"),
            (vec![two, ("date_format", "%a %F")], "Sun 2026-11-29,09:05:03", "Tue 2026-11-29,09:05:03"),
            (
                vec![two, ("date_format", "%F"), ("time_format", "%a %T")],
                "2026-11-29,Sun 09:05:03",
                "2026-11-29,Tue 09:05:03",
            ),
        ] {
            let form = form(&settings).unwrap();
            read(&form, &format!("A,{good}"));
            assert!(matches!(form.frame(format!("A,{bad}").as_bytes()), Err(Reject::Field(_))), "{bad}");
        }
    }

    #[test]
    fn a_second_60_is_rejected_and_a_60_elsewhere_is_not() {
        let of =
            |time_format| form(&[("pattern", "^(?<chip>[^,]+),(?<time>.+)$"), ("time_format", time_format)]).unwrap();
        let (plain, packed, dated) = (of("%H:%M:%S%.f"), of("%H%M%S%f"), of("%Y-%m-%dT%H:%M:%S%.f"));
        for (form, time) in [
            (&plain, "12:30:60"),
            (&plain, "12:30:60.5"),
            (&plain, "12:30:60.60"),
            (&packed, "123060500"),
            (&dated, "2060-06-06T12:30:60.5"),
            (&plain, "23:59:60.000"),
            (&plain, "12:60:00"),
        ] {
            assert_eq!(form.frame(format!("A,{time}").as_bytes()), Err(Reject::Field("time")), "{time}");
        }
        for (form, time, stamp) in [
            (&plain, "12:30:59.60", "12:30:59.600"),
            (&plain, "12:30:59.060", "12:30:59.060"),
            (&packed, "123059600", "12:30:59.600"),
            (&packed, "160600600", "16:06:00.600"),
            (&dated, "2060-06-06T12:30:00.5", "2060-06-06T12:30:00.500"),
        ] {
            assert_eq!(read(form, &format!("A,{time}")).stamp.to_string(), stamp);
        }
    }

    #[test]
    fn an_option_that_has_no_effect_is_refused() {
        let time = ("pattern", "^(?<chip>[^,]+),(?<time>.+)$");
        let epoch = ("pattern", "^(?<chip>[^,]+),(?<epoch>.+)$");
        let both = ("pattern", "^(?<chip>[^,]+),(?<date>[^,]+),(?<time>.+)$");
        for settings in [
            vec![time, ("epoch", "s")],
            vec![time, ("date_format", "%F")],
            vec![time, ("clock", "utc")],
            vec![epoch, ("time_format", "%T")],
            vec![epoch, ("date_format", "%F")],
            vec![both, ("date_format", "%F"), ("time_format", "%F %T")],
            vec![both, ("date_format", "%F"), ("epoch", "ms")],
        ] {
            let error = form(&settings).err().unwrap_or_else(|| panic!("{settings:?} is taken"));
            assert!(error.contains("has no effect"), "{settings:?}: {error}");
        }
        for settings in [
            vec![time, ("clock", "local")],
            vec![time, ("clock", "utc"), ("time_format", "%F %T")],
            vec![both, ("clock", "utc"), ("date_format", "%F")],
            vec![epoch, ("clock", "utc"), ("epoch", "s")],
        ] {
            assert!(form(&settings).is_ok(), "{settings:?}");
        }
    }

    #[test]
    fn a_form_that_cannot_work_is_refused_with_what_is_wrong() {
        let pattern = ("pattern", "(?<chip>.),(?<time>.)");
        for (settings, says) in [
            (vec![], "is needed"),
            (vec![("pattern", "(?<chip>")], "no regular expression"),
            (vec![("pattern", "(?<time>.)")], "no group `chip`"),
            (vec![("pattern", "(?<chip>.)")], "either a group `time` or a group `epoch`"),
            (vec![("pattern", "(?<chip>.)(?<time>.)(?<lap>.)")], "has the group `lap`"),
            (vec![("pattern", "(?<chip>.)(?<time>.)(?<date>.)")], "`date_format`"),
            (vec![pattern, ("time_format", "%H:%M")], "does not hold all of it"),
            (vec![pattern, ("time_format", "%!")], "no format"),
            (vec![pattern, ("baud", "9600")], "unknown; the options are"),
        ] {
            let error = form(&settings).err().unwrap_or_else(|| panic!("{settings:?} is taken"));
            assert!(error.contains(says), "{settings:?}: {error}");
        }
    }
}
