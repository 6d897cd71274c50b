//! Macsha One4All 5 (dialect `v3`, the default) and its predecessors (dialect `v2`, "Ocelot").
//!
//! Evidence: v3 high (the vendor's manual, one author's client and parser, a whole real session of 1,460 rows);
//! v2 medium (one author's code, one live frame). The columns of `GETSTATUS` differ by firmware and are not settled.
//!
//! # v3: lines that end in CR LF, fields parted by `;`
//! ```text
//! PassingNo;TimerCode;ChipNumber;yyyy-MM-dd;HH:mm:ss.kkk;Antenna;SeenCount;Token      a passing, always 8 fields
//! 1        ;MC       ;02976     ;2019-12-12;09:02:07.295;3      ;4        ;937f6
//! CMD;value…                                                    a reply: the command's word, then what it says
//!                                                               an empty line ends a pulled range of passings
//! ```
//! PassingNo counts from 1 in each session file (`yyyyMMdd-HHmmss.csv`, local time of its start). The chip is
//! TimerCode + ChipNumber (`MC02976`). Date and time are a local clock without a zone; a date of zeros is a clock
//! that was never set. The token is the vendor's secret checksum: it is kept in the raw bytes and judged by nobody,
//! so a line that lost its beginning cannot be told from a whole one, and garbage glued to a passing costs it
//! (the stored passing can be asked for again; over TCP it does not happen).
//!
//! The conversation (`talk.rs`) asks for stored passings and for a life sign every 10 s. Sent are only questions and
//! `PUSHTAGS;true`: never START, STOP, SETTIME, SETPROTOCOL, SETBOUNCE, NEWFILE or CLEARFILES. The decoder pushes
//! only to the connection opened last, so a second program silently starves this one: asking for `PASSINGS` regularly
//! finds what was not pushed.
//!
//! # v2: frames that end in `|`
//! ```text
//! MC00001D20150414T120755416T120758010A1R034TV|     chip, date, first seen, last seen (hhmmssmmm), antenna, count
//! CONECTADO_<id>|  START-OK_<id>|  …                life signs and replies; a chip `VOIDTAG` is filler
//! ```
//! The second time is taken, as the one known client does. v2 asks nothing and cannot be asked again.

use self::row::{digits, is_chip, stamp};
use crate::decoders::line::{Line, Lines};
use crate::decoders::{Frame, Info, Output, Protocol, Reject, SettingError, Settings, options};
use crate::model::chip::{ChipRead, Label, StoredRanges};

mod row;
mod talk;
#[cfg(test)]
mod tests;

/// Its name in the configuration.
pub(super) const NAME: &str = "one4all";

/// A value for one connection.
pub(super) fn make(settings: &Settings) -> Result<Box<dyn Protocol>, SettingError> {
    let mut ocelot = false;
    for (key, value) in settings {
        ocelot = match (key.as_str(), value.as_str()) {
            ("dialect", "v3") => false,
            ("dialect", "v2") => true,
            ("dialect", _) => return Err(options::wrong(NAME, key, value, "allowed are `v3` and `v2`")),
            _ => return Err(options::wrong(NAME, key, value, "unknown; the one option is `dialect`")),
        };
    }
    if ocelot {
        return Ok(Box::new(Ocelot { lines: Lines::also_ended_by(b'|') }));
    }
    Ok(Box::new(One4All { lines: Lines::default(), talk: talk::Talk::default() }))
}

/// Dialect v3.
struct One4All {
    lines: Lines,
    talk: talk::Talk,
}

impl Protocol for One4All {
    fn connected(&mut self, held: StoredRanges, rewind: bool, _out: &mut Output) {
        self.talk.connected(held, rewind);
    }

    fn feed(&mut self, bytes: &[u8], out: &mut Output) {
        self.lines.feed(bytes, |line| self.talk.line(line, out));
    }

    fn tick(&mut self, up: std::time::Duration, out: &mut Output) {
        self.talk.tick(up, out);
    }

    fn rewind(&mut self, range: &crate::decoders::Range, out: &mut Output) -> Result<(), &'static str> {
        self.talk.by_hand(range, out)
    }

    fn end(&mut self, out: &mut Output) {
        self.lines.end(|line| self.talk.line(line, out));
        self.talk.end(out);
    }
}

/// Dialect v2.
struct Ocelot {
    lines: Lines,
}

impl Protocol for Ocelot {
    fn feed(&mut self, bytes: &[u8], out: &mut Output) {
        self.lines.feed(bytes, |line| ocelot(line, out));
    }

    fn end(&mut self, out: &mut Output) {
        self.lines.end(|line| ocelot(line, out));
    }
}

fn ocelot(line: Line<'_>, out: &mut Output) {
    const WORDS: [&str; 6] =
        ["CONECTADO", "START-OK", "STOP-OK", "OPERATION-MODE-STARTED", "MODO-REMOTE-OFF", "VOIDTAG"];
    match line {
        Line::Whole(b"") => {}
        Line::TooLong(bytes) => out.frame(Frame::Rejected(Reject::TooLong), bytes),
        Line::Whole(bytes) => {
            let text = std::str::from_utf8(bytes).unwrap_or_default();
            let frame = if WORDS.iter().any(|word| text.starts_with(word)) {
                Frame::Info(Info::Alive)
            } else {
                ocelot_passing(text).map_or_else(Frame::Rejected, Frame::Read)
            };
            out.frame(frame, bytes);
        }
    }
}

fn ocelot_passing(text: &str) -> Result<ChipRead, Reject> {
    if !text.is_ascii() || !text.get(..7).is_some_and(|chip| is_chip(&chip[..2], &chip[2..])) {
        return Err(Reject::NotMine);
    }
    let field = |at: usize, mark: &str, length: usize| {
        let value = text.get(at..)?.strip_prefix(mark)?.get(..length)?;
        digits(value, length..=length).then_some(value)
    };
    let date = field(7, "D", 8).ok_or(Reject::Field("date"))?;
    field(16, "T", 9).ok_or(Reject::Field("time"))?;
    let time = field(26, "T", 9).ok_or(Reject::Field("time"))?;
    let rest = text[36..].strip_prefix('A').ok_or(Reject::Field("antenna"))?;
    let (antenna, rest) = rest.split_once('R').ok_or(Reject::Field("hits"))?;
    let antenna = Some(antenna).filter(|antenna| digits(antenna, 1..=3)).and_then(|antenna| antenna.parse().ok());
    let antenna = antenna.ok_or(Reject::Field("antenna"))?;
    // What `TV` means is not known; it is not judged.
    let hits = rest.get(..3).filter(|hits| digits(hits, 3..=3)).and_then(|hits| hits.parse().ok());
    let hits = hits.ok_or(Reject::Field("hits"))?;
    let date = format!("{}-{}-{}", &date[..4], &date[4..6], &date[6..]);
    let time = format!("{}:{}:{}.{}", &time[..2], &time[2..4], &time[4..6], &time[6..]);
    let read = ChipRead::new(&text[..7], stamp(&date, &time)?);
    Ok(ChipRead { antenna: Some(Label::Number(antenna)), hits: Some(hits), ..read })
}
