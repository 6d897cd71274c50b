//! Where to look: an address of the configuration, or one whose port or rate has to be found.

use std::io;
use std::str::FromStr;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, timeout};

use super::listen::{Ended, Heard, Plan, Role, listen};
use crate::config::Address;
use crate::decoders::{Dials, REGISTRY};
use crate::link::port::{Wire, dial};
use crate::model::clock::Wall;

/// Rates that no decoder has by default, but that occur at adapters and device servers.
const OTHER_RATES: [u32; 4] = [19_200, 57_600, 4800, 2400];
/// Longest wait for the answer of a port, when all ports are tried.
const KNOCK: Duration = Duration::from_secs(2);
/// Each rate is listened to for at least this time, because a shorter one has no room for a whole
/// record.
const SLICE_MIN: Duration = Duration::from_millis(500);
const SLICE_MAX: Duration = Duration::from_secs(5);

/// What was given on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A whole address.
    Address(Address),
    /// `tcp://host`: the probe tries the open ports of the registry.
    Ports(String),
    /// `serial:///dev/…` without `baud`. The address has the first rate.
    Rates(Address),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let guessed = with_scheme(text);
        let text = guessed.as_deref().unwrap_or(text);
        match text.parse::<Address>() {
            Ok(Address::Serial { .. }) if !text.contains("baud=") => {
                let address = text.parse()?;
                Ok(Self::Rates(address))
            }
            Ok(address) => Ok(Self::Address(address)),
            Err(error) => {
                let host = match format!("{}:1", text.trim_end_matches('/')).parse::<Address>() {
                    Ok(Address::Tcp { host, .. }) => Some(host).filter(|_| text.starts_with("tcp://")),
                    _ => None,
                };
                host.map(Self::Ports).ok_or(error)
            }
        }
    }
}

/// Adds `serial://` or `tcp://`, because it is clear what is a device file and what is a host.
fn with_scheme(text: &str) -> Option<String> {
    let text = text.trim();
    if text.is_empty() || text.contains("://") {
        return None;
    }
    if text.starts_with('/') {
        return Some(format!("serial://{text}"));
    }
    if text.starts_with("tty") {
        return Some(format!("serial:///dev/{text}"));
    }
    // An IPv6 address must be put in brackets before anything else.
    let ip = text.split('%').next().unwrap_or_default();
    Some(if ip.parse::<std::net::Ipv6Addr>().is_ok() { format!("tcp://[{text}]") } else { format!("tcp://{text}") })
}

/// The rates in the order in which they are listened to: first those of the registry, beginning
/// with the rate of most decoders, then [`OTHER_RATES`].
pub(super) fn rates() -> Vec<u32> {
    let usual: Vec<u32> = REGISTRY.iter().flat_map(|spec| spec.baud).copied().collect();
    let mut rates = usual.clone();
    rates.sort_by_key(|rate| std::cmp::Reverse(usual.iter().filter(|other| *other == rate).count()));
    rates.extend(OTHER_RATES);
    let mut seen = Vec::new();
    rates.retain(|rate| {
        !seen.contains(rate) && {
            seen.push(*rate);
            true
        }
    });
    rates
}

/// The same address at another rate.
pub(crate) fn at_rate(address: &Address, rate: u32) -> Address {
    let mut address = address.clone();
    if let Address::Serial { baud, .. } = &mut address {
        *baud = rate;
    }
    address
}

/// The ports of the registry at `host` on which something listens. The probe only connects to them,
/// and reads and sends nothing.
pub(super) async fn open_ports(host: &str) -> Vec<u16> {
    let mut ports: Vec<u16> = REGISTRY
        .iter()
        .filter(|spec| spec.recogniser.is_some() && spec.dials == Dials::TheBox)
        .map(|spec| spec.port)
        .collect();
    ports.sort_unstable();
    ports.dedup();
    let knock = async |port: u16| {
        let address = Address::Tcp { host: host.to_owned(), port };
        matches!(timeout(KNOCK, dial(&address)).await, Ok(Ok(_))).then_some(port)
    };
    join_all(ports.into_iter().map(knock)).await.into_iter().flatten().collect()
}

/// Listens at one rate after the other, in rounds, until a protocol is recognised or the time is
/// over. In the first round it asks nothing. Returns the rate and what arrived there: what was
/// recognised, or else what looked most like text.
///
/// # Errors
/// The line cannot be opened at any rate.
pub(super) async fn find_rate(
    mut open: impl AsyncFnMut(u32) -> io::Result<Wire>,
    total: Duration,
    ask: bool,
    wall: &Wall,
) -> io::Result<(u32, Heard)> {
    let start = Instant::now();
    let rates = rates();
    let slice = (total / (2 * rates.len() as u32)).clamp(SLICE_MIN, SLICE_MAX);
    let mut best: Option<(u32, Heard)> = None;
    let mut refused = None;
    let mut round = 0;
    while round == 0 || start.elapsed() < total {
        let mut opened = false;
        for &rate in &rates {
            let mut wire = match open(rate).await {
                Ok(wire) => wire,
                // The adapter may not support this rate.
                Err(error) => {
                    refused = Some(error);
                    continue;
                }
            };
            opened = true;
            let more = total.saturating_sub(start.elapsed());
            let plan = Plan { listen: slice, more, ask: ask && round > 0, silent: Duration::ZERO };
            let heard = listen(&mut wire, Role::Serial, plan, wall).await;
            let found = heard.grade().is_some_and(|grade| grade > super::Grade::Possible);
            let gone = !matches!(heard.ended, Ended::Listened);
            if best.as_ref().is_none_or(|(_, best)| worth(&heard) > worth(best)) {
                best = Some((rate, heard));
            }
            if found || gone || start.elapsed() >= total {
                return best.ok_or_else(|| io::ErrorKind::NotFound.into());
            }
        }
        if !opened {
            break;
        }
        round += 1;
    }
    best.ok_or_else(|| refused.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
}

/// The rank of a result, to choose which one is reported.
fn worth(heard: &Heard) -> (Option<super::Grade>, usize) {
    (heard.grade(), heard.bytes.iter().filter(|byte| byte.is_ascii_graphic()).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_file_and_a_host_need_no_scheme() {
        for (text, whole) in [
            ("127.0.0.1", "tcp://127.0.0.1"),
            ("decoder.local", "tcp://decoder.local"),
            ("192.168.1.50:3601", "tcp://192.168.1.50:3601"),
            ("fe80::1%eth0", "tcp://[fe80::1%eth0]"),
            ("::1", "tcp://[::1]"),
            ("[::1]:10000", "tcp://[::1]:10000"),
            ("/dev/ttyUSB0", "serial:///dev/ttyUSB0"),
            ("/dev/serial/by-id/usb-x?baud=115200", "serial:///dev/serial/by-id/usb-x?baud=115200"),
            ("ttyACM0", "serial:///dev/ttyACM0"),
        ] {
            assert_eq!(text.parse::<Target>(), whole.parse::<Target>(), "{text}");
            assert!(text.parse::<Target>().is_ok(), "{text}");
        }
        for wrong in ["", "a b", "1.2.3.456", "udp://1.2.3.4:5", "1.2.3.4:70000"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_rates_of_decoders_are_listened_at_before_those_of_adapters() {
        assert_eq!(rates(), [9600, 115_200, 38_400, 19_200, 57_600, 4800, 2400]);
    }

    #[test]
    fn an_address_may_leave_its_port_or_its_rate_to_be_found() {
        let target = |text: &str| text.parse::<Target>();
        assert_eq!(target("tcp://192.168.1.50"), Ok(Target::Ports("192.168.1.50".into())));
        assert_eq!(target("tcp://timing-box/"), Ok(Target::Ports("timing-box".into())));
        assert_eq!(target("tcp://[fe80::1]"), Ok(Target::Ports("fe80::1".into())));
        assert!(matches!(target("tcp://192.168.1.50:3601"), Ok(Target::Address(Address::Tcp { port: 3601, .. }))));
        assert!(matches!(target("serial:///dev/ttyUSB0"), Ok(Target::Rates(_))));
        assert!(matches!(target("serial:///dev/ttyUSB0?parity=even"), Ok(Target::Rates(_))));
        assert!(matches!(target("serial:///dev/ttyUSB0?baud=9600"), Ok(Target::Address(_))));
        assert!(matches!(target("tcp-listen://0.0.0.0:3097"), Ok(Target::Address(Address::Listen(_)))));
        for wrong in ["", "udp://1.2.3.4", "tcp://", "tcp://a:b", "tcp-listen://box", "serial://ttyS0"] {
            assert!(target(wrong).is_err(), "{wrong}");
        }
    }
}
