//! Impinj Speedway Connect: the reader itself writes each tag as a JSON object, to a TCP socket
//! (either side connects, as the reader was configured) or a serial line.
//!
//! Evidence: medium. One article of the vendor with two printed samples, one program that reads the
//! objects. No real capture.
//!
//! ```text
//! {"antennaPort":7,"epc":"999908290000000000000004","firstSeenTimestamp":"2018-06-14T00:15:54.36879Z",
//!  "peakRssi":-51,"isHeartBeat":false}
//! ```
//!
//! * The layout of the article breaks the printed samples over lines, so the protocol assumes no
//!   delimiter ([`crate::decoders::objects`]).
//! * `firstSeenTimestamp` is RFC 3339 with 0 to 9 decimals, in UTC or with an offset, so it is an
//!   instant. The reader needs a time server for a right time. If the object has only a
//!   `lastSeenTimestamp`, the protocol takes that, with a doubt.
//! * A reader whose clock was never set stamps 1970 or 2000. That shows no time of day, so its
//!   reads get their receive time. Two reads of one tag and antenna within a millisecond are
//!   separated by their microseconds.
//! * The chip is the EPC in lower case (with its leading zeros). Unknown members are ignored. An
//!   object without `antennaPort` and `epc` (location and direction modes) is rejected, because its
//!   meaning would be a guess.
//! * `isHeartBeat` is a life sign and nothing else.
//!
//! The box cannot ask for stored reads, and the protocol sends nothing.

use jiff::Timestamp;
use serde::Deserialize;

use crate::decoders::objects::{Object, Objects};
use crate::decoders::{Frame, Info, Output, Protocol, Reject, SettingError, Settings, civil, options};
use crate::model::chip::{Age, Caution, ChipRead, Label, Sighting, Stamp};
use crate::model::clock::was_never_set;

/// The name in the configuration.
pub(super) const NAME: &str = "impinj";

/// Makes a value for one connection.
pub(super) fn make(settings: &Settings) -> Result<Box<dyn Protocol>, SettingError> {
    options::none(NAME, settings)?;
    Ok(Box::<Impinj>::default())
}

#[derive(Default)]
struct Impinj {
    objects: Objects,
}

impl Protocol for Impinj {
    fn feed(&mut self, bytes: &[u8], out: &mut Output) {
        self.objects.feed(bytes, |object| match object {
            Object::Whole(raw) => out.frame(read(raw).unwrap_or_else(Frame::Rejected), raw),
            Object::Broken(raw) => out.frame(Frame::Rejected(Reject::NotMine), raw),
            Object::TooLong(raw) => out.frame(Frame::Rejected(Reject::TooLong), raw),
        });
    }

    fn end(&mut self, out: &mut Output) {
        if let Some(rest) = self.objects.end() {
            out.frame(Frame::Rejected(Reject::Unfinished), &rest);
        }
    }
}

/// The members that are used.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tag<'a> {
    antenna_port: u64,
    #[serde(borrow)]
    epc: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    first_seen_timestamp: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow)]
    last_seen_timestamp: Option<std::borrow::Cow<'a, str>>,
    peak_rssi: Option<f64>,
    #[serde(default)]
    is_heart_beat: bool,
}

fn read(raw: &[u8]) -> Result<Frame, Reject> {
    let tag: Tag<'_> = serde_json::from_slice(raw).map_err(|_| Reject::NotMine)?;
    if tag.is_heart_beat {
        return Ok(Frame::Info(Info::Alive));
    }
    if tag.epc.is_empty() || !tag.epc.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Reject::Field("epc"));
    }
    let (seen, name) = match (&tag.first_seen_timestamp, &tag.last_seen_timestamp) {
        (None, Some(last)) => (last, "lastSeenTimestamp"),
        (first, _) => (first.as_ref().ok_or(Reject::Field("firstSeenTimestamp"))?, "firstSeenTimestamp"),
    };
    let (instant, micros) = instant(seen).ok_or(Reject::Field(name))?;
    let mut read = ChipRead::new(tag.epc.to_ascii_lowercase(), Stamp::Utc(instant));
    read.micros = Some(micros);
    if was_never_set(instant) {
        let ms = u64::try_from(instant.as_millisecond()).map_err(|_| Reject::Field(name))?;
        (read.stamp, read.age) = (Stamp::Uptime(ms), Some(Age::BeforeReceipt(0).into()));
    }
    if name == "lastSeenTimestamp" {
        (read.seen, read.caution) = (Some(Sighting::Last), Some(Caution::OnlyLastSeen));
    }
    read.antenna = Some(Label::Number(tag.antenna_port));
    read.rssi = tag.peak_rssi.map(|dbm| dbm as i32); // whole dBm, at most the limits of an i32
    Ok(Frame::Read(read))
}

/// An instant from RFC 3339, and the microseconds below the millisecond. A second 60 is not
/// accepted, because a general parser would make it 59.
fn instant(text: &str) -> Option<(Timestamp, u16)> {
    let time = text.get(11..)?;
    let time = &time[..time.find(['Z', 'z', '+', '-'])?];
    let (_, micros) = civil::exact_time_of_day(time, 9)?;
    Some((text.parse().ok()?, micros.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_and_offsets_of_any_kind_are_the_same_instant() {
        for time in ["2026-04-19T06:30:00.25Z", "2026-04-19T08:30:00.250000000+02:00", "2026-04-19T06:30:00.250+00:00"]
        {
            let raw = format!(r#"{{"antennaPort":1,"epc":"E280","firstSeenTimestamp":"{time}"}}"#);
            let Ok(Frame::Read(read)) = read(raw.as_bytes()) else { panic!("{time}") };
            assert_eq!((&*read.chip, &*read.stamp.to_string()), ("e280", "2026-04-19T06:30:00.250Z"));
        }
    }

    #[test]
    fn a_clock_that_was_never_set_tells_no_time_and_only_the_last_seen_time_is_doubted() {
        let told = |member: &str, time: &str| {
            let raw = format!(r#"{{"antennaPort":1,"epc":"E280","{member}":"{time}"}}"#);
            match read(raw.as_bytes()) {
                Ok(Frame::Read(read)) => Ok((read.stamp.to_string(), read.age, read.caution, read.micros)),
                Ok(other) => panic!("{other:?}"),
                Err(reason) => Err(reason),
            }
        };
        let unset = told("firstSeenTimestamp", "2000-01-01T00:01:05.207562Z").unwrap();
        assert_eq!(unset, ("up946684865.207".to_owned(), Some(Age::BeforeReceipt(0).into()), None, Some(562)));
        let last = told("lastSeenTimestamp", "2026-04-19T08:30:00.5Z").unwrap();
        assert_eq!(last, ("2026-04-19T08:30:00.500Z".to_owned(), None, Some(Caution::OnlyLastSeen), Some(0)));
        for time in [
            "2026-04-19T08:30:60.5Z",
            "2026-04-19T08:60:00Z",
            "2026-02-30T08:30:00Z",
            "2026-04-19",
            "1969-12-31T23:00:00Z",
        ] {
            assert_eq!(told("firstSeenTimestamp", time), Err(Reject::Field("firstSeenTimestamp")), "{time}");
        }
    }

    #[test]
    fn an_object_of_another_mode_is_not_guessed_at() {
        assert_eq!(read(br#"{"epc":"E280","xCm":12,"yCm":5}"#), Err(Reject::NotMine));
        let heartbeat = br#"{"antennaPort":0,"epc":"","isHeartBeat":true}"#;
        assert_eq!(read(heartbeat), Ok(Frame::Info(Info::Alive)));
    }
}
