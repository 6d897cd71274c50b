//! `capture`: writes both directions of a link into a file, beside the daemon that has the link or
//! without a daemon.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::commands::args::{Paths, ProtocolArg, load_keyless, protocol, running_box, setting};
use crate::config::failure::Failure;
use crate::config::{self, Address, Config};
use crate::daemon::logging;
use crate::link::capture::file::{Sink, seconds, stamp, usual_name};
use crate::link::capture::tap::{Recording, Tap};
use crate::link::capture::wires::Wires;
use crate::link::capture::{Header, Record};
use crate::serve::control::{self, Answered, ControlError, Stream};

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("source").required(true))]
pub(crate) struct CaptureArgs {
    /// Without a daemon: where the decoder is, as `address` in the configuration. Nothing is sent
    /// to it.
    #[arg(group = "source", value_name = "ADDRESS")]
    address: Option<Address>,
    /// Beside the daemon that runs here: the decoder, by its configured name.
    #[arg(long, group = "source", value_name = "NAME")]
    decoder: Option<String>,
    /// Sit between the decoder and its software, and pass all bytes: tcp-listen://ADDR:PORT where
    /// the software shall connect to instead of the decoder, or tcp://HOST:PORT where it listens
    /// for a decoder that connects.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "decoder")]
    relay: Option<Address>,
    /// End after this time, such as 60s or 10m; without it with Ctrl-C.
    #[arg(long = "for", value_name = "TIME", value_parser = config::time)]
    limit: Option<Duration>,
    /// The file; `-` is standard output. Without it one in this directory, named after decoder and
    /// time.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Overwrite the file if it is there.
    #[arg(long)]
    force: bool,
    /// For the file: the decoder's protocol.
    #[arg(long, value_name = "NAME", value_parser = protocol, conflicts_with = "decoder")]
    protocol: Option<ProtocolArg>,
    /// For the file: zone of the decoder's clock, such as Europe/Madrid.
    #[arg(long, value_name = "ZONE", value_parser = config::zone, conflicts_with = "decoder")]
    timezone: Option<TimeZone>,
    /// For the file: an option of the protocol; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting, conflicts_with = "decoder")]
    set: Vec<(String, String)>,
    /// For the file: what you know, such as device and firmware; may be given several times.
    #[arg(long, value_name = "TEXT")]
    comment: Vec<String>,
    #[command(flatten)]
    place: Paths,
}

/// Runs until the capture is over or interrupted.
pub(crate) async fn run(args: CaptureArgs) -> Result<(), Failure> {
    let stop = CancellationToken::new();
    let _ending = ending(args.limit, stop.clone())?;
    match (&args.decoder, &args.address) {
        (Some(decoder), _) => beside(&args, decoder, stop).await,
        (None, Some(address)) => alone(&args, address, stop).await,
        (None, None) => Err(Failure::usage("say which decoder: --decoder NAME, or its address")),
    }
}

/// Cancels `stop` when the time is over, or at SIGINT or SIGTERM. A hangup does not end the
/// capture: under `nohup` a relay runs longer than its terminal, and the file has only whole lines
/// at any moment.
fn ending(limit: Option<Duration>, stop: CancellationToken) -> Result<JoinHandle<()>, Failure> {
    let wish = |kind| signal(kind).map_err(|error| Failure::io(format!("no signals: {error}")));
    let (mut interrupt, mut terminate) = (wish(SignalKind::interrupt())?, wish(SignalKind::terminate())?);
    Ok(tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = sleep(limit.unwrap_or(Duration::MAX)) => {}
        }
        stop.cancel();
    }))
}

/// Captures through the daemon that runs here.
async fn beside(args: &CaptureArgs, decoder: &str, stop: CancellationToken) -> Result<(), Failure> {
    let config = load_keyless(&args.place);
    let data_dir = running_box(&args.place);
    let (header, stream) = match control::capture(&data_dir, decoder).await {
        Ok(Answered::Recording(header, stream)) => (header, stream),
        Ok(Answered::Unknown(why)) => return Err(Failure::usage(format!("{decoder}: {why}"))),
        Ok(Answered::Refused(why)) => return Err(Failure::unavailable(format!("{decoder}: {why}"))),
        Err(error @ ControlError::NotRunning(_)) => {
            return Err(Failure::unavailable(format!("{error}. {}", without(config.ok().as_ref(), decoder))));
        }
        Err(error) => return Err(error.into()),
    };
    let recorder = Recorder::begin(args, header, decoder, false)?;
    recorder.run(Source::Daemon(stream), &stop).await
}

/// The hint how to capture without a daemon.
fn without(config: Option<&Config>, decoder: &str) -> String {
    let address = config.and_then(|config| config.decoders.iter().find(|known| known.name == decoder));
    let address = address.map_or("ADDRESS".to_owned(), |decoder| decoder.address.to_string());
    format!(
        "Without it, `passbridge capture '{address}'` opens the decoder's port itself and listens, and with --relay sits \
         between the decoder and other software"
    )
}

/// Captures without a daemon.
async fn alone(args: &CaptureArgs, address: &Address, stop: CancellationToken) -> Result<(), Failure> {
    let wires = Wires::new(address.clone(), args.relay.clone()).await?;
    let mut header = Header::program();
    header.add("protocol", args.protocol.map_or("none", |protocol| protocol.0.name));
    header.add("address", address.to_string());
    if let Some(relay) = &args.relay {
        header.add("relay", relay.to_string());
    }
    header.add("began", stamp(Timestamp::now()));
    if let Some(zone) = args.timezone.as_ref().and_then(TimeZone::iana_name) {
        header.add("timezone", zone);
    }
    header.add_settings(&args.set.iter().cloned().collect());
    let tap = Tap::default();
    let Some(recording) = tap.listen() else { return Ok(()) }; // the first one is always allowed
    let recorder = Recorder::begin(args, header, &address.to_string(), args.relay.is_some())?;
    if let Some(listening) = wires.local_addr() {
        tell(&format!("waiting for connections on {listening}"));
    }
    // This runs as a task of its own, so that a slow disk under the file does not delay what is
    // relayed.
    let serving = tokio::spawn(wires.serve(tap, tell, stop.clone()));
    recorder.run(Source::Wires(recording, serving), &stop).await
}

fn tell(text: &str) {
    logging::say(&format!("passbridge: {text}"));
}

/// The source of the records.
enum Source {
    Daemon(Stream),
    Wires(Recording, JoinHandle<Result<(), Failure>>),
}

/// What the source delivered.
enum News {
    Records(Vec<Record>),
    /// There will be no more records.
    Over(Result<(), Failure>),
}

impl Source {
    async fn next(&mut self) -> News {
        match self {
            Self::Daemon(stream) => match stream.next().await {
                Ok(Some(record)) => News::Records(vec![record]),
                Ok(None) => {
                    tell("the passbridge that runs here ended the capture");
                    News::Over(Ok(()))
                }
                Err(error) => {
                    News::Over(Err(Failure::unavailable(format!("the passbridge that runs here fell silent: {error}"))))
                }
            },
            Self::Wires(recording, serving) => tokio::select! {
                records = recording.next() => News::Records(records),
                ended = serving => News::Over(returned(ended)),
            },
        }
    }

    /// Ends the source, and returns the records that are left.
    async fn end(self, over: bool) -> (Vec<Record>, Result<(), Failure>) {
        match self {
            Self::Daemon(_) if over => (Vec::new(), Ok(())),
            Self::Daemon(stream) => (stream.end().await, Ok(())),
            Self::Wires(recording, serving) => {
                let result = if over { Ok(()) } else { returned(serving.await) };
                (recording.rest(), result)
            }
        }
    }
}

fn returned(ended: Result<Result<(), Failure>, tokio::task::JoinError>) -> Result<(), Failure> {
    ended.unwrap_or_else(|error| Err(Failure::io(format!("a task of the program crashed: {error}"))))
}

/// Writes the records to the file.
struct Recorder {
    sink: Sink,
    path: PathBuf,
    began: Instant,
    /// A relay continues although nothing can be written.
    relay: bool,
    /// Why something could not be written.
    fault: Option<String>,
}

impl Recorder {
    fn begin(args: &CaptureArgs, mut header: Header, name: &str, relay: bool) -> Result<Self, Failure> {
        for comment in &args.comment {
            header.add("comment", comment);
        }
        let path = args.output.clone().unwrap_or_else(|| usual_name(name, Timestamp::now()));
        let shown = path.display();
        let sink = Sink::create(&path, args.force, &header).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Failure::usage(format!("{shown} is there already: --force overwrites it")),
            io::ErrorKind::InvalidInput => Failure::usage(error.to_string()),
            io::ErrorKind::BrokenPipe => Failure::output(&error),
            _ => Failure::io(format!("{shown} cannot be written: {error}")),
        })?;
        tell(&format!("recording {name} to {}; Ctrl-C ends it", file_name(&path)));
        Ok(Self { sink, path, began: Instant::now(), relay, fault: None })
    }

    async fn run(mut self, mut source: Source, stop: &CancellationToken) -> Result<(), Failure> {
        let mut flushes = interval(Duration::from_secs(1));
        flushes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut over = None;
        while over.is_none() {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = flushes.tick() => self.flush()?,
                news = source.next() => match news {
                    News::Records(records) => self.put(records)?,
                    News::Over(result) => over = Some(result),
                },
            }
        }
        stop.cancel();
        let (rest, ended) = source.end(over.is_some()).await;
        self.put(rest)?;
        self.put(Vec::new())?; // what the file still has to report
        self.flush()?;
        tell(&self.summary());
        over.unwrap_or(ended)?;
        match self.fault {
            Some(fault) => Err(Failure::io(format!("not all of it is in {}: {fault}", file_name(&self.path)))),
            None if self.sink.summary().connections > 0 => Ok(()),
            None => Err(Failure::unavailable("nobody was connected: there is nothing in the capture")),
        }
    }

    fn put(&mut self, records: Vec<Record>) -> Result<(), Failure> {
        if records.is_empty() && !self.sink.owes() {
            return Ok(());
        }
        let behind = self.sink.owes();
        match self.sink.put(records) {
            Ok(()) if behind => tell("there is room again: the recording goes on"),
            Ok(()) => {}
            Err(error) => self.failed(&error, behind)?,
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        match self.sink.sync() {
            Ok(()) => Ok(()),
            Err(error) => self.failed(&error, self.fault.is_some()),
        }
    }

    /// A relay continues. Any other capture ends, because it has nothing left to do.
    fn failed(&mut self, error: &io::Error, told: bool) -> Result<(), Failure> {
        if !self.relay {
            return match error.kind() {
                io::ErrorKind::BrokenPipe => Err(Failure::output(error)),
                _ => Err(Failure::io(format!("{} cannot be written: {error}", file_name(&self.path)))),
            };
        }
        if !told {
            let file = file_name(&self.path);
            tell(&format!("{file} cannot be written: {error}. Everything is still passed on, but NOT recorded"));
        }
        self.fault = Some(error.to_string());
        Ok(())
    }

    fn summary(&self) -> String {
        let summary = self.sink.summary();
        let lost = if summary.lost > 0 { format!(" ({} bytes LOST)", summary.lost) } else { String::new() };
        format!(
            "{} bytes from the decoder and {} to it, {} connections, {}{lost}: {}",
            summary.from,
            summary.to,
            summary.connections,
            seconds(self.began.elapsed()),
            file_name(&self.path)
        )
    }
}

fn file_name(path: &Path) -> String {
    if path == Path::new("-") { "standard output".to_owned() } else { path.display().to_string() }
}
