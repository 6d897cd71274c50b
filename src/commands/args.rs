//! What several commands share: arguments, and the output to standard output.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::config::failure::Failure;
use crate::config::{self, Config, LoadOptions, Part};
use crate::daemon::logging;
use crate::decoders::Spec;
use crate::model::escape::ForTerminal;
use crate::model::shown::ShownIn;
use crate::model::typed::{end_moment, moment};

/// Where the configuration and the data are.
#[derive(Clone, Debug, Args)]
pub(crate) struct Paths {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "/etc/passbridge/passbridge.toml")]
    pub config: PathBuf,
    /// Use this data directory instead of the configured one.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

impl Paths {
    /// The options with which the configuration is loaded.
    pub(crate) fn options(&self) -> LoadOptions {
        LoadOptions { data_dir: self.data_dir.clone(), ..LoadOptions::new(&self.config) }
    }
}

/// The zone of the times that a command shows, and of those that are typed.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct TimesIn {
    /// Zone of the times that are shown and typed, such as Europe/Madrid; without it the zone of
    /// this box. With --json, times are in UTC.
    #[arg(long, value_name = "ZONE", value_parser = config::zone)]
    pub timezone: Option<TimeZone>,
}

impl TimesIn {
    /// The zone in which times are typed.
    pub(crate) fn zone(&self) -> TimeZone {
        self.timezone.clone().unwrap_or_else(TimeZone::system)
    }

    /// The form in which times are shown.
    pub(crate) fn shown(&self) -> ShownIn {
        ShownIn::zone(self.zone())
    }
}

/// `demo`
#[derive(Clone, Debug, Args)]
pub(crate) struct DemoArgs {
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
    pub protocol: Option<ProtocolArg>,
    /// Keep the data in this directory, to look at it afterwards.
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    /// The result as JSON.
    #[arg(long)]
    pub json: bool,
    /// End when the race is over, also on a terminal; there the page stays until Ctrl-C.
    #[arg(long)]
    pub end: bool,
}

/// The registry line of a protocol as an argument.
#[derive(Clone, Copy)]
pub(crate) struct ProtocolArg(pub &'static Spec);

impl std::fmt::Debug for ProtocolArg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.name)
    }
}

pub(crate) fn protocol(name: &str) -> Result<ProtocolArg, String> {
    config::protocol(name).map(ProtocolArg)
}

pub(crate) fn setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("must be KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

pub(crate) fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| (0.01..=100_000.0).contains(rate));
    rate.ok_or_else(|| "must be a number from 0.01 to 100000".to_owned())
}

/// Who gives the command, as the log remembers it.
pub(crate) fn who() -> String {
    let named = ["SUDO_USER", "USER", "LOGNAME"].into_iter().filter_map(|name| std::env::var(name).ok());
    let mut named = named.filter(|name| !name.is_empty() && name.len() <= 64);
    named.next().unwrap_or_else(|| format!("user {}", rustix::process::getuid().as_raw()))
}

/// Parses `--from` and `--to` as a person types them.
///
/// # Errors
/// Usage (64): one of them is no time, or the end is not after the beginning.
pub(crate) fn span(
    from: Option<&str>,
    to: Option<&str>,
    zone: &TimeZone,
    now: Timestamp,
) -> Result<(Option<Timestamp>, Option<Timestamp>), Failure> {
    let wrong = |flag: &str, text: &str, must: &str| Failure::usage(format!("{flag} {text}: must be {must}"));
    let begin = |text| moment(text, zone, now).map_err(|must| wrong("--from", text, &must));
    let from = from.map(begin).transpose()?;
    let end = |text| end_moment(text, from, zone, now).map_err(|must| wrong("--to", text, &must));
    let to = to.map(end).transpose()?;
    match from.zip(to).is_some_and(|(from, to)| to <= from) {
        true => Err(Failure::usage("--to must be later than --from")),
        false => Ok((from, to)),
    }
}

/// Writes the result of a command to standard output.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| Failure::output(&error))
}

/// Standard output for data from decoders. A program or a file gets the data unchanged, and a
/// terminal gets it made harmless.
pub(crate) fn stdout() -> Box<dyn Write> {
    let out = io::stdout().lock();
    if out.is_terminal() { Box::new(ForTerminal(out)) } else { Box::new(out) }
}

/// The configuration for a command that needs no key. A mistake in it stops no command that does
/// not need the wrong part, because the running box has the same configuration and its status must
/// be visible.
pub(crate) fn load_keyless(place: &Paths) -> Result<Config, Failure> {
    Ok(Config::load_what_is_right(&LoadOptions { keyless: true, ..place.options() })?.config)
}

/// The data directory for a command that only asks the running box. The box runs on with the file
/// of its start, so a file that cannot be understood now stops no such command: the mistake is shown
/// before the answer.
pub(crate) fn running_box(place: &Paths) -> PathBuf {
    if place.data_dir.is_none()
        && let Err(failure) = load_keyless(place)
    {
        logging::say(&format!("passbridge: {failure}; the box that runs is asked all the same"));
    }
    place.options().data_dir_anyway()
}

/// The configuration for a command that opens the journal or asks the cloud by itself. A mistake
/// ends the command if it is about which read is sent where, or with which time. A mistake that is
/// only about the page does not.
pub(crate) fn load_right(place: &Paths, keyless: bool) -> Result<Config, Failure> {
    let config = Config::load_what_is_right(&LoadOptions { keyless, ..place.options() })?.config;
    must_be_right(&config)?;
    Ok(config)
}

/// The check of [`load_right`] for a configuration that is loaded already.
fn must_be_right(config: &Config) -> Result<(), Failure> {
    let matters = |part: Part| matches!(part, Part::Decoder | Part::Upload | Part::Key);
    match config.faults.iter().find(|fault| matters(fault.part)) {
        Some(fault) => Err(fault.error.clone().into()),
        None => Ok(()),
    }
}
