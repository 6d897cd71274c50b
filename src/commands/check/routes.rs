//! The ways to the internet: which network the system uses first, and whether that is the one with
//! the internet.
//!
//! A box often has two networks: an Ethernet on which the decoders are, without internet, and a 4G
//! stick or a phone. If the first one gives the box a default route (its DHCP server says so), the
//! system sends everything there, and the cloud is never reached although the stick works. What is
//! decided here is decided from the text of the kernel's tables by pure functions.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpSocket, lookup_host};
use tokio::time::timeout;

use super::report::{CheckReport, CheckVerdict};
use crate::config::{Address, Config};

/// The tables of the kernel. Under `self` they are there for the service, too, which does not see the
/// rest of `/proc`.
const TABLES: [&str; 2] = ["/proc/self/net/route", "/proc/self/net/ipv6_route"];
/// How long the cloud may take to answer through one network.
const PATIENCE: Duration = Duration::from_secs(5);
/// The route is used (`RTF_UP`),
const UP: u32 = 0x1;
/// or it says that there is no way (`RTF_REJECT`).
const REJECT: u32 = 0x200;
/// Where the commands for it are.
const HOW: &str = "see docs/timer/network.md";

/// A route of the kernel: what goes to the `prefix` first bits of `to` leaves by `interface`. Of two
/// routes to the same place the one with the lower metric is used.
#[derive(Clone, Debug, PartialEq, Eq)]
struct KernelRoute {
    interface: String,
    to: IpAddr,
    prefix: u32,
    metric: u32,
}

impl KernelRoute {
    fn is_default(&self) -> bool {
        self.prefix == 0
    }

    fn leads_to(&self, address: IpAddr) -> bool {
        match (self.to, address) {
            (IpAddr::V4(to), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - self.prefix).unwrap_or(0);
                to.to_bits() & mask == address.to_bits() & mask
            }
            (IpAddr::V6(to), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - self.prefix).unwrap_or(0);
                to.to_bits() & mask == address.to_bits() & mask
            }
            _ => false,
        }
    }
}

/// The routes of `/proc/net/route`. Lines that are no route are left out.
fn routes_v4(text: &str) -> Vec<KernelRoute> {
    let route = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [interface, to, _, flags, _, _, metric, mask, ..] = fields[..] else { return None };
        // Addresses are in the order of the bytes in memory, as hexadecimal numbers.
        let address = |text| u32::from_str_radix(text, 16).ok().map(|bits| u32::from_be_bytes(bits.to_ne_bytes()));
        let flags = u32::from_str_radix(flags, 16).ok()?;
        (flags & (UP | REJECT) == UP).then_some(KernelRoute {
            interface: interface.to_owned(),
            to: Ipv4Addr::from_bits(address(to)?).into(),
            prefix: address(mask)?.count_ones(),
            metric: metric.parse().ok()?,
        })
    };
    text.lines().skip(1).filter_map(route).collect()
}

/// The routes of `/proc/net/ipv6_route`.
fn routes_v6(text: &str) -> Vec<KernelRoute> {
    let route = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [to, prefix, _, _, _, metric, _, _, flags, interface, ..] = fields[..] else { return None };
        let number = |text| u32::from_str_radix(text, 16).ok();
        (number(flags)? & (UP | REJECT) == UP && interface != "lo").then_some(KernelRoute {
            interface: interface.to_owned(),
            to: Ipv6Addr::from_bits(u128::from_str_radix(to, 16).ok()?).into(),
            prefix: number(prefix).filter(|prefix| *prefix <= 128)?,
            metric: number(metric)?,
        })
    };
    text.lines().filter_map(route).collect()
}

/// The interfaces with a default route, the one that is used first before the others.
fn ways_out(routes: &[KernelRoute]) -> Vec<(&str, u32)> {
    let mut defaults: Vec<&KernelRoute> = routes.iter().filter(|route| route.is_default()).collect();
    defaults.sort_by_key(|route| route.metric);
    let mut ways: Vec<(&str, u32)> = Vec::new();
    for route in defaults {
        if ways.iter().all(|(interface, _)| *interface != route.interface) {
            ways.push((&route.interface, route.metric));
        }
    }
    ways
}

/// The interface on whose own network the address is.
fn network_of(routes: &[KernelRoute], address: IpAddr) -> Option<&str> {
    let own = routes.iter().filter(|route| !route.is_default() && route.leads_to(address));
    let best = own.max_by_key(|route| (route.prefix, std::cmp::Reverse(route.metric)));
    best.map(|route| route.interface.as_str())
}

/// What is to be said about the ways to the internet. `decoders`: their names and addresses.
/// `reaches`: whether the cloud was reached through an interface, as far as that is known. `None`:
/// there is nothing to say.
fn judge(
    routes: &[KernelRoute],
    decoders: &[(&str, IpAddr)],
    reaches: &BTreeMap<String, bool>,
) -> Option<(CheckVerdict, String)> {
    let ways = ways_out(routes);
    let ((first, metric), others) = ways.split_first().map(|(first, others)| (*first, others))?;
    let on_it = decoders.iter().find(|(_, address)| network_of(routes, *address) == Some(first)).map(|(name, _)| *name);
    let never =
        format!("take the default route from {first} (nmcli: ipv4.never-default yes ipv6.never-default yes; {HOW})");
    let works = others.iter().find(|(other, _)| reaches.get(*other) == Some(&true));
    Some(match (reaches.get(first), works, on_it) {
        // With one network, that line would say less than the one about the device.
        (Some(true), ..) if others.is_empty() && on_it.is_none() => return None,
        (Some(true), ..) => (CheckVerdict::Ok, format!("the cloud is reached through {first}")),
        (Some(false), Some((other, of_other)), _) => (
            CheckVerdict::Warn,
            format!(
                "{first} (metric {metric}) is used first and does not reach the cloud; {other} (metric {of_other}) does: {never}"
            ),
        ),
        (reached, _, Some(decoder)) if others.is_empty() => {
            let internet = match reached {
                Some(_) => "It does not reach the cloud",
                None => "If that network has internet, all is well (passbridge check --connect tells). If not",
            };
            (
                CheckVerdict::Warn,
                format!(
                    "the only way to the internet is {first}, the network of decoder `{decoder}`. {internet}: connect a stick or \
                     a phone, and {never}"
                ),
            )
        }
        (_, _, Some(decoder)) => (
            CheckVerdict::Warn,
            format!(
                "{first} (metric {metric}) is used first, and is the network of decoder `{decoder}`; {} comes after it. If \
                 {first} has no internet, {never}",
                others[0].0
            ),
        ),
        _ => return None,
    })
}

/// Shows which network leads to the internet. With `connect`, the cloud is called through each of
/// them.
pub(super) async fn check(config: &Config, connect: bool, report: &mut CheckReport) {
    let Some(cloud) = &config.cloud else { return };
    let [v4, v6] = TABLES.map(|table| std::fs::read_to_string(table).unwrap_or_default());
    let literal = |address: &Address| match address {
        Address::Tcp { host, .. } => host.parse::<IpAddr>().ok(),
        _ => None,
    };
    let decoders: Vec<(&str, IpAddr)> =
        config.decoders.iter().filter_map(|it| Some((it.name.as_str(), literal(&it.address)?))).collect();
    for (family, routes) in [("IPv4", routes_v4(&v4)), ("IPv6", routes_v6(&v6))] {
        let ways: Vec<String> = ways_out(&routes).into_iter().map(|(interface, _)| interface.to_owned()).collect();
        let reaches = match connect {
            true => reached(&cloud.url, family == "IPv6", ways).await,
            false => BTreeMap::new(),
        };
        if let Some((verdict, text)) = judge(&routes, &decoders, &reaches) {
            report.add(verdict, "route", family, text);
        }
    }
}

/// Whether the host of the cloud takes a connection through each of these interfaces. An interface of
/// which that cannot be found out is left out.
async fn reached(url: &url::Url, v6: bool, interfaces: Vec<String>) -> BTreeMap<String, bool> {
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else { return BTreeMap::new() };
    let found = timeout(PATIENCE, lookup_host((host.trim_matches(['[', ']']), port))).await;
    let Ok(Ok(mut addresses)) = found else { return BTreeMap::new() };
    // A simulated cloud on this box is reached through no network.
    let outside = |address: &SocketAddr| address.is_ipv6() == v6 && !address.ip().is_loopback();
    let Some(address) = addresses.find(outside) else { return BTreeMap::new() };
    let mut reaches = BTreeMap::new();
    for interface in interfaces {
        if let Some(reached) = through(&interface, address).await {
            reaches.insert(interface, reached);
        }
    }
    reaches
}

/// `None`: the system does not let this user choose the interface.
async fn through(interface: &str, address: SocketAddr) -> Option<bool> {
    let socket = if address.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() }.ok()?;
    socket.bind_device(Some(interface.as_bytes())).ok()?;
    Some(matches!(timeout(PATIENCE, socket.connect(address)).await, Ok(Ok(_))))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Raspberry Pi with decoders on eth0 and a stick, as the kernel writes it: eth0 comes first.
    const ETHERNET_FIRST: &str = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
usb0\t00000000\t0108A8C0\t0003\t0\t0\t700\t00000000\t0\t0\t0
eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
usb0\t0008A8C0\t00000000\t0001\t0\t0\t700\t00FFFFFF\t0\t0\t0
wlan0\t00000000\t0101A8C0\t0200\t0\t0\t5\t00000000\t0\t0\t0
";

    fn said(text: &str, reaches: &[(&str, bool)]) -> Option<(CheckVerdict, String)> {
        let decoders = [("mat", "192.168.1.50".parse().unwrap()), ("far", "10.0.0.9".parse().unwrap())];
        let reaches = reaches.iter().map(|(interface, reached)| ((*interface).to_owned(), *reached)).collect();
        judge(&routes_v4(text), &decoders, &reaches)
    }

    fn without(text: &str, begins: &str) -> String {
        text.lines().filter(|line| !line.starts_with(begins)).map(|line| format!("{line}\n")).collect()
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_network_without_internet_that_is_used_first_is_told_with_the_one_that_works() {
        let routes = routes_v4(ETHERNET_FIRST);
        assert_eq!(ways_out(&routes), [("eth0", 100), ("usb0", 700)], "the refused one is none");
        assert_eq!(network_of(&routes, "192.168.1.50".parse().unwrap()), Some("eth0"));
        assert_eq!(network_of(&routes, "10.0.0.9".parse().unwrap()), None, "it is behind a router");
        let (verdict, text) = said(ETHERNET_FIRST, &[("eth0", false), ("usb0", true)]).unwrap();
        assert_eq!(verdict, CheckVerdict::Warn);
        for word in
            ["eth0 (metric 100) is used first", "usb0 (metric 700) does", "never-default", "docs/timer/network.md"]
        {
            assert!(text.contains(word), "{text}");
        }
        // Without a try it is only known that the decoders are there.
        let (verdict, text) = said(ETHERNET_FIRST, &[]).unwrap();
        assert!(verdict == CheckVerdict::Warn && text.contains("network of decoder `mat`"), "{text}");
        let reached = Some((CheckVerdict::Ok, "the cloud is reached through eth0".to_owned()));
        assert_eq!(said(ETHERNET_FIRST, &[("eth0", true), ("usb0", true)]), reached);
        // As it should be.
        let right = without(ETHERNET_FIRST, "eth0\t00000000");
        assert_eq!((said(&right, &[]), said(&right, &[("usb0", true)])), (None, None));
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn the_only_way_out_over_the_network_of_the_decoders_is_told() {
        let only = without(ETHERNET_FIRST, "usb0");
        let (verdict, text) = said(&only, &[]).unwrap();
        assert!(verdict == CheckVerdict::Warn && text.contains("the only way to the internet is eth0"), "{text}");
        assert_eq!(said(&only, &[("eth0", true)]).unwrap().0, CheckVerdict::Ok, "one network for all is well");
        let (verdict, text) = said(&only, &[("eth0", false)]).unwrap();
        assert!(verdict == CheckVerdict::Warn && text.contains("It does not reach the cloud"), "{text}");
        assert_eq!(judge(&routes_v4("Iface\n"), &[], &BTreeMap::new()), None);
        assert_eq!(routes_v4("Iface\neth0 zz\neth0\t00000000\t0\tFFFFFFFFF\t0\t0\t0\t0\n"), [], "nonsense is left out");
    }

    #[test]
    fn the_table_of_ipv6_is_read_too() {
        let zeros = "0".repeat(32);
        let link = format!("fe80{}", "0".repeat(28));
        let line = |to: &str, prefix: &str, metric: &str, flags: &str, interface: &str| {
            format!("{to} {prefix} {zeros} 00 {zeros} {metric} 00000001 00000000 {flags} {interface:>8}\n")
        };
        let text = line(&zeros, "00", "00000400", "00000003", "wwan0")
            + &line(&link, "40", "00000100", "00000001", "eth0")
            + &line(&zeros, "00", "ffffffff", "00200200", "lo");
        let routes = routes_v6(&text);
        assert_eq!(ways_out(&routes), [("wwan0", 1024)]);
        assert_eq!(network_of(&routes, "fe80::17".parse().unwrap()), Some("eth0"));
        assert_eq!(network_of(&routes, "fe81::17".parse().unwrap()), None);
    }
}
