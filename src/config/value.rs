//! The forms in which values are written: durations, sizes, addresses. Errors say what is allowed.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;

use tokio_serial::{DataBits, FlowControl, Parity, StopBits};

use super::Address;

/// A duration such as `200ms`, `1.5s`, `2m`, `1h`, within `allowed`.
pub(crate) fn duration(text: &str, allowed: &RangeInclusive<Duration>) -> Result<Duration, String> {
    let must = || {
        let (low, high) = (shown_duration(*allowed.start()), shown_duration(*allowed.end()));
        format!("must be a time with its unit (ms, s, m or h, such as \"200ms\" or \"1.5s\") from {low} to {high}")
    };
    let (number, unit) = number_and_unit(text).ok_or_else(must)?;
    let unit_seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(must()),
    };
    let seconds = number * unit_seconds;
    let duration = Duration::try_from_secs_f64((seconds * 1e6).round() / 1e6).map_err(|_| must())?;
    if allowed.contains(&duration) { Ok(duration) } else { Err(must()) }
}

/// A duration on the command line, up to 30 days.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    duration(text, &(Duration::from_millis(100)..=Duration::from_secs(720 * 3600)))
}

/// A duration in the form of the configuration.
fn shown_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    match ms {
        0 => "0s".to_owned(),
        _ if ms.is_multiple_of(3_600_000) => format!("{}h", ms / 3_600_000),
        _ if ms.is_multiple_of(60_000) => format!("{}m", ms / 60_000),
        _ if ms.is_multiple_of(1000) => format!("{}s", ms / 1000),
        _ => format!("{ms}ms"),
    }
}

/// A number of bytes such as `500MB`, `2GB`, `1.5GiB`, and at least `least`.
pub(super) fn size(text: &str, least: u64) -> Result<u64, String> {
    let must = || {
        format!("must be a size with its unit (kB, MB, GB, TB, such as \"500MB\"), at least {}MB", least / 1_000_000)
    };
    let (number, unit) = number_and_unit(text).ok_or_else(must)?;
    let unit: f64 = match unit.to_ascii_lowercase().as_str() {
        "b" => 1.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "tb" => 1e12,
        "kib" => 1024.0,
        "mib" => 1024.0 * 1024.0,
        "gib" => 1024.0 * 1024.0 * 1024.0,
        "tib" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return Err(must()),
    };
    let bytes = (number * unit).round();
    // Above 2^53 a float cannot count single bytes any more, and no disk of a box is that large.
    if bytes > 9e15 || bytes < least as f64 {
        return Err(must());
    }
    Ok(bytes as u64)
}

/// Splits `1.5s` into 1.5 and `s`. Only digits and one point are allowed: no sign, no exponent, no
/// `inf`.
fn number_and_unit(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    if !number.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    Some((number.parse().ok()?, unit.trim_start()))
}

/// A name that people read and that files contain: printable, without space around it, at most 64
/// characters.
pub(super) fn name(text: &str) -> Result<String, String> {
    let fits =
        !text.is_empty() && text.chars().count() <= 64 && !text.chars().any(char::is_control) && text.trim() == text;
    if fits { Ok(text.to_owned()) } else { Err("must be 1 to 64 printable characters without space around".to_owned()) }
}

/// The name of a decoder. It must not contain the character that separates it from one of its
/// locations ([`crate::model::source`]).
pub(crate) fn decoder_name(text: &str) -> Result<String, String> {
    match name(text)?.contains(crate::model::source::MARK) {
        true => Err(format!("must have no `{}` in it", crate::model::source::MARK)),
        false => Ok(text.to_owned()),
    }
}

/// An IP address and port to listen on. `localhost` is allowed too.
pub(super) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let numeric = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    let must = "must be an IP address and a port, such as 127.0.0.1:8470, 0.0.0.0:8470 or [::1]:8470";
    numeric.parse().map_err(|_| must.to_owned())
}

const FORMS: &str = "must be tcp://host:port (we connect), tcp-listen://address:port (the decoder's software connects to us) \
                     or serial:///dev/ttyUSB0?baud=9600";

impl FromStr for Address {
    type Err = String;

    /// The error says which part is wrong and what is allowed.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once("://") {
            Some(("tcp", rest)) => tcp(rest),
            Some(("tcp-listen", rest)) => listen_address(rest).map(Self::Listen).map_err(|_| {
                format!(
                    "after tcp-listen:// `{rest}` must be an IP address of this box and a port, such as 0.0.0.0:10000"
                )
            }),
            Some(("serial", rest)) => serial(rest),
            Some((scheme, _)) => Err(format!("`{scheme}://` is unknown; {FORMS}")),
            None => Err(FORMS.to_owned()),
        }
    }
}

fn tcp(rest: &str) -> Result<Address, String> {
    let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((inner, port)) => (inner, port.strip_prefix(':').unwrap_or(port)),
        None => rest.rsplit_once(':').ok_or("the port is missing; must be tcp://host:port")?,
    };
    let port_number = port.parse::<u16>().ok().filter(|&port| port != 0);
    let port = port_number.ok_or_else(|| format!("port `{port}` must be a number from 1 to 65535"))?;
    // `fe80::1%eth0`: an address that is valid on one network interface only names that interface.
    let (ip, interface) = host.split_once('%').unwrap_or((host, "lo"));
    let is_interface = (1..=15).contains(&interface.len())
        && interface.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._@:".contains(&b));
    let is_ip = match ip.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => !host.contains('%'),
        Ok(IpAddr::V6(_)) => is_interface,
        Err(_) => false,
    };
    let is_name = !host.is_empty()
        && host.len() <= 253
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        // Only digits and points means an IP address with a mistake, which no name server would
        // find.
        && !host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if !is_ip && !is_name {
        return Err(format!(
            "host `{host}` must be an IP address or a host name (IPv6 in brackets: tcp://[fd00::1]:10000, \
             and tcp://[fe80::1%eth0]:10000 with the network interface)"
        ));
    }
    Ok(Address::Tcp { host: host.to_owned(), port })
}

fn serial(rest: &str) -> Result<Address, String> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if !path.starts_with('/') || path.len() < 2 {
        return Err(format!("device `{path}` must be a full path: serial:///dev/ttyUSB0?baud=9600"));
    }
    let (mut baud, mut bits, mut parity) = (9600, DataBits::Eight, Parity::None);
    let (mut stop, mut flow) = (StopBits::One, FlowControl::None);
    let mut seen = Vec::new(); // at most the five names below
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or_else(|| format!("`{pair}` must be name=value"))?;
        let must = |allowed: &str| format!("{key}={value}: must be {allowed}");
        match key {
            "baud" => {
                let rate = value.parse::<u32>().ok().filter(|rate| (50..=4_000_000).contains(rate));
                baud = rate.ok_or_else(|| must("a rate from 50 to 4000000, such as 9600"))?;
            }
            "bits" => {
                bits = match value {
                    "5" => DataBits::Five,
                    "6" => DataBits::Six,
                    "7" => DataBits::Seven,
                    "8" => DataBits::Eight,
                    _ => return Err(must("5, 6, 7 or 8")),
                }
            }
            "parity" => {
                parity = match value {
                    "none" => Parity::None,
                    "odd" => Parity::Odd,
                    "even" => Parity::Even,
                    _ => return Err(must("none, odd or even")),
                }
            }
            "stop" => {
                stop = match value {
                    "1" => StopBits::One,
                    "2" => StopBits::Two,
                    _ => return Err(must("1 or 2")),
                }
            }
            "flow" => {
                flow = match value {
                    "none" => FlowControl::None,
                    "software" => FlowControl::Software,
                    "hardware" => FlowControl::Hardware,
                    _ => return Err(must("none, software or hardware")),
                }
            }
            _ => return Err(format!("`{key}` is unknown for a serial line; allowed: baud, bits, parity, stop, flow")),
        }
        if seen.contains(&key) {
            return Err(format!("`{key}` is given twice"));
        }
        seen.push(key);
    }
    Ok(Address::Serial { path: PathBuf::from(path), baud, bits, parity, stop, flow })
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            Self::Listen(address) => write!(f, "tcp-listen://{address}"),
            Self::Serial { path, baud, bits, parity, stop, flow } => {
                write!(f, "serial://{}?baud={baud}", path.display())?;
                // The usual settings of a line are not shown on the page.
                if *bits != DataBits::Eight {
                    write!(f, "&bits={}", u8::from(*bits))?;
                }
                match parity {
                    Parity::None => {}
                    Parity::Odd => f.write_str("&parity=odd")?,
                    Parity::Even => f.write_str("&parity=even")?,
                }
                if *stop == StopBits::Two {
                    f.write_str("&stop=2")?;
                }
                match flow {
                    FlowControl::None => Ok(()),
                    FlowControl::Software => f.write_str("&flow=software"),
                    FlowControl::Hardware => f.write_str("&flow=hardware"),
                }
            }
        }
    }
}

/// Checks a filter: a level, or `target=level` and levels separated by commas. tracing itself would
/// take a misspelt level for the name of a module, without an error.
pub(crate) fn level(text: &str) -> Result<String, String> {
    let must = || {
        "must be off, error, warn, info, debug or trace, or a list such as \"info,passbridge::uplink=debug\"".to_owned()
    };
    let is_level = |word: &str| word.parse::<LevelFilter>().is_ok() && !word.bytes().all(|b| b.is_ascii_digit());
    for directive in text.split(',').map(str::trim) {
        let level = directive.rsplit_once('=').map_or(directive, |(_, level)| level);
        if !is_level(level) {
            return Err(must());
        }
    }
    text.parse::<Targets>().map_err(|_| must())?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_needs_a_unit_and_stays_in_its_range() {
        let any = Duration::ZERO..=Duration::from_secs(3600);
        for (text, ms) in
            [("200ms", 200), ("1.5s", 1500), ("2m", 120_000), ("1h", 3_600_000), ("0s", 0), ("2 m", 120_000)]
        {
            assert_eq!(duration(text, &any), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in
            ["", "200", "ms", "-1s", "1e3s", "2h", "1.2.3s", "5 parsecs", "infs", "NaNs", "é", "99999999999999999999h"]
        {
            let error = duration(text, &any).unwrap_err();
            assert!(error.contains("from 0s to 1h"), "{text}: {error}");
        }
    }

    #[test]
    fn a_size_is_decimal_unless_it_says_binary() {
        for (text, bytes) in
            [("2GB", 2_000_000_000), ("500MB", 500_000_000), ("1GiB", 1 << 30), ("1.5gb", 1_500_000_000)]
        {
            assert_eq!(size(text, 1_000_000), Ok(bytes), "{text}");
        }
        for text in ["", "2", "GB", "999kB", "-2GB", "1e9GB", "99999999TB", "2XB", "é"] {
            assert!(size(text, 1_000_000).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_come_back_in_the_form_they_were_written() {
        for text in [
            "tcp://192.168.1.50:10000",
            "tcp://decoder-1.local:10000",
            "tcp://[fe80::1]:10000",
            "tcp://[fe80::1%eth0]:10000",
            "tcp://[fe80::1%wlx00c0ca.1-2]:10000",
            "tcp-listen://0.0.0.0:10000",
            "tcp-listen://[::]:0",
            "serial:///dev/ttyUSB0?baud=9600",
            "serial:///dev/ttyS0?baud=115200&bits=7&parity=even&stop=2&flow=hardware",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        let default: Address = "serial:///dev/ttyUSB0".parse().unwrap();
        assert_eq!(default.to_string(), "serial:///dev/ttyUSB0?baud=9600");
    }

    #[test]
    fn each_bad_part_of_an_address_is_named() {
        for (text, named) in [
            ("", "must be tcp://host:port"),
            ("192.168.1.50:10000", "must be tcp://host:port"),
            ("udp://1.2.3.4:5", "`udp://` is unknown"),
            ("tcp://1.2.3.4", "the port is missing"),
            ("tcp://1.2.3.4:0", "port `0`"),
            ("tcp://1.2.3.4:70000", "port `70000`"),
            ("tcp://1.2.3.4:http", "port `http`"),
            ("tcp://:10000", "host ``"),
            ("tcp://1.2.3.456:10000", "host `1.2.3.456`"),
            ("tcp://a b:10000", "host `a b`"),
            ("tcp://1.2.3.4:10000/x", "port `10000/x`"),
            ("tcp://é:1", "host `é`"),
            ("tcp://[fe80::1%]:1", "host `fe80::1%`"),
            ("tcp://[fe80::1%a b]:1", "host `fe80::1%a b`"),
            ("tcp://[fe80::1%abcdefghijklmnop]:1", "network interface"),
            ("tcp://10.0.0.1%eth0:1", "host `10.0.0.1%eth0`"),
            ("tcp://decoder%eth0:1", "host `decoder%eth0`"),
            ("tcp-listen://decoder:10000", "`decoder:10000`"),
            ("serial://ttyUSB0", "device `ttyUSB0`"),
            ("serial:///dev/ttyUSB0?baud=fast", "baud=fast"),
            ("serial:///dev/ttyUSB0?baud=1", "baud=1"),
            ("serial:///dev/ttyUSB0?bits=9", "bits=9"),
            ("serial:///dev/ttyUSB0?parity=maybe", "parity=maybe"),
            ("serial:///dev/ttyUSB0?stop=1.5", "stop=1.5"),
            ("serial:///dev/ttyUSB0?flow=slow", "flow=slow"),
            ("serial:///dev/ttyUSB0?speed=9600", "`speed` is unknown"),
            ("serial:///dev/ttyUSB0?baud", "`baud` must be name=value"),
            ("serial:///dev/ttyUSB0?baud=9600&baud=9600", "`baud` is given twice"),
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    #[test]
    fn a_misspelt_level_is_an_error_and_not_the_name_of_a_module() {
        for right in ["info", "off", "warn,passbridge::uplink=debug", "passbridge=trace"] {
            assert_eq!(level(right), Ok(right.to_owned()));
        }
        for wrong in ["", "verbose", "3", "info,", "info,passbridge", "passbridge=loud", "passbridge=", "a[b"] {
            assert!(level(wrong).unwrap_err().contains("must be off, error"), "{wrong}");
        }
    }
}
