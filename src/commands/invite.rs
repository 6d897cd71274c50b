//! `status --qr`: the address of the page and a token for one use, as a QR code on a terminal. A
//! phone that scans it is let in to the page.

use std::io::{IsTerminal, stdout};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use jiff::Timestamp;
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};
use serde_json::{Value, json};

use crate::commands::args::{Paths, print, running_box};
use crate::config::failure::Failure;
use crate::model::shown::ShownIn;
use crate::serve::control::{self, ControlRequest};

/// Most addresses that are listed beside the one of the code.
const OTHERS: usize = 6;
/// Black on white, whatever colours the terminal has.
const BLACK_ON_WHITE: &str = "\x1b[30;107m";
const USUAL_COLOURS: &str = "\x1b[0m";

/// Asks the daemon for a token, and shows it.
///
/// # Errors
/// Configuration (78): the page lets nobody in, because it has no token, or listens on this box only.
/// Unavailable (69): passbridge does not run, or this box has no address that others can reach.
pub(crate) async fn show(place: &Paths, shown: &ShownIn, json: bool) -> Result<(), Failure> {
    let answer = control::ask(&running_box(place), ControlRequest::Invite).await?;
    if let Some(why) = answer.get("refused").and_then(Value::as_str) {
        return Err(Failure::config(why.to_owned()));
    }
    let other = || Failure::unavailable("the passbridge that runs is of another version: restart it");
    let token = answer.get("token").and_then(Value::as_str).ok_or_else(other)?;
    let listen = answer.get("listen").and_then(Value::as_str).and_then(|text| text.parse().ok()).ok_or_else(other)?;
    let life = Duration::from_secs(answer.get("valid_s").and_then(Value::as_u64).ok_or_else(other)?);
    let found = if_addrs::get_if_addrs()
        .map_err(|error| Failure::io(format!("the addresses of this box cannot be listed: {error}")))?;
    let found = found.into_iter().map(|interface| (interface.ip(), interface.name)).collect();
    let links: Vec<String> = addresses(listen, found).into_iter().map(|to| format!("http://{to}/in/{token}")).collect();
    let Some(best) = links.first() else {
        let why = "this box has no address that another machine can reach: is its Wi-Fi on, or its cable in?";
        return Err(Failure::unavailable(why));
    };
    let until = Timestamp::now() + life;
    if json {
        return print(&format!("{}\n", json!({ "links": links, "valid_until": until.to_string() })));
    }
    let code = code(best).map_err(|error| Failure::data(format!("{best} does not fit into a QR code: {error}")))?;
    let code = if stdout().is_terminal() { on_white(&code) } else { code };
    let mut text = format!(
        "{code}\n{best}\nScan the code with a phone on the same network, and it is logged in to the page of this box. The code \
         counts\nonce, until {}.\n",
        shown.second(until)
    );
    if links.len() > 1 {
        text += "This box has other addresses, too:\n";
        links[1..].iter().take(OTHERS).for_each(|link| text += &format!("  {link}\n"));
    }
    print(&text)
}

/// The addresses of the page for other machines, the best one first. `found`: the addresses of this
/// box with the names of their interfaces.
fn addresses(listen: SocketAddr, found: Vec<(IpAddr, String)>) -> Vec<SocketAddr> {
    let at = |ip| SocketAddr::new(ip, listen.port());
    if !listen.ip().is_unspecified() {
        return vec![at(listen.ip())];
    }
    // `[::]` takes IPv4, too.
    let reached = |(ip, _): &(IpAddr, String)| match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_unspecified(),
        // A browser takes no address that needs the name of an interface.
        IpAddr::V6(ip) => listen.is_ipv6() && !ip.is_loopback() && !ip.is_unspecified() && !ip.is_unicast_link_local(),
    };
    let mut found: Vec<_> = found.into_iter().filter(reached).collect();
    found.sort_by_key(|(ip, name)| (rank(*ip, name), *ip));
    found.dedup_by_key(|(ip, _)| *ip);
    found.into_iter().map(|(ip, _)| at(ip)).collect()
}

/// How likely a phone reaches the address: the lower, the likelier.
fn rank(ip: IpAddr, interface: &str) -> u8 {
    const VIRTUAL: [&str; 7] = ["docker", "veth", "br-", "virbr", "tun", "wg", "tailscale"];
    let is_virtual = VIRTUAL.iter().any(|name| interface.starts_with(name));
    let family = match ip {
        // A phone has Wi-Fi.
        IpAddr::V4(ip) if ip.is_private() => u8::from(!interface.starts_with("wl")),
        IpAddr::V4(ip) if !ip.is_link_local() => 2,
        IpAddr::V6(_) => 3,
        IpAddr::V4(_) => 4,
    };
    family + if is_virtual { 5 } else { 0 }
}

/// The code as text of half blocks, two rows of the code in a line. The light parts are drawn, because
/// a terminal and the console of a box are dark.
fn code(text: &str) -> Result<String, qrcode::types::QrError> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L)?;
    Ok(code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build())
}

/// The same for a terminal of any colours: the dark parts are drawn, black on white.
fn on_white(code: &str) -> String {
    let inverse = |c| match c {
        '█' => ' ',
        ' ' => '█',
        '▀' => '▄',
        '▄' => '▀',
        c => c,
    };
    let line = |line: &str| {
        let line: String = line.chars().map(inverse).collect();
        format!("{BLACK_ON_WHITE}{line}{USUAL_COLOURS}")
    };
    code.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a phone reads that photographs the text, whose blocks are light on dark.
    fn photographed(text: &str) -> String {
        const SIDE: usize = 6; // pixels of a module
        let rows: Vec<Vec<(bool, bool)>> = text
            .lines()
            .map(|line| line.chars().map(|c| (matches!(c, '█' | '▀'), matches!(c, '█' | '▄'))).collect())
            .collect();
        let (width, height) = (rows[0].len() * SIDE, rows.len() * 2 * SIDE);
        let light = |x: usize, y: usize| {
            let (upper, lower) = rows[y / 2 / SIDE][x / SIDE];
            if (y / SIDE).is_multiple_of(2) { upper } else { lower }
        };
        let mut image =
            rqrr::PreparedImage::prepare_from_greyscale(width, height, |x, y| if light(x, y) { 255 } else { 0 });
        let grids = image.detect_grids();
        assert_eq!(grids.len(), 1, "one code is in the picture");
        grids[0].decode().unwrap().1
    }

    #[test]
    fn a_phone_reads_the_address_from_the_code() {
        for link in [
            "http://192.168.1.20:8470/in/0123456789abcdef0123456789abcdef",
            "http://[2001:db8:1234:5678:9abc:def0:1234:5678]:8470/in/0123456789abcdef0123456789abcdef",
        ] {
            let text = code(link).unwrap();
            assert_eq!(photographed(&text), link);
            let columns = text.lines().next().unwrap().chars().count();
            assert!(columns <= 60 && text.lines().count() <= 30, "it fits a console: {columns}");
            let coloured = on_white(&text).replace(BLACK_ON_WHITE, "").replace(USUAL_COLOURS, "");
            let drawn: String = coloured
                .chars()
                .map(|c| match c {
                    '█' => ' ',
                    ' ' => '█',
                    '▀' => '▄',
                    '▄' => '▀',
                    c => c,
                })
                .collect();
            assert_eq!(drawn, text, "the same code, with the other colour drawn");
        }
    }

    #[test]
    fn the_first_address_is_one_that_a_phone_reaches() {
        let found = || {
            [
                ("127.0.0.1", "lo"),
                ("::1", "lo"),
                ("fe80::1", "wlan0"),
                ("169.254.7.7", "eth0"),
                ("172.17.0.1", "docker0"),
                ("2001:db8::5", "wlan0"),
                ("192.168.1.20", "wlan0"),
                ("10.0.0.5", "eth0"),
            ]
            .map(|(ip, name)| (ip.parse().unwrap(), name.to_owned()))
            .to_vec()
        };
        let all = |listen: &str| -> Vec<String> {
            addresses(listen.parse().unwrap(), found()).iter().map(ToString::to_string).collect()
        };
        let four = ["192.168.1.20:8470", "10.0.0.5:8470", "169.254.7.7:8470", "172.17.0.1:8470"];
        assert_eq!(all("0.0.0.0:8470"), four);
        let both = ["192.168.1.20:80", "10.0.0.5:80", "[2001:db8::5]:80", "169.254.7.7:80", "172.17.0.1:80"];
        assert_eq!(all("[::]:80"), both);
        assert_eq!(all("192.168.1.20:8470"), ["192.168.1.20:8470"]);
    }
}
