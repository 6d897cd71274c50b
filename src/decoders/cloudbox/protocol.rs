//! RUFUS CloudBox: a TCP server on port 8080 that streams each passing as a JSON object to every client.
//!
//! Evidence: low to medium. Public help pages of the vendor, read as copies that are cut off; no real box, no capture.
//!
//! ```text
//! {"epc":"3D2E372D39293A313C313734","timestamp":"2024-09-17;14:34:23.123Z","seenCount":1,"antenna":1,"rssi":-58,
//!  "passingNumber":1,"tagStr":"MC00169","latitude":null,"longitude":null,"chksum":"6a0f5"}      a passing
//! {"command":"GETSYSTEMTIME","result":{..}}                                                     an answer
//! GETSYSTEMTIME\r\n                                                                             a question, from us
//! ```
//!
//! * How objects are delimited is not documented, so nothing is taken for a delimiter ([`crate::decoders::objects`]).
//! * Three spellings of the stamp are documented: with `;` or `T`, with or without `Z`. With `Z` it is UTC, without it is the
//!   box's wall time, read in the configured `timezone`.
//! * The chip is `tagStr`, else `epc` as sent (a locked box hides the EPC, an unlocked one has foreign chips without
//!   `tagStr`). How `chksum` is made is not known: it is never checked.
//! * Records that somebody rewinds at the box come again to every client, without a mark, and whether under their old
//!   `passingNumber` is not known. So they are recognised by chip, stamp and antenna, and the number takes no part. No command is known
//!   that asks for stored records: what was missed is fetched by a rewind at the box.
//! * `START` begins a session (a new file, and in a bound box a new session in the cloud): it is sent only with the option
//!   `start = true`. The question for the time is harmless and a sign of life.

use std::borrow::Cow;
use std::time::Duration;

use jiff::civil::DateTime;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::decoders::objects::{Object, Objects};
use crate::decoders::{Frame, Info, Output, Protocol, Range, Reject, SettingError, Settings, civil, options};
use crate::model::chip::{ChipRead, Label, Stamp, StoredRanges};

const ASK_EVERY: Duration = Duration::from_secs(30);

/// Its name in the configuration.
pub(super) const NAME: &str = "cloudbox";

/// A value for one connection.
pub(super) fn make(settings: &Settings) -> Result<Box<dyn Protocol>, SettingError> {
    let allowed = "the one option is `start`: `true` lets passbridge begin a session at the box when it connects";
    let start = options::one(NAME, settings, ("start", options::SWITCH), allowed)?.unwrap_or(false);
    Ok(Box::new(CloudBox { objects: Objects::default(), start, asked: Duration::ZERO }))
}

struct CloudBox {
    objects: Objects,
    start: bool,
    asked: Duration,
}

impl Protocol for CloudBox {
    fn connected(&mut self, _held: StoredRanges, _rewind: bool, out: &mut Output) {
        if self.start {
            out.reply(*b"START\r\n");
        }
        out.reply(*b"GETSYSTEMTIME\r\n");
    }

    fn feed(&mut self, bytes: &[u8], out: &mut Output) {
        self.objects.feed(bytes, |object| match object {
            Object::Whole(raw) => out.frame(message(raw).unwrap_or_else(Frame::Rejected), raw),
            Object::Broken(raw) => out.frame(Frame::Rejected(Reject::NotMine), raw),
            Object::TooLong(raw) => out.frame(Frame::Rejected(Reject::TooLong), raw),
        });
    }

    fn tick(&mut self, up: Duration, out: &mut Output) {
        if up.saturating_sub(self.asked) >= ASK_EVERY {
            self.asked = up;
            out.reply(*b"GETSYSTEMTIME\r\n");
        }
    }

    fn rewind(&mut self, _range: &Range, _out: &mut Output) -> Result<(), &'static str> {
        Err("a CloudBox is not asked from here: rewind it at the box; what is known already is not sent twice")
    }

    fn end(&mut self, out: &mut Output) {
        if let Some(rest) = self.objects.end() {
            out.frame(Frame::Rejected(Reject::Unfinished), &rest);
        }
    }
}

/// The members that are used. Those that are hidden or null are absent.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
    command: Option<IgnoredAny>,
    #[serde(borrow)]
    epc: Option<Cow<'a, str>>,
    #[serde(borrow)]
    tag_str: Option<Cow<'a, str>>,
    #[serde(borrow)]
    timestamp: Option<Cow<'a, str>>,
    seen_count: Option<u32>,
    antenna: Option<u64>,
    rssi: Option<f64>,
    passing_number: Option<u64>,
}

fn message(raw: &[u8]) -> Result<Frame, Reject> {
    let message: Message<'_> = serde_json::from_slice(raw).map_err(|_| Reject::NotMine)?;
    if message.command.is_some() {
        return Ok(Frame::Info(Info::Alive));
    }
    let (stamp, micros) = stamp(&message.timestamp.ok_or(Reject::NotMine)?).ok_or(Reject::Field("timestamp"))?;
    let named = |code: &Cow<'_, str>| !code.trim().is_empty();
    let chip = message.tag_str.filter(named).or(message.epc.filter(named)).ok_or(Reject::Field("epc"))?;
    let mut read = ChipRead::new(chip.trim(), stamp);
    read.micros = micros;
    read.antenna = message.antenna.map(Label::Number);
    read.hits = message.seen_count;
    read.rssi = message.rssi.map(|dbm| dbm as i32); // whole dBm
    read.seq = message.passing_number;
    Ok(Frame::Read(read))
}

/// `2024-09-17;14:34:23.123`, `T` for `;`, `Z` behind it.
fn stamp(text: &str) -> Option<(Stamp, Option<u16>)> {
    let (wall, utc) = text.strip_suffix('Z').map_or((text, false), |wall| (wall, true));
    let (date, time) = wall.split_once([';', 'T'])?;
    let (time, micros) = civil::exact_time_of_day(time, 6)?;
    let at = DateTime::from_parts(civil::date(date)?, time);
    let utc = if utc { Some(jiff::tz::TimeZone::UTC.to_timestamp(at).ok()?) } else { None };
    Some((utc.map_or(Stamp::Local(at), Stamp::Utc), micros))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoders::Item;

    fn said(settings: &[(&str, &str)]) -> String {
        let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let mut out = Output::default();
        make(&settings).unwrap().connected(StoredRanges::default(), true, &mut out);
        let bytes = out.items.into_iter().flat_map(|item| match item {
            Item::Reply(bytes) => bytes,
            _ => Vec::new(),
        });
        String::from_utf8(bytes.collect()).unwrap()
    }

    #[test]
    fn a_session_is_begun_only_where_the_configuration_says_so() {
        assert_eq!(said(&[]), "GETSYSTEMTIME\r\n");
        assert_eq!(said(&[("start", "true")]), "START\r\nGETSYSTEMTIME\r\n");
        assert!(make(&Settings::from([("start".into(), "yes".into())])).is_err());
    }

    #[test]
    fn a_rewound_record_is_known_whatever_its_number() {
        let record = |number: u64| {
            let raw = format!(
                r#"{{"timestamp":"2024-09-17;14:34:23.123Z","antenna":1,"tagStr":"MC1","passingNumber":{number}}}"#
            );
            match message(raw.as_bytes()) {
                Ok(Frame::Read(read)) => read.identity(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(record(1), record(900));
    }
}
