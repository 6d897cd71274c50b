//! The decoders: where they are, what they speak, and the zone of their clocks.

use std::collections::BTreeSet;
use std::path::Path;

use jiff::tz::TimeZone;

use super::args::SetupArgs;
use super::ask::Ask;
use crate::commands::args::{ProtocolArg, TimesIn};
use crate::commands::probe::{self, FoundDecoder, Target};
use crate::config::edit::{ConfigText, DecoderText};
use crate::config::failure::Failure;
use crate::config::{self, Address};
use crate::decoders::{Dials, REGISTRY, Settings, Spec};
use crate::model::text::printable;

/// Where the system lists serial adapters by names that do not change when they are plugged in again.
const SERIAL_PORTS: &str = "/dev/serial/by-id";
/// The name of the first decoder, unless another one is given.
const FIRST: &str = "finish-mat";

/// Puts the decoders of the flags into the text, or asks for them.
pub(super) async fn ask(ask: &Ask, args: &SetupArgs, text: &mut ConfigText) -> Result<(), Failure> {
    let mut given = BTreeSet::new();
    if let Some(name) =
        args.decoders.iter().filter_map(|decoder| decoder.name.as_ref()).find(|name| !given.insert(*name))
    {
        return Err(Failure::usage(format!("two --decoder are called {name}: give each a name of its own")));
    }
    for decoder in &args.decoders {
        let found = match &decoder.protocol {
            Some(ProtocolArg(spec)) => {
                let address = usual(&decoder.target, spec).map_err(Failure::usage)?;
                FoundDecoder { spec, address, set: Settings::new() }
            }
            None if args.offline => {
                return Err(Failure::usage(
                    "--offline asks no decoder, so --decoder must name the protocol: protocol=NAME,address=ADDRESS",
                ));
            }
            None => probe::look_at(&decoder.target, times(args)).await?.ok_or_else(|| {
                Failure::data(
                    "it is not known what this is: name its protocol with --decoder protocol=NAME,address=ADDRESS",
                )
            })?,
        };
        let name = decoder.name.clone().unwrap_or_else(|| free_name(text, found.spec));
        let zone = decoder.timezone.clone().unwrap_or_else(|| zone_of(args.timezone.as_ref()));
        text.set_decoder(&section(name, found, zone));
    }
    if !args.decoders.is_empty() || args.no_decoder || !ask.attended {
        return Ok(());
    }
    let names = text.decoder_names();
    if !names.is_empty() {
        ask.say(&format!("Decoders of the file: {}", printable(&names.join(", "))));
    }
    while let Some(found) = find(ask, args, text.decoder_names().is_empty()).await? {
        add(ask, args, text, found).await?;
    }
    Ok(())
}

/// Lets a place be chosen, and finds out what is there. `None`: no more decoders.
async fn find(ask: &Ask, args: &SetupArgs, first: bool) -> Result<Option<FoundDecoder>, Failure> {
    loop {
        let mut ports = serial_ports(Path::new(SERIAL_PORTS));
        let mut items: Vec<String> = ports.iter().map(|port| printable(port)).collect();
        items.push("An address in the network, or another port".to_owned());
        items.push(if first { "None yet" } else { "No more" }.to_owned());
        let last = items.len() - 1;
        let prompt = if first { "Where is the decoder" } else { "Where is the next decoder" };
        let chosen = ask.choose(prompt, items, if first { 0 } else { last }).await?;
        if chosen == last {
            return Ok(None);
        }
        let typed = match chosen < ports.len() {
            true => ports.swap_remove(chosen),
            false => {
                let check = |typed: &str| typed.parse::<Target>().map(|_| ());
                let prompt = "Address, such as 192.168.1.50, tcp-listen://0.0.0.0:3097 or /dev/ttyUSB0";
                ask.line(prompt, None, check).await?
            }
        };
        let target: Target = typed.parse().map_err(Failure::usage)?;
        if let Some(found) = what_is_there(ask, args, &target).await? {
            return Ok(Some(found));
        }
    }
}

/// Looks at an address. If nothing is recognised there, the protocol can be chosen from a list.
async fn what_is_there(ask: &Ask, args: &SetupArgs, target: &Target) -> Result<Option<FoundDecoder>, Failure> {
    loop {
        match probe::look_at(target, times(args)).await {
            Ok(Some(found)) => {
                let title = found.spec.title;
                if ask.yes(&format!("Take it as {title} ({})?", found.spec.name), true).await? {
                    return Ok(Some(found));
                }
            }
            Ok(None) => {}
            Err(failure) => ask.say(&failure.to_string()),
        }
        let items = ["Look again", "Choose what it is from a list", "Leave it out"].map(str::to_owned).to_vec();
        match ask.choose("What now", items, 0).await? {
            0 => {}
            1 => return by_hand(ask, target).await.map(Some),
            _ => return Ok(None),
        }
    }
}

async fn by_hand(ask: &Ask, target: &Target) -> Result<FoundDecoder, Failure> {
    // A protocol that needs options is written by hand: the documents have its block.
    let specs: Vec<&'static Spec> =
        REGISTRY.iter().copied().filter(|spec| (spec.make)(&Settings::new()).is_ok()).collect();
    let items: Vec<String> = specs.iter().map(|spec| format!("{} ({})", spec.title, spec.name)).collect();
    loop {
        let chosen = ask.choose("What is it", items.clone(), 0).await?;
        let Some(spec) = specs.get(chosen) else { continue };
        match usual(target, spec) {
            Ok(address) => return Ok(FoundDecoder { spec, address, set: Settings::new() }),
            Err(why) => ask.say(&why),
        }
    }
}

/// The whole address of a decoder whose protocol is known: its usual port or rate, if none is given.
fn usual(target: &Target, spec: &Spec) -> Result<Address, String> {
    match target {
        Target::Address(address) => Ok(address.clone()),
        Target::Ports(_) if spec.dials == Dials::TheDecoder => {
            Err(format!("{} connects to this box, so its address is tcp-listen://0.0.0.0:{}", spec.title, spec.port))
        }
        Target::Ports(host) => Ok(Address::Tcp { host: host.clone(), port: spec.port }),
        Target::Rates(address) => match spec.baud.first() {
            Some(rate) => Ok(probe::at_rate(address, *rate)),
            None => Err(format!("{} is usually at no serial line: say the rate with ?baud=9600", spec.title)),
        },
    }
}

/// Asks for the name and the zone of a decoder, and puts it into the text.
async fn add(ask: &Ask, args: &SetupArgs, text: &mut ConfigText, found: FoundDecoder) -> Result<(), Failure> {
    let taken = text.decoder_names();
    let check = move |typed: &str| match taken.iter().any(|name| name == typed) {
        true => Err("another decoder has this name".to_owned()),
        false => config::decoder_name(typed).map(|_| ()),
    };
    let name = ask.line("Its name; do not change it during a race", Some(free_name(text, found.spec)), check).await?;
    let zone = match found.spec.tells_utc || args.timezone.is_some() {
        true => zone_of(args.timezone.as_ref()),
        false => {
            let check = |typed: &str| config::zone(typed).map(|_| ());
            ask.line("Time zone that its clock is set to", Some(zone_of(None)), check).await?
        }
    };
    text.set_decoder(&section(name, found, zone));
    Ok(())
}

fn section(name: String, found: FoundDecoder, zone: String) -> DecoderText {
    let FoundDecoder { spec, address, set } = found;
    let timezone = (!spec.tells_utc).then_some(zone);
    DecoderText { name, protocol: spec.name.to_owned(), address: address.to_string(), timezone, set }
}

/// A name that no decoder has yet.
fn free_name(text: &ConfigText, spec: &Spec) -> String {
    let taken = text.decoder_names();
    let numbered = (2..).map(|number| format!("{}-{number}", spec.name));
    let mut names = [FIRST.to_owned(), spec.name.to_owned()].into_iter().chain(numbered);
    names.find(|name| !taken.contains(name)).unwrap_or_default() // the numbers do not end
}

fn zone_of(given: Option<&TimeZone>) -> String {
    let zone = given.cloned().unwrap_or_else(TimeZone::system);
    zone.iana_name().unwrap_or("UTC").to_owned()
}

fn times(args: &SetupArgs) -> TimesIn {
    TimesIn { timezone: args.timezone.clone() }
}

/// The serial adapters that are plugged in.
fn serial_ports(dir: &Path) -> Vec<String> {
    let listed = std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    let mut ports: Vec<String> = listed.filter_map(|port| port.path().to_str().map(str::to_owned)).collect();
    ports.sort();
    ports
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_that_is_known_completes_the_address() {
        let spec = |name| config::protocol(name).unwrap();
        let whole = |target: &str, name| usual(&target.parse().unwrap(), spec(name)).map(|it| it.to_string());
        assert_eq!(whole("10.0.0.1", "raceresult"), Ok("tcp://10.0.0.1:3601".to_owned()));
        assert_eq!(whole("/dev/ttyUSB0", "timy"), Ok("serial:///dev/ttyUSB0?baud=9600".to_owned()));
        assert_eq!(whole("tcp://10.0.0.1:7", "ipico"), Ok("tcp://10.0.0.1:7".to_owned()));
        assert!(whole("10.0.0.1", "mylaps").unwrap_err().contains("tcp-listen://0.0.0.0:3097"));
        assert!(whole("/dev/ttyUSB0", "mylaps").unwrap_err().contains("?baud=9600"));
    }

    #[test]
    fn serial_ports_are_listed_by_the_names_that_stay() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["usb-Prolific_x-if00", "usb-FTDI_y-if00"] {
            std::os::unix::fs::symlink("../../ttyUSB0", dir.path().join(name)).unwrap();
        }
        let ports = serial_ports(dir.path());
        assert!(ports[0].ends_with("usb-FTDI_y-if00") && ports.len() == 2, "{ports:?}");
        assert!(ports.iter().all(|port| matches!(port.parse(), Ok(Target::Rates(_)))));
        assert_eq!(serial_ports(&dir.path().join("none")), Vec::<String>::new());
    }
}
