//! Finds out what is on a cable: which protocol, at which baud rate, with three reads, or what it
//! is instead. It is for somebody who has a box, a cable and no manual.
//!
//! What must hold:
//! * **No harm.** The probe listens first. It sends only what is in the registry
//!   ([`crate::decoders::question`]), where each question has the reason why it changes nothing. It
//!   never acknowledges, starts or sets anything, even if a decoder would only then send its reads.
//! * **Honest.** The words certain, likely and possible are meant exactly ([`Grade`]). What is not
//!   known is shown as bytes.
//! * **Bounded.** At most [`LIMIT`](crate::decoders::recognise::LIMIT) bytes are kept, and every
//!   wait has an end.
//!
//! `decoders::recognise`, `decoders::foreign` and the tables are pure. `listen` uses one wire,
//! `target` decides which wires and rates, and `report` makes what a person sees.
//!
//! Rejected: the replies of [`crate::decoders::Protocol`] itself. They are right for a known
//! decoder, but they would acknowledge, subscribe and set options at an unknown one.

mod listen;
pub(crate) mod questions;
mod report;
mod target;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use tokio::net::TcpListener;
use tokio::time::timeout;

use self::listen::{Heard, Plan, Role, listen};
pub(crate) use self::report::FoundDecoder;
use self::report::{ProbeReport, ProbeVerdict};
pub(crate) use self::target::{Target, at_rate};
use self::target::{find_rate, open_ports, rates};
use crate::commands::args::{TimesIn, print};
use crate::config::Address;
use crate::config::failure::Failure;
use crate::daemon::logging;
pub use crate::decoders::recognise::{Candidate, Grade, recognise};
use crate::decoders::{Dials, REGISTRY};
use crate::link::port::{Wire, dial, tune};
use crate::model::clock::Wall;

/// How long the probe listens by default. A decoder that sends by itself does so within this time.
const LISTEN: Duration = Duration::from_secs(8);
/// The total time for a serial line of unknown rate: two rounds through the rates.
const RATES_TIME: Duration = Duration::from_secs(60);
/// The wait for software that connects to us. It tries again every few seconds.
const THEY_CONNECT: Duration = Duration::from_secs(30);

/// `probe`
#[derive(Debug, Args)]
pub(crate) struct ProbeArgs {
    /// Where: tcp://HOST or tcp://HOST:PORT, serial:///dev/ttyUSB0 (perhaps with ?baud=9600), or
    /// tcp-listen://ADDRESS:PORT where its software connects to this box. Without a port the usual
    /// ones are tried, without a rate the usual ones are listened at.
    #[arg(value_name = "ADDRESS", value_parser = |text: &str| text.parse::<Target>())]
    address: Target,
    /// Listen for so long before anything is asked, such as 20s or 2m. Default 8s; 30s with
    /// tcp-listen; 60s in all for a serial line without a rate.
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    listen: Option<Duration>,
    /// Send nothing at all. Without it, a box that says nothing is asked harmless questions.
    #[arg(long)]
    listen_only: bool,
    #[command(flatten)]
    times: TimesIn,
    /// As JSON: a list, an object for each address that was looked at.
    #[arg(long)]
    json: bool,
}

fn time(text: &str) -> Result<Duration, String> {
    crate::config::duration(text, &(Duration::from_millis(100)..=Duration::from_secs(3600)))
}

/// Runs `probe`.
///
/// # Errors
/// 69: nothing answered, or the port cannot be opened. 65: the answer fits none of the protocols.
pub(crate) async fn run(args: ProbeArgs) -> Result<(), Failure> {
    let probe = Probe { args, wall: Wall::default() };
    let reports = probe.reports().await?;
    probe.show(&reports)?;
    let any = |verdict| reports.iter().any(|report| report.result == verdict);
    if any(ProbeVerdict::Recognised) {
        Ok(())
    } else if any(ProbeVerdict::Unknown) {
        Err(Failure::data("something that is none of the known protocols").already_told())
    } else {
        Err(Failure::unavailable("nothing answered").already_told())
    }
}

/// Looks at an address for `setup`, and says what was found and done. `None`: nothing was recognised.
///
/// # Errors
/// 69: the address cannot be opened.
pub(crate) async fn look_at(target: &Target, times: TimesIn) -> Result<Option<FoundDecoder>, Failure> {
    let args = ProbeArgs { address: target.clone(), listen: None, listen_only: false, times, json: false };
    let reports = Probe { args, wall: Wall::default() }.reports().await?;
    let (mut best, mut found) = (None, None);
    for mut report in reports {
        found = report.found.take();
        // The section is written, and not shown to be copied.
        report.config = None;
        best = Some(report);
        if found.is_some() {
            break;
        }
    }
    best.iter().for_each(|report| logging::say(report.text().trim_end()));
    Ok(found)
}

struct Probe {
    args: ProbeArgs,
    wall: Wall,
}

impl Probe {
    async fn reports(&self) -> Result<Vec<ProbeReport>, Failure> {
        match &self.args.address {
            Target::Address(address) => Ok(vec![self.address(address).await?]),
            Target::Ports(host) => self.ports(host).await,
            Target::Rates(address) => {
                let total = self.args.listen.unwrap_or(RATES_TIME);
                let rates: Vec<String> = rates().iter().map(u32::to_string).collect();
                self.say(&format!(
                    "Listening at {} baud, {} s in all. Pass a chip over the mat now, and again.",
                    rates.join(", "),
                    total.as_secs()
                ));
                let open = async |rate| {
                    self.say(&format!("  {rate} baud"));
                    dial(&at_rate(address, rate)).await
                };
                let (rate, heard) = find_rate(open, total, !self.args.listen_only, &self.wall)
                    .await
                    .map_err(|error| cannot_open(address, &error))?;
                Ok(vec![ProbeReport::new(&at_rate(address, rate), &heard, &self.args.times)])
            }
        }
    }

    async fn address(&self, address: &Address) -> Result<ProbeReport, Failure> {
        let heard = match address {
            Address::Listen(local) => self.they_connect(*local).await.map_err(|error| cannot_open(address, &error))?,
            _ => {
                let mut wire = dial(address).await.map_err(|error| cannot_open(address, &error))?;
                let role = if let Address::Tcp { port, .. } = address { Role::Port(*port) } else { Role::Serial };
                self.say("Listening. Pass a chip over the mat now.");
                listen(&mut wire, role, self.plan(LISTEN), &self.wall).await
            }
        };
        Ok(ProbeReport::new(address, &heard, &self.args.times))
    }

    fn plan(&self, usual: Duration) -> Plan {
        let listen = self.args.listen.unwrap_or(usual);
        Plan { listen, more: listen, ask: !self.args.listen_only, silent: Duration::ZERO }
    }

    async fn they_connect(&self, local: SocketAddr) -> io::Result<Heard> {
        let listener = TcpListener::bind(local).await?;
        self.say("Waiting for the decoder's software to connect.");
        let plan = self.plan(THEY_CONNECT);
        let Ok(accepted) = timeout(plan.listen, listener.accept()).await else {
            return Ok(Heard::nothing());
        };
        let (stream, from) = accepted?;
        self.say(&format!("{from} has connected."));
        tune(&stream)?;
        let mut wire: Wire = Box::new(stream);
        Ok(listen(&mut wire, Role::TheyConnected, plan, &self.wall).await)
    }

    /// Listens at every open port of the host until a protocol is recognised.
    async fn ports(&self, host: &str) -> Result<Vec<ProbeReport>, Failure> {
        let open = open_ports(host).await;
        if open.is_empty() {
            return Err(Failure::unavailable(format!(
                "{host} listens at none of the decoders' usual ports (or is not there: ping it). {}",
                those_that_connect()
            )));
        }
        let ports: Vec<String> = open.iter().map(u16::to_string).collect();
        self.say(&format!("Open at {host}: {}.", ports.join(", ")));
        let mut reports = Vec::new();
        for port in open {
            match self.address(&Address::Tcp { host: host.to_owned(), port }).await {
                Ok(report) => reports.push(report),
                Err(error) => self.say(&error.to_string()),
            }
            if reports.last().is_some_and(|report| report.result == ProbeVerdict::Recognised) {
                break;
            }
        }
        Ok(reports)
    }

    fn show(&self, reports: &[ProbeReport]) -> Result<(), Failure> {
        if self.args.json {
            let json = serde_json::to_string_pretty(reports)
                .map_err(|error| Failure::io(format!("cannot write the result: {error}")))?;
            return print(&format!("{json}\n"));
        }
        let texts: Vec<String> = reports.iter().map(ProbeReport::text).collect();
        print(&texts.join("\n"))
    }

    /// Shows the progress to the person who waits at a terminal.
    fn say(&self, text: &str) {
        if !self.args.json || io::stderr().is_terminal() {
            logging::say(text);
        }
    }
}

impl Heard {
    /// The result if nobody connected.
    fn nothing() -> Self {
        Self { bytes: Vec::new(), asked: Vec::new(), clock: None, ended: listen::Ended::Listened }
    }
}

/// Which decoders connect to this box, and how they are probed.
fn those_that_connect() -> String {
    let those: Vec<_> = REGISTRY.iter().filter(|spec| spec.dials == Dials::TheDecoder).collect();
    let short = |title: &'static str| title.split(' ').next().unwrap_or(title);
    let names: Vec<_> = those.iter().map(|spec| short(spec.title)).collect();
    let ports: Vec<_> = those.iter().map(|spec| spec.port.to_string()).collect();
    let ([names @ .., last], [port, ports @ ..]) = (&names[..], &ports[..]) else { return String::new() };
    let (names, ports) = (names.join(", "), ports.join(", "));
    format!("{names} and {last} connect to this box: passbridge probe tcp-listen://0.0.0.0:{port} ({ports})")
}

fn cannot_open(address: &Address, error: &io::Error) -> Failure {
    let serial = matches!(address, Address::Serial { .. });
    let text = error.to_string();
    // The serial crate has no error kind of its own for the lock and for EBUSY.
    let held = error.raw_os_error() == Some(16)
        || ["lock", "busy"].iter().any(|word| text.to_ascii_lowercase().contains(word));
    let hint = match error.kind() {
        _ if serial && held => {
            "another program holds the line: is passbridge running (systemctl stop passbridge), or another program that reads it?"
        }
        io::ErrorKind::AddrInUse => "another program listens there: is passbridge running (systemctl stop passbridge)?",
        io::ErrorKind::PermissionDenied if serial => {
            "this user may not: run it as root, or as a member of the group `dialout`"
        }
        io::ErrorKind::PermissionDenied => "this user may not: ports below 1024 need root",
        io::ErrorKind::NotFound if serial => {
            "there is no such device: is the adapter plugged in? `ls /dev/serial/by-id` shows what is"
        }
        io::ErrorKind::ConnectionRefused => {
            "the machine is there, but nobody listens at that port: `passbridge probe tcp://HOST` tries the usual ones"
        }
        io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            "is it switched on, plugged in, and in the same network as this box?"
        }
        _ => "look at the address and the cable",
    };
    let message = format!("cannot open {address}: {text}; {hint}");
    Failure::unavailable(message)
}
