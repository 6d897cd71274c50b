//! Turns a read that waits for upload into the fields of a passing: chip code, bib, time in UTC.
//!
//! What must hold:
//! * This code never decides whether a read is kept. Every read gets fields, except a read without
//!   a date that was received while the box did not know the time. That read waits until the
//!   journal knows when it was received.
//! * A bib is never empty: it is the bib from the file, or else the chip code.
//!
//! The module hides the code of the tag and the bib file ([`Bibs`], [`BibFile`]).
//!
//! Rejected: mapping a read when it is kept (then a bib file that is corrected before the upload
//! would not help).

mod bibs;
mod unknown;

use std::borrow::Cow;
use std::sync::Arc;

use tokio::sync::watch;

pub(crate) use bibs::{BibFile, Bibs};
pub(crate) use unknown::UnknownChips;

use crate::config::{ChipZeros, TagCode};
use crate::journal::PendingRead;
use crate::model::clock::{self, Doubt, Zones};

/// Returns the chip code of what a decoder sent.
///
/// [`TagCode::Rufus`]: the EPC of an open RUFUS tag is 24 hex digits that hold 12 ASCII characters.
/// The code is right-aligned and filled with `0` on the left (`3030 3030 304D 4330 3039 3738` is
/// `MC00978`). Spaces between the digits and lower case are allowed. Anything that is not such an
/// EPC stays as it was sent: it is a tag of another make, or a closed RUFUS tag, whose content only
/// the vendor can read.
pub(crate) fn chip_code(raw: &str, tag: TagCode) -> Cow<'_, str> {
    match tag {
        TagCode::Raw => Cow::Borrowed(raw),
        TagCode::Rufus => open_rufus_code(raw).map_or(Cow::Borrowed(raw), Cow::Owned),
    }
}

fn open_rufus_code(raw: &str) -> Option<String> {
    let mut code = String::with_capacity(12);
    let mut digits = raw.chars().filter(|c| !c.is_ascii_whitespace()).map(|c| c.to_digit(16));
    while let Some(high) = digits.next() {
        let byte = u8::try_from(high? << 4 | digits.next()??).ok()?;
        if !byte.is_ascii_alphanumeric() || code.len() == 12 {
            return None;
        }
        code.push(char::from(byte));
    }
    if code.len() != 12 {
        return None;
    }
    // A code that consists of zeros only is the code `0`.
    let filled = code.bytes().take_while(|byte| *byte == b'0').count().min(11);
    Some(code.split_off(filled))
}

/// The fields of a passing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    /// UTC, milliseconds since 1970.
    pub time_ms: i64,
    /// The chip's bib, or the chip code if no bib is known. Never empty.
    pub bib: Box<str>,
    /// Chip code.
    pub chip: Box<str>,
}

/// Turns reads into fields of passings. (The link of a decoder reports doubts about the decoder's
/// time, when a read arrives.)
pub(crate) struct Mapper {
    tag: TagCode,
    bibs: watch::Receiver<Arc<Bibs>>,
    zones: Zones,
    zeros: ChipZeros,
    unknown: Option<UnknownChips>,
}

impl Mapper {
    /// A mapper for decoders whose clocks are in these zones.
    pub(crate) fn new(tag: TagCode, bibs: watch::Receiver<Arc<Bibs>>, zones: Zones) -> Self {
        Self { tag, bibs, zones, zeros: ChipZeros::default(), unknown: None }
    }

    /// Whether zeros at the beginning of a chip code count in the bib file.
    #[must_use]
    pub(crate) fn zeros(self, zeros: ChipZeros) -> Self {
        Self { zeros, ..self }
    }

    /// Chips that are not in the bib file are counted there. For a box that has one.
    #[must_use]
    pub(crate) fn counting(self, unknown: Option<UnknownChips>) -> Self {
        Self { unknown, ..self }
    }

    /// Returns the fields of a read, with the current bibs. `None`: its date cannot be known until
    /// the box knows the time.
    pub(crate) fn fields(&self, read: &PendingRead) -> Option<Fields> {
        let kept = read.zone.as_deref().and_then(clock::zone);
        let zone = kept.as_ref().unwrap_or_else(|| self.zones.of(&read.decoder));
        let resolved = clock::resolve(&read.stamp, zone, read.received, read.replay);
        let by_receipt = matches!(resolved.doubt, Some(Doubt::BoxClockUnset | Doubt::OutOfRange));
        if by_receipt && !clock::box_clock_set(read.received) {
            return None;
        }
        let chip = chip_code(&read.chip, self.tag);
        let bibs = Arc::clone(&self.bibs.borrow());
        let bib = bibs.find(&chip, self.zeros).map(Box::from);
        if let Some(unknown) = self.unknown.as_ref().filter(|_| !bibs.is_empty()) {
            unknown.look(&chip, bib.is_some(), &bibs);
        }
        Some(Fields {
            time_ms: resolved.utc.as_millisecond(),
            bib: bib.unwrap_or_else(|| Box::from(&*chip)),
            chip: chip.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;
    use crate::model::chip::{Seq, Stamp};

    #[test]
    fn an_open_rufus_tag_gives_its_code_and_any_other_stays_as_sent() {
        for (epc, code) in [
            ("3030 3030 304D 4330 3039 3738", "MC00978"),
            ("30303030304D433030393738", "MC00978"),
            ("30303030304d433030393738", "MC00978"),
            ("303030303030303030303132", "12"),
            ("303030303030303030303030", "0"),
            ("414230303030303030303031", "AB0000000001"),
            ("30303030304D4330303937", "30303030304D4330303937"),
            ("30303030304D43303039373800", "30303030304D43303039373800"),
            ("3030303030304D43303039373831", "3030303030304D43303039373831"),
            ("3D2E372D39293A313C313734", "3D2E372D39293A313C313734"),
            ("E2801160600002054D4B1234", "E2801160600002054D4B1234"),
            ("30303030304D4330303937380", "30303030304D4330303937380"),
            ("MC00978", "MC00978"),
            ("é0303030304D43303039373", "é0303030304D43303039373"),
            ("", ""),
        ] {
            assert_eq!(chip_code(epc, TagCode::Rufus), code);
            assert_eq!(chip_code(epc, TagCode::Raw), epc);
        }
    }

    fn read(chip: &str, stamp: &str, replay: bool) -> PendingRead {
        PendingRead {
            seq: Seq(1),
            decoder: "finish-mat".into(),
            received: "2026-03-06T19:27:48Z".parse().unwrap(),
            chip: chip.into(),
            stamp: stamp.parse::<Stamp>().unwrap(),
            replay,
            corrected_ms: 0,
            zone: None,
        }
    }

    fn mapper(csv: &str) -> Mapper {
        let bibs = watch::channel(Arc::new(Bibs::read(csv.as_bytes()).unwrap())).1;
        let zone = TimeZone::get("Europe/Madrid").unwrap();
        Mapper::new(TagCode::Rufus, bibs, Zones::from_iter([("finish-mat".into(), zone)]))
    }

    #[test]
    fn a_read_becomes_a_passing_with_its_bib_or_else_its_chip_code() {
        let mapper = mapper("chip,bib\nMC00978,7\n");
        let fields = mapper.fields(&read("30303030304D433030393738", "2026-03-06T20:27:47.350", false)).unwrap();
        let time_ms = 1_772_825_267_350; // 19:27:47.350 UTC
        assert_eq!(fields, Fields { time_ms, bib: "7".into(), chip: "MC00978".into() });
        let fields = mapper.fields(&read("058001007E5D", "2026-03-06T20:27:47.350", false)).unwrap();
        assert_eq!((&*fields.bib, &*fields.chip), ("058001007E5D", "058001007E5D"));
        let mut other = read("A", "2026-03-06T20:27:47.350", false);
        other.decoder = "gone".into();
        assert_eq!(mapper.fields(&other).unwrap().time_ms, time_ms + 3_600_000);
    }

    #[test]
    fn a_chip_whose_code_lost_its_zeros_in_the_list_has_its_bib_and_goes_up_as_it_was_sent() {
        let fields = |zeros| mapper("chip,bib\n11055,7\n").zeros(zeros).fields(&read("0011055", "20:27:47.350", false));
        let found = fields(ChipZeros::Ignore).unwrap();
        assert_eq!((&*found.bib, &*found.chip), ("7", "0011055"));
        assert_eq!(&*fields(ChipZeros::Count).unwrap().bib, "0011055");
    }

    #[test]
    fn a_read_without_a_date_waits_until_the_box_knows_its_own() {
        let mapper = mapper("chip,bib\n");
        let mut undated = read("A", "20:27:47.350", false);
        undated.received = "1970-01-01T00:00:09Z".parse().unwrap();
        assert_eq!(mapper.fields(&undated), None);
        let mut dated = read("A", "2026-03-06T20:27:47.350", false);
        dated.received = undated.received;
        assert!(mapper.fields(&dated).is_some(), "a stamp with a date does not hang on the box's clock");
    }
}
