//! Capture files: every byte that went over a decoder's link, in both directions, with its time.
//!
//! ```text
//! # passbridge capture 1
//! # passbridge: 0.1.0
//! # decoder: finish-mat
//! # protocol: mylaps
//! # began: 2026-07-26T08:00:00.123456Z
//! ! 0.000000 1 connected 192.168.1.50:3097
//! < 0.120034 1 Finish@Pong@$
//! > 0.121100 1 Finish@AckPong@$
//! ! 7.300000 1 lost < 4096 bytes
//! ! 9.000000 1 closed the other side closed the connection
//! ```
//!
//! What must hold:
//! * **Text, one record in each line**: a person can read it, mail it and cut it by hand. The first
//!   character says what the record is: `<` is from the decoder, `>` is to the decoder, and `!` is
//!   an event. Then follow the seconds since the beginning (of a monotonic clock, to the
//!   microsecond), the number of the connection (a listening port has several), and the bytes in
//!   the form of [`crate::model::escape`]. A space at either end of the bytes is written as `\x20`,
//!   because mail programs and editors remove plain ones.
//! * **No bytes make the [`CaptureReader`] panic or grow**: a line has at most [`LINE_MAX`] bytes.
//!   What the reader does not understand is an error that names the line and what is allowed.
//! * **A cut file is read to its last byte** ([`CaptureReader::cut`]), because captures matter most
//!   after power cuts and with full sticks.
//! * **Nothing secret**: this part does not know the key of the cloud, or anything else of the
//!   configuration except the decoder's own section. What the decoder itself sends is in the
//!   capture as sent.
//!
//! After the first line follow the lines of the header, `# key: value`. Any other line with `#` is
//! a remark. Keys are free. Known ones are `passbridge` (version), `decoder`, `protocol`,
//! `address`, `began` (UTC), `timezone` (of the decoder's clock) and `set.*` (options of the
//! protocol). A value with control characters is a JSON string, in quotes.
//!
//! [`tap`] listens to a link that runs, `wires` opens a port of its own, and `file` writes the
//! capture file.
//!
//! Rejected:
//! * Raw bytes with a binary frame (pcap): nobody could read it or take a line out in the field.
//! * JSON lines: every byte above 7 bits and every backslash would be escaped twice.

pub(crate) mod file;
mod header;
pub(crate) mod tap;
#[cfg(test)]
mod tests;
pub(crate) mod wires;

use std::io::{self, BufRead, Read as _, Write};
use std::time::Duration;

pub use self::header::{Header, HeaderError};
use crate::model::escape::{NotEscaped, escape, unescape};

/// The beginning of every capture file. The version follows it.
const MAGIC: &str = "# passbridge capture ";
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// The version that is written, and the only one that can be read.
const VERSION: &str = "1";
/// Longest line of a capture file in bytes, including its line end.
pub const LINE_MAX: usize = 16 * 1024;
/// Most bytes that are written as one record. A longer chunk becomes several records of the same
/// time. When escaped, they are at most four times as many bytes, far below [`LINE_MAX`].
pub const PIECE: usize = 1024;
/// Longest text of an event, in bytes.
const TEXT_MAX: usize = 1024;
/// A capture lasts less than this many seconds (30 years).
const SECONDS_MAX: u64 = 1_000_000_000;

/// In which direction bytes went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the decoder.
    From,
    /// To the decoder.
    To,
}

impl Direction {
    fn sign(self) -> char {
        match self {
            Self::From => '<',
            Self::To => '>',
        }
    }
}

/// What happened on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Bytes that went over the wire.
    Bytes(Direction, Vec<u8>),
    /// A connection was made, with this peer.
    Connected(String),
    /// The connection ended, with this reason.
    Closed(String),
    /// This many bytes are missing, because the recorder was too slow.
    Lost(Direction, u64),
}

/// One line of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Time since the capture began, in whole microseconds.
    pub at: Duration,
    /// Number of the connection, from 1.
    pub connection: u32,
    /// What happened.
    pub what: What,
}

/// Whether a file that begins with these bytes is a capture file.
pub(crate) fn is_capture(bytes: &[u8]) -> bool {
    without_mark(bytes).starts_with(MAGIC.as_bytes())
}

/// Whether a file that begins with these bytes may be a capture file. More bytes may be needed to
/// be sure.
pub(crate) fn may_be(bytes: &[u8]) -> bool {
    BYTE_ORDER_MARK.starts_with(bytes) || MAGIC.as_bytes().starts_with(without_mark(bytes)) || is_capture(bytes)
}

/// The bytes without the byte order mark that some editors write first.
fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes)
}

/// Writes a capture file. It does not buffer anything.
#[derive(Debug)]
pub struct CaptureWriter<W> {
    out: W,
    line: Vec<u8>,
}

impl<W: Write> CaptureWriter<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// The error of `out`. [`io::ErrorKind::InvalidInput`] for a header line that would be longer
    /// than [`LINE_MAX`].
    pub fn new(mut out: W, header: &Header) -> io::Result<Self> {
        let mut text = format!("{MAGIC}{VERSION}\n");
        for line in header.lines() {
            if line.len() >= LINE_MAX {
                let start: String = line.chars().take(40).collect();
                return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("too long for a capture: {start}…")));
            }
            text.push_str(&line);
            text.push('\n');
        }
        out.write_all(text.as_bytes())?;
        Ok(Self::resume(out))
    }

    /// Adds a record. A record of zero bytes is not written.
    ///
    /// # Errors
    /// The error of the output. Part of the line may be written.
    pub fn record(&mut self, record: &Record) -> io::Result<()> {
        let Record { at, connection, what } = record;
        let event = match what {
            What::Bytes(direction, bytes) => return self.bytes(*at, *connection, *direction, bytes),
            What::Connected(peer) => event("connected", peer),
            What::Closed(why) => event("closed", why),
            What::Lost(direction, count) => format!("lost {} {count} bytes", direction.sign()),
        };
        self.line('!', *at, *connection, &event)
    }

    /// Adds bytes, as several records of the same time if they are many.
    ///
    /// # Errors
    /// The error of the output.
    pub fn bytes(&mut self, at: Duration, connection: u32, direction: Direction, bytes: &[u8]) -> io::Result<()> {
        bytes.chunks(PIECE).try_for_each(|piece| self.line(direction.sign(), at, connection, &shown(piece)))
    }

    /// Continues a file that has its header already.
    pub fn resume(out: W) -> Self {
        Self { out, line: Vec::new() }
    }

    /// Writes each line with one `write`, so that an unbuffered file can only be cut between lines.
    fn line(&mut self, sign: char, at: Duration, connection: u32, rest: &str) -> io::Result<()> {
        self.line.clear();
        let (seconds, micros) = (at.as_secs().min(SECONDS_MAX - 1), at.subsec_micros());
        writeln!(self.line, "{sign} {seconds}.{micros:06} {connection} {rest}")?;
        self.out.write_all(&self.line)
    }
}

impl CaptureWriter<Vec<u8>> {
    /// Takes the text that was written since the last call.
    pub fn taken(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }
}

/// The bytes as a record shows them.
fn shown(bytes: &[u8]) -> String {
    let text = escape(bytes);
    let inner = text.strip_prefix(' ').map(|rest| format!("\\x20{rest}"));
    let text = inner.unwrap_or(text);
    text.strip_suffix(' ').map(|rest| format!("{rest}\\x20")).unwrap_or(text)
}

fn event(word: &str, text: &str) -> String {
    let end = text.floor_char_boundary(TEXT_MAX);
    if end == 0 { word.to_owned() } else { format!("{word} {}", shown(&text.as_bytes()[..end])) }
}

/// Why a capture cannot be read, or not any further.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The first line is not that of a capture.
    #[error("not a capture: its first line must be `{MAGIC}{VERSION}`")]
    NotACapture,
    /// The capture has a version that this program does not know.
    #[error("a capture of version `{0}`; this passbridge reads version {VERSION}")]
    Version(String),
    /// The input cannot be read.
    #[error("line {line}: cannot be read: {source}")]
    Read {
        /// The number of the line, from 1.
        line: u64,
        /// What the system said.
        source: io::Error,
    },
    /// A line is not in the form that it must have.
    #[error("line {line}: {fault}")]
    Line {
        /// The number of the line, from 1.
        line: u64,
        /// What is wrong with it.
        fault: LineFault,
    },
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineFault {
    /// The line is too long.
    #[error("longer than {LINE_MAX} bytes")]
    TooLong,
    /// The line is not UTF-8.
    #[error("not text (UTF-8)")]
    NotText,
    /// The line begins with an unknown sign.
    #[error("must begin with `< ` (from the decoder), `> ` (to it), `! ` (what happened) or `#` (a remark)")]
    Sign,
    /// The time, which is the second field.
    #[error("after the sign must come the seconds since the beginning, such as 12.345678, and a space")]
    Time,
    /// The number of the connection, which is the third field.
    #[error("after the time must come the number of the connection, such as 1, and a space")]
    Connection,
    /// The bytes are missing.
    #[error("without bytes")]
    Empty,
    /// The escaped bytes cannot be understood.
    #[error("the bytes (or the text) are {0}")]
    Bytes(#[from] NotEscaped),
    /// The event cannot be understood.
    #[error("after `!` may come `connected WHO`, `closed WHY` or `lost < N bytes` (or `>`)")]
    Event,
}

/// Reads a capture file: the header at once, then one record at a time. It skips empty lines and
/// remarks. Line ends may be CRLF. After an error it returns nothing more.
#[derive(Debug)]
pub struct CaptureReader<R> {
    input: R,
    header: Header,
    /// The last line that was read, without its end.
    buffer: Vec<u8>,
    /// The number of the last line.
    line: u64,
    /// The last line is a record that was not returned yet.
    pending: bool,
    /// The last line has no line end.
    cut: bool,
    over: bool,
}

impl<R: BufRead> CaptureReader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`CaptureError`].
    pub fn new(input: R) -> Result<Self, CaptureError> {
        let mut reader = Self {
            input,
            header: Header::default(),
            buffer: Vec::new(),
            line: 0,
            pending: false,
            cut: false,
            over: false,
        };
        reader.first()?;
        while reader.next_line()? {
            if reader.buffer.is_empty() {
                continue;
            }
            if reader.buffer[0] != b'#' {
                reader.pending = true;
                break;
            }
            if !reader.cut {
                let line = reader.text()?.to_owned();
                reader.header.take(&line);
            }
        }
        Ok(reader)
    }

    /// What the header says.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Number of the last line that was read, from 1.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// After the last record: whether the file ends in the middle of a line (a power cut, a full
    /// disk). The reader returned as a record what it could understand of that line, because every
    /// byte of the line was on the wire.
    pub fn cut(&self) -> bool {
        self.cut
    }

    fn first(&mut self) -> Result<(), CaptureError> {
        let there = self.next_line().map_err(|error| match error {
            CaptureError::Line { .. } => CaptureError::NotACapture, // the first line is too long
            other => other,
        })?;
        let line = std::str::from_utf8(without_mark(&self.buffer)).ok().filter(|_| there);
        match line.and_then(|line| line.strip_prefix(MAGIC)) {
            Some(VERSION) => Ok(()),
            Some(version) => Err(CaptureError::Version(version.chars().take(20).collect())),
            None => Err(CaptureError::NotACapture),
        }
    }

    /// Reads a line into the buffer. Returns false at the end.
    fn next_line(&mut self) -> Result<bool, CaptureError> {
        self.buffer.clear();
        self.line += 1;
        let line = self.line;
        let mut limited = (&mut self.input).take(LINE_MAX as u64 + 1);
        let length =
            limited.read_until(b'\n', &mut self.buffer).map_err(|source| CaptureError::Read { line, source })?;
        if length > LINE_MAX {
            return Err(CaptureError::Line { line, fault: LineFault::TooLong });
        }
        if self.buffer.last() == Some(&b'\n') {
            self.buffer.pop();
            if self.buffer.last() == Some(&b'\r') {
                self.buffer.pop();
            }
        } else if length > 0 {
            self.cut = true;
        } else {
            self.line -= 1;
        }
        Ok(length > 0)
    }

    fn text(&self) -> Result<&str, CaptureError> {
        std::str::from_utf8(&self.buffer).map_err(|_| CaptureError::Line { line: self.line, fault: LineFault::NotText })
    }

    fn advance(&mut self) -> Result<Option<Record>, CaptureError> {
        loop {
            if self.cut && !self.pending {
                return Ok(None);
            }
            if !std::mem::take(&mut self.pending) && !self.next_line()? {
                return Ok(None);
            }
            if self.buffer.is_empty() || self.buffer[0] == b'#' {
                continue;
            }
            if self.cut {
                return Ok(self.half());
            }
            let parsed = self.text()?.parse().map_err(|fault| CaptureError::Line { line: self.line, fault });
            return parsed.map(Some);
        }
    }

    /// The record of a line that was cut off, maybe within an escape, as far as it can be
    /// understood.
    fn half(&self) -> Option<Record> {
        let text = self.text().ok()?;
        let record = || text.parse().ok();
        record().or_else(|| text[..text.rfind('\\')?].parse().ok())
    }
}

impl<R: BufRead> Iterator for CaptureReader<R> {
    type Item = Result<Record, CaptureError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let next = self.advance().transpose();
        self.over = !matches!(next, Some(Ok(_)));
        next
    }
}

impl std::str::FromStr for Record {
    type Err = LineFault;

    /// Parses a line without its line end.
    fn from_str(line: &str) -> Result<Self, LineFault> {
        let (sign, rest) = line.split_once(' ').ok_or(LineFault::Sign)?;
        if !["<", ">", "!"].contains(&sign) {
            return Err(LineFault::Sign);
        }
        let (time, rest) = rest.split_once(' ').ok_or(LineFault::Time)?;
        let at = seconds(time).ok_or(LineFault::Time)?;
        let (connection, rest) = rest.split_once(' ').ok_or(LineFault::Connection)?;
        let connection =
            digits(connection, 10).and_then(|number| number.try_into().ok()).ok_or(LineFault::Connection)?;
        let what = match sign {
            "!" => happened(rest)?,
            _ if rest.is_empty() => return Err(LineFault::Empty),
            "<" => What::Bytes(Direction::From, unescape(rest)?),
            _ => What::Bytes(Direction::To, unescape(rest)?),
        };
        Ok(Self { at, connection, what })
    }
}

/// Parses an event: the text after the `!`, its time and its connection.
fn happened(text: &str) -> Result<What, LineFault> {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let told = || Ok(String::from_utf8_lossy(&unescape(rest)?).into_owned());
    match word {
        "connected" => told().map(What::Connected),
        "closed" => told().map(What::Closed),
        "lost" => {
            let (sign, rest) = rest.split_once(' ').ok_or(LineFault::Event)?;
            let direction = match sign {
                "<" => Direction::From,
                ">" => Direction::To,
                _ => return Err(LineFault::Event),
            };
            let count = rest.strip_suffix(" bytes").and_then(|count| digits(count, 19)).ok_or(LineFault::Event)?;
            Ok(What::Lost(direction, count))
        }
        _ => Err(LineFault::Event),
    }
}

/// Parses seconds with up to six decimals.
fn seconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let whole = digits(whole, 9)?;
    let micros = digits(fraction, 6)? * 10_u64.pow(6 - u32::try_from(fraction.len()).ok()?);
    Some(Duration::from_secs(whole) + Duration::from_micros(micros))
}

/// Parses a number that has at most `most` digits and nothing else.
fn digits(text: &str, most: usize) -> Option<u64> {
    let plain = !text.is_empty() && text.len() <= most && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok())?
}
