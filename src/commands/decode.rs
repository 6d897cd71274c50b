//! The logic of the `decode` command. It shows what a box really sends: it reads raw bytes, and
//! writes one JSON object for each frame or record.
//!
//! Must hold:
//! * The objects show what the daemon would keep. They come from the same protocol value and the
//!   same clock rules, and from no rules of their own.
//! * Field names are those of the sample vectors. A field without a value is left out.
//! * Memory is bounded by one chunk and by what the protocol keeps, however long the input is. The
//!   objects of each chunk are written before the next chunk is read, so the command can be used
//!   behind a live connection if `--protocol` is given. Without it, the first 4 KiB are looked at
//!   first.
//!
//! The bytes may be from a file or a wire, and it is not known when they were received. So every
//! read is treated as stored earlier: a date long ago raises no doubt, and a missing date always does.
//! A date more than a day ahead of now does, because nothing was stored then. The protocol does not learn that a link is up, so it asks for nothing, and `reply`
//! contains only what it would answer to these bytes.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::PathBuf;

use clap::Args;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::commands::args::{self, setting, stdout};
use crate::config::failure::Failure;
use crate::daemon::logging;
use crate::decoders::{Frame, Framed, Info, Item, Output, Protocol, Reject, SettingError, Settings, Spec, recognise};
use crate::link::capture::{self, CaptureError, CaptureReader, Direction, HeaderError, Record, What as Happened};
use crate::model::chip::{ChipRead, Label, Marker, Sighting, Stamp};
use crate::model::clock::{self, Doubt};
use crate::model::escape::escape;

/// Bytes read at a time.
const CHUNK: usize = 64 * 1024;

/// Connections of a capture that are decoded side by side. For one more, the oldest is treated as
/// ended.
const CONNECTIONS: usize = 64;

/// The source of the bytes, with the first bytes put back that were examined.
pub(crate) type ByteSource<R> = BufReader<io::Chain<io::Cursor<Vec<u8>>, R>>;

/// The input to decode.
pub(crate) enum DecodeInput<R> {
    /// Bytes of one connection.
    Raw(ByteSource<R>),
    /// A capture file.
    Capture(CaptureReader<ByteSource<R>>),
}

impl<R: Read> DecodeInput<R> {
    /// Examines the first bytes, but only for as long as they may be those of a capture. So a live
    /// connection is decoded from its first byte on.
    ///
    /// # Errors
    /// [`DecodeError::Input`], or [`DecodeError::Capture`] for a capture whose header cannot be
    /// read.
    pub(crate) fn new(mut input: R) -> Result<Self, DecodeError> {
        let (mut seen, mut byte) = (Vec::new(), [0]);
        while capture::may_be(&seen) && !capture::is_capture(&seen) {
            match input.read(&mut byte) {
                Ok(0) => break,
                Ok(_) => seen.push(byte[0]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(DecodeError::Input(error)),
            }
        }
        let found = capture::is_capture(&seen);
        let input = BufReader::with_capacity(CHUNK, io::Cursor::new(seen).chain(input));
        if found { Ok(Self::Capture(CaptureReader::new(input)?)) } else { Ok(Self::Raw(input)) }
    }
}

/// Decodes one stream of one decoder.
pub struct Decoder {
    protocol: Box<dyn Protocol>,
    zone: TimeZone,
    received: Option<Timestamp>,
    last: Option<u8>,
    /// When the decoder greeted with its clock.
    greeted: Option<Timestamp>,
}

/// What was decoded until the input ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Number of JSON objects written.
    pub objects: u64,
    /// Number of reads among them.
    pub reads: u64,
    /// Number of bytes that were decoded.
    pub bytes: u64,
    /// Number of bytes at the end that are no whole frame. Nothing was written for them.
    pub unfinished: usize,
    /// Whether a capture file ended in the middle of a line.
    pub cut: bool,
}

/// Why decoding stopped before the end of the input.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The input cannot be read.
    #[error("cannot read the bytes to decode: {0}")]
    Input(io::Error),
    /// The capture file is not in the right form.
    #[error("the capture: {0}")]
    Capture(#[from] CaptureError),
    /// The output cannot be written (a closed pipe, a full disk).
    #[error("cannot write what was decoded: {0}")]
    Output(io::Error),
}

impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Output(error) => Self::output(&error),
            DecodeError::Input(_) | DecodeError::Capture(CaptureError::Read { .. }) => Self::io(error.to_string()),
            DecodeError::Capture(_) => Self::data(error.to_string()),
        }
    }
}

impl Decoder {
    /// A decoder of `spec` with its options, whose clock runs in `zone`.
    pub fn new(spec: &Spec, settings: &Settings, zone: TimeZone) -> Result<Self, SettingError> {
        Ok(Self { protocol: (spec.make)(settings)?, zone, received: None, last: None, greeted: None })
    }

    /// Treats the bytes as received at `received` instead of now. That decides the day of a time
    /// without a date.
    #[must_use]
    pub fn received_at(self, received: Timestamp) -> Self {
        Self { received: Some(received), ..self }
    }

    /// Decodes `input` to its end.
    pub fn run(mut self, mut input: impl Read, output: impl Write) -> Result<Ended, DecodeError> {
        let mut output = BufWriter::new(output);
        let mut chunk = vec![0; CHUNK];
        let mut ended = Ended::default();
        loop {
            let length = match input.read(&mut chunk) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(DecodeError::Input(error)),
            };
            if length == 0 {
                break;
            }
            self.feed(&chunk[..length], &mut output, &mut ended)?;
        }
        self.end(&mut output, &mut ended)?;
        Ok(ended)
    }

    fn feed(&mut self, bytes: &[u8], output: &mut impl Write, ended: &mut Ended) -> Result<(), DecodeError> {
        let mut out = Output::default();
        ended.bytes += bytes.len() as u64;
        self.last = bytes.last().copied().or(self.last);
        self.protocol.feed(bytes, &mut out);
        self.write(&mut out, output, ended).map_err(DecodeError::Output)
    }

    fn end(mut self, output: &mut impl Write, ended: &mut Ended) -> Result<(), DecodeError> {
        let mut out = Output::default();
        // Piped input ends where its sender ended it, so a last line without a line end is a whole
        // line.
        if !matches!(self.last, None | Some(b'\n' | b'\r')) {
            self.protocol.feed(b"\r\n", &mut out);
        }
        self.protocol.end(&mut out);
        self.write(&mut out, output, ended).map_err(DecodeError::Output)
    }

    /// Writes what the protocol put out. A reply is written with the object before it, if there is
    /// one.
    fn write(&mut self, out: &mut Output, output: &mut impl Write, ended: &mut Ended) -> io::Result<()> {
        let received = self.received.unwrap_or_else(Timestamp::now);
        let mut objects: Vec<Object> = Vec::new();
        for item in out.items.drain(..) {
            match item {
                Item::Frame(Framed { frame: Frame::Rejected(Reject::Unfinished), raw }) => {
                    ended.unfinished += raw.len();
                }
                Item::Frame(mut framed) => {
                    ended.reads += u64::from(matches!(framed.frame, Frame::Read(_)));
                    match &mut framed.frame {
                        Frame::Info(Info::Greeting(_)) => self.greeted = Some(received),
                        Frame::Read(read) => {
                            let greeted = self.greeted.unwrap_or(received);
                            let since_ms = received.as_millisecond() - greeted.as_millisecond();
                            read.age = read.age.take().map(|age| age.at_receipt(since_ms).into());
                        }
                        _ => {}
                    }
                    objects.push(Object::new(framed, &self.zone, received));
                }
                Item::HangUp(why) => {
                    let text = Some(format!("would end the connection: {why}"));
                    objects.push(Object { kind: "info", what: What { text, ..What::default() }, ..Object::default() });
                }
                Item::Reply(bytes) => {
                    if objects.is_empty() {
                        objects.push(Object { kind: "info", ..Object::default() });
                    }
                    if let Some(object) = objects.last_mut() {
                        object.reply.get_or_insert_default().push_str(&escape(&bytes));
                    }
                }
            }
        }
        for object in &objects {
            serde_json::to_writer(&mut *output, object)?;
            output.write_all(b"\n")?;
            ended.objects += 1;
        }
        output.flush()
    }
}

/// Decodes what the decoder sent in a capture. Each connection has a protocol value of its own.
pub struct Decoding {
    make: Box<dyn Fn() -> Result<Decoder, SettingError>>,
    began: Option<Timestamp>,
}

impl Decoding {
    /// Like [`Decoder::new`]. If `began` is known, each byte counts as received at the time that
    /// the capture records.
    pub fn new(
        spec: &'static Spec,
        settings: &Settings,
        zone: TimeZone,
        began: Option<Timestamp>,
    ) -> Result<Self, SettingError> {
        let settings = settings.clone();
        let make = move || Decoder::new(spec, &settings, zone.clone());
        make()?;
        Ok(Self { make: Box::new(make), began })
    }

    /// Decodes `capture` to its end.
    pub fn run(self, mut capture: CaptureReader<impl BufRead>, output: impl Write) -> Result<Ended, DecodeError> {
        let mut output = BufWriter::new(output);
        let mut ended = Ended::default();
        let mut open: VecDeque<(u32, Decoder)> = VecDeque::new();
        for record in capture.by_ref() {
            let Record { at, connection, what } = record?;
            let place = open.iter().position(|(number, _)| *number == connection);
            match what {
                Happened::Bytes(Direction::From, bytes) => {
                    if place.is_none() {
                        if open.len() == CONNECTIONS
                            && let Some((_, oldest)) = open.pop_front()
                        {
                            oldest.end(&mut output, &mut ended)?;
                        }
                        // The options were checked when this value was made.
                        let Ok(decoder) = (self.make)() else { continue };
                        open.push_back((connection, decoder));
                    }
                    let Some((_, decoder)) = open.iter_mut().find(|(number, _)| *number == connection) else {
                        continue;
                    };
                    decoder.received = self.began.and_then(|began| began.checked_add(at).ok()).or(decoder.received);
                    decoder.feed(&bytes, &mut output, &mut ended)?;
                }
                Happened::Closed(_) | Happened::Connected(_) => {
                    if let Some((_, decoder)) = place.and_then(|place| open.remove(place)) {
                        decoder.end(&mut output, &mut ended)?;
                    }
                }
                Happened::Bytes(Direction::To, _) | Happened::Lost(..) => {}
            }
        }
        for (_, decoder) in open {
            decoder.end(&mut output, &mut ended)?;
        }
        ended.cut = capture.cut();
        Ok(ended)
    }
}

/// One line of output.
#[derive(Default, Serialize)]
struct Object {
    kind: &'static str,
    #[serde(flatten)]
    what: What,
    /// Local time without a zone, in milliseconds. Absent if the stamp has no date.
    #[serde(skip_serializing_if = "Option::is_none")]
    local: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tod: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    day_offset: Option<u32>,
    /// Set if the decoder itself sends UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    utc: Option<String>,
    /// Set if the decoder has no clock: milliseconds since it was switched on.
    #[serde(skip_serializing_if = "Option::is_none")]
    uptime_ms: Option<u64>,
    /// The time as it would be uploaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    doubt: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    raw: String,
}

/// What a frame contains apart from its time.
#[derive(Default, Serialize)]
struct What {
    #[serde(skip_serializing_if = "Option::is_none")]
    chip: Option<Box<str>>,
    /// The kind of a marker, in the protocol's word.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    marker: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    antenna: Option<Label>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hits: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rssi: Option<i32>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    replay: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reader: Option<Label>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<Label>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<Label>,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<Box<str>>,
    /// Whether the time is the first or the last moment of a crossing, if the decoder says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    seen: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The time that the decoder's clock showed.
    #[serde(skip_serializing_if = "Option::is_none")]
    clock: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    condition: Option<&'static str>,
    /// The text of a condition or a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

impl Object {
    fn new(framed: Framed, zone: &TimeZone, received: Timestamp) -> Self {
        let raw = escape(&framed.raw);
        let (kind, what) = match framed.frame {
            Frame::Read(read) => {
                let mut object = Self { kind: "read", raw, ..Self::default() };
                object.stamped(&read.stamp, zone, read.moment(received));
                // Only one doubt is shown. The doubt of the record itself has priority over the one
                // that every read of this decoder has.
                object.doubt = read.caution.map(|caution| Doubt::from(caution).code()).or(object.doubt);
                object.what = What::read(read);
                return object;
            }
            Frame::Marker(marker) => {
                let mut object = Self { kind: "marker", raw, ..Self::default() };
                if let Some(stamp) = &marker.stamp {
                    object.stamped(stamp, zone, received);
                }
                object.what = What::marker(marker);
                return object;
            }
            Frame::Rejected(reason) => ("rejected", What { reason: Some(reason.to_string()), ..What::default() }),
            Frame::Info(info) => ("info", What::info(info)),
            Frame::Cleared(cleared) => ("info", What::info(Info::Restarted(cleared.text.into()))),
        };
        Self { kind, what, raw, ..Self::default() }
    }

    fn stamped(&mut self, stamp: &Stamp, zone: &TimeZone, received: Timestamp) {
        match *stamp {
            Stamp::Local(local) => {
                self.local = Some(stamp.to_string());
                self.tod = Some(Stamp::TimeOfDay { time: local.time(), day: None }.to_string());
            }
            Stamp::TimeOfDay { time, day } => {
                self.tod = Some(Stamp::TimeOfDay { time, day: None }.to_string());
                self.day_offset = day;
            }
            Stamp::Utc(_) => self.utc = Some(stamp.to_string()),
            Stamp::Uptime(ms) => self.uptime_ms = Some(ms),
        }
        let resolved = clock::resolve(stamp, zone, received, true);
        self.time = Some(Stamp::Utc(resolved.utc).to_string());
        // What was stored earlier cannot be from the day after tomorrow.
        let is_to_come = resolved.utc.duration_since(received) > SignedDuration::from_hours(24);
        self.doubt = resolved.doubt.or(is_to_come.then_some(Doubt::Far)).map(Doubt::code);
    }
}

impl What {
    fn read(read: ChipRead) -> Self {
        let (number, unit, file) = match read.position {
            Some(position) => (Some(position.number), position.unit, position.file),
            None => (None, None, None),
        };
        Self {
            chip: Some((&*read.chip).into()),
            seq: number.or(read.seq),
            antenna: read.antenna,
            hits: read.hits,
            rssi: read.rssi,
            replay: read.replay,
            reader: read.reader,
            device: read.device,
            unit,
            file,
            location: read.location,
            seen: read.seen.map(Sighting::word),
            ..Self::default()
        }
    }

    fn marker(marker: Marker) -> Self {
        let Marker { kind, name, stamp: _, reader, location, position, through: _ } = marker;
        let (seq, unit) = position.map_or((None, None), |position| (Some(position.number), position.unit));
        Self { marker: Some(kind), name, reader, location, seq, unit, ..Self::default() }
    }

    fn info(info: Info) -> Self {
        match info {
            Info::Alive => Self::default(),
            Info::Clock(stamp) | Info::Greeting(stamp) => Self { clock: Some(stamp.to_string()), ..Self::default() },
            Info::Condition { code, text } => Self { condition: Some(code.word()), text, ..Self::default() },
            Info::Restarted(text) => Self { text: Some(text), ..Self::default() },
        }
    }
}

/// `decode`
#[derive(Debug, Args)]
pub(crate) struct DecodeArgs {
    /// A capture, or raw bytes; without it standard input.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The decoder's protocol; without it the one that the capture names, or that the bytes look
    /// like.
    #[arg(long, value_name = "NAME", value_parser = args::protocol)]
    protocol: Option<args::ProtocolArg>,
    /// Zone of the decoder's clock, such as Europe/Madrid; without it the one that the capture
    /// names, or UTC.
    #[arg(long, value_name = "ZONE", value_parser = crate::config::zone)]
    timezone: Option<TimeZone>,
    /// An option of the protocol; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    set: Vec<(String, String)>,
}

/// The input. Its first bytes are kept in order to recognise which protocol they look like.
struct Seen<R> {
    input: R,
    /// At most [`recognise::LIMIT`] bytes.
    first: Vec<u8>,
}

impl<R: Read> Read for Seen<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.input.read(into)?;
        let room = recognise::LIMIT - self.first.len();
        self.first.extend_from_slice(&into[..length.min(room)]);
        Ok(length)
    }
}

/// The protocol that fits the bytes best.
fn looks_like(bytes: &[u8]) -> Option<&'static Spec> {
    recognise::recognise(bytes).first().map(|candidate| candidate.spec)
}

/// The message when the input contained no read. It names another protocol if the bytes look like
/// one.
fn no_reads(ended: &Ended, spec: &Spec, first: &[u8]) -> Option<String> {
    if ended.reads > 0 || ended.bytes == 0 {
        return None;
    }
    let size =
        if ended.bytes < 10_000 { format!("{} bytes", ended.bytes) } else { format!("{} kB", ended.bytes / 1000) };
    match looks_like(first) {
        Some(other) if other.name != spec.name => Some(format!(
            "passbridge: 0 reads in {size}: this does not look like {}. Try: passbridge decode --protocol {}",
            spec.name, other.name
        )),
        Some(_) => None,
        None => Some(format!(
            "passbridge: 0 reads in {size}: this does not look like {}, or like any protocol that passbridge knows",
            spec.name
        )),
    }
}

/// Runs the command.
pub(crate) fn run(args: DecodeArgs) -> Result<(), Failure> {
    let input: Box<dyn Read> = match &args.file {
        None => Box::new(io::stdin().lock()),
        Some(path) => {
            let file = std::fs::File::open(path);
            Box::new(BufReader::new(
                file.map_err(|error| Failure::io(format!("{} cannot be read: {error}", path.display())))?,
            ))
        }
    };
    let input = DecodeInput::new(input)?;
    let needs = || Failure::usage("which protocol? The bytes look like none: --protocol NAME");
    let (spec, zone) = (args.protocol.map(|protocol| protocol.0), args.timezone);
    let mut settings: Settings = args.set.into_iter().collect();
    let unfit = |error: SettingError| Failure::usage(error.to_string());
    let ended = match input {
        DecodeInput::Raw(bytes) => {
            let (mut bytes, mut ahead) = (bytes, Vec::new());
            let spec = match spec {
                Some(spec) => spec,
                None => {
                    let look = bytes.by_ref().take(recognise::LIMIT as u64).read_to_end(&mut ahead);
                    look.map_err(DecodeError::Input)?;
                    looks_like(&ahead).ok_or_else(needs)?
                }
            };
            let mut bytes = Seen { input: io::Cursor::new(ahead).chain(bytes), first: Vec::new() };
            let decoder = Decoder::new(spec, &settings, zone.unwrap_or(TimeZone::UTC)).map_err(unfit)?;
            let ended = decoder.run(&mut bytes, stdout())?;
            if let Some(told) = no_reads(&ended, spec, &bytes.first) {
                logging::say(&told);
                return Ok(());
            }
            ended
        }
        DecodeInput::Capture(capture) => {
            let header = capture.header();
            let told = |error: HeaderError| Failure::data(error.to_string());
            let spec = spec.map_or_else(|| header.protocol().map_err(told)?.ok_or_else(needs), Ok)?;
            let zone = zone.map_or_else(|| header.zone().map_err(told), |zone| Ok(Some(zone)))?;
            let began = header.began().map_err(told)?;
            settings = header.settings_for(spec).into_iter().chain(settings).collect();
            let decoding = Decoding::new(spec, &settings, zone.unwrap_or(TimeZone::UTC), began).map_err(unfit)?;
            decoding.run(capture, stdout())?
        }
    };
    if ended.cut {
        logging::say("passbridge: the capture ends in the middle of a line: it was cut off there");
    }
    if ended.unfinished > 0 {
        // This is usual when a live stream was cut off by hand, so it is a message and not a
        // failure.
        logging::say(&format!("passbridge: the last {} bytes are no whole record", ended.unfinished));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Puts out what its test sets, then answers each feed.
    struct Script;

    impl Protocol for Script {
        fn feed(&mut self, bytes: &[u8], out: &mut Output) {
            match bytes {
                b"reply only" => {}
                b"\r\n" => return, // the end of the input
                b"info" => out.frame(Frame::Info(Info::Clock("12:00:00".parse().unwrap())), b"C\x01"),
                _ => {
                    let mut read = ChipRead::new("A\"é", "02:30:00.5".parse().unwrap());
                    read.antenna = Some(Label::Text("F".into()));
                    out.frame(Frame::Read(read.clone()), b"one");
                    read.stamp = "2026-07-06T10:00:00.123Z".parse().unwrap();
                    out.frame(Frame::Read(read), b"two\n");
                }
            }
            out.reply(&b"ack"[..]);
            out.reply(&b"\r\n"[..]);
        }

        fn tick(&mut self, _up: Duration, _out: &mut Output) {}

        fn end(&mut self, out: &mut Output) {
            out.frame(Frame::Rejected(Reject::Unfinished), b"half");
        }
    }

    fn decoded(input: &[u8]) -> (String, Ended) {
        let received = Some("2026-07-06T00:30:01Z".parse().unwrap());
        let decoder = Decoder {
            protocol: Box::new(Script),
            zone: TimeZone::get("Europe/Madrid").unwrap(),
            received,
            last: None,
            greeted: None,
        };
        let mut text = Vec::new();
        let ended = decoder.run(input, &mut text).unwrap();
        (String::from_utf8(text).unwrap(), ended)
    }

    #[test]
    fn a_reply_goes_with_the_last_record_it_answers() {
        let (text, ended) = decoded(b"batch");
        let expected = concat!(
            r#"{"kind":"read","chip":"A\"é","antenna":"F","tod":"02:30:00.500","#,
            r#""time":"2026-07-06T00:30:00.500Z","doubt":"decoder_time_no_date","raw":"one"}"#,
            "\n",
            r#"{"kind":"read","chip":"A\"é","antenna":"F","utc":"2026-07-06T10:00:00.123Z","#,
            r#""time":"2026-07-06T10:00:00.123Z","reply":"ack\\r\\n","raw":"two\\n"}"#,
            "\n",
        );
        assert_eq!(text, expected);
        assert_eq!(
            ended,
            Ended { objects: 2, reads: 2, bytes: 5, unfinished: 4, cut: false },
            "half a frame is counted, not printed"
        );
    }

    #[test]
    fn a_stamp_of_the_future_is_doubted_and_one_of_long_ago_is_not() {
        let received: Timestamp = "2026-07-06T00:30:01Z".parse().unwrap();
        for (stamp, doubt) in [
            ("2070-05-06T10:00:00", Some("decoder_clock_far")),
            ("2026-07-07T00:30:02", Some("decoder_clock_far")),
            ("2026-07-07T00:30:01", None),
            ("2020-07-06T10:00:00", None),
        ] {
            let mut object = Object::default();
            object.stamped(&Stamp::Local(stamp.parse().unwrap()), &TimeZone::UTC, received);
            assert_eq!(object.doubt, doubt, "{stamp}");
        }
    }

    #[test]
    fn a_reply_without_a_frame_is_shown_all_the_same() {
        assert_eq!(decoded(b"reply only").0, "{\"kind\":\"info\",\"reply\":\"ack\\\\r\\\\n\"}\n");
        let info = "{\"kind\":\"info\",\"clock\":\"12:00:00.000\",\"reply\":\"ack\\\\r\\\\n\",\"raw\":\"C\\\\x01\"}\n";
        assert_eq!(decoded(b"info").0, info);
    }

    #[test]
    fn a_full_disk_or_a_closed_pipe_is_told_from_a_bad_input() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let decoder =
            Decoder { protocol: Box::new(Script), zone: TimeZone::UTC, received: None, last: None, greeted: None };
        assert!(matches!(decoder.run(&b"batch"[..], Full), Err(DecodeError::Output(_))));
    }
}
