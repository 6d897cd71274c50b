//! `simulate`: a simulated decoder or cloud on the command line, the same that the tests use. The
//! cloud is in a file of its own.

mod cloud;

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::commands::args::{ProtocolArg, print, protocol, rate};
use crate::config::failure::Failure;
use crate::daemon::logging;
use crate::decoders::Missed;
use crate::link::capture::{CaptureError, CaptureReader, Header, HeaderError, is_capture};
use crate::sim::decoder::{
    DecoderHabit, FIELD_MAX, Kind, RaceConfig, ReadSource, SimConfig, SimDecoder, SimError, WireFault, Wiring,
};
use crate::sim::replay::{Pace, Player, Script};

/// A recording is in memory as a whole, and a larger file is not the recording of a race.
const RECORDING_LIMIT: u64 = 256 << 20;

#[derive(Debug, Subcommand)]
pub(crate) enum Simulate {
    /// A decoder that sends reads as the real one does.
    Decoder(DecoderArgs),
    /// A RUFUS Cloud that takes passings and forgets them when it ends.
    Cloud(cloud::CloudArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DecoderArgs {
    /// The decoder's protocol; not needed for a capture that names it.
    #[arg(long, value_name = "NAME", value_parser = protocol, required_unless_present_any = ["replay", "habits"])]
    protocol: Option<ProtocolArg>,
    /// Wait here for passbridge; without it on 127.0.0.1 at the decoder's usual port.
    #[arg(long, value_name = "ADDR:PORT", conflicts_with = "connect")]
    listen: Option<SocketAddr>,
    /// Connect to passbridge there; without it a decoder that connects does so to 127.0.0.1 at the
    /// usual port.
    #[arg(long, value_name = "ADDR:PORT")]
    connect: Option<SocketAddr>,
    /// Reads per second.
    #[arg(long, value_name = "N", default_value_t = 10.0, value_parser = rate)]
    rate: f64,
    /// Chips in the race.
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=i64::from(FIELD_MAX)))]
    field: u32,
    /// Start waves.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    waves: u32,
    /// The same seed makes the same race.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// What goes wrong, counted in frames of a connection; may be given several times: garbage:50
    /// (noise before every 50th), cut:100 (the connection, inside every 100th), duplicate:10 (every
    /// 10th is sent twice), bytewise, freeze:200:30 (nothing moves for 30 s after 200).
    #[arg(long = "fault", value_name = "FAULT", value_parser = fault)]
    faults: Vec<WireFault>,
    /// Something that decoders do, or that is done to them, after so many reads (without a number:
    /// at the start); may be given several times. --habits lists them.
    #[arg(long = "habit", value_name = "NAME[:AFTER]", value_parser = habit)]
    habit: Vec<(DecoderHabit, u64)>,
    /// List the habits, and end.
    #[arg(long)]
    habits: bool,
    /// A timing point of a decoder that names them (chronotrack, mylaps); may be given several
    /// times: ten reads at each in turn.
    #[arg(long = "location", value_name = "NAME")]
    locations: Vec<String>,
    /// Id of the reader in the records (chronotrack): two simulated sources with one location name
    /// have two.
    #[arg(long, value_name = "ID")]
    reader: Option<String>,
    /// Play the decoder's direction of this capture (`passbridge capture`) instead; or send the
    /// rows of this recording of raw bytes, --rate of them a second.
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// How many times as fast as it was a capture is played; `max`: as fast as it is taken.
    #[arg(long, value_name = "N", default_value = "1", value_parser = pace, requires = "replay")]
    pace: Pace,
    /// End after so many reads; without it go on until interrupted.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

fn pace(text: &str) -> Result<Pace, String> {
    if text == "max" {
        return Ok(Pace::Max);
    }
    let factor = text.parse::<f64>().ok().filter(|factor| (0.001..=1e6).contains(factor));
    factor.map(Pace::Times).ok_or_else(|| "must be `max` or a number from 0.001 to 1000000".to_owned())
}

fn fault(text: &str) -> Result<WireFault, String> {
    let mut words = text.split(':');
    let name = words.next().unwrap_or_default();
    let mut number = || words.next().and_then(|word| word.parse::<u64>().ok()).filter(|number| *number > 0);
    let known = match name {
        "garbage" => number().map(|every| WireFault::Garbage { every }),
        "cut" => number().map(|every| WireFault::Cut { every }),
        "duplicate" => number().map(|every| WireFault::Duplicate { every }),
        "bytewise" => Some(WireFault::Bytewise),
        "freeze" => {
            number().zip(number()).map(|(after, pause)| WireFault::Freeze { after, pause: Duration::from_secs(pause) })
        }
        _ => None,
    };
    known
        .filter(|_| words.next().is_none())
        .ok_or_else(|| "must be garbage:EVERY, cut:EVERY, duplicate:EVERY, bytewise or freeze:AFTER:SECONDS".to_owned())
}

fn habit(text: &str) -> Result<(DecoderHabit, u64), String> {
    let (name, after) = text.split_once(':').map_or((text, Some(0)), |(name, after)| (name, after.parse().ok()));
    DecoderHabit::from_name(name).zip(after).ok_or_else(|| {
        let names: Vec<&str> = DecoderHabit::ALL.iter().map(|habit| habit.described().0).collect();
        format!("must be one of {}, and a number of reads may follow (clear:50)", names.join(", "))
    })
}

/// Runs until the simulation is over or interrupted.
pub(crate) async fn run(what: Simulate) -> Result<(), Failure> {
    let simulated = async {
        match what {
            Simulate::Decoder(args) => decoder(args).await,
            Simulate::Cloud(args) => cloud::run(args).await,
        }
    };
    tokio::select! {
        ended = simulated => ended,
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

async fn decoder(args: DecoderArgs) -> Result<(), Failure> {
    if args.habits {
        let lines =
            DecoderHabit::ALL.iter().map(|habit| habit.described()).map(|(name, what)| format!("{name:20}{what}\n"));
        return print(&lines.collect::<String>());
    }
    let recorded = args.replay.as_deref().map(Recorded::open).transpose()?;
    if let Some(Recorded::Capture(header, script)) = recorded {
        return replay(&args, &header, script).await;
    }
    if args.pace != Pace::Times(1.0) {
        return Err(Failure::usage("--pace is for captures; how fast the rows of raw bytes come is said with --rate"));
    }
    let Some(ProtocolArg(spec)) = args.protocol else {
        return Err(Failure::usage("which protocol? --protocol NAME (only a capture names it itself)"));
    };
    let kind = Kind::from_name(spec.name)
        .ok_or_else(|| Failure::usage(format!("there is no simulated decoder for {}", spec.name)))?;
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, spec.port));
    let wiring = match (args.listen, args.connect) {
        (Some(address), _) => Wiring::Listen(address),
        (None, Some(address)) => Wiring::Connect(address),
        (None, None) if kind.connects() => Wiring::Connect(usual),
        (None, None) => Wiring::Listen(usual),
    };
    let place = match &wiring {
        Wiring::Connect(address) => format!("connects to {address}"),
        _ => "listens".to_owned(),
    };
    let source = match recorded {
        Some(Recorded::Raw(bytes)) => ReadSource::Recording(kind.rows(&bytes)),
        _ => ReadSource::Race(RaceConfig { field: args.field, waves: args.waves, laps: None }),
    };
    let start = TimeZone::UTC.to_datetime(Timestamp::now());
    let (rate, limit, seed) = (args.rate, args.count, args.seed);
    let mut config =
        SimConfig { source, rate, limit, start, seed, faults: args.faults, ..SimConfig::new(kind, wiring) };
    if !args.locations.is_empty() {
        config.locations = args.locations;
    }
    if args.reader.is_some() && !kind.names_its_reader() {
        return Err(Failure::usage(format!("--reader is for chronotrack: records of {} name none", spec.name)));
    }
    config.reader = args.reader.unwrap_or(config.reader);
    let decoder = SimDecoder::start(config).await.map_err(|error| match error {
        SimError::Listen(..) => Failure::unavailable(error.to_string()),
        SimError::Wiring(..) => Failure::usage(error.to_string()),
    })?;
    let place = decoder.address().map_or(place, |address| format!("listens on {address}"));
    print(&format!("simulated {} {place}; its clock is in UTC\n", spec.title))?;
    let mut habits = args.habit;
    habits.sort_by_key(|(_, after)| *after);
    tell(&decoder, kind, habits.into()).await
}

/// Writes a line a second while something happens. It ends when everything was sent and, if the
/// decoder waits for it, acknowledged.
async fn tell(decoder: &SimDecoder, kind: Kind, mut habits: VecDeque<(DecoderHabit, u64)>) -> Result<(), Failure> {
    let (mut emitted, acked, links) = (decoder.emitted(), decoder.acked_count(), decoder.links());
    let mut told = String::new();
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        while let Some((habit, _)) = habits.front().copied().filter(|(_, after)| *after <= *emitted.borrow()) {
            habits.pop_front();
            print(&format!("{}\n", habit.described().0))?;
            decoder.does(habit).await;
        }
        tokio::select! {
            _ = second.tick() => {}
            _ = emitted.changed(), if !habits.is_empty() => continue,
        }
        let (happened, links) = (*emitted.borrow(), *links.borrow());
        let mut line = format!("{happened} reads, {links} connected");
        let mut open = 0;
        if kind.spec().missed == Missed::Repeated {
            let acked = *acked.borrow();
            open = happened - acked.min(happened);
            line.push_str(&format!(", {acked} acknowledged"));
        }
        if line != told {
            print(&format!("{line}\n"))?;
            told = line;
        }
        // A decoder that stores its reads may be asked for them as long as somebody is connected.
        if decoder.is_over() && open == 0 && links == 0 {
            return Ok(());
        }
    }
}

/// Plays a capture until it is over and nobody is connected.
async fn replay(args: &DecoderArgs, header: &Header, script: Script) -> Result<(), Failure> {
    if !args.faults.is_empty() || !args.habit.is_empty() || args.count.is_some() || !args.locations.is_empty() {
        return Err(Failure::usage("a capture is played as it is: without --fault, --habit, --count and --location"));
    }
    let told = |error: HeaderError| Failure::data(error.to_string());
    let spec = match &args.protocol {
        Some(protocol) => Some(protocol.0),
        None => header.protocol().map_err(told)?,
    };
    let usual = spec.map(|spec| SocketAddr::from((Ipv4Addr::LOCALHOST, spec.port)));
    let connects = spec.and_then(|spec| Kind::from_name(spec.name)).is_some_and(Kind::connects);
    let needs =
        || Failure::usage("where? The capture names no protocol: say --listen ADDR:PORT or --connect ADDR:PORT");
    let wiring = match (args.listen, args.connect) {
        (Some(address), _) => Wiring::Listen(address),
        (None, Some(address)) => Wiring::Connect(address),
        (None, None) if connects => Wiring::Connect(usual.ok_or_else(needs)?),
        (None, None) => Wiring::Listen(usual.ok_or_else(needs)?),
    };
    let place = if let Wiring::Connect(address) = &wiring { format!("connects to {address}") } else { String::new() };
    if script.cut {
        logging::say("passbridge: the capture ends in the middle of a line: it was cut off there");
    }
    let player = Player::start(wiring, script, args.pace).await;
    let player = player.map_err(|error| Failure::unavailable(error.to_string()))?;
    let place = player.address().map_or(place, |address| format!("listens on {address}"));
    print(&format!("the capture of {} {place}\n", spec.map_or("an unknown decoder", |spec| spec.title)))?;
    let (bytes, links) = (player.bytes(), player.links());
    let mut told = String::new();
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        second.tick().await;
        let over = if player.is_over() { ", all of it" } else { "" };
        let (sent, open) = (*bytes.borrow(), *links.borrow());
        let line = format!("{sent} bytes sent{over}, {open} connected");
        if line != told {
            print(&format!("{line}\n"))?;
            told = line;
        }
        if player.is_over() && open == 0 {
            return Ok(());
        }
    }
}

/// The recording that `--replay` names.
pub(crate) enum Recorded {
    /// A capture file.
    Capture(Header, Script),
    /// Raw bytes of a decoder.
    Raw(Vec<u8>),
}

impl Recorded {
    /// Reads the whole file.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        let unreadable = |error: io::Error| Failure::io(format!("{shown} cannot be read: {error}"));
        let metadata = std::fs::metadata(path).map_err(unreadable)?;
        if metadata.len() > RECORDING_LIMIT {
            return Err(Failure::data(format!("{shown} is larger than {} MB: no recording", RECORDING_LIMIT >> 20)));
        }
        let bytes = std::fs::read(path).map_err(unreadable)?;
        if !is_capture(&bytes) {
            return Ok(Self::Raw(bytes));
        }
        let wrong = |error: CaptureError| Failure::data(format!("{shown}: {error}"));
        let reader = CaptureReader::new(bytes.as_slice()).map_err(wrong)?;
        let header = reader.header().clone();
        Ok(Self::Capture(header, Script::read(reader).map_err(wrong)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_typed_as_the_help_says_and_nothing_else_is_taken() {
        assert_eq!(fault("garbage:50"), Ok(WireFault::Garbage { every: 50 }));
        assert_eq!(fault("freeze:200:30"), Ok(WireFault::Freeze { after: 200, pause: Duration::from_secs(30) }));
        assert_eq!(fault("bytewise"), Ok(WireFault::Bytewise));
        for wrong in ["", "cut", "cut:0", "cut:x", "cut:1:2", "bytewise:1", "freeze:200", "earthquake:1"] {
            assert!(fault(wrong).is_err(), "{wrong}");
        }
        assert_eq!((pace("max"), pace("0.5")), (Ok(Pace::Max), Ok(Pace::Times(0.5))));
        assert!(["", "0", "-1", "inf", "NaN", "fast"].into_iter().all(|wrong| pace(wrong).is_err()));
        assert_eq!(habit("clear:50"), Ok((DecoderHabit::Clear, 50)));
        assert_eq!(habit("last-week"), Ok((DecoderHabit::LastWeek, 0)));
        assert!(["", "clear:", "clear:x", "earthquake"].into_iter().all(|wrong| habit(wrong).is_err()));
    }
}
