//! Checksums and lengths made right: what a fuzzer changes would else end at them, and nothing behind them be reached.

use passbridge::testing::decoders::Settings;

/// Makes the frames in `stream` right as far as their sums and lengths go; what is no frame stays as it is.
pub fn repair(name: &str, set: &Settings, stream: &mut Vec<u8>) {
    match name {
        "p3" => *stream = p3(stream),
        "ipico" => pieces(stream, is_line_end, ipico),
        "timy" => pieces(stream, is_line_end, timy),
        "mylaps" => pieces(stream, |byte| matches!(byte, b'@' | b'$'), |record| mylaps(record, set)),
        "llrp" => llrp(stream),
        _ => {}
    }
}

fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

/// Each piece between two ends.
fn pieces(stream: &mut [u8], is_end: impl Fn(u8) -> bool, mut each: impl FnMut(&mut [u8])) {
    for piece in stream.split_mut(|byte| is_end(*byte)) {
        each(piece);
    }
}

fn ipico(line: &mut [u8]) {
    if !line.starts_with(b"aa") && !line.starts_with(b"ab") || line.len() < 10 {
        return;
    }
    let tail = if line.ends_with(b"FS") || line.ends_with(b"LS") { 2 } else { 0 };
    let end = line.len() - tail;
    let sum = line[2..end - 2].iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    line[end - 2..end].copy_from_slice(format!("{sum:02x}").as_bytes());
}

fn timy(line: &mut [u8]) {
    if line.len() == 28 {
        let sum = line[..26].iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        line[26..].copy_from_slice(&[0x30 + (sum >> 4), 0x30 + (sum & 15)]);
    }
}

fn mylaps(record: &mut [u8], _set: &Settings) {
    if record.len() == 39 {
        let sum = record[..37].iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        record[37..].copy_from_slice(format!("{sum:02X}").as_bytes());
    }
}

/// Lengths of messages that run over the end, and of the parameters in a report that do.
fn llrp(stream: &mut [u8]) {
    let mut at = 0;
    while let Some([a, b, l1, l2, l3, l4, ..]) = stream.get(at..).filter(|rest| rest.len() >= 10) {
        let (kind, left) = (u16::from_be_bytes([*a, *b]) & 0x3ff, stream.len() - at);
        let told = u32::from_be_bytes([*l1, *l2, *l3, *l4]) as usize;
        let length = if (10..=left).contains(&told) { told } else { left };
        stream[at] = 4 | (kind >> 8) as u8;
        stream[at + 2..at + 6].copy_from_slice(&(length as u32).to_be_bytes());
        if kind == 61 {
            parameters(&mut stream[at + 10..at + length]);
        }
        at += length;
    }
}

/// TLVs whose length does not fit take what is left.
fn parameters(mut body: &mut [u8]) {
    while body.len() >= 4 && body[0] & 0x80 == 0 {
        let told = usize::from(u16::from_be_bytes([body[2], body[3]]));
        let length = if (4..=body.len()).contains(&told) { told } else { body.len().min(0xffff) };
        body[2..4].copy_from_slice(&(length as u16).to_be_bytes());
        body = &mut body[length..];
    }
}

/// Length and sum of each frame, escaped anew.
fn p3(stream: &[u8]) -> Vec<u8> {
    let mut repaired = Vec::with_capacity(stream.len() + 16);
    let mut rest = stream;
    while let Some(begin) = memchr::memchr(0x8e, rest) {
        repaired.extend_from_slice(&rest[..begin]);
        rest = &rest[begin..];
        let end = rest[1..].iter().position(|byte| matches!(byte, 0x8e | 0x8f)).map(|at| at + 1);
        let Some(end) = end.filter(|end| rest[*end] == 0x8f) else {
            repaired.push(rest[0]);
            rest = &rest[1..];
            continue;
        };
        let mut frame = p3_unescaped(&rest[..=end]);
        if frame.len() >= 11 {
            let length = frame.len() as u16;
            frame[2..4].copy_from_slice(&length.to_le_bytes());
            let sum = p3_checksum(&frame);
            frame[4..6].copy_from_slice(&sum.to_le_bytes());
            repaired.push(0x8e);
            for byte in &frame[1..frame.len() - 1] {
                match byte {
                    0x8d..=0x8f => repaired.extend([0x8d, byte + 0x20]),
                    byte => repaired.push(*byte),
                }
            }
            repaired.push(0x8f);
        } else {
            repaired.extend_from_slice(&rest[..=end]);
        }
        rest = &rest[end + 1..];
    }
    repaired.extend_from_slice(rest);
    repaired
}

/// A frame as it is meant.
pub fn p3_unescaped(raw: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(raw.len());
    let mut bytes = raw.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            0x8d => frame.extend(bytes.next().map(|byte| byte.wrapping_sub(0x20))),
            byte => frame.push(*byte),
        }
    }
    frame
}

/// The CRC of an unescaped frame, by the bit, from its description: polynomial 0x1021, start 0x1d0f; the register takes each byte
/// in at its low end, so the last two are added behind.
pub fn p3_checksum(frame: &[u8]) -> u16 {
    let Some((most, last)) = frame.split_last_chunk::<2>().filter(|(most, _)| most.len() >= 6) else { return 0 };
    let sum = most.iter().enumerate().fold(0x1d0f_u16, |sum, (at, byte)| {
        let byte = if matches!(at, 4 | 5) { 0 } else { *byte };
        TABLE[usize::from(sum >> 8 ^ u16::from(byte))] ^ sum << 8
    });
    sum ^ u16::from_be_bytes(*last)
}

const TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let (mut sum, mut bit) = ((at as u16) << 8, 0);
        while bit < 8 {
            sum = if sum & 0x8000 == 0 { sum << 1 } else { sum << 1 ^ 0x1021 };
            bit += 1;
        }
        table[at] = sum;
        at += 1;
    }
    table
};
