//! The result of a probe, as text for a person and as data.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::listen::{Ended, Heard, READS, Told};
use crate::commands::args::TimesIn;
use crate::config::Address;
use crate::decoders::foreign::{self, Look};
use crate::decoders::recognise::{Candidate, Grade, Tally, recognise};
use crate::decoders::{Settings, Spec};
use crate::model::chip::{ChipRead, Label, Stamp};
use crate::model::clock::offset_ms;
use crate::model::escape::escape;
use crate::model::shown::ShownIn;

/// The result, from which the exit code follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ProbeVerdict {
    /// One protocol, or several that are possible.
    Recognised,
    /// The other side sent something that fits no protocol.
    Unknown,
    /// The other side sent nothing.
    Silent,
}

/// What a probe found at one address.
#[derive(Serialize)]
pub(super) struct ProbeReport {
    pub address: String,
    pub result: ProbeVerdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    baud: Option<u32>,
    /// The protocols that are possible, the best first. Usually it is one.
    candidates: Vec<Guess>,
    /// The first reads of the best candidate.
    reads: Vec<Shown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clock: Option<Clock>,
    asked: Vec<Asked>,
    /// What the other side did, if it is worth mentioning.
    notes: Vec<String>,
    /// The name of what it is, if it is known and no decoder.
    #[serde(skip_serializing_if = "Option::is_none")]
    seen_as: Option<&'static str>,
    seen: Look,
    /// The same for `setup`.
    #[serde(skip)]
    pub found: Option<FoundDecoder>,
    /// The section to paste into the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
}

/// A decoder that was recognised.
#[derive(Clone)]
pub(crate) struct FoundDecoder {
    /// The registry line of its protocol.
    pub(crate) spec: &'static Spec,
    /// Where it is.
    pub(crate) address: Address,
    /// The options under which its bytes are read.
    pub(crate) set: Settings,
}

#[derive(Serialize)]
struct Guess {
    protocol: &'static str,
    title: &'static str,
    grade: Grade,
    why: String,
    #[serde(skip_serializing_if = "Settings::is_empty")]
    set: Settings,
    tally: Tally,
}

#[derive(Serialize)]
struct Shown {
    chip: Box<str>,
    /// The time as the decoder sends it.
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    antenna: Option<Label>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rssi: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hits: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<u64>,
}

#[derive(Serialize)]
struct Clock {
    decoder: String,
    /// The time of the box at that moment, in UTC.
    r#box: String,
    /// The same for a person: in the zone in which the decoder's clock is read.
    #[serde(skip)]
    shown: String,
    /// Decoder clock minus box clock.
    offset_ms: i64,
    /// `clock` if the decoder reported its time, `read` if it is the stamp of a read.
    from: &'static str,
}

#[derive(Serialize)]
struct Asked {
    sent: String,
    asks: &'static str,
    safe: &'static str,
}

impl ProbeReport {
    /// The report on what arrived from `address`. `times` has the zone of the box, which is taken
    /// for that of the decoder's clock, too.
    pub(super) fn new(address: &Address, heard: &Heard, times: &TimesIn) -> Self {
        let found = recognise(&heard.bytes);
        let baud = if let Address::Serial { baud, .. } = address { Some(*baud) } else { None };
        let best = found.first().filter(|best| best.grade > Grade::Possible);
        let result = match (best, heard.bytes.is_empty()) {
            (Some(_), _) => ProbeVerdict::Recognised,
            (None, false) => ProbeVerdict::Unknown,
            (None, true) => ProbeVerdict::Silent,
        };
        let asked =
            heard.asked.iter().map(|sent| Asked { sent: escape(&sent.bytes), asks: sent.asks, safe: sent.safe });
        Self {
            address: address.to_string(),
            result,
            baud,
            reads: found.first().map_or_else(Vec::new, |best| best.reads.iter().take(READS).map(Shown::of).collect()),
            clock: best.and(heard.clock).map(|told| Clock::of(&told, &times.zone())),
            asked: asked.collect(),
            notes: notes(address, heard, best),
            seen_as: if found.is_empty() { foreign::name(&heard.bytes, baud.is_some()) } else { None },
            seen: foreign::look(&heard.bytes),
            found: best.map(|best| FoundDecoder {
                spec: best.spec,
                address: address.clone(),
                set: best.settings.clone(),
            }),
            config: best.map(|best| block(best, address, times)),
            candidates: found.iter().map(Guess::of).collect(),
        }
    }

    /// The report as text for a person.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{}\n", self.address);
        let _ = self.write(&mut text); // writing to a String cannot fail
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        match self.result {
            ProbeVerdict::Recognised if self.candidates.len() > 1 => writeln!(out, "\nThis may be one of several:")?,
            ProbeVerdict::Recognised => {}
            ProbeVerdict::Unknown => match self.seen_as {
                Some(name) => writeln!(out, "\nNone of the known protocols: {name}.")?,
                None if self.candidates.is_empty() => writeln!(out, "\nNone of the known protocols.")?,
                None => writeln!(out, "\nToo little to tell. Perhaps:")?,
            },
            ProbeVerdict::Silent => writeln!(out, "\nNothing came.")?,
        }
        for guess in &self.candidates {
            writeln!(out, "\n  {} (`{}`): {}", guess.title, guess.protocol, guess.grade.word())?;
            writeln!(out, "  because of {}", guess.why)?;
        }
        if let (ProbeVerdict::Recognised, Some(baud)) = (self.result, self.baud) {
            writeln!(out, "  at {baud} baud")?;
        }
        if !self.reads.is_empty() {
            writeln!(out)?;
        }
        for read in &self.reads {
            writeln!(out, "  {}", read.line())?;
        }
        if let Some(clock) = &self.clock {
            writeln!(out, "\n  {}", clock.line())?;
        }
        self.write_seen(out)?;
        for note in &self.notes {
            writeln!(out, "\n{note}")?;
        }
        if !self.asked.is_empty() {
            writeln!(out, "\nSent, none of which changes anything:")?;
        }
        for asked in &self.asked {
            writeln!(out, "  {}  asks {}: {}", asked.sent, asked.asks, asked.safe)?;
        }
        if let Some(config) = &self.config {
            writeln!(out, "\nFor the configuration:\n\n{config}")?;
        }
        Ok(())
    }

    /// Shows the bytes if they were not recognised.
    fn write_seen(&self, out: &mut String) -> std::fmt::Result {
        if self.result != ProbeVerdict::Unknown {
            return Ok(());
        }
        let Look { bytes, hex, text, printable_percent, line_end } = &self.seen;
        let end = line_end.unwrap_or("nothing, as far as seen");
        writeln!(out, "\n  {bytes} bytes, {printable_percent} % printable, lines end in {end}. The first of them:")?;
        writeln!(out, "  {text}\n  {hex}")?;
        writeln!(out, "\nTo have it looked at: passbridge capture {} --output FILE", self.address)
    }
}

impl Grade {
    fn word(self) -> &'static str {
        match self {
            Self::Certain => "certain",
            Self::Likely => "likely",
            Self::Possible => "possible",
        }
    }
}

impl Guess {
    fn of(candidate: &Candidate) -> Self {
        let Candidate { spec, settings, grade, tally, .. } = candidate;
        Self {
            protocol: spec.name,
            title: spec.title,
            grade: *grade,
            why: why(spec, tally),
            set: settings.clone(),
            tally: *tally,
        }
    }
}

/// The reasons for a candidate.
fn why(spec: &Spec, tally: &Tally) -> String {
    let counts = [
        (tally.reads, "read", "reads"),
        (tally.markers, "marker", "markers"),
        (tally.signs, "message that only it sends", "messages that only it sends"),
        (tally.hints, "message that others send too", "messages that others send too"),
        (tally.damaged, "damaged piece", "damaged pieces"),
    ];
    let counts = counts.into_iter().filter(|(count, ..)| *count > 0);
    let parts: Vec<String> =
        counts.map(|(count, one, many)| format!("{count} {}", if count == 1 { one } else { many })).collect();
    let share = 100 * tally.explained / tally.bytes.max(1);
    let checked = spec.recogniser.is_some_and(|recogniser| recogniser.is_checked);
    let sum = if checked && tally.reads + tally.signs > 0 { "; checksums agree" } else { "" };
    format!("{} ({share} % of the bytes{sum})", parts.join(", "))
}

impl Shown {
    fn of(read: &ChipRead) -> Self {
        Self {
            chip: (&*read.chip).into(),
            time: read.stamp.to_string(),
            antenna: read.antenna.clone(),
            rssi: read.rssi,
            hits: read.hits,
            location: read.location.clone(),
            number: read.position.as_ref().map(|position| position.number).or(read.seq),
        }
    }

    fn line(&self) -> String {
        let mut line = format!("chip {}  {}", self.chip, self.time);
        let more = [
            ("antenna", self.antenna.as_ref().map(ToString::to_string)),
            ("at", self.location.as_ref().map(ToString::to_string)),
            ("number", self.number.map(|number| number.to_string())),
            ("hits", self.hits.map(|hits| hits.to_string())),
            ("RSSI", self.rssi.map(|rssi| rssi.to_string())),
        ];
        for (name, value) in more {
            let _ = value.map(|value| write!(line, "  {name} {value}")); // writing to a String cannot fail
        }
        escape(line.as_bytes())
    }
}

impl Clock {
    fn of(told: &Told, zone: &TimeZone) -> Self {
        Self {
            decoder: told.stamp.to_string(),
            r#box: Stamp::Utc(told.at).to_string(),
            shown: shown(told.stamp, told.at, zone),
            offset_ms: offset_ms(&told.stamp, zone, told.at),
            from: if told.of_read { "read" } else { "clock" },
        }
    }

    fn line(&self) -> String {
        let Self { decoder, r#box: _, shown, offset_ms, from } = self;
        let seconds = offset_ms.abs() as f64 / 1000.0;
        let side = if *offset_ms < 0 { "behind" } else { "ahead" };
        let of = if *from == "read" { "The last read says" } else { "Its clock says" };
        let quarter = 15 * 60 * 1000;
        let from_quarter = (offset_ms.abs() + quarter / 2) % quarter - quarter / 2;
        let zone = if offset_ms.abs() >= quarter / 2 && offset_ms.abs() < 15 * 3_600_000 && from_quarter.abs() < 60_000
        {
            "; whole quarters of an hour: its clock shows another time zone, or summer time"
        } else {
            ""
        };
        format!("{of} {decoder}, this box's {shown}: {seconds:.1} s {side}{zone}")
    }
}

/// The time of the box for a person who compares it with a stamp: in UTC if the decoder sends UTC.
fn shown(stamp: Stamp, at: Timestamp, zone: &TimeZone) -> String {
    match stamp {
        Stamp::Utc(_) | Stamp::Uptime(_) => ShownIn::zone(TimeZone::UTC).milli(at),
        Stamp::Local(_) | Stamp::TimeOfDay { .. } => ShownIn::zone(zone.clone()).milli(at),
    }
}

fn notes(address: &Address, heard: &Heard, best: Option<&Candidate>) -> Vec<String> {
    let mut notes: Vec<String> = best
        .iter()
        .flat_map(|best| best.told.iter())
        .map(|told| format!("It says: {}", escape(told.as_bytes())))
        .collect();
    notes.dedup();
    match &heard.ended {
        Ended::Closed if heard.bytes.is_empty() && heard.asked.is_empty() => notes.push(
            "It closed the connection at once. A decoder that serves one program does that while another is connected: is a \
             passbridge running here or elsewhere (systemctl stop passbridge), or the timing software?"
                .to_owned(),
        ),
        Ended::Closed => notes.push("It closed the connection.".to_owned()),
        Ended::Broken(error) => notes.push(format!("The connection broke: {error}")),
        Ended::Listened => {}
    }
    let gives_reads = |best: &Candidate| best.spec.follow_ups.iter().any(|next| next.text.contains("{from}"));
    let nothing = best.is_some_and(|best| best.reads.is_empty() && gives_reads(best));
    if nothing && !heard.asked.is_empty() {
        notes.push("It has no reads in its current file, or does not give them.".to_owned());
    }
    let note = match best {
        Some(best) => best.spec.hint,
        None if heard.bytes.is_empty() => match address {
            Address::Serial { .. } => Some(
                "Many decoders say nothing between reads: pass a chip over the mat and try again, longer (--for 2m). Else: \
                 the cable (a null modem one, or not), the port, the decoder's output settings.",
            ),
            Address::Listen(_) => {
                Some("Nobody connected, or whoever did said nothing: is its software told the address of this box?")
            }
            Address::Tcp { .. } => Some(
                "The port is open, but nobody speaks. A decoder that only streams says nothing between reads: pass a chip over \
                 the mat and try again, longer (--for 1m).",
            ),
        },
        None => None,
    };
    notes.extend(note.map(str::to_owned));
    notes
}

/// The `[[decoder]]` section for the candidate.
fn block(best: &Candidate, address: &Address, times: &TimesIn) -> String {
    let name = best.spec.name;
    let mut text = format!("[[decoder]]\nname = \"{name}\"\nprotocol = \"{name}\"\naddress = \"{address}\"\n");
    let utc =
        best.reads.iter().all(|read| matches!(read.stamp, Stamp::Utc(_) | Stamp::Uptime(_))) && !best.reads.is_empty();
    if !utc && !best.spec.tells_utc {
        let zone = times.zone();
        let whose = if times.timezone.is_some() { "that of --timezone" } else { "this box's" };
        let zone = zone.iana_name().unwrap_or("UTC");
        let _ = writeln!(text, "timezone = \"{zone}\"  # the zone of the decoder's clock: {whose} was taken");
    }
    if !best.settings.is_empty() {
        text.push_str("[decoder.set]\n");
        best.settings.iter().for_each(|(key, value)| {
            let _ = writeln!(text, "{key} = \"{value}\"");
        });
    }
    text
}
