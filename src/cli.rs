//! The commands, their arguments and their text.
//!
//! What a command does lives in its own module; here it gets its configuration, a runtime and an
//! exit code after sysexits(3). Mistakes on the command line end with 64 and say what is allowed.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::cloud::rufus;
use crate::commands::args::{self, Paths};
use crate::commands::{
    audit, capture, check, correct, decode, demo, device, export, generate, hold, import_boot, link, marker, passings,
    probe, reads, report, resend, rewind, room, search, seen, session, set_aside, setup, simulate, status, version,
    watch,
};
use crate::config::failure::Failure;
use crate::config::{Config, LoadOptions};
use crate::daemon::{self, allocator, harden, logging};

/// Brings chip reads from timing decoders to the RUFUS Cloud: kept on disk first, uploaded in
/// order, exactly once.
#[derive(Debug, Parser)]
#[command(name = "passbridge", version, long_version = version::long(), propagate_version = true)]
#[command(
    after_help = "Exit codes: 0 done, 10 to 14 the state of the box (status), 64 usage, 65 data (audit: the cloud differs), \
                  69 unavailable, 74 I/O, 77 permission, 78 configuration, 130 Ctrl-C."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon: read the decoders, keep every read, upload the passings.
    Run(RunArgs),
    /// Set the box up: asks for the key, the device and the decoders, writes the configuration, checks
    /// it and starts the service. Every answer can be given by a flag.
    Setup(setup::SetupArgs),
    /// Look over configuration, key, disk, clock and decoders; a line each. Changes nothing.
    Check(check::CheckArgs),
    /// Show what the daemon that runs here knows, at one glance.
    Status(status::StatusArgs),
    /// Show the newest reads, a line each, and with --follow those that come.
    Reads(reads::ReadsArgs),
    /// Find a chip or a bib: each of its reads, when and where it was read, and what became of it.
    Search(search::SearchArgs),
    /// Write the kept reads to standard output, with or without a running daemon.
    Export(export::ExportArgs),
    /// Tell what happened on this box today, or in another time: for the organiser of the race. It is made
    /// of the log, with or without a running daemon.
    Report(report::ReportArgs),
    /// Compare the journal with the cloud, passing by passing; exit code 0 only if both hold the
    /// same.
    Audit(audit::AuditArgs),
    /// Fetch reads again from the decoder's memory (nothing is uploaded twice).
    Rewind(rewind::RewindArgs),
    /// Upload what does not go by itself: reads that are held back because they may be of another
    /// race, or passings that were numbered for a device whose id was corrected since.
    Resend(resend::ResendArgs),
    /// Keep every read and send none, until `release`: for tests before the gun.
    Hold(hold::HoldArgs),
    /// End a hold: send what was read meanwhile, or none of it.
    Release(hold::ReleaseArgs),
    /// Put a marker with the time of the box, such as the gun.
    Marker(marker::MarkerArgs),
    /// The passings that the cloud refused or fails at: list them, send them again, or drop them.
    #[command(subcommand)]
    SetAside(set_aside::SetAsideCommand),
    /// Acknowledge a loss that happened, so that it is not shown any more.
    Seen(seen::SeenArgs),
    /// Show what may go from the card although its retention is not over, and remove it.
    Room(room::RoomArgs),
    /// The link to a decoder.
    #[command(subcommand)]
    Link(link::LinkCommand),
    /// Move the times of reads whose decoder had a wrong clock or time zone. What is in the cloud is
    /// listed, and sent again under new numbers only if --send-again says so.
    Correct(correct::CorrectArgs),
    /// Record what goes over a decoder's link, both ways, into a file: for a decoder that is not
    /// supported, or read wrongly.
    Capture(capture::CaptureArgs),
    /// The timing devices of the account in the cloud: list, show, bind, unbind.
    #[command(subcommand)]
    Device(device::DeviceCommand),
    /// The sessions of a device in the cloud: list, show, open, close.
    #[command(subcommand)]
    Session(session::SessionCommand),
    /// Take the configuration and the API key over from the boot partition, where a laptop can write
    /// them. A service does this at each boot, before the box reads.
    ImportBoot(import_boot::ImportBootArgs),
    /// List the passings that the cloud holds, in a session or of a device, and say which of them this
    /// box sent.
    Passings(passings::PassingsArgs),
    /// Show the passings of a device as the cloud gets them, and how long each took from the read on
    /// this box.
    Watch(watch::WatchArgs),
    /// A simulated race through the whole way into a simulated cloud; needs no configuration.
    Demo(args::DemoArgs),
    /// A decoder or a cloud to try things with.
    #[command(subcommand)]
    Simulate(simulate::Simulate),
    /// Find out what is on a cable: which protocol, at which rate, with three reads, or what it is
    /// instead. Changes nothing.
    Probe(probe::ProbeArgs),
    /// Show what a decoder really sends: a capture or raw bytes in, one JSON object per record on
    /// standard output.
    Decode(decode::DecodeArgs),
    /// Write the completions of a shell to standard output. The package installs them.
    Completions(generate::CompletionsArgs),
    /// Write the man pages into a directory. The package installs them.
    Man(generate::ManArgs),
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    place: Paths,
    /// Show the page here instead of at the configured address ("off": nowhere).
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<String>,
}

/// The definitions of all commands.
pub(crate) fn program() -> clap::Command {
    Cli::command()
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    harden::process();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            if let Some(told) = meant_run(std::env::args().nth(1).as_deref()) {
                logging::say(&told);
                logging::finish();
                return ExitCode::from(64);
            }
            // Help and version come this way too, and are no mistake.
            let code = if error.use_stderr() { 64 } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let code = match execute(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => complain_of(&failure),
    };
    logging::finish();
    code
}

/// Words that people type for a command of another name, and that clap would take for `status`.
fn meant_run(word: Option<&str>) -> Option<String> {
    let word = word.filter(|word| matches!(*word, "start" | "restart" | "stop" | "daemon" | "serve" | "reload"))?;
    let service = if matches!(word, "daemon" | "serve") { "start" } else { word };
    let by_hand = if matches!(word, "stop" | "reload") {
        String::new()
    } else {
        ". To run it in this terminal: passbridge run".to_owned()
    };
    Some(format!(
        "passbridge: there is no command `{word}`. As a service: sudo systemctl {service} passbridge{by_hand}"
    ))
}

/// Writes the line to standard error, if there is one to write, and gives the process's exit code.
fn complain_of(failure: &Failure) -> ExitCode {
    if !failure.is_told() {
        logging::complain(&format!("passbridge: {failure}"));
    }
    ExitCode::from(failure.exit_code())
}

fn execute(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(args) => {
            allocator::set_up();
            let options = LoadOptions { listen: args.listen, ..args.place.options() };
            // Whoever typed a wrong name at a terminal is there to correct it. A service has to wait for its file.
            let loaded = match std::io::stderr().is_terminal() {
                true => Config::load_what_is_right(&options)?,
                false => Config::load_or_not_set_up(&options)?,
            };
            // Whoever typed a wrong flag is there to correct it.
            if let Some(fault) = loaded.config.faults.iter().find(|fault| fault.error.is_of_a_flag()) {
                return Err(fault.error.clone().into());
            }
            logging::start(&loaded.config.log);
            block_on(daemon::run(loaded, options))
        }
        Command::Setup(args) => block_on(setup::run(args)),
        Command::Check(args) => block_on(check::run(args)),
        Command::Status(args) => block_on(status::run(args)),
        Command::Reads(args) => block_on(reads::run(args)),
        Command::Search(args) => block_on(search::run(args)),
        Command::Export(args) => block_on(export::run(args)),
        Command::Report(args) => block_on(report::run(args)),
        Command::Audit(args) => block_on(audit::run(args)),
        Command::Rewind(args) => block_on(rewind::run(args)),
        Command::Resend(args) => block_on(resend::run(args)),
        Command::Hold(args) => block_on(hold::hold(args)),
        Command::Release(args) => block_on(hold::release(args)),
        Command::Marker(args) => block_on(marker::run(args)),
        Command::SetAside(what) => block_on(set_aside::run(what)),
        Command::Seen(args) => block_on(seen::run(args)),
        Command::Room(args) => block_on(room::run(args)),
        Command::Link(what) => block_on(link::run(what)),
        Command::Correct(args) => block_on(correct::run(args)),
        Command::Capture(args) => block_on(capture::run(args)),
        Command::Device(what) => block_on(device::run(what)),
        Command::Session(what) => block_on(session::run(what)),
        Command::ImportBoot(args) => import_boot::run(&args),
        Command::Passings(args) => block_on(passings::run(args)),
        Command::Watch(args) => block_on(watch::run(args)),
        Command::Demo(args) => block_on(demo::run(args)),
        Command::Simulate(what) => block_on(simulate::run(what)),
        Command::Probe(args) => block_on(probe::run(args)),
        Command::Decode(args) => decode::run(args),
        Command::Completions(args) => generate::completions(&args, program()),
        Command::Man(args) => generate::man(&args, program()),
    }
}

/// One thread for all tasks: a second one makes the box no faster, and with it a read wakes twice as many
/// threads (docs/evidence/disk-and-memory.md). The journal has threads of its own, and a task that may wait
/// for the disk hands this thread over meanwhile.
fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    rufus::install_tls();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Failure::io(format!("the system gives no threads or timers: {error}")))?;
    let result = runtime.block_on(work);
    // What is left is a task that waits for a client; whoever runs has ended what matters before
    // returning.
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Commands that show no time to a person, or whose --timezone is the zone of a decoder's clock:
    /// what `capture` and `decode` write is for programs, and `setup` writes that zone.
    const WITHOUT_TIMES: [&str; 13] = [
        "run",
        "setup",
        "hold",
        "release",
        "seen",
        "link",
        "import-boot",
        "demo",
        "simulate",
        "capture",
        "decode",
        "completions",
        "man",
    ];

    /// Commands without `--json`, and why. docs/timer/commands.md says the same.
    const WITHOUT_JSON: [(&str, &str); 9] = [
        ("run", "it writes its log alone; [log] format makes it JSON"),
        ("setup", "it talks with a person; what it checks is told by `check --json`"),
        ("import-boot", "it writes its log alone, and the reason on the boot partition"),
        ("export", "--format jsonl is its JSON"),
        ("capture", "what it writes is the capture"),
        ("decode", "it always writes JSON"),
        ("simulate", "it shows a person what goes on"),
        ("completions", "what it writes is for a shell"),
        ("man", "what it writes are pages"),
    ];

    #[test]
    fn every_command_that_tells_something_tells_it_as_json_too() {
        let cli = Cli::command();
        let has = |command: &clap::Command| command.get_arguments().any(|argument| argument.get_long() == Some("json"));
        for command in cli.get_subcommands() {
            let without = WITHOUT_JSON.iter().any(|(name, _)| *name == command.get_name());
            let of_it: Vec<_> = command.get_subcommands().collect();
            for one in if of_it.is_empty() { vec![command] } else { of_it } {
                assert_eq!(has(one), !without, "{} {}", command.get_name(), one.get_name());
            }
        }
        for (name, _) in WITHOUT_JSON {
            assert!(cli.find_subcommand(name).is_some(), "there is no {name} any more");
        }
    }

    #[test]
    fn every_command_that_shows_times_shows_them_in_the_zone_that_is_asked_for() {
        let cli = Cli::command();
        let same = |command: &clap::Command| {
            let zone = command.get_arguments().find(|argument| argument.get_long() == Some("timezone"))?;
            zone.get_help().map(|help| help.to_string().starts_with("Zone of the times that are shown"))
        };
        for command in cli.get_subcommands().filter(|command| !WITHOUT_TIMES.contains(&command.get_name())) {
            let of_it: Vec<_> = command.get_subcommands().collect();
            let all = if of_it.is_empty() { vec![command] } else { of_it };
            for one in all {
                assert_eq!(same(one), Some(true), "{} {}", command.get_name(), one.get_name());
            }
        }
        for name in WITHOUT_TIMES {
            assert!(cli.find_subcommand(name).is_some(), "there is no {name} any more");
        }
    }
}
