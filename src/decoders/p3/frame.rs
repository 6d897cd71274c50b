//! Escapes and checksum of a P3 frame, for the list of allowed requests and for the trials. They
//! are written from the description and not from the protocol's code, because they check that code.

/// The frame without escapes.
pub(super) fn unescaped(raw: &[u8]) -> Vec<u8> {
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

/// The CRC of an unescaped frame, from its description: polynomial 0x1021, start 0x1d0f. The
/// register takes each byte in at its low end, so the last two bytes are added at the end.
pub(super) fn checksum(frame: &[u8]) -> u16 {
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
