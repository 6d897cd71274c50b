//! What may be said to a decoder: questions and acknowledgements. Written from the protocols' descriptions, not from the code,
//! so that a new command has to be put here by somebody who thought about it.

use passbridge::testing::decoders::Settings;

/// The id of the one inventory that is ours (LLRP).
const OURS: &[u8] = b"PBRI";

/// Whether `name` with these options may say that.
pub fn is_allowed(name: &str, set: &Settings, bytes: &[u8]) -> bool {
    let option = |key: &str, value: &str| set.get(key).is_some_and(|set| set == value);
    match name {
        "chronotrack" => chronotrack(bytes, set),
        // START begins a session.
        "cloudbox" => bytes == b"GETSYSTEMTIME\r\n" || bytes == b"START\r\n" && option("start", "true"),
        "ipico" => bytes == b"ab00000222\r\n" && !option("clock_query", "false"),
        "jchip" => bytes == b"GT\r" || bytes == b"S0000\r",
        "llrp" => llrp(bytes, option("start", "true")),
        "mylaps" => mylaps(bytes, set),
        "one4all" => !option("dialect", "v2") && line(bytes).is_some_and(one4all),
        "p3" => p3(bytes),
        "raceresult" => line(bytes).is_some_and(raceresult),
        "ultra" => ultra(bytes, option("rewind_prefix", "nul")),
        _ => false, // impinj, lines, timy: nothing is sent
    }
}

/// The one line that it is.
fn line(bytes: &[u8]) -> Option<&[u8]> {
    bytes.strip_suffix(b"\r\n").filter(|line| !line.iter().any(|byte| matches!(byte, b'\r' | b'\n')))
}

fn digits(bytes: &[u8]) -> bool {
    (1..=20).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_digit)
}

fn chronotrack(bytes: &[u8], set: &Settings) -> bool {
    let format = set.get("time_format").map_or("iso", String::as_str);
    let greeting = format!(
        "passbridge~{}~6\r\nstream-mode=push\r\ntime-format={format}\r\nlocation=multi\r\nguntimes=true\r\n\
         newlocations=true\r\nconnection-id=false\r\ngetlocations\r\n",
        env!("CARGO_PKG_VERSION")
    );
    let Some(line) = line(bytes) else {
        // The version is that of the program, not of whoever includes this.
        let rest = |text: &[u8]| memchr::memchr(b'\r', text).map(|at| text[at..].to_vec());
        return bytes.starts_with(b"passbridge~") && rest(bytes) == rest(greeting.as_bytes());
    };
    match line.split(|byte| *byte == b'~').collect::<Vec<_>>()[..] {
        [b"ping" | b"getlocations"] | [b"ack", b"ping"] => true,
        [b"start", location] => !location.is_empty(),
        [b"start", location, from] => !location.is_empty() && digits(from),
        _ => false,
    }
}

fn llrp(bytes: &[u8], start: bool) -> bool {
    let [a, b, l1, l2, l3, l4, _, _, _, _, body @ ..] = bytes else { return false };
    let (version, kind) = (a >> 2, u16::from_be_bytes([*a, *b]) & 0x3ff);
    let whole = u32::from_be_bytes([*l1, *l2, *l3, *l4]) as usize == bytes.len() && version == 1;
    whole
        && match kind {
            // Keepalive's answer, reports please, farewell, which inventories are there?
            72 | 64 | 14 | 26 => true,
            // A keepalive for us (0: nothing goes back to the factory's settings), then our own inventory and no other.
            3 => start && body.first() == Some(&0) && body.get(1..3) == Some(&220_u16.to_be_bytes()),
            21 | 22 | 24 => start && body == OURS,
            20 => start && body.get(4..8) == Some(OURS),
            _ => false,
        }
}

fn mylaps(bytes: &[u8], set: &Settings) -> bool {
    let name = set.get("name").map_or("passbridge", String::as_str);
    let Some(rest) = bytes.strip_suffix(b"@$").filter(|rest| !rest.contains(&b'$')) else { return false };
    let fields: Vec<&[u8]> = rest.split(|byte| *byte == b'@').collect();
    if fields[0] != name.as_bytes() {
        return false;
    }
    match fields[1..] {
        [b"Ping" | b"AckPing" | b"AckPong"] | [b"AckPong", b"Version2.1", b"c|t|d|dv|re|an|h|amd"] => true,
        [b"AckStore" | b"AckPassing" | b"AckMarker", number] => number.len() < 39,
        _ => false,
    }
}

fn one4all(line: &[u8]) -> bool {
    let is_file = |name: &[u8]| {
        let stem = name.strip_suffix(b".csv").unwrap_or_default();
        stem.len() == 15 && stem.iter().all(|byte| byte.is_ascii_digit() || *byte == b'-')
    };
    match line.split(|byte| *byte == b';').collect::<Vec<_>>()[..] {
        [b"GETPROTOCOL" | b"GETSTATUS" | b"GETTIME" | b"PASSINGS" | b"PING"] | [b"PUSHTAGS", b"true"] => true,
        [b"GETFILEINFO", file] => is_file(file),
        [b"GETPASSINGS", from, to] => digits(from) && digits(to),
        [b"GETFILE", file, from, to] => is_file(file) && digits(from) && digits(to),
        _ => false,
    }
}

/// RESEND and STATUS. Type 5 clears the decoder's passings.
fn p3(bytes: &[u8]) -> bool {
    let frame = super::repair::p3_unescaped(bytes);
    let marked = bytes.first() == Some(&0x8e) && bytes.last() == Some(&0x8f);
    let single = bytes.len() > 2 && !bytes[1..bytes.len() - 1].iter().any(|byte| matches!(byte, 0x8e | 0x8f));
    let sum = super::repair::p3_checksum(&frame);
    marked
        && single
        && frame.len() >= 11
        && usize::from(u16::from_le_bytes([frame[2], frame[3]])) == frame.len()
        && u16::from_le_bytes([frame[4], frame[5]]) == sum
        && matches!(frame[8..10], [2 | 4 | 0x24, 0])
}

fn raceresult(line: &[u8]) -> bool {
    match line.split(|byte| *byte == b';').collect::<Vec<_>>()[..] {
        [b"GETPROTOCOL" | b"PASSINGS" | b"GETSTATUS"]
        | [b"GETCONFIG", b"GENERAL", b"BOXNAME"]
        | [b"SETPUSHPASSINGS", b"1", b"0"] => true,
        [b"GETFILE", file] => digits(file),
        [b"SETPROTOCOL", version] => version.split(|byte| *byte == b'.').all(digits),
        [range] => {
            let mut parts = range.split(|byte| *byte == b':');
            parts.next().is_some_and(digits) && parts.next().is_some_and(digits) && parts.next().is_none()
        }
        _ => false,
    }
}

/// Bare characters: anything else than these would be obeyed as well.
fn ultra(bytes: &[u8], nul: bool) -> bool {
    let prefix: &[u8] = if nul { b"6\0\0" } else { b"600" };
    if bytes == b"?r" {
        return true;
    }
    let Some(rest) = bytes.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(b"\r")) else { return false };
    let parts: Vec<&[u8]> = rest.split(|byte| *byte == b'\r').collect();
    parts.len() == 2 && parts.iter().all(|part| digits(part))
}
