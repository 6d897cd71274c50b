//! LLRP's parameters, apart and together.

/// Message types.
pub(super) mod kind {
    pub(in crate::decoders::llrp) const GET_ROSPECS_RESPONSE: u16 = 36;
    pub(in crate::decoders::llrp) const REPORT: u16 = 61;
    pub(in crate::decoders::llrp) const KEEPALIVE: u16 = 62;
    pub(in crate::decoders::llrp) const EVENT: u16 = 63;
    pub(in crate::decoders::llrp) const ENABLE_REPORTS: u16 = 64;
    pub(in crate::decoders::llrp) const KEEPALIVE_ACK: u16 = 72;
    pub(in crate::decoders::llrp) const ERROR: u16 = 100;

    /// What the standard names, and vendors' own (1023).
    pub(in crate::decoders::llrp) fn is_known(kind: u16) -> bool {
        matches!(kind, 1..=5 | 10..=14 | 20..=26 | 30..=36 | 40..=44 | 46 | 47 | 50..=54 | 56 | 57 | 60..=64 | 72 | 100 | 1023)
    }
}

/// One parameter.
pub(super) struct Parameter<'a> {
    pub(super) kind: u16,
    pub(super) body: &'a [u8],
    /// With its head.
    pub(super) raw: &'a [u8],
}

/// Parameters one after the other; what is none ends them, with all that is left.
pub(super) struct Parameters<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Parameters<'a> {
    type Item = Result<Parameter<'a>, &'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        let all = std::mem::take(&mut self.0);
        let first = *all.first()?;
        let (kind, head, length) = if first & 0x80 != 0 {
            let kind = u16::from(first & 0x7f);
            (kind, 1, fixed(kind))
        } else {
            let number = |at: usize| Some(u16::from_be_bytes([*all.get(at)?, *all.get(at + 1)?]));
            (number(0).unwrap_or_default() & 0x3ff, 4, number(2).map(usize::from))
        };
        let cut = length.filter(|length| *length >= head).and_then(|length| all.split_at_checked(length));
        let Some((raw, rest)) = cut else { return Some(Err(all)) };
        self.0 = rest;
        Some(Ok(Parameter { kind, body: &raw[head..], raw }))
    }
}

/// Bytes of a TLV before its body.
pub(super) const TLV_HEAD: usize = 4;

/// Kind and length of the TLV that begins here; `None` inside: it has not come as a whole. An
/// error: there is none. What is less than its head says nothing, so that the result does not
/// depend on how the bytes were cut.
pub(super) fn whole_tlv(bytes: &[u8]) -> Result<Option<(u16, usize)>, ()> {
    let [a, b, high, low, ..] = *bytes else { return Ok(None) };
    let (kind, length) = (u16::from_be_bytes([a, b]) & 0x3ff, usize::from(u16::from_be_bytes([high, low])));
    if a & 0x80 != 0 || length < TLV_HEAD {
        return Err(());
    }
    Ok((length <= bytes.len()).then_some((kind, length)))
}

/// The length of a TV, its first byte included.
fn fixed(kind: u16) -> Option<usize> {
    Some(match kind {
        6 => 2,           // RSSI
        9 | 16 | 18 => 5, // ROSpec, AccessSpec, singulation
        2..=5 => 9,       // times
        13 => 13,         // EPC-96
        // antenna, channel, seen, inventory, CRC, PC, index, result, OpSpec, XPC
        1 | 7 | 8 | 10..=12 | 14 | 15 | 17 | 19 | 20 => 3,
        _ => return None,
    })
}

/// A big-endian number of up to eight bytes.
pub(super) fn be(bytes: &[u8]) -> Option<u64> {
    (bytes.len() <= 8).then(|| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// A message of version 1.0.1, which every reader takes.
pub(super) fn message(kind: u16, id: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 10).unwrap_or(u32::MAX);
    [&(0x0400 | kind).to_be_bytes()[..], &length.to_be_bytes(), &id.to_be_bytes(), body].concat()
}

/// A TLV.
pub(super) fn tlv(kind: u16, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let length = u16::try_from(body.len() + 4).unwrap_or(u16::MAX);
    [&kind.to_be_bytes()[..], &length.to_be_bytes(), &body].concat()
}
