//! What a box may say to a decoder that it only reads: the lists, one a protocol, written from the vendors' documents and what
//! other programs do, not from our protocols. Whatever is not on a list would start, stop, clear or set something, or is
//! nothing that the decoder knows.

use passbridge::protocol::Settings;

/// The first thing among `said` (all bytes of one connection, in order) that is not on the protocol's list under these
/// options; also a command that is not ended.
pub fn forbidden(protocol: &str, set: &Settings, said: &[u8]) -> Option<String> {
    let starts = set.get("start").is_some_and(|start| start == "true");
    match protocol {
        // They are listened to.
        "impinj" | "lines" | "timy" => (!said.is_empty()).then(|| said.escape_ascii().to_string()),
        "ipico" => lines(said, b"\r\n", |line| line == "ab00000222"), // what time is it
        "jchip" => lines(said, b"\r", |line| matches!(line, "GT" | "S0000")),
        "cloudbox" => lines(said, b"\r\n", |line| line == "GETSYSTEMTIME" || starts && line == "START"),
        "raceresult" => lines(said, b"\r\n", race_result),
        "one4all" => lines(said, b"\r\n", |line| one4all(line, set)),
        "chronotrack" => lines(said, b"\r\n", chronotrack),
        "mylaps" => lines(said, b"$", mylaps),
        "ultra" => ultra(said),
        "p3" => p3(said),
        "llrp" => llrp(said, starts),
        other => panic!("write down what may be said to {other}"),
    }
}

/// Commands that end in `end`.
fn lines(said: &[u8], end: &[u8], allowed: impl Fn(&str) -> bool) -> Option<String> {
    let mut rest = said;
    while !rest.is_empty() {
        let Some(at) = rest.windows(end.len()).position(|window| window == end) else {
            return Some(format!("not ended: {}", rest.escape_ascii()));
        };
        // A location, or the number of a message, is sent back in the bytes it came in.
        let is_location = rest[..at].starts_with(b"start~") && std::str::from_utf8(&rest[..at]).is_err();
        if !is_location && !allowed(&String::from_utf8_lossy(&rest[..at])) {
            return Some(rest[..at].escape_ascii().to_string());
        }
        rest = &rest[at + end.len()..];
    }
    None
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Questions, stored records, and the push of this connection. Not STARTOPERATION, STOPOPERATION, SETTIME, CLEARFILES, SETCONFIG.
fn race_result(line: &str) -> bool {
    let fields: Vec<&str> = line.split(';').collect();
    match *fields {
        ["GETPROTOCOL" | "GETSTATUS" | "PASSINGS" | "PING"] | ["GETCONFIG", "GENERAL", "BOXNAME"] => true,
        // The language of the answers on this connection.
        ["SETPROTOCOL", version] => version.trim_start_matches("<=").split('.').all(is_number),
        ["SETPUSHPASSINGS", "1", "0"] => true,
        ["GETFILE", number] => is_number(number),
        [range] => range.split_once(':').is_some_and(|(from, count)| is_number(from) && is_number(count)),
        _ => false,
    }
}

/// The same. Not START, STOP, NEWFILE, SETTIME, SETBOUNCE, SETPROTOCOL, CLEARFILES. The older dialect gets nothing.
fn one4all(line: &str, set: &Settings) -> bool {
    if set.get("dialect").is_some_and(|dialect| dialect == "v2") {
        return false;
    }
    let fields: Vec<&str> = line.split(';').collect();
    match *fields {
        ["GETPROTOCOL" | "GETSTATUS" | "GETTIME" | "PASSINGS" | "LISTFILES" | "PING" | "READBATTERY"]
        | ["PUSHTAGS", "true"] => true,
        ["GETPASSINGS", from, to] => is_number(from) && is_number(to),
        ["GETFILE", file, from, to] => file.ends_with(".csv") && is_number(from) && is_number(to),
        ["GETFILEINFO", file] => file.ends_with(".csv"),
        _ => false,
    }
}

/// A greeting, its features, and what is to be sent on this connection.
fn chronotrack(line: &str) -> bool {
    let fields: Vec<&str> = line.split('~').collect();
    match *fields {
        ["getlocations" | "ping"] | ["ack", "ping"] | ["passbridge", _, "6"] => true,
        ["stream-mode=push" | "location=multi" | "guntimes=true" | "newlocations=true" | "connection-id=false"] => true,
        [feature] => feature.starts_with("time-format="),
        ["start", _] => true,
        ["start", .., number] => is_number(number),
        _ => false,
    }
}

/// Who we are, life signs, and acknowledgements.
fn mylaps(message: &str) -> bool {
    let fields: Vec<&str> = message.split('@').collect();
    matches!(
        *fields,
        [_, "AckPong" | "Ping" | "AckPing" | "AckStore" | "AckPassing" | "AckMarker" | "GetInfo" | "GetLocations", ..]
    )
}

/// Bare characters: `?`, `r`, and the rewind by number.
fn ultra(said: &[u8]) -> Option<String> {
    let mut rest = said;
    loop {
        rest = match rest {
            [] => return None,
            [b'?' | b'r', tail @ ..] => tail,
            [b'6', b'0', b'0', tail @ ..] | [b'6', 0, 0, tail @ ..] => {
                let mut parts = tail.splitn(3, |byte| *byte == b'\r');
                let number = |part: Option<&[u8]>| {
                    part.is_some_and(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit))
                };
                match (number(parts.next()), number(parts.next()), parts.next()) {
                    (true, true, Some(tail)) => tail,
                    _ => return Some(rest.escape_ascii().to_string()),
                }
            }
            _ => return Some(rest.escape_ascii().to_string()),
        };
    }
}

/// Requests for status (2), passings again (4), the version (3) and the time (24). Not 5, which clears, nor settings (13 to 28).
fn p3(said: &[u8]) -> Option<String> {
    let mut frames = said.split(|byte| *byte == 0x8f).collect::<Vec<_>>();
    if frames.pop().is_some_and(|rest| !rest.is_empty()) {
        return Some("a request that is not ended".to_owned());
    }
    frames.into_iter().find_map(|sent| {
        let mut plain = Vec::new();
        let mut bytes = sent.iter().copied();
        while let Some(byte) = bytes.next() {
            plain.push(if byte == 0x8d { bytes.next().unwrap_or(0).wrapping_sub(0x20) } else { byte });
        }
        let known = plain.first() == Some(&0x8e) && matches!(plain.get(8..10), Some([2 | 3 | 4 | 0x24, 0]));
        (!known).then(|| format!("{plain:02x?}"))
    })
}

/// Which inventories there are (26), events and reports (64), the answer to a keepalive (72), goodbye (14). With `start` the
/// keepalive's period (3, and nothing else in it), and to add, delete, enable and start the inventory of ours.
fn llrp(said: &[u8], starts: bool) -> Option<String> {
    let mut rest = said;
    while !rest.is_empty() {
        let length =
            rest.get(2..6).map_or(0, |length| u32::from_be_bytes([length[0], length[1], length[2], length[3]]));
        let Some((message, tail)) = rest.split_at_checked(length as usize).filter(|(message, _)| message.len() >= 10)
        else {
            return Some(format!("{rest:02x?}"));
        };
        rest = tail;
        let (kind, body) = (u16::from_be_bytes([message[0], message[1]]) & 0x3ff, &message[10..]);
        let allowed = match (kind, body) {
            (14 | 26 | 64 | 72, []) => true,
            (3, [0, 0, 220, 0, 9, 1, _, _, _, _]) => starts,
            (20, [0, 177, _, _, id @ ..]) => starts && id.starts_with(b"PBRI"),
            (21 | 22 | 24, id) => starts && id == b"PBRI",
            _ => false,
        };
        if !allowed {
            return Some(format!("message {kind} {body:02x?}"));
        }
    }
    None
}
