//! ChronoTrack Simple Client (CTP01): the timing system connects to us (usual port 61611) and pushes what its locations
//! read. It stores what it read, and gives it again from any number on.
//!
//! Evidence: medium to high. Four programs and a printed guide agree on the record; the vendor's own paper was not seen.
//!
//! Wire: lines that end in CR LF, fields parted by `~`.
//!
//! ```text
//! they: SimpleClient~<version>~CTP01                                hello
//! we:   passbridge~<version>~6                                      six features follow, a line each
//!       stream-mode=push  time-format=iso  location=multi  guntimes=true  newlocations=true  connection-id=false
//! we:   getlocations          they: ack~getlocations~<location>~…
//! we:   start~<location>~<number>   they: ack~start~…, then every record from that number on, then what happens
//! we:   ping, every 15 s      they: ack~ping      (and the other way round)
//! they: err~<command>~<message>
//! they: CT01_33~seq~location~tag~time~count~reader~antenna          a record (CT01_13 is the same)
//! ```
//!
//! `seq` counts from 1 at each location: a read's position is location and number. The tag may be `guntime` or
//! `newlocation`: those are markers. `count` (the lap) and what else is in a record stay in its raw bytes.
//!
//! `time`: of the form that was asked for (`time_format`): `iso` (default) local wall time with a date, `normal` local time
//! of day, `msecs` milliseconds since local midnight, `unix` seconds since 1970. A time with colons says itself what
//! it is and is read whatever was asked for. For `unix` no source says whether it is UTC or the local clock
//! counted as if it were: it is read as what the word means, UTC. That is why `iso` is asked for.
//!
//! What must hold:
//! * **Nothing missed stays missed**: each location is started from the first number that is not held of it, or, where there
//!   is no hole, from the last one that is. What is held comes twice then, and is known by its identity. Without anything
//!   held it is started from 1. Records come in the order of their numbers: what it skips on the way to the highest number
//!   held it does not have, which is kept ([`Marker::ABSENT`]), so that no hole is asked for twice.
//! * **A source that counts from the start again is recognised**: the first number that comes is lower than what was asked
//!   for, or a number is lower than the one before it. What was held of that location is forgotten, and it is started from 1.
//! * A location that appears later is started 1 to 2 s after it was announced, as the known programs do.
//!
//! Not seen: a source that began anew and has counted past
//! what is held. Not used: `pushmode-ack`, whose meaning nobody confirms.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Time;

use super::line::{Line, Lines};
use super::text::utf_8_or_latin_1 as text;
use super::{
    Cleared, Frame, Info, Missed, Output, Protocol, Range, Reject, SettingError, Settings, Spec, civil, options,
};
use crate::chip::{ChipRead, Held, Label, Marker, Position, Stamp};

/// The registry line.
pub static SPEC: Spec = Spec {
    name: "chronotrack",
    title: "ChronoTrack (Simple Client, CTP01)",
    port: 61611,
    // It answers a ping every 15 s.
    idle_limit: Some(Duration::from_secs(60)),
    missed: Missed::Stored,
    make,
};

const PING_EVERY: Duration = Duration::from_secs(15);
/// Silence after which the locations are asked for again.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// It answered a command with an error.
const REFUSES: &str = "decoder_refuses";
/// In ticks of about a second, of which the first may be over at once.
const NEW_LOCATION_WAIT: Duration = Duration::from_secs(2);
/// Longest name of a location in bytes; it is said back with every start.
const LOCATION_MAX: usize = 255;
/// Locations of one connection; as many as the journal remembers positions of.
const LOCATIONS: usize = Held::FILES;

fn make(settings: &Settings) -> Result<Box<dyn Protocol>, SettingError> {
    let mut talk = Talk::default();
    for (key, value) in settings {
        let wrong = |allowed| options::wrong(SPEC.name, key, value, allowed);
        talk.format = match (key.as_str(), value.as_str()) {
            ("time_format", "iso") => TimeFormat::Iso,
            ("time_format", "normal") => TimeFormat::Normal,
            ("time_format", "msecs") => TimeFormat::Msecs,
            ("time_format", "unix") => TimeFormat::Unix,
            ("time_format", _) => return Err(wrong("allowed are `iso`, `normal`, `msecs` and `unix`")),
            _ => return Err(wrong("unknown; the one option is `time_format`")),
        };
    }
    Ok(Box::new(ChronoTrack { lines: Lines::default(), talk }))
}

/// `time-format`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum TimeFormat {
    #[default]
    Iso,
    Normal,
    Msecs,
    Unix,
}

impl TimeFormat {
    fn word(self) -> &'static str {
        match self {
            Self::Iso => "iso",
            Self::Normal => "normal",
            Self::Msecs => "msecs",
            Self::Unix => "unix",
        }
    }
}

#[derive(Default)]
struct ChronoTrack {
    lines: Lines,
    talk: Talk,
}

/// A timing point of the other side.
struct Location {
    name: Box<str>,
    /// Its name as it was sent, whatever the encoding: what is sent back.
    sent: Box<[u8]>,
    /// When it is to be started, as the age of the link; `None`: it is.
    start_at: Option<Duration>,
    /// The last number that came on this connection.
    last: Option<u64>,
    /// It was started from this number, and no record shows yet that it was.
    from: Option<u64>,
    /// It was started before on this connection: what was under way comes first.
    again: bool,
    /// Holes are being filled: the number that is to come next, and the highest one held; `None` where nothing is.
    filling: Option<(u64, Option<u64>)>,
}

/// All that is known on one connection. Before [`Protocol::connected`] it only decodes.
#[derive(Default)]
struct Talk {
    format: TimeFormat,
    linked: bool,
    rewind: bool,
    held: Held,
    up: Duration,
    greeted: bool,
    /// When the locations were last asked for, while there is no answer.
    asked: Option<Duration>,
    last_ping: Duration,
    /// It refused something, and nothing it accepted came after.
    refused: bool,
    /// At most [`LOCATIONS`].
    locations: Vec<Location>,
}

impl Protocol for ChronoTrack {
    fn connected(&mut self, held: Held, rewind: bool, _out: &mut Output) {
        (self.talk.linked, self.talk.held, self.talk.rewind) = (true, held, rewind);
    }

    fn feed(&mut self, bytes: &[u8], out: &mut Output) {
        let Self { lines, talk } = self;
        lines.feed(bytes, |line| talk.line(line, out));
    }

    fn tick(&mut self, up: Duration, out: &mut Output) {
        self.talk.tick(up, out);
    }

    fn rewind(&mut self, range: &Range, out: &mut Output) -> Result<(), &'static str> {
        self.talk.by_hand(range, out)
    }

    fn end(&mut self, out: &mut Output) {
        self.lines.end(|line| {
            let (Line::Whole(bytes) | Line::TooLong(bytes)) = line;
            out.frame(Frame::Rejected(Reject::Unfinished), bytes);
        });
    }
}

impl Talk {
    fn line(&mut self, line: Line<'_>, out: &mut Output) {
        let raw = match line {
            Line::TooLong(bytes) => return out.frame(Frame::Rejected(Reject::TooLong), bytes),
            Line::Whole(b"") => return,
            Line::Whole(bytes) => bytes,
        };
        let fields: Vec<&[u8]> = raw.split(|byte| *byte == b'~').collect();
        match *fields {
            [format, ..] if format.starts_with(b"CT01_") => match record(&fields, self.format) {
                Ok(record) => self.record(record, fields[2], raw, out),
                Err(reason) => out.frame(Frame::Rejected(reason), raw),
            },
            [b"ping"] => {
                alive(raw, out);
                out.reply(*b"ack~ping\r\n");
            }
            [b"ack", b"getlocations", ref names @ ..] => {
                alive(raw, out);
                self.asked = None;
                for name in names.iter().filter(|name| (1..=LOCATION_MAX).contains(&name.len())) {
                    self.appears(name, self.up, out);
                }
            }
            [b"ack", command, ..] => {
                alive(raw, out);
                if command == b"start" && std::mem::take(&mut self.refused) {
                    out.frame(Frame::Info(Info::Condition { code: REFUSES, text: None }), b"");
                }
            }
            [b"err", command, ref message @ ..] => {
                self.refused = true;
                let message = message.join(&b'~');
                let text =
                    format!("it refused `{}`: {}; look at its locations and settings", text(command), text(&message));
                out.frame(Frame::Info(Info::Condition { code: REFUSES, text: Some(text) }), raw);
            }
            [_, _, b"CTP01"] => {
                alive(raw, out);
                self.greet(out);
            }
            _ => out.frame(Frame::Rejected(Reject::NotMine), raw),
        }
    }

    /// Says who we are and what we want, once.
    fn greet(&mut self, out: &mut Output) {
        if !self.linked || std::mem::replace(&mut self.greeted, true) {
            return;
        }
        out.reply(format!(
            "passbridge~{}~6\r\nstream-mode=push\r\ntime-format={}\r\nlocation=multi\r\nguntimes=true\r\n\
             newlocations=true\r\nconnection-id=false\r\ngetlocations\r\n",
            env!("CARGO_PKG_VERSION"),
            self.format.word()
        ));
        self.asked = Some(self.up);
    }

    /// There is a location, to be started at `start_at`.
    fn appears(&mut self, sent: &[u8], start_at: Duration, out: &mut Output) {
        if !self.linked || self.locations.iter().any(|location| *location.sent == *sent) {
            return;
        }
        if self.locations.len() == LOCATIONS {
            let text = format!("it has more than {LOCATIONS} locations: reads of the others do not come here");
            let condition = Info::Condition { code: "too_many_locations", text: Some(text) };
            return out.frame(Frame::Info(condition), b"");
        }
        let name = text(sent).into();
        let start_at = Some(start_at);
        let (last, from, again, filling) = (None, None, false, None);
        self.locations.push(Location { name, sent: sent.into(), start_at, last, from, again, filling });
        self.start_due(out);
    }

    fn start_due(&mut self, out: &mut Output) {
        for at in 0..self.locations.len() {
            if self.locations[at].start_at.is_some_and(|due| due <= self.up) {
                self.locations[at].start_at = None;
                self.start(at, out);
            }
        }
    }

    /// From the first hole, or the last number held on; with nothing to be asked for from now on.
    fn start(&mut self, at: usize, out: &mut Output) {
        let location = &mut self.locations[at];
        let highest = self.held.highest(Some(&location.name), None);
        let hole = self.held.missing(Some(&location.name), None, 1, highest.unwrap_or(1)).first().map(|hole| hole.0);
        let from = hole.or(highest).unwrap_or(1);
        location.filling = hole.filter(|_| self.rewind).map(|hole| (hole, highest));
        self.start_from(at, self.rewind.then_some(from), out);
    }

    fn start_again(&mut self, at: usize, from: u64, out: &mut Output) {
        (self.locations[at].again, self.locations[at].filling) = (true, None);
        self.start_from(at, Some(from), out);
    }

    fn start_from(&mut self, at: usize, from: Option<u64>, out: &mut Output) {
        let location = &mut self.locations[at];
        location.from = from;
        let mut command = [b"start~", &*location.sent].concat();
        if let Some(from) = from {
            command.extend_from_slice(format!("~{from}").as_bytes());
        }
        command.extend_from_slice(b"\r\n");
        out.reply(command);
    }

    fn record(&mut self, record: Record, sent: &[u8], raw: &[u8], out: &mut Output) {
        let Record { number, frame } = record;
        if matches!(&frame, Frame::Marker(marker) if *marker.kind == *NEW_LOCATION) {
            // Its number is not of the location that it announces.
            out.frame(frame, raw);
            return self.appears(sent, self.up + NEW_LOCATION_WAIT, out);
        }
        let started = |location: &Location| *location.sent == *sent && location.start_at.is_none();
        if let Some(at) = self.locations.iter().position(started) {
            self.follow(at, number, out);
            self.fill(at, number, out);
            if let Frame::Read(ChipRead { position: Some(position), .. })
            | Frame::Marker(Marker { position: Some(position), .. }) = &frame
            {
                self.held.insert(position);
            }
        }
        out.frame(frame, raw);
    }

    /// A number came: does the location still count on?
    fn follow(&mut self, at: usize, number: u64, out: &mut Output) {
        let location = &mut self.locations[at];
        let lower = location.last.is_some_and(|last| number < last);
        let anew = match location.from {
            // What was under way when it was started again counts on; the first of what was asked for may be lower.
            Some(from) if number >= from => {
                if lower || (location.last.is_none() && !location.again) {
                    location.from = None;
                }
                false
            }
            Some(_) => true,
            None => lower,
        };
        location.last = Some(number);
        if !anew {
            return;
        }
        let name = location.name.clone();
        let text = format!("location {name} counts from {number} again");
        let cleared = Cleared { unit: Some(name.clone()), file: None, text: text.into() };
        out.frame(Frame::Cleared(cleared), b"");
        self.held.forget(Some(&name), None);
        if self.rewind {
            self.start_again(at, 1, out);
        }
    }

    /// A number came of what was asked for from a hole on: what was skipped is nowhere.
    fn fill(&mut self, at: usize, number: u64, out: &mut Output) {
        let location = &mut self.locations[at];
        let Some((next, highest)) = location.filling.take() else { return };
        let end = highest.unwrap_or(u64::MAX);
        if number < next {
            location.filling = Some((next, highest)); // sent twice
            return;
        }
        if highest.is_some() && number < end {
            location.filling = Some((number + 1, highest));
        }
        for (first, last) in self.held.missing(Some(&location.name), None, next, (number - 1).min(end)) {
            let name = Some(format!("{first} to {last}: it was asked for these and has none").into());
            let position = Position { unit: Some(location.name.clone()), file: None, number: first };
            self.held.insert_through(&position, last);
            let (kind, location, position) = (Marker::ABSENT.into(), Some(location.name.clone()), Some(position));
            let marker = Marker { kind, name, stamp: None, reader: None, location, position, through: Some(last) };
            out.frame(Frame::Marker(marker), b"");
        }
    }

    fn tick(&mut self, up: Duration, out: &mut Output) {
        self.up = up;
        if !self.greeted {
            return;
        }
        self.start_due(out);
        if self.locations.is_empty() && self.asked.is_some_and(|asked| up.saturating_sub(asked) >= ANSWER_WAIT) {
            self.asked = Some(up);
            out.reply(*b"getlocations\r\n");
        }
        if up.saturating_sub(self.last_ping) >= PING_EVERY {
            self.last_ping = up;
            out.reply(*b"ping\r\n");
        }
    }

    /// There is no end of a range on this wire: everything from its first number on comes again.
    fn by_hand(&mut self, range: &Range, out: &mut Output) -> Result<(), &'static str> {
        if range.file.is_some() {
            return Err("ChronoTrack has no files; name a location with --unit");
        }
        let at = match &range.unit {
            Some(unit) => self.locations.iter().position(|location| location.name == *unit),
            None if self.locations.len() == 1 => Some(0),
            None => return Err("it has several locations; name one with --unit"),
        };
        let at = at.filter(|at| self.locations[*at].start_at.is_none());
        let at = at.ok_or("it has told no location of that name, or just now; `passbridge status` shows the link")?;
        let location = &self.locations[at];
        let highest = self.held.highest(Some(&location.name), None).max(location.last);
        // Further up, what is under way would look like a source that counts from the start again.
        if range.from > highest.unwrap_or(0).max(1) {
            return Err("its reads do not go that far yet: those to come are taken by themselves");
        }
        self.start_again(at, range.from, out);
        Ok(())
    }
}

fn alive(raw: &[u8], out: &mut Output) {
    out.frame(Frame::Info(Info::Alive), raw);
}

const NEW_LOCATION: &str = "newlocation";

struct Record {
    number: u64,
    frame: Frame,
}

fn record(fields: &[&[u8]], format: TimeFormat) -> Result<Record, Reject> {
    let [kind, number, location, tag, time, count, reader, antenna] = *fields else { return Err(Reject::FieldCount) };
    if kind != b"CT01_33" && kind != b"CT01_13" {
        return Err(Reject::NotMine);
    }
    let number = digits(number, 15).filter(|number| *number > 0).ok_or(Reject::Field("seq"))?;
    if !(1..=LOCATION_MAX).contains(&location.len()) {
        return Err(Reject::Field("location"));
    }
    let location: Box<str> = text(location).into();
    let time = std::str::from_utf8(time).ok().and_then(|time| stamp(time, format)).ok_or(Reject::Field("time"))?;
    digits(count, 9).ok_or(Reject::Field("count"))?;
    let antenna = digits(antenna, 9).ok_or(Reject::Field("antenna"))?;
    let is_reader = reader.iter().all(u8::is_ascii_hexdigit) && reader.len() <= 12;
    let reader = std::str::from_utf8(reader).ok().filter(|_| is_reader).ok_or(Reject::Field("reader"))?;
    let reader = Some(reader).filter(|reader| !reader.is_empty()).map(|reader| Label::Text(reader.into()));
    let tag = std::str::from_utf8(tag).ok().map(str::trim).filter(|tag| !tag.is_empty());
    let tag = tag.filter(|tag| !tag.chars().any(char::is_control)).ok_or(Reject::Field("chip"))?;
    let frame = match tag {
        "guntime" | NEW_LOCATION => {
            // That of a new location is not of the location that it announces.
            let number = Some(number).filter(|_| tag != NEW_LOCATION);
            let position = number.map(|number| Position { unit: Some(location.clone()), file: None, number });
            let (kind, stamp, location) = (tag.into(), Some(time), Some(location));
            Frame::Marker(Marker { kind, name: None, stamp, reader, location, position, through: None })
        }
        chip => {
            let mut read = ChipRead::new(chip, time);
            read.position = Some(Position { unit: Some(location.clone()), file: None, number });
            read.location = Some(location);
            read.reader = reader;
            read.antenna = Some(Label::Number(antenna));
            Frame::Read(read)
        }
    };
    Ok(Record { number, frame })
}

fn stamp(text: &str, format: TimeFormat) -> Option<Stamp> {
    if text.contains(':') {
        return match text.split_once(['T', ' ']) {
            Some((date, time)) => Some(Stamp::Local(civil::date(date)?.to_datetime(civil::time_of_day(time)?))),
            None => Some(Stamp::TimeOfDay { time: civil::time_of_day(text)?, day: None }),
        };
    }
    match format {
        TimeFormat::Iso | TimeFormat::Normal => None,
        TimeFormat::Msecs => {
            let millis = i64::try_from(digits(text.as_bytes(), 8)?).ok().filter(|millis| *millis < 24 * 3_600_000)?;
            let time = Time::midnight().checked_add(jiff::SignedDuration::from_millis(millis)).ok()?;
            Some(Stamp::TimeOfDay { time, day: None })
        }
        TimeFormat::Unix => {
            let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
            let scale = [100, 10, 1].get(fraction.len().checked_sub(1)?)?;
            let millis = digits(seconds.as_bytes(), 11)? * 1000 + digits(fraction.as_bytes(), 3)? * scale;
            Timestamp::from_millisecond(i64::try_from(millis).ok()?).ok().map(Stamp::Utc)
        }
    }
}

/// One to `most` decimal digits and nothing else.
fn digits(bytes: &[u8], most: usize) -> Option<u64> {
    if bytes.is_empty() || bytes.len() > most {
        return None;
    }
    bytes.iter().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u64::from(byte - b'0')))
}

#[cfg(test)]
mod tests;
