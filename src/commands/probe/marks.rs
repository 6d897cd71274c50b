//! What a message of each protocol looks like when it is no chip read: the protocols take nearly any line for a life sign, as
//! they should on a link that is known, but a proof it is only where nothing else says it.
//!
//! Raw bytes are without their line end or terminator, and may be of a frame that was rejected: then they only show what it
//! was meant to be. Layouts from the heads of `src/decoders/*.rs`.

/// What a message shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// It names itself, or nothing else in the world looks like it.
    Name,
    /// Of the protocols here only this one says it.
    Own,
    /// Others say it too, or it is too short to prove anything.
    Shared,
}

/// What `raw` shows of `protocol`, if anything.
pub(super) fn sign(protocol: &str, raw: &[u8]) -> Option<Sign> {
    let text = std::str::from_utf8(raw).unwrap_or_default();
    match protocol {
        "chronotrack" => chronotrack(text),
        "cloudbox" => cloudbox(raw),
        "impinj" => has(raw, b"\"antennaPort\"").then_some(Sign::Own),
        "ipico" => ipico(raw),
        "jchip" => jchip(text),
        "llrp" => llrp(raw),
        "mylaps" => mylaps(raw),
        "one4all" => one4all(text),
        "p3" => p3(raw),
        "raceresult" => raceresult(text),
        "timy" => timy(raw),
        "ultra" => ultra(text),
        _ => None,
    }
}

fn has(raw: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(raw, part).is_some()
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `yyyy-MM-dd`, whatever the digits.
fn is_date(text: &str) -> bool {
    text.len() == 10
        && text.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}

fn chronotrack(text: &str) -> Option<Sign> {
    let fields: Vec<&str> = text.split('~').collect();
    match fields[..] {
        [_, _, "CTP01"] => Some(Sign::Name),
        ["CT01_33" | "CT01_13", _, ..] | ["ack" | "err", "ping" | "start" | "stop" | "getlocations", ..] => {
            Some(Sign::Own)
        }
        ["ping"] => Some(Sign::Shared),
        _ => None,
    }
}

fn cloudbox(raw: &[u8]) -> Option<Sign> {
    let own = has(raw, b"\"passingNumber\"") || has(raw, b"\"tagStr\"");
    if own {
        return Some(Sign::Own);
    }
    (has(raw, b"\"command\"") && has(raw, b"\"result\"")).then_some(Sign::Own)
}

/// `aa` or `ab` and hexadecimal digits to the end.
fn ipico(raw: &[u8]) -> Option<Sign> {
    let body = raw.strip_prefix(b"aa").or_else(|| raw.strip_prefix(b"ab"))?;
    (body.len() >= 8 && body.iter().all(u8::is_ascii_hexdigit)).then_some(Sign::Own)
}

fn jchip(text: &str) -> Option<Sign> {
    let numbered = |rest: &str, count: usize| rest.get(..count).is_some_and(digits);
    if let Some(rest) = text.strip_prefix("GT0") {
        return (rest.len() >= 8 && numbered(rest, 8)).then_some(Sign::Own);
    }
    if let Some(rest) = text.strip_prefix('N') {
        return (rest.len() > 4 && numbered(rest, 4)).then_some(Sign::Own);
    }
    let chip = text.strip_prefix("DJ").or_else(|| text.strip_prefix("DA"))?.split(' ').next()?;
    (chip.len() >= 4 && chip.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(Sign::Shared)
}

fn llrp(raw: &[u8]) -> Option<Sign> {
    let [high, low, rest @ ..] = raw else { return None };
    // A tag of a report, rejected.
    if (*high, *low) == (0, 240) {
        return Some(Sign::Own);
    }
    let length = u32::from_be_bytes(*rest.first_chunk::<4>()?) as usize;
    let kind = u16::from_be_bytes([*high, *low]) & 0x3ff;
    if !matches!(high >> 2, 1 | 2) || !(10..=64 * 1024).contains(&length) || !matches!(kind, 1..=64 | 72 | 100) {
        return None;
    }
    match (kind, raw.get(10..12)) {
        (63, Some([0, 246])) if raw.len() == length => Some(Sign::Name), // what a reader says when one connects
        _ => Some(Sign::Own),
    }
}

fn mylaps(raw: &[u8]) -> Option<Sign> {
    let mut fields = raw.split(|byte| *byte == b'@');
    let location = fields.next().unwrap_or_default();
    let is_location = location.len() <= 64 && !location.iter().any(u8::is_ascii_control);
    match fields.next().filter(|_| is_location) {
        Some(
            b"Pong" | b"Ping" | b"AckPing" | b"Store" | b"Passing" | b"Marker" | b"AckGetInfo" | b"AckGetLocations",
        ) => Some(Sign::Own),
        Some(_) => None,
        None if !is_location => None,
        // A record of a message, rejected: a time of day behind seven characters, or keys and values.
        None => {
            let timed = |at: usize| raw.get(at) == Some(&b':') && raw.get(at + 3) == Some(&b':');
            let v1 = (37..=48).contains(&raw.len()) && (timed(9) || timed(10));
            let v2 = has(raw, b"|t=") || has(raw, b"|c=") || raw.starts_with(b"c=") || raw.starts_with(b"t=");
            (v1 || v2).then_some(Sign::Shared)
        }
    }
}

fn one4all(text: &str) -> Option<Sign> {
    const OCELOT: [&str; 5] = ["CONECTADO_", "START-OK_", "STOP-OK_", "OPERATION-MODE-STARTED_", "MODO-REMOTE-OFF_"];
    if OCELOT.iter().any(|word| text.starts_with(word)) {
        return Some(Sign::Own);
    }
    let is_chip = |text: &str| {
        text.len() == 7 && text.as_bytes()[..2].iter().all(u8::is_ascii_uppercase) && text.get(2..).is_some_and(digits)
    };
    if text.len() > 16 && text.get(..7).is_some_and(is_chip) && text.as_bytes()[7] == b'D' {
        return Some(Sign::Own); // a passing of the older dialect
    }
    if text.starts_with("HELLO") {
        return Some(if text.to_ascii_lowercase().contains("one4all") { Sign::Own } else { Sign::Shared });
    }
    let fields: Vec<&str> = text.split(';').collect();
    match fields[..] {
        ["PING", "PONG"] | ["READBATTERY", "VOLTS", ..] | ["PUSHTAGS", "true" | "false"] => Some(Sign::Own),
        ["START" | "STOP" | "NEWFILE" | "CLEARFILES" | "LISTFILES" | "GETFILEINFO" | "SETBOUNCE", _, ..] => {
            Some(Sign::Own)
        }
        ["PASSINGS", count, chip, ..] if digits(count) => is_chip(chip).then_some(Sign::Own),
        ["PASSINGS", count] if digits(count) => Some(Sign::Shared),
        ["GETSTATUS", first, _, ..] if !is_date(first) => Some(Sign::Own),
        ["GETTIME", date, ..] if is_date(date) => Some(Sign::Own),
        ["GETPROTOCOL", _, ..] | ["SETPROTOCOL", _, ..] => Some(Sign::Shared),
        [number, code, chip, _, ..] if digits(number) && code.len() == 2 && chip.len() == 5 && digits(chip) => {
            Some(Sign::Own)
        }
        _ => None,
    }
}

/// The beginning of a frame for which no CRC vouches: version, length, CRC, flags and type, all of them small.
fn p3(raw: &[u8]) -> Option<Sign> {
    let [0x8e, 1..=3, 11..=255, 0, _, _, _, 0, 1..=255, 0, ..] = raw else { return None };
    Some(Sign::Own)
}

fn raceresult(text: &str) -> Option<Sign> {
    let fields: Vec<&str> = text.split(';').collect();
    match fields[..] {
        ["#P", number, _, ..] if digits(number) => Some(Sign::Own),
        ["GETSTATUS", date, _, ..] if is_date(date) => Some(Sign::Own),
        ["PASSINGS", count, file] if digits(count) && digits(file) => Some(Sign::Own),
        ["PASSINGS", count] if digits(count) => Some(Sign::Shared),
        ["GETCONFIG" | "SETPUSHPASSINGS" | "STARTOPERATION" | "STOPOPERATION", _, ..] => Some(Sign::Own),
        ["GETPROTOCOL" | "SETPROTOCOL", version, ..] if version.starts_with(|c: char| c.is_ascii_digit()) => {
            Some(Sign::Shared)
        }
        [only] if only.strip_prefix("ONLY ").is_some_and(digits) => Some(Sign::Shared),
        [number, _, date, ..] if digits(number) && is_date(date) => Some(Sign::Own),
        _ => None,
    }
}

fn timy(raw: &[u8]) -> Option<Sign> {
    let numbered = raw.get(1..5).is_some_and(|number| number.iter().all(|byte| byte.is_ascii_digit() || *byte == b' '));
    let channel = matches!(raw.get(6..8), Some([b'C', b'0'..=b'9'] | b"RT" | b"TT" | b"DT"));
    let number_line = matches!(raw.len(), 5 | 6) && raw[0] == b'n' && raw[1..5].iter().all(u8::is_ascii_digit);
    // The running time is what any clock prints.
    let clock = (8..=13).contains(&raw.len()) && raw.iter().filter(|byte| **byte == b':').count() == 2;
    ((numbered && channel) || number_line || clock).then_some(Sign::Shared)
}

fn ultra(text: &str) -> Option<Sign> {
    if let Some(rest) = text.strip_prefix("Connected,").or_else(|| text.strip_prefix("1,Connected,")) {
        return digits(rest.trim_end()).then_some(Sign::Own);
    }
    if let Some(volts) = text.strip_prefix("V=") {
        return (volts.contains('.') && volts.trim().parse::<f64>().is_ok()).then_some(Sign::Own);
    }
    if let Some(state) = text.strip_prefix("S=") {
        return (digits(state) && state.len() <= 2).then_some(Sign::Shared);
    }
    let clock =
        text.ends_with(')') && text.contains(" (") && text.matches(':').count() == 2 && text.matches('-').count() == 2;
    if clock {
        return Some(Sign::Own);
    }
    let fields: Vec<&str> = text.split(',').collect();
    match fields[..] {
        ["0" | "1", chip, seconds, _, ..] => {
            let chip = !chip.is_empty() && chip.bytes().all(|byte| byte.is_ascii_hexdigit());
            (chip && digits(seconds) && (9..=10).contains(&seconds.len())).then_some(Sign::Shared)
        }
        _ => None,
    }
}
