//! The decoders of the demo: simulated ones with a race, or one that plays a capture or a
//! recording.

use std::net::SocketAddr;
use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::commands::args::DemoArgs;
use crate::commands::simulate::Recorded;
use crate::config::Address;
use crate::config::failure::Failure;
use crate::decoders::{Settings, Spec, spec};
use crate::sim::decoder::{Kind, RaceConfig, ReadSource, SimConfig, SimDecoder, SimError, SimRead, Wiring};
use crate::sim::replay::{Pace, Player, Script};

pub(super) const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// Reads per second of a recording.
const REPLAY_RATE: f64 = 500.0;

/// A decoder of the demo before it runs.
pub(super) struct Planned {
    pub(super) protocol: &'static Spec,
    pub(super) settings: Settings,
    wiring: Wiring,
    role: Role,
}

enum Role {
    /// A race or rows of a recording. The wiring in the value is not used.
    Sim(Box<SimConfig>),
    Replay(Script, Vec<SimRead>),
}

/// A running decoder of the demo.
pub(super) enum Actor {
    Sim(SimDecoder),
    Replay(Player, Vec<SimRead>),
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::io(format!("the demo cannot be set up: {error}"))
}

/// Decides which decoders take part.
pub(super) async fn plan(args: &DemoArgs) -> Result<Vec<Planned>, Failure> {
    if let Some(path) = &args.replay {
        return Ok(vec![recorded(args, Recorded::open(path)?).await?]);
    }
    let kinds = [Kind::RACE_RESULT, Kind::ONE4ALL, Kind::MYLAPS, Kind::IPICO];
    let mut planned = Vec::new();
    for (at, kind) in (1..).zip(kinds) {
        let mut config = SimConfig::new(kind, Wiring::Listen(LOOPBACK));
        config.rate = args.rate / kinds.len() as f64;
        config.seed = at;
        config.start = whole_second(TimeZone::UTC.to_datetime(jiff::Timestamp::now()));
        config.limit = Some((config.rate * args.seconds as f64).ceil() as u64);
        config.source = ReadSource::Race(RaceConfig { field: 500, waves: 3, laps: None });
        config.repeat = Duration::from_secs(2);
        planned.push(simulated(kind, config).await?);
    }
    Ok(planned)
}

async fn recorded(args: &DemoArgs, recorded: Recorded) -> Result<Planned, Failure> {
    let named = args.protocol.map(|protocol| protocol.0);
    let needs = || Failure::usage("which protocol? --protocol NAME (a capture may name it in its header)");
    match recorded {
        Recorded::Raw(bytes) => {
            let protocol = named.ok_or_else(needs)?;
            let kind = Kind::from_name(protocol.name);
            let kind = kind.ok_or_else(|| Failure::usage("this protocol has no simulated decoder"))?;
            let mut config = SimConfig::new(kind, Wiring::Listen(LOOPBACK));
            config.rate = REPLAY_RATE;
            config.source = ReadSource::Recording(kind.rows(&bytes));
            simulated(kind, config).await
        }
        Recorded::Capture(header, script) => {
            let told = |error: crate::link::capture::HeaderError| Failure::data(error.to_string());
            let protocol = named.map_or_else(|| header.protocol().map_err(told)?.ok_or_else(needs), Ok)?;
            let settings = header.settings_for(protocol);
            let reads = script.reads(protocol, &settings).map_err(|error| Failure::data(error.to_string()))?;
            let connects = Kind::from_name(protocol.name).is_some_and(Kind::connects);
            Ok(Planned { protocol, settings, wiring: wiring(connects).await?, role: Role::Replay(script, reads) })
        }
    }
}

async fn simulated(kind: Kind, config: SimConfig) -> Result<Planned, Failure> {
    let protocol = spec(kind.name()).ok_or_else(|| failed(format!("protocol {} is not there", kind.name())))?;
    let wiring = wiring(kind.connects()).await?;
    Ok(Planned { protocol, settings: kind.settings(), wiring, role: Role::Sim(Box::new(config)) })
}

async fn wiring(connects: bool) -> Result<Wiring, Failure> {
    if !connects {
        return Ok(Wiring::Listen(LOOPBACK));
    }
    // The exporter needs the box's port before the box listens on it, so this takes a port that is
    // free now.
    let probe = tokio::net::TcpListener::bind(LOOPBACK).await.map_err(failed)?;
    probe.local_addr().map(Wiring::Connect).map_err(failed)
}

/// The race begins on a whole second, because IPICO's clock counts hundredths.
fn whole_second(now: DateTime) -> DateTime {
    now.date().at(now.hour(), now.minute(), now.second(), 0)
}

impl Planned {
    /// Starts the decoder and returns its address for the box.
    pub(super) async fn start(self) -> Result<(Actor, Address), Failure> {
        let target = if let Wiring::Connect(address) = self.wiring { Some(address) } else { None };
        let actor = self.role.start(self.wiring).await.map_err(failed)?;
        let address = match (target, actor.address()) {
            (Some(address), _) => Address::Listen(address),
            (None, Some(address)) => Address::Tcp { host: address.ip().to_string(), port: address.port() },
            (None, None) => return Err(failed("no address")),
        };
        Ok((actor, address))
    }
}

impl Role {
    async fn start(self, wiring: Wiring) -> Result<Actor, SimError> {
        match self {
            Self::Sim(config) => SimDecoder::start(SimConfig { wiring, ..*config }).await.map(Actor::Sim),
            Self::Replay(script, reads) => {
                Player::start(wiring, script, Pace::Max).await.map(|player| Actor::Replay(player, reads))
            }
        }
    }
}

impl Actor {
    fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Sim(sim) => sim.address(),
            Self::Replay(player, _) => player.address(),
        }
    }

    /// Reads that happened so far. For a capture it is the number of reads in it.
    pub(super) fn happened(&self) -> u64 {
        match self {
            Self::Sim(sim) => *sim.emitted().borrow(),
            Self::Replay(_, reads) => reads.len() as u64,
        }
    }

    pub(super) fn reads(&self) -> Vec<SimRead> {
        match self {
            Self::Sim(sim) => sim.reads(),
            Self::Replay(_, reads) => reads.clone(),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::Sim(sim) => sim.is_over(),
            Self::Replay(player, _) => player.is_over(),
        }
    }

    /// Puts the decoder on the network or takes it off. A capture is always on the network.
    pub(super) fn set_online(&self, online: bool) {
        if let Self::Sim(sim) = self {
            sim.set_online(online);
        }
    }

    pub(super) async fn stop(self) {
        match self {
            Self::Sim(sim) => sim.stop().await,
            Self::Replay(player, _) => player.stop().await,
        }
    }
}
