//! The simulated P3 decoder. It stores every passing under a running number, streams to its peers,
//! and sends passings again when it is asked for them.

use jiff::civil::{DateTime, date};

use crate::decoders::simulator::memory::{Memory, Placed};
use crate::decoders::simulator::nature::Nature;
use crate::decoders::simulator::outgoing::Outgoing;
use crate::decoders::simulator::talk::{Conversation, ForbiddenCommand, Pushing, Simulator, hits, rows};

/// The longest unfinished request.
const HEARD_MAX: usize = 256;
/// Tag 81 of the simulated decoder.
const ID: &[u8] = &[0x81, 4, 0x13, 0x18, 0x04, 0x00];

pub(crate) struct P3;

impl Nature for P3 {
    fn chip(&self, number: u32) -> String {
        number.to_string()
    }

    /// Frames without their end. They are not trimmed, because any byte may be in them.
    fn rows(&self, recording: &[u8]) -> Vec<Vec<u8>> {
        let begin = |row: &[u8]| row.iter().rposition(|byte| *byte == 0x8e);
        let ended = recording.split_inclusive(|byte| *byte == 0x8f).filter_map(|row| row.strip_suffix(b"\x8f"));
        ended.filter_map(|row| begin(row).map(|at| row[at..].to_vec())).collect()
    }
}

impl Simulator for P3 {
    fn talk(&self) -> Box<dyn Conversation> {
        Box::<Peer>::default()
    }
}

#[derive(Default)]
struct Peer {
    heard: Vec<u8>,
    pushing: Pushing,
    seconds: u32,
}

impl Conversation for Peer {
    fn begin(&mut self, memory: &Memory, _now: DateTime, out: &mut Outgoing) {
        self.pushing = Pushing::from(memory.len());
        say_status(out);
    }

    fn hear(
        &mut self,
        bytes: &[u8],
        memory: &Memory,
        now: DateTime,
        out: &mut Outgoing,
    ) -> Result<(), ForbiddenCommand> {
        let mut result = Ok(());
        for byte in bytes {
            self.heard.push(*byte);
            if *byte == 0x8f {
                let request = std::mem::take(&mut self.heard);
                result = result.and(answer(&request, memory, now, out));
            } else if self.heard.len() > HEARD_MAX {
                self.heard.clear();
            }
        }
        result
    }

    fn push(&mut self, memory: &Memory, out: &mut Outgoing) -> bool {
        self.pushing.push(memory, b"", row, out)
    }

    fn second(&mut self, _now: DateTime, out: &mut Outgoing) {
        self.seconds += 1;
        if self.seconds.is_multiple_of(4) {
            say_status(out);
        }
    }
}

/// Answers a request from its 8E to its 8F. A box may send only a RESEND or a question, and no
/// damaged request.
fn answer(request: &[u8], memory: &Memory, now: DateTime, out: &mut Outgoing) -> Result<(), ForbiddenCommand> {
    let wrong = || Err(ForbiddenCommand(format!("{request:02x?}")));
    let plain = unescape(request);
    if plain.len() < 11 || plain[0] != 0x8e || crc(&plain).to_le_bytes() != plain[4..6] {
        return wrong();
    }
    match (plain[8], plain[9], &plain[10..plain.len() - 1]) {
        (0x02, 0, _) => say_status(out),
        (0x04, 0, [1, 4, a, b, c, d, 2, 4, e, f, g, h]) => {
            let from = u32::from_le_bytes([*a, *b, *c, *d]).into();
            let to = u32::from_le_bytes([*e, *f, *g, *h]).into();
            rows(memory, memory.range(memory.file(), from, to), b"", row, out);
        }
        (0x24, 0, _) if memory.tells_no_time => {}
        (0x24, 0, _) => {
            let time = [&[1, 8][..], &micros(now).to_le_bytes(), &[4, 2, 0, 0], ID].concat();
            out.frame(&[&frame(0x24, &time), b"\x8f"]);
        }
        _ => return wrong(),
    }
    Ok(())
}

fn say_status(out: &mut Outgoing) {
    let status = [&[1, 2, 0x28, 0, 7, 2, 0x16, 0, 0x0c, 1, 0x76, 6, 1, 0][..], ID].concat();
    out.frame(&[&frame(2, &status), b"\x8f"]);
}

fn row(placed: &Placed) -> Vec<u8> {
    let number = u32::try_from(placed.number).unwrap_or(u32::MAX).to_le_bytes();
    let since = micros(placed.at).to_le_bytes();
    let strength = [100 + (placed.number % 60) as u8, 0];
    let hits = [hits(placed.number) as u8, 0];
    let chip = placed.chip.to_le_bytes();
    let tags =
        [&[1, 4][..], &number, &[3, 4], &chip, &[4, 8], &since, &[5, 2], &strength, &[6, 2], &hits, &[8, 2, 0, 0]];
    frame(1, &[&tags.concat(), ID].concat())
}

/// Microseconds since 1970.
fn micros(at: DateTime) -> u64 {
    u64::try_from(at.duration_since(date(1970, 1, 1).at(0, 0, 0, 0)).as_micros()).unwrap_or(0)
}

/// A frame as sent, without its end.
fn frame(kind: u8, tags: &[u8]) -> Vec<u8> {
    let length = (tags.len() + 11) as u8;
    let mut plain = [&[0x8e, 2, length, 0, 0, 0, 0, 0, kind, 0], tags, &[0x8f]].concat();
    let [low, high] = crc(&plain).to_le_bytes();
    (plain[4], plain[5]) = (low, high);
    let mut sent = vec![0x8e];
    for byte in &plain[1..plain.len() - 1] {
        if (0x8d..=0x8f).contains(byte) {
            sent.push(0x8d);
            sent.push(byte + 0x20);
        } else {
            sent.push(*byte);
        }
    }
    sent
}

fn unescape(sent: &[u8]) -> Vec<u8> {
    let mut escaped = false;
    let mut plain = Vec::new();
    for byte in sent {
        match (std::mem::take(&mut escaped), *byte) {
            (true, byte) => plain.push(byte.wrapping_sub(0x20)),
            (false, 0x8d) => escaped = true,
            (false, byte) => plain.push(byte),
        }
    }
    plain
}

/// The CRC as the makers of the decoder compute it, bit by bit. Each byte enters at the low end of
/// the register, and the CRC itself counts as zero.
fn crc(plain: &[u8]) -> u16 {
    plain.iter().enumerate().fold(0xffff, |register: u16, (at, byte)| {
        let table = (0..8).fold(register & 0xff00, |r, _| if r & 0x8000 == 0 { r << 1 } else { r << 1 ^ 0x1021 });
        let byte = if at == 4 || at == 5 { 0 } else { *byte };
        (register << 8) ^ table ^ u16::from(byte)
    })
}
