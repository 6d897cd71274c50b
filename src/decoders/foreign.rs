//! Names bytes that are not from a decoder: the devices to which a race timer's cable or a wrong
//! port often leads. For other bytes it describes what they look like. It is pure.

use crc::{CRC_16_MODBUS, Crc};
use serde::Serialize;

use crate::model::escape::escape;

/// The number of first bytes that are shown.
const SHOWN: usize = 64;

/// A short description of unknown bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Look {
    /// How many bytes arrived.
    pub bytes: usize,
    /// The first bytes in hexadecimal.
    pub hex: String,
    /// The same as text, see [`crate::model::escape`].
    pub text: String,
    /// The share of printable characters in percent (blanks, tabs and line ends count as
    /// printable).
    pub printable_percent: usize,
    /// `CR LF`, `LF`, `CR`, or none.
    pub line_end: Option<&'static str>,
}

/// Describes `bytes`.
pub(crate) fn look(bytes: &[u8]) -> Look {
    let first = &bytes[..bytes.len().min(SHOWN)];
    let hex: Vec<String> = first.iter().map(|byte| format!("{byte:02x}")).collect();
    let ends = |end: &[u8]| memchr::memmem::find(bytes, end).is_some();
    let line_end = [(&b"\r\n"[..], "CR LF"), (b"\n", "LF"), (b"\r", "CR")].into_iter().find(|(end, _)| ends(end));
    Look {
        bytes: bytes.len(),
        hex: hex.join(" "),
        text: escape(first),
        printable_percent: printable(bytes),
        line_end: line_end.map(|(_, name)| name),
    }
}

/// The share of printable characters in percent.
pub(crate) fn printable(bytes: &[u8]) -> usize {
    let plain = bytes.iter().filter(|byte| matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n')).count();
    100 * plain / bytes.len().max(1)
}

/// The source of `bytes`, for people, if it is known. `serial`: the bytes arrived over a line whose
/// rate may be wrong.
pub(crate) fn name(bytes: &[u8], serial: bool) -> Option<&'static str> {
    let begins = |start: &[u8]| bytes.len() >= start.len() && bytes[..start.len()].eq_ignore_ascii_case(start);
    let begins_one = |starts: &[&[u8]]| starts.iter().any(|start| begins(start));
    match bytes {
        [] => None,
        _ if begins_one(&[b"HTTP/1.", b"HTTP/2", b"<!doctype", b"<html"]) => Some("a web server answers here"),
        _ if begins(b"SSH-") => Some("an SSH server: a computer or a router, not a decoder"),
        _ if begins(b"RFB 00") => Some("a VNC server: the screen of a computer"),
        _ if begins_one(&[b"220 ", b"220-"]) => Some("an FTP or mail server"),
        _ if begins_one(&[b"+OK", b"* OK"]) => Some("a mail server"),
        _ if begins(b"@PJL") => Some("a printer"),
        [0x15, 3, 0..=4, 0, 2, 1 | 2, ..] => Some("a server that wants TLS (encryption)"),
        [0x16, 3, 0..=4, ..] => Some("a program that begins TLS (encryption)"),
        [0xff, 0xfb..=0xfe, _, ..] => {
            Some("a telnet server asks how to talk: a login of a computer, a switch or a device server")
        }
        [0xb5, 0x62, ..] => Some("a GPS receiver (u-blox binary)"),
        _ if nmea(bytes) => Some("GPS (NMEA sentences)"),
        _ if modbus_tcp(bytes) => Some("Modbus/TCP: an industrial controller or a relay box"),
        _ if modbus_rtu(bytes) => Some("Modbus RTU: an industrial controller or a relay box"),
        _ if login(bytes) => Some("the login of a computer, a switch or a device server"),
        _ if serial && bytes.len() >= 8 && printable(bytes) < 75 => {
            Some("garbage, as at a wrong baud rate (or with other data bits, parity or polarity)")
        }
        _ if bytes.trim_ascii_start().starts_with(b"{\"") => Some("JSON objects, of no decoder that is known here"),
        _ if timed_lines(bytes) => Some(
            "lines of text with a time in them, of no protocol that is known here: the protocol `lines` reads them with an \
             expression of your own",
        ),
        _ => None,
    }
}

/// Whether the bytes have a sentence with a right checksum: `$GPGGA,…*47`.
fn nmea(bytes: &[u8]) -> bool {
    let sentence = |line: &[u8]| {
        let body = line.trim_ascii().strip_prefix(b"$")?;
        let star = memchr::memchr(b'*', body)?;
        let sum = body[..star].iter().fold(0, |sum, byte| sum ^ byte);
        let told = std::str::from_utf8(body.get(star + 1..star + 3)?).ok()?;
        (star >= 5 && u8::from_str_radix(told, 16) == Ok(sum)).then_some(())
    };
    bytes.split(|byte| *byte == b'\n').any(|line| sentence(line).is_some())
}

/// Whether the bytes are Modbus TCP: transaction, protocol 0, length of the rest, unit, function.
fn modbus_tcp(bytes: &[u8]) -> bool {
    let [_, _, 0, 0, high, low, _, function, ..] = *bytes else { return false };
    let length = usize::from(u16::from_be_bytes([high, low]));
    (2..=254).contains(&length) && bytes.len() >= 6 + length && matches!(function & 0x7f, 1..=6 | 15 | 16 | 23)
}

/// Whether a whole Modbus RTU frame begins here: unit, function, data, CRC.
fn modbus_rtu(bytes: &[u8]) -> bool {
    const CRC: Crc<u16> = Crc::<u16>::new(&CRC_16_MODBUS);
    let function = bytes.get(1).is_some_and(|function| matches!(function & 0x7f, 1..=6 | 15 | 16));
    let agrees = |length: usize| {
        let (body, sum) = bytes[..length].split_at(length - 2);
        CRC.checksum(body).to_le_bytes() == sum
    };
    function && matches!(bytes.first(), Some(1..=247)) && (5..=bytes.len().min(64)).any(agrees)
}

fn login(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4096)]).to_ascii_lowercase();
    ["login:", "username:", "password:"].iter().any(|word| text.contains(word))
}

/// Whether the bytes are printable lines, at least one of them with a time like `00:00:00`.
fn timed_lines(bytes: &[u8]) -> bool {
    let timed = |part: &[u8]| {
        part.iter()
            .enumerate()
            .all(|(at, byte)| if matches!(at, 2 | 5) { *byte == b':' } else { byte.is_ascii_digit() })
    };
    printable(bytes) >= 95 && bytes.windows(8).any(timed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_answers_on_a_wrong_port_or_cable_is_called_by_its_name() {
        let cases: [(&[u8], bool, &str); 13] = [
            (b"{\"epc\":\"AB\",\"xCm\":1}\n", false, "JSON"),
            (b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n", false, "web server"),
            (b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", false, "SSH"),
            (b"\xff\xfd\x18\xff\xfd\x20\xff\xfd\x23", false, "telnet"),
            (b"\r\nMoxa login: ", false, "login"),
            (b"\x15\x03\x01\x00\x02\x02\x46", false, "TLS"),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", false, "TLS"),
            (b"PGGA,1\r\n$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47\r\n", true, "GPS"),
            (b"\x00\x01\x00\x00\x00\x05\x01\x03\x02\x00\x0a", false, "Modbus/TCP"),
            (b"\x01\x03\x02\x00\x0a\x38\x43", true, "Modbus RTU"),
            (b"\xe6\x80\x66\x1e\x98\x00\xfe\x80\x06\x66\x78\xe6", true, "baud"),
            (b"@PJL INFO STATUS\r\n", false, "printer"),
            (b"0000AB12,2026/07/26,09:05:03.125,4,1\r\n", false, "`lines`"),
        ];
        for (bytes, serial, word) in cases {
            let name = name(bytes, serial).unwrap_or_else(|| panic!("{}", escape(bytes)));
            assert!(name.contains(word), "{}: {name}", escape(bytes));
        }
        for bytes in [&b""[..], b"\x00", b"hello world\r\n", b"$GPGGA,123519,4807.038,N*00\r\n"] {
            assert_eq!(name(bytes, false), None, "{}", escape(bytes));
        }
    }

    #[test]
    fn a_look_says_how_much_came_what_it_is_like_and_how_its_lines_end() {
        let look = look(b"OK\r\n\x00\xff");
        assert_eq!((look.bytes, look.printable_percent, look.line_end), (6, 66, Some("CR LF")));
        assert_eq!((look.hex.as_str(), look.text.as_str()), ("4f 4b 0d 0a 00 ff", "OK\\r\\n\\x00\\xff"));
    }
}
