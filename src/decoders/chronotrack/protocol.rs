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
//! `seq` counts from 1 at each location. Two systems may have a location of one name, a main and a backup: they connect one by
//! one, and each counts for itself. The reader's id tells them apart: a read's position is location, reader (as its
//! file) and number. Before a record came, nothing tells which of them a connection is. The tag may be `guntime` or
//! `newlocation`: those are markers. `count` (the lap) and what else is in a record stay in its raw bytes.
//!
//! `time`: of the form that was asked for (`time_format`): `iso` (default) local wall time with a
//! date, `normal` local time of day, `msecs` milliseconds since local midnight, `unix-utc` or
//! `unix-local` seconds since 1970. A time with colons says itself what it is and is read whatever
//! was asked for. For seconds since 1970 no source says whether they are UTC or the local clock
//! counted as if it were; the files of one race have local ones. So the option says it: `unix-utc`
//! or `unix-local`. The old word `unix` is read as UTC, as it always was, and warned about. That is
//! why `iso` is asked for.
//!
//! What must hold:
//! * **Nothing missed stays missed**: each location is started from the last number held of it, to compare what it says, and
//!   then, where there is a hole, from the first number that is not held. What is held comes twice then, and is known by its
//!   identity. Without anything held it is started from 1. Records come in the order of their numbers: what a source skips
//!   on the way to the highest number held it does not have, which is kept ([`Marker::ABSENT`]), so that no hole is asked
//!   for twice.
//! * **Whose numbers they are, the first record tells.** Where several readers are known at a location it is started from the
//!   highest of their last numbers; if nothing comes for [`PATIENCE`], from the next one, and in the end from 1. Once a reader
//!   shows itself, what is missing of it is asked for: all, if it was never heard before. What was kept by a version that did
//!   not tell readers apart says nothing about any of them: everything is asked for once, and known by its identity.
//! * **A source that counts from the start again is recognised**: a number that is held comes with another content, or one whose
//!   content nobody remembers comes where it was not asked for. What was held of that reader is forgotten, and the location is
//!   started from 1. The same content is a repeat and nothing else. Sources without a reader's id cannot be told from one that
//!   was cleared: they are told of ([`TWICE`]).
//! * A location that appears later is started 1 to 2 s after it was announced, as the known programs do.
//! * Bounded: [`READERS`] readers of a location are cared for, reads of more are taken as they come. A location is started again
//!   at most [`STARTS`] times at once, and once every [`START_EVERY`] after that.
//!
//! Nothing on the wire tells a stored record from a new one: those that follow a start without a pause of
//! [`LIVE_AFTER`] are taken for stored, for [`STORED_MOST`] at the most.
//!
//! Not seen: several sources that share one connection and one name, whose numbers lie more than [`NEAR`] apart: what of the lower
//! one was missed is asked for when it sends its next read. Not used: `pushmode-ack`, whose meaning nobody confirms.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Time;
use jiff::tz::TimeZone;

use crate::decoders::line::{Line, Lines};
use crate::decoders::text::utf_8_or_latin_1 as text;
use crate::decoders::{
    Cleared, Condition, Frame, Info, Output, Protocol, Range, Reject, SettingError, Settings, civil, options,
};
use crate::model::chip::{ChipRead, Content, Label, Marker, Position, Stamp, StoredRanges};

const PING_EVERY: Duration = Duration::from_secs(15);
/// Silence after which the locations are asked for again.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// It answered a command with an error.
const REFUSES: Condition = Condition::DecoderRefuses;
/// In ticks of about a second, of which the first may be over at once.
const NEW_LOCATION_WAIT: Duration = Duration::from_secs(2);
/// Longest name of a location in bytes; it is said back with every start.
const LOCATION_MAX: usize = 255;
/// Readers of one location that are cared for.
const READERS: usize = 16;
/// Last numbers of readers that are tried before the location is started from 1.
const STEPS: usize = 4;
/// Silence after which a location is started from a lower number.
const PATIENCE: Duration = Duration::from_secs(5);
/// So far below the first reader's last number the last number of another one may be to be asked for as well.
const NEAR: u64 = 500;
/// Starts of one location in a row, and how often after that.
const STARTS: u8 = 6;
const START_EVERY: Duration = Duration::from_secs(5);
/// A record after such a pause is new, not stored. (In ticks of about a second.)
const LIVE_AFTER: Duration = Duration::from_secs(2);
/// And so is one that comes so long after the start.
const STORED_MOST: Duration = Duration::from_secs(60);
/// Locations beyond those that are cared for.
const TOO_MANY: Condition = Condition::TooManyLocations;
/// A location without reader ids gives two records under one number.
const TWICE: Condition = Condition::TwoSourcesOneLocation;
/// Locations of one connection; as many as the journal remembers positions of.
const LOCATIONS: usize = StoredRanges::FILES;

/// Its name in the configuration.
pub(super) const NAME: &str = "chronotrack";

/// A value for one connection.
pub(super) fn make(settings: &Settings) -> Result<Box<dyn Protocol>, SettingError> {
    let mut talk = Talk::default();
    for (key, value) in settings {
        let wrong = |allowed| options::wrong(NAME, key, value, allowed);
        talk.format = match (key.as_str(), value.as_str()) {
            ("time_format", "iso") => TimeFormat::Iso,
            ("time_format", "normal") => TimeFormat::Normal,
            ("time_format", "msecs") => TimeFormat::Msecs,
            ("time_format", "unix-utc" | "unix") => TimeFormat::UnixUtc,
            ("time_format", "unix-local") => TimeFormat::UnixLocal,
            ("time_format", _) => {
                return Err(wrong("allowed are `iso`, `normal`, `msecs`, `unix-utc` and `unix-local`"));
            }
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
    /// Seconds since 1970 in UTC.
    UnixUtc,
    /// Seconds since 1970 of the local clock, counted as if it were UTC.
    UnixLocal,
}

impl TimeFormat {
    fn word(self) -> &'static str {
        match self {
            Self::Iso => "iso",
            Self::Normal => "normal",
            Self::Msecs => "msecs",
            Self::UnixUtc | Self::UnixLocal => "unix",
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
    /// It was started from this number; `None`: from what happens next.
    from: Option<u64>,
    /// What was asked for with the last start comes now; before that, what was under way.
    begun: bool,
    started: Duration,
    /// Nothing came since the first start: the numbers to try next, the last one first. At most [`STEPS`] and 1.
    steps: Vec<u64>,
    /// It is to be started again from here, as soon as it may be.
    again: Option<u64>,
    /// Starts that are left for now.
    starts: u8,
    /// Somebody had it started once: before a record came, something may be under way.
    by_hand: bool,
    /// Whether what comes was stored, and when the last of it came.
    stored: Option<Duration>,
    /// At most [`READERS`].
    readers: Vec<Reader>,
}

/// Whoever reads at a location, once it was heard on this connection.
struct Reader {
    id: Option<Label>,
    /// The last number that came since the pass began.
    last: Option<u64>,
    /// Holes are being filled: the number that is to come next, and the highest one held; `None` where nothing is.
    filling: Option<(u64, Option<u64>)>,
    /// The last number that was held before: it has to come again.
    due: Option<u64>,
    /// Numbers that were skipped just now, and are told to be absent: one of them may come late.
    skipped: Option<(u64, u64)>,
}

/// All that is known on one connection. Before [`Protocol::connected`] it only decodes.
#[derive(Default)]
struct Talk {
    format: TimeFormat,
    linked: bool,
    rewind: bool,
    held: StoredRanges,
    up: Duration,
    greeted: bool,
    /// When the locations were last asked for, while there is no answer.
    asked: Option<Duration>,
    last_ping: Duration,
    /// It refused something, and nothing it accepted came after.
    refused: bool,
    /// What was told of it on another connection, of records under one number, is over, or begun.
    calm: bool,
    /// At most [`LOCATIONS`].
    locations: Vec<Location>,
}

impl Protocol for ChronoTrack {
    fn connected(&mut self, held: StoredRanges, rewind: bool, _out: &mut Output) {
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
                if self.linked && names.len() <= LOCATIONS {
                    out.frame(Frame::Info(Info::Condition { code: TOO_MANY, text: None }), b"");
                }
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
            let condition = Info::Condition { code: TOO_MANY, text: Some(text) };
            return out.frame(Frame::Info(condition), b"");
        }
        let location = Location {
            name: text(sent).into(),
            sent: sent.into(),
            start_at: Some(start_at),
            from: None,
            begun: false,
            started: self.up,
            steps: Vec::new(),
            again: None,
            starts: STARTS,
            by_hand: false,
            stored: None,
            readers: Vec::new(),
        };
        self.locations.push(location);
        self.start_due(out);
    }

    fn start_due(&mut self, out: &mut Output) {
        for at in 0..self.locations.len() {
            let location = &mut self.locations[at];
            if location.start_at.take_if(|due| *due <= self.up).is_some() {
                self.start(at, out);
            }
        }
    }

    /// The first start: from the last number held of one of its readers, to see whose records these are and whether it still
    /// says the same.
    fn start(&mut self, at: usize, out: &mut Output) {
        if !self.rewind {
            return self.start_from(at, None, out);
        }
        let name = &*self.locations[at].name;
        let of_location = |(unit, _, ranges): (Option<&str>, Option<&Label>, Vec<(u64, u64)>)| {
            ranges.last().map(|last| last.1).filter(|_| unit == Some(name))
        };
        let mut steps: Vec<u64> = self.held.files().filter_map(of_location).collect();
        steps.sort_unstable();
        steps.dedup();
        steps.drain(..steps.len().saturating_sub(STEPS));
        if steps.first() != Some(&1) {
            steps.insert(0, 1);
        }
        let from = steps.pop();
        self.locations[at].steps = steps;
        self.start_from(at, from, out);
    }

    /// From this number on, or from a lower one that is asked for already.
    fn start_again(&mut self, at: usize, from: u64, out: &mut Output) {
        if !self.rewind {
            return;
        }
        let location = &mut self.locations[at];
        location.steps.clear();
        let from = location.again.map_or(from, |again| again.min(from));
        if location.starts == 0 {
            location.again = Some(from);
            return;
        }
        location.starts -= 1;
        location.again = None;
        self.start_from(at, Some(from), out);
    }

    fn start_from(&mut self, at: usize, from: Option<u64>, out: &mut Output) {
        let location = &mut self.locations[at];
        location.from = from;
        location.begun = false;
        location.started = self.up;
        location.stored = from.map(|_| self.up);
        let mut command = [b"start~", &*location.sent].concat();
        if let Some(from) = from {
            command.extend_from_slice(format!("~{from}").as_bytes());
        }
        command.extend_from_slice(b"\r\n");
        out.reply(command);
    }

    fn record(&mut self, record: Record, sent: &[u8], raw: &[u8], out: &mut Output) {
        let Record { number, reader, content, mut frame } = record;
        if matches!(&frame, Frame::Marker(marker) if *marker.kind == *NEW_LOCATION) {
            // Its number is not of the location that it announces.
            out.frame(frame, raw);
            return self.appears(sent, self.up + NEW_LOCATION_WAIT, out);
        }
        let started = |location: &Location| *location.sent == *sent && location.start_at.is_none();
        if let Some(at) = self.locations.iter().position(started) {
            let place = (Some(&*self.locations[at].name), reader.as_ref());
            let held = self.held.content(place.0, place.1, number).map(|held| held == content);
            let held = held.unwrap_or_else(|| self.held.has(place.0, place.1, number));
            let stored = self.locations[at].is_stored(self.up);
            self.locations[at].steps.clear();
            let asked_for = self.follow(at, number, reader.as_ref(), content, out);
            let position = Position { unit: Some(self.locations[at].name.clone()), file: reader, number };
            self.held.insert_read(&position, content);
            if let Frame::Read(read) = &mut frame {
                read.replay = held || (stored && asked_for);
            }
        }
        out.frame(frame, raw);
    }

    /// A record came: is it the one that is held, does its reader still count on, and what is missing of it? `false`: nobody
    /// asked for it, so it just happened.
    fn follow(&mut self, at: usize, number: u64, id: Option<&Label>, content: Content, out: &mut Output) -> bool {
        let location = &self.locations[at];
        let name = location.name.clone();
        let known = location.readers.iter().position(|reader| reader.id.as_ref() == id);
        let first = known.is_none();
        let last = known.and_then(|known| location.readers[known].last);
        let (from, begun) = (location.from, location.begun);
        let falls = last.is_some_and(|last| number < last);
        let asked_for = from.is_some_and(|from| number >= from);
        // The first of what was asked for is lower than what was under way. After that they come in the order of their numbers.
        let begins = asked_for && !begun && (falls || (location.readers.is_empty() && !location.by_hand));
        let expected = asked_for && !(begun && falls);
        let highest = self.held.highest(Some(&name), id);
        let held = self.held.content(Some(&name), id, number);
        let known_same = held == Some(content);
        let skipped = known.and_then(|known| location.readers[known].skipped);
        let is_late = skipped.is_some_and(|(first, last)| (first..=last).contains(&number));
        let anew = match held {
            Some(held) => held != content,
            None if self.held.has(Some(&name), id, number) => !expected && !is_late,
            // One that is not held and lies below what was asked for: in a hole, and not sent because of the start.
            None => !begun && highest.is_some_and(|highest| from.is_some_and(|from| number < from && from <= highest)),
        };
        let wanted = if first { self.wanted(at, id, highest) } else { None };
        let due = if first { self.held.highest_with_content(Some(&name), id).or(highest) } else { None };
        self.calms(id, known_same, out);
        let location = &mut self.locations[at];
        let known = match known {
            Some(known) => known,
            None if location.readers.len() == READERS => return expected,
            None => {
                location.readers.push(Reader { id: id.cloned(), last: None, filling: None, due, skipped: None });
                location.readers.len() - 1
            }
        };
        if begins {
            location.begun = true;
            location.readers.iter_mut().for_each(|reader| (reader.last, reader.filling) = (None, None));
        }
        let last = location.readers[known].last.replace(number);
        if anew {
            self.anew(at, known, number, out);
            return expected;
        }
        let reader = &mut location.readers[known];
        reader.due = reader.due.filter(|due| *due != number);
        let in_pass = begins || begun;
        if in_pass && last.is_none() {
            let from = from.unwrap_or(1);
            let hole = self.held.first_missing(Some(&name), id, from, highest.unwrap_or(from).max(from));
            reader.filling = hole.map(|_| (from, highest));
        }
        let skipped = in_pass && reader.due.is_some_and(|due| due < number && from.is_some_and(|from| from <= due));
        if skipped {
            reader.due = None; // it has not what is held of it: it gives all, and the contents tell
        }
        self.fill(at, known, number, out);
        let wanted = if skipped { Some(1) } else { wanted };
        if let Some(wanted) = wanted.filter(|wanted| from.is_some_and(|from| *wanted < from)) {
            self.start_again(at, wanted, out);
        }
        expected
    }

    /// Where a location has to be started for this reader, now that it is heard; and for others that may share the
    /// connection, if they are near. `highest`: held of it.
    fn wanted(&self, at: usize, id: Option<&Label>, highest: Option<u64>) -> Option<u64> {
        let name = &*self.locations[at].name;
        let Some(highest) = highest else { return Some(1) };
        // With the number before it, which is held: when it comes, the answer begins.
        let hole = self.held.first_missing(Some(name), id, 1, highest).map(|hole| hole.0.saturating_sub(1).max(1));
        let from = self.locations[at].from?;
        let is_met = |id: Option<&Label>| self.locations[at].readers.iter().any(|reader| reader.id.as_ref() == id);
        let others = self
            .held
            .files()
            .filter(|(unit, file, _)| *unit == Some(name) && file.is_some() && *file != id && !is_met(*file));
        let others = others.filter_map(|(_, _, ranges)| ranges.last().map(|last| last.1));
        let near = others.filter(|last| *last < from && from - last <= NEAR).min();
        hole.into_iter().chain(near).chain([highest]).min()
    }

    /// A reader's numbers are other records than those that are held.
    fn anew(&mut self, at: usize, known: usize, number: u64, out: &mut Output) {
        let location = &mut self.locations[at];
        let name = location.name.clone();
        let reader = &mut location.readers[known];
        (reader.filling, reader.due) = (None, None);
        let id = reader.id.clone();
        let whose = id.as_ref().map_or_else(String::new, |id| format!(" of reader {id}"));
        let text = format!("location {name}{whose} counts again: its number {number} is another record than before");
        self.held.forget(Some(&name), id.as_ref());
        let cleared = Cleared { unit: Some(name.clone()), file: id.clone(), text: text.into() };
        out.frame(Frame::Cleared(cleared), b"");
        if id.is_none() {
            let text = format!(
                "location {name} gives two records under number {number}, and they tell no reader: it was cleared, or two \
                 sources (a main and a backup) have this name. Both are kept. If there are two, give each location a name \
                 of its own"
            );
            self.calm = true; // not ended on this connection
            out.frame(Frame::Info(Info::Condition { code: TWICE, text: Some(text) }), b"");
        }
        self.start_again(at, 1, out);
    }

    /// A record that tells its reader, or is the one that is held: nothing is in doubt any more.
    fn calms(&mut self, id: Option<&Label>, same: bool, out: &mut Output) {
        if (id.is_some() || same) && !std::mem::replace(&mut self.calm, true) {
            out.frame(Frame::Info(Info::Condition { code: TWICE, text: None }), b"");
        }
    }

    /// A number came of what was asked for from a hole on: what was skipped is nowhere.
    fn fill(&mut self, at: usize, known: usize, number: u64, out: &mut Output) {
        let location = &mut self.locations[at];
        let reader = &mut location.readers[known];
        let Some((next, highest)) = reader.filling.take() else { return };
        let end = highest.unwrap_or(u64::MAX);
        if number < next {
            reader.filling = Some((next, highest)); // sent twice
            return;
        }
        if highest.is_some() && number < end {
            reader.filling = Some((number + 1, highest));
        }
        let id = reader.id.clone();
        for (first, last) in self.held.missing(Some(&location.name), id.as_ref(), next, (number - 1).min(end)) {
            let name = Some(format!("{first} to {last}: it was asked for these and has none").into());
            let position = Position { unit: Some(location.name.clone()), file: id.clone(), number: first };
            self.held.insert_through(&position, last);
            reader.skipped = Some((next, last));
            let (kind, location, position) = (Marker::ABSENT.into(), Some(location.name.clone()), Some(position));
            let marker =
                Marker { kind, name, stamp: None, reader: id.clone(), location, position, through: Some(last) };
            out.frame(Frame::Marker(marker), b"");
        }
    }

    /// What waits for its time at each location.
    fn turn(&mut self, out: &mut Output) {
        for at in 0..self.locations.len() {
            let location = &mut self.locations[at];
            let since = self.up.saturating_sub(location.started);
            if since >= START_EVERY {
                location.starts = STARTS.min(location.starts + 1);
            }
            if let Some(from) = location.again.filter(|_| location.starts > 0) {
                self.start_again(at, from, out);
            } else if since >= PATIENCE
                && let Some(from) = location.steps.pop()
            {
                self.start_from(at, Some(from), out);
            }
        }
    }

    fn tick(&mut self, up: Duration, out: &mut Output) {
        self.up = up;
        if !self.greeted {
            return;
        }
        self.start_due(out);
        self.turn(out);
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
        let at = match &range.unit {
            Some(unit) => self.locations.iter().position(|location| location.name == *unit),
            None if self.locations.len() == 1 => Some(0),
            None => return Err("it has several locations; name one with --unit"),
        };
        let at = at.filter(|at| self.locations[*at].start_at.is_none());
        let at = at.ok_or("it has told no location of that name, or just now; `passbridge status` shows the link")?;
        let location = &self.locations[at];
        // Typed in digits a reader's id is a number.
        let is_reader = |file: &Label| {
            self.held.files().any(|(unit, known, _)| {
                unit == Some(&location.name) && known.is_some_and(|known| known.to_string() == file.to_string())
            })
        };
        if range.file.as_ref().is_some_and(|file| !is_reader(file)) {
            return Err("ChronoTrack has no files; name a location with --unit");
        }
        let held = self.held.files().filter(|(unit, _, _)| *unit == Some(&location.name));
        let held = held.filter_map(|(_, _, ranges)| ranges.last().map(|last| last.1)).max();
        let highest = location.readers.iter().filter_map(|reader| reader.last).max().max(held);
        // Further up, what is under way would look like a source that counts from the start again.
        if range.from > highest.unwrap_or(0).max(1) {
            return Err("its reads do not go that far yet: those to come are taken by themselves");
        }
        let location = &mut self.locations[at];
        location.steps.clear();
        location.by_hand = true;
        self.start_from(at, Some(range.from), out);
        Ok(())
    }
}

impl Location {
    /// A record comes now: was it stored, or did it just happen?
    fn is_stored(&mut self, up: Duration) -> bool {
        let goes_on = |last: &Duration| up.saturating_sub(*last) < LIVE_AFTER;
        self.stored = self.stored.filter(goes_on).filter(|_| up.saturating_sub(self.started) < STORED_MOST).map(|_| up);
        self.stored.is_some()
    }
}

fn alive(raw: &[u8], out: &mut Output) {
    out.frame(Frame::Info(Info::Alive), raw);
}

const NEW_LOCATION: &str = "newlocation";

struct Record {
    number: u64,
    reader: Option<Label>,
    content: Content,
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
    let position = Position { unit: Some(location.clone()), file: reader.clone(), number };
    let (content, frame) = match tag {
        "guntime" | NEW_LOCATION => {
            // That of a new location is not of the location that it announces.
            let position = Some(position).filter(|_| tag != NEW_LOCATION);
            let (kind, stamp, location, reader) = (tag.into(), Some(time), Some(location), reader.clone());
            let marker = Marker { kind, name: None, stamp, reader, location, position, through: None };
            (Content::of_marker(tag, stamp.as_ref()), Frame::Marker(marker))
        }
        chip => {
            let mut read = ChipRead::new(chip, time);
            read.position = Some(position);
            read.location = Some(location);
            read.reader = reader.clone();
            read.antenna = Some(Label::Number(antenna));
            (read.content(), Frame::Read(read))
        }
    };
    Ok(Record { number, reader, content, frame })
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
        TimeFormat::UnixUtc | TimeFormat::UnixLocal => {
            let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
            let scale = [100, 10, 1].get(fraction.len().checked_sub(1)?)?;
            let millis = digits(seconds.as_bytes(), 11)? * 1000 + digits(fraction.as_bytes(), 3)? * scale;
            let instant = Timestamp::from_millisecond(i64::try_from(millis).ok()?).ok()?;
            Some(match format {
                TimeFormat::UnixLocal => Stamp::Local(TimeZone::UTC.to_datetime(instant)),
                _ => Stamp::Utc(instant),
            })
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
