//! The commands, their arguments and their text.
//!
//! What a command does lives in its own module; here it gets its configuration, a runtime and an exit code after
//! sysexits(3). Mistakes on the command line end with 64 and say what is allowed.

use std::io::{self, BufReader, BufWriter, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::Value;

use crate::cloud::{audit, rufus};
use crate::commands::decode::{Decoder, Decoding, Input};
use crate::commands::export::ExportError;
use crate::commands::{capture, check, demo, export, probe, resend, rewind, simulate};
use crate::config::failure::Failure;
use crate::config::{self, Config, LoadOptions, Loaded};
use crate::daemon::{self, harden, logging};
use crate::decoders::{SettingError, Settings, Spec};
use crate::link::capture::HeaderError;
use crate::model::escape::ForTerminal;
use crate::serve::control::{self, ControlError, Request};
use crate::status::Snapshot;
use crate::status::glance;

/// Brings chip reads from timing decoders to the RUFUS Cloud: kept on disk first, uploaded in order, exactly once.
#[derive(Debug, Parser)]
#[command(name = "passbridge", version, propagate_version = true)]
#[command(
    after_help = "Exit codes: 0 done, 64 usage, 65 data, 69 unavailable, 74 I/O, 77 permission, 78 configuration."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon: read the decoders, keep every read, upload the passings.
    Run(RunArgs),
    /// Look over configuration, key, disk, clock and decoders; a line each. Changes nothing.
    Check(check::CheckArgs),
    /// Show what the daemon that runs here knows, at one glance.
    Status(StatusArgs),
    /// Write the kept reads to standard output, with or without a running daemon.
    Export(ExportArgs),
    /// Compare the journal with the cloud, passing by passing; exit code 0 only if both hold the same.
    Audit(audit::AuditArgs),
    /// Have a decoder give stored reads again; those that are here already are known and not sent twice.
    Rewind(rewind::RewindArgs),
    /// Upload what does not go by itself: reads that are held back because they may be of another race, or passings that
    /// were numbered for a device whose id was corrected since.
    Resend(resend::ResendArgs),
    /// Record what goes over a decoder's link, both ways, into a file: for a decoder that is not supported, or read wrongly.
    Capture(capture::CaptureArgs),
    /// A simulated race through the whole way into a simulated cloud; needs no configuration.
    Demo(DemoArgs),
    /// A decoder or a cloud to try things with.
    #[command(subcommand)]
    Simulate(simulate::Simulate),
    /// Find out what is on a cable: which protocol, at which rate, with three reads, or what it is instead. Changes nothing.
    Probe(probe::ProbeArgs),
    /// Show what a decoder really sends: a capture or raw bytes in, one JSON object per record on standard output.
    Decode(DecodeArgs),
}

/// Where the configuration and the data are.
#[derive(Clone, Debug, Args)]
pub struct Place {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "/etc/passbridge/passbridge.toml")]
    pub config: PathBuf,
    /// Use this data directory instead of the configured one.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

impl Place {
    /// The options to load the configuration with.
    pub fn options(&self) -> LoadOptions {
        LoadOptions { data_dir: self.data_dir.clone(), ..LoadOptions::new(&self.config) }
    }
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    place: Place,
    /// Show the page here instead of at the configured address ("off": nowhere).
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<String>,
}

#[derive(Debug, Args)]
struct StatusArgs {
    #[command(flatten)]
    place: Place,
    /// As JSON, the same as /api/status.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ExportArgs {
    #[command(flatten)]
    place: Place,
    /// How the file is written.
    #[arg(long, value_enum)]
    format: export::Format,
    /// From this time on, such as 2026-03-06T10:00:00Z; without a zone it is UTC.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    from: Option<Timestamp>,
    /// Before this time.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    to: Option<Timestamp>,
    /// Only this decoder, by its configured name, with all its locations; or only NAME/LOCATION.
    #[arg(long, value_name = "NAME")]
    decoder: Option<String>,
}

/// `demo`
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// How long the simulated race lasts.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: u64,
    /// Reads per second, over all decoders.
    #[arg(long, value_name = "N", default_value_t = 50.0, value_parser = rate)]
    pub rate: f64,
    /// Play this capture or recording of a decoder instead of a simulated race.
    #[arg(long, value_name = "FILE")]
    pub replay: Option<PathBuf>,
    /// The protocol of the recording, if the file does not say it.
    #[arg(long, value_name = "NAME", value_parser = protocol)]
    pub protocol: Option<Protocol>,
    /// Keep the data in this directory, to look at it afterwards.
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    /// The result as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
struct DecodeArgs {
    /// A capture, or raw bytes; without it standard input.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The decoder's protocol; without it the one that the capture names.
    #[arg(long, value_name = "NAME", value_parser = protocol)]
    protocol: Option<Protocol>,
    /// Zone of the decoder's clock, such as Europe/Madrid; without it the one that the capture names, or UTC.
    #[arg(long, value_name = "ZONE", value_parser = config::zone)]
    timezone: Option<TimeZone>,
    /// An option of the protocol; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    set: Vec<(String, String)>,
}

/// A registry line as an argument.
#[derive(Clone, Copy)]
pub struct Protocol(pub &'static Spec);

impl std::fmt::Debug for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.name)
    }
}

pub(crate) fn protocol(name: &str) -> Result<Protocol, String> {
    config::protocol(name).map(Protocol)
}

pub(crate) fn setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("must be KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

pub(crate) fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| (0.01..=100_000.0).contains(rate));
    rate.ok_or_else(|| "must be a number from 0.01 to 100000".to_owned())
}

fn instant(text: &str) -> Result<Timestamp, String> {
    let must =
        || "must be a time such as 2026-03-06T10:00:00Z, 2026-03-06T11:00:00+01:00 or 2026-03-06 (UTC)".to_owned();
    text.parse::<Timestamp>().or_else(|_| {
        let naive: DateTime = text.parse().map_err(|_| must())?;
        TimeZone::UTC.to_timestamp(naive).map_err(|_| must())
    })
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    harden::process();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too, and are no mistake.
            let code = if error.use_stderr() { 64 } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let code = match execute(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    };
    logging::finish();
    code
}

fn execute(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(args) => {
            let options = LoadOptions { listen: args.listen, ..args.place.options() };
            let Loaded { config, warnings, .. } = Config::load(&options)?;
            logging::start(&config.log);
            block_on(daemon::run(config, warnings))
        }
        Command::Check(args) => block_on(check::run(args)),
        Command::Status(args) => block_on(status(args)),
        Command::Export(args) => block_on(run_export(args)),
        Command::Audit(args) => block_on(audit::run(args)),
        Command::Rewind(args) => block_on(rewind::run(args)),
        Command::Resend(args) => block_on(resend::run(args)),
        Command::Capture(args) => block_on(capture::run(args)),
        Command::Demo(args) => block_on(demo::run(args)),
        Command::Simulate(what) => block_on(simulate::run(what)),
        Command::Probe(args) => block_on(probe::run(args)),
        Command::Decode(args) => decode(args),
    }
}

/// Two threads: the box has few cores and the journal has threads of its own.
fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    rufus::install_tls();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::io(format!("the system gives no threads or timers: {error}")))?;
    let result = runtime.block_on(work);
    // What is left is a task that waits for a client; whoever runs has ended what matters before returning.
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

/// Writes a command's result to standard output.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| Failure::output(&error))
}

/// Standard output for data from decoders: as it is for a program or a file, made harmless for a terminal.
fn stdout() -> Box<dyn Write> {
    let out = io::stdout().lock();
    if out.is_terminal() { Box::new(ForTerminal(out)) } else { Box::new(out) }
}

/// The configuration for a command that needs no key.
pub(crate) fn load_keyless(place: &Place) -> Result<Config, Failure> {
    Ok(Config::load(&LoadOptions { keyless: true, ..place.options() })?.config)
}

async fn status(args: StatusArgs) -> Result<(), Failure> {
    let status = match &args.place.data_dir {
        Some(dir) => control::ask(dir, Request::Status).await?,
        None => control::status(&load_keyless(&args.place)?).await?,
    };
    if args.json {
        return print(&format!("{status}\n"));
    }
    let status: Snapshot = serde_json::from_value(status).map_err(|_| {
        Failure::unavailable("the passbridge that runs is of another version: restart it, or use --json")
    })?;
    print(&glance::text(&status))
}

async fn run_export(args: ExportArgs) -> Result<(), Failure> {
    let config = load_keyless(&args.place)?;
    // Beside a running daemon the last lines of the log may not be on the disk yet, and are not told before they are.
    let durable = match control::ask(&config.data_dir, Request::Durable).await {
        Ok(answer) => answer.get("durable").and_then(Value::as_u64).unwrap_or(0),
        Err(ControlError::NotRunning(_)) => u64::MAX,
        Err(error) => return Err(error.into()),
    };
    let reading = export::Reading::new(&config);
    let query = export::Query { from: args.from, to: args.to, decoder: args.decoder, durable };
    let mut out = BufWriter::new(stdout());
    let summary =
        export::export(&config.data_dir, &reading, args.format, &query, &mut out).map_err(|error| match error {
            ExportError::NoJournal(_) => Failure::unavailable(error.to_string()),
            ExportError::Read(_) => Failure::io(error.to_string()),
            ExportError::Write(error) => Failure::output(&error),
        })?;
    out.flush().map_err(|error| Failure::output(&error))?;
    if summary.damaged > 0 {
        // The reads that are whole were written all the same.
        return Err(Failure::data(format!("{} damaged lines of the log are not in the export", summary.damaged)));
    }
    Ok(())
}

fn decode(args: DecodeArgs) -> Result<(), Failure> {
    let input: Box<dyn Read> = match &args.file {
        None => Box::new(io::stdin().lock()),
        Some(path) => {
            let file = std::fs::File::open(path);
            Box::new(BufReader::new(
                file.map_err(|error| Failure::io(format!("{} cannot be read: {error}", path.display())))?,
            ))
        }
    };
    let input = Input::new(input)?;
    let needs = || Failure::usage("which protocol? --protocol NAME (a capture may name it in its header)");
    let (spec, zone) = (args.protocol.map(|protocol| protocol.0), args.timezone);
    let mut settings: Settings = args.set.into_iter().collect();
    let unfit = |error: SettingError| Failure::usage(error.to_string());
    let ended = match input {
        Input::Raw(bytes) => {
            let spec = spec.ok_or_else(needs)?;
            let decoder = Decoder::new(spec, &settings, zone.unwrap_or(TimeZone::UTC)).map_err(unfit)?;
            decoder.run(bytes, stdout())?
        }
        Input::Capture(capture) => {
            let header = capture.header();
            let told = |error: HeaderError| Failure::data(error.to_string());
            let spec = spec.map_or_else(|| header.protocol().map_err(told)?.ok_or_else(needs), Ok)?;
            let zone = zone.map_or_else(|| header.zone().map_err(told), |zone| Ok(Some(zone)))?;
            let began = header.began().map_err(told)?;
            settings = header.settings_for(spec).into_iter().chain(settings).collect();
            let decoding = Decoding::new(spec, &settings, zone.unwrap_or(TimeZone::UTC), began).map_err(unfit)?;
            decoding.run(capture, stdout())?
        }
    };
    if ended.cut {
        logging::say("passbridge: the capture ends in the middle of a line: it was cut off there");
    }
    if ended.unfinished > 0 {
        // Usual when a live stream was cut off by hand: worth a word, no failure.
        logging::say(&format!("passbridge: the last {} bytes are no whole record", ended.unfinished));
    }
    Ok(())
}
