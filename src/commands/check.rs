//! `check`: shows what a timer wants to know before the race, one line for each thing.
//!
//! Must hold: it changes nothing, writes nothing, and does not disturb what runs. Beside a running
//! daemon it asks the daemon, because many decoders accept only one connection. Every line says
//! what it found, and a red line says what to do.

mod clock;
mod outside;
mod report;
mod routes;
mod sandbox;
pub(crate) mod service;

use std::io::{self};
use std::path::Path;

use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustix::fs::{Access, access};

use self::report::{CheckReport, CheckVerdict};
use self::sandbox::{InstalledService, differences};
use self::service::ServiceUser;
use crate::cloud::passing::Bibs;
use crate::commands::args::{Paths, TimesIn};
use crate::config::failure::Failure;
use crate::config::{Address, Config, DecoderConfig, LoadOptions, Loaded, Part};
use crate::journal::{self, Unsettled};
use crate::link::{self, LinkError};
use crate::model::shown::ShownIn;
use crate::serve::control;
use crate::serve::web;
use crate::status::Snapshot;
use crate::status::glance;

/// Less free disk than this is a warning.
const LITTLE_ROOM: u64 = 1_000_000_000;
/// This program did not exist before this year, so a clock that shows an earlier one was never set.
const EARLIEST_YEAR: i16 = 2025;
/// The file with which systemd's time service records that the clock was set from the network.
const SYNCHRONISED: &str = "/run/systemd/timesync/synchronized";

/// `check`
#[derive(Clone, Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    place: Paths,
    /// Also try to reach the decoders and the cloud.
    #[arg(long)]
    connect: bool,
    /// Tell what this user may read. Without it: the user of the service that is installed here.
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Let systemd run the check as the installed service, with its user, its sandbox and its
    /// configuration, and tell what root sees differently. Only for root.
    #[arg(long, conflicts_with_all = ["user", "config", "data_dir"])]
    service: bool,
    #[command(flatten)]
    times: TimesIn,
    /// A box without a decoder is not wrong: they come later.
    #[arg(skip)]
    may_lack_decoders: bool,
    /// As JSON: a list of objects with `check`, `about`, `verdict` (ok, warn, fail) and `text`.
    #[arg(long)]
    json: bool,
}

impl CheckArgs {
    /// The check at the end of `setup`, with `timezone` as the zone of the times.
    pub(crate) fn after_setup(file: &Path, timezone: Option<TimeZone>) -> Self {
        let place = Paths { config: file.to_owned(), data_dir: None };
        let times = TimesIn { timezone };
        Self { place, connect: true, user: None, service: false, times, may_lack_decoders: true, json: false }
    }
}

/// Runs the checks and writes their lines to standard output.
///
/// # Errors
/// Exit code 78 if something here must be changed, 69 if something outside cannot be reached.
/// `--service`: also 69 where systemd does not run or has no such service, and 77 for others than root.
pub(crate) async fn run(args: CheckArgs) -> Result<(), Failure> {
    let report = if args.service { as_the_service(&args).await? } else { look_over(&args).await };
    report.end(args.json)
}

/// The check as the service makes it, and what root sees differently.
async fn as_the_service(args: &CheckArgs) -> Result<CheckReport, Failure> {
    let service = InstalledService::find()?;
    let config = service.config.clone().unwrap_or_else(|| args.place.config.clone());
    let mut arguments = vec!["--config".to_owned(), config.display().to_string()];
    if let Some(zone) = args.times.timezone.as_ref().and_then(TimeZone::iana_name) {
        arguments.extend(["--timezone".to_owned(), zone.to_owned()]);
    }
    let place = Paths { config, data_dir: None };
    // A decoder that takes one connection is not called by both.
    let root = look_over(&CheckArgs { place, connect: false, service: false, ..args.clone() }).await;
    let seen = tokio::task::block_in_place(|| service.check(&arguments))?;
    let differ = differences(&seen, &root);
    let mut report = seen;
    if args.connect {
        arguments.push("--connect".to_owned());
        report = tokio::task::block_in_place(|| service.check(&arguments))?;
    }
    for assignment in &service.left_out {
        report.warn("service", "", format!("checked without {assignment}, which systemd-run takes differently"));
    }
    if differ.is_empty() {
        report.ok("root", "", "root sees nothing differently");
    }
    for (subject, text) in differ {
        report.warn("root", &subject, format!("sees it differently. {text}"));
    }
    Ok(report)
}

/// The check by whoever runs it.
async fn look_over(args: &CheckArgs) -> CheckReport {
    let mut report = CheckReport::default();
    let options = args.place.options();
    let user = args.user.as_deref().map(ServiceUser::named).or_else(ServiceUser::of_the_unit);
    match Config::load_what_is_right(&options) {
        Err(error) => report.wrong("configuration", "", error.to_string()),
        Ok(loaded) => {
            faults(&loaded.config, user.as_ref(), args.may_lack_decoders, &mut report);
            if let Some(user) = &user {
                rights(&options.file, &loaded.config, user, &mut report);
            }
            look(&options, &loaded, args, &mut report).await;
        }
    }
    report
}

/// Shows what is wrong in the configuration. The box reads its decoders all the same, and the wrong
/// parts wait.
fn faults(config: &Config, user: Option<&ServiceUser>, may_lack_decoders: bool, report: &mut CheckReport) {
    for fault in &config.faults {
        if fault.part == Part::NoDecoder && may_lack_decoders {
            report.warn("decoder", "", "none yet: nothing is read until there is one");
            continue;
        }
        let (check, file) = match fault.part {
            Part::Key => ("key", config.cloud.as_ref().and_then(|cloud| cloud.api_key_file.as_deref())),
            Part::Token => ("token", config.status.token_file.as_deref()),
            Part::Bibs => ("bibs", config.passing.bibs.as_deref()),
            _ => ("configuration", None),
        };
        // The user who runs the check may have fewer rights than the service has.
        let hidden = |file: &&Path| file.exists() && access(*file, Access::READ_OK).is_err();
        match (file.filter(hidden), user) {
            (Some(file), Some(user)) if user.is_handed(file) || user.may_read(file).is_ok() => {
                let text = format!("{} may not be read by you, but by the service", file.display());
                report.ok(check, "", text);
            }
            _ => report.wrong(check, &fault.about, fault.error.to_string()),
        }
    }
}

/// Shows what the service may read and use. The user who runs the check may be root, who may do
/// everything.
fn rights(file: &Path, config: &Config, user: &ServiceUser, report: &mut CheckReport) {
    let key = config.cloud.as_ref().and_then(|cloud| cloud.api_key_file.as_deref());
    let files = [
        ("configuration", Some(file)),
        ("key", key),
        ("token", config.status.token_file.as_deref()),
        ("bibs", config.passing.bibs.as_deref()),
    ];
    for (check, file) in files {
        let Some(file) = file.filter(|file| file.exists() && !user.is_handed(file)) else { continue };
        match user.may_read(file) {
            Ok(()) => report.ok(check, "", format!("user {} may read {}", user.name, file.display())),
            Err(why) => report.wrong(check, "", why),
        }
    }
    for decoder in &config.decoders {
        if let Address::Serial { path, .. } = &decoder.address
            && path.exists()
            && let Err(why) = user.may_use(path)
        {
            report.wrong("decoder", &decoder.name, why);
        }
    }
}

async fn look(options: &LoadOptions, loaded: &Loaded, args: &CheckArgs, report: &mut CheckReport) {
    let (config, connect) = (&loaded.config, args.connect);
    if config.faults.is_empty() {
        report.ok("configuration", "", format!("{}: {} decoder(s)", options.file.display(), config.decoders.len()));
    }
    match &loaded.key_from {
        Some(from) => report.ok("key", "", format!("the API key comes from {from}")),
        None if config.cloud.is_some() || config.faults.iter().any(|fault| fault.part == Part::Upload) => {} // told above
        None => report.warn("cloud", "", "there is no [cloud] section: reads are kept, nothing is uploaded"),
    }
    for warning in &loaded.warnings {
        report.warn("configuration", "", warning.as_str());
    }
    let running = running(config, report).await;
    disk(&config.data_dir, report);
    left_behind(config, report);
    if let Some(path) = config.passing.bibs.as_ref().filter(|path| std::fs::File::open(path).is_ok()) {
        bibs(path, report);
    }
    box_clock(&args.times.shown(), report);
    for decoder in &config.decoders {
        zone(decoder, report);
        locations(config, decoder, report);
        match &running {
            Some(status) => asked(decoder, status, report),
            None => port(decoder, connect, report).await,
        }
    }
    if running.is_none()
        && let Some(address) = config.status.listen
    {
        page(address, report).await;
    }
    routes::check(config, connect, report).await;
    if connect {
        outside::cloud(config, report).await;
    }
}

/// The status of the daemon that runs here, if there is one.
async fn running(config: &Config, report: &mut CheckReport) -> Option<Snapshot> {
    let answer = control::status(config).await;
    match answer.map(serde_json::from_value::<Snapshot>) {
        Ok(Ok(status)) => {
            let problems = status.problems.len();
            let text = format!("passbridge {} runs, {problems} problem(s)", status.version);
            let verdict = if status.ready && problems == 0 { CheckVerdict::Ok } else { CheckVerdict::Warn };
            report.add(verdict, "daemon", "", if problems == 0 { text } else { text + ": see `passbridge status`" });
            Some(status)
        }
        Ok(Err(_)) => {
            report.warn("daemon", "", "the passbridge that runs is of another version: restart it");
            None
        }
        Err(control::ControlError::NotRunning(_)) => {
            report.ok("daemon", "", "does not run now");
            None
        }
        Err(error) => {
            report.warn("daemon", "", error.to_string());
            None
        }
    }
}

fn disk(data_dir: &Path, report: &mut CheckReport) {
    let shown = data_dir.display().to_string();
    // The nearest directory that exists, because `run` makes the others.
    let Some(existing) = data_dir.ancestors().find(|dir| dir.exists()) else {
        return report.wrong("disk", &shown, "there is no such path");
    };
    if !existing.is_dir() {
        return report.wrong("disk", &shown, format!("{} is no directory", existing.display()));
    }
    if access(existing, Access::WRITE_OK) == Err(rustix::io::Errno::ROFS) {
        let text =
            "its disk can only be read: mount it for writing; a card that became read-only is failing".to_owned();
        return report.wrong("disk", &shown, text);
    }
    if let Err(error) = access(existing, Access::WRITE_OK | Access::EXEC_OK) {
        let text =
            format!("this user may not write there ({error}): run as the user of the service, or change data_dir");
        return report.wrong("disk", &shown, text);
    }
    match rustix::fs::statvfs(existing) {
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let text = format!("{} free", glance::bytes(free));
            match free < LITTLE_ROOM {
                true => report.warn("disk", &shown, text + ": little for a race, free some"),
                false => report.ok("disk", &shown, text),
            }
        }
        Err(error) => report.warn("disk", &shown, format!("its free space cannot be told: {error}")),
    }
}

/// Finds passings of devices for which the configuration has no decoder: somebody corrected a
/// `device_id`, or lent the box.
fn left_behind(config: &Config, report: &mut CheckReport) {
    let devices = config.devices();
    if devices.is_empty() {
        return; // nothing is uploaded, and that is intended
    }
    let unsettled = match journal::unsettled(&config.data_dir) {
        Ok(unsettled) => unsettled,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return, // there is no journal yet
        Err(error) => {
            let text = format!("what waits in it cannot be told ({error}): run as the user of the service");
            return report.warn("journal", &config.data_dir.display().to_string(), text);
        }
    };
    let to = if devices.len() == 1 { devices.keys().next().copied() } else { None }.unwrap_or("DEVICE");
    for (device, Unsettled { in_flight, released }) in unsettled {
        if devices.contains_key(&*device) {
            continue;
        }
        let text = format!(
            "{} passings were numbered for it and are not confirmed ({released} known not to be in the cloud, {in_flight} not \
             known), and no decoder goes to it now. If its id was corrected, they follow with: passbridge resend \
             --from-device {device} --to-device {to}. If not, they wait until a decoder goes to it again",
            in_flight + released
        );
        report.warn("device", &device, text);
    }
}

fn bibs(path: &Path, report: &mut CheckReport) {
    let shown = path.display().to_string();
    match std::fs::read(path).map(|text| Bibs::read(&text)) {
        Ok(Ok(bibs)) if bibs.is_empty() => {
            report.warn("bibs", &shown, "the list is empty: chip codes are sent as bibs")
        }
        Ok(Ok(bibs)) => report.ok("bibs", &shown, format!("{} chips", bibs.len())),
        Ok(Err(error)) => report.wrong("bibs", &shown, error.to_string()),
        Err(error) => report.wrong("bibs", &shown, format!("cannot be read: {error}")),
    }
}

fn box_clock(times: &ShownIn, report: &mut CheckReport) {
    let now = Timestamp::now();
    let year = TimeZone::UTC.to_datetime(now).year();
    let text = times.second(now);
    if year < EARLIEST_YEAR {
        return report.wrong(
            "clock",
            "",
            format!("{text}: the box's clock was never set (is there a network or a battery?)"),
        );
    }
    if Path::new(SYNCHRONISED).exists() {
        return report.ok("clock", "", format!("{text}, set from the network"));
    }
    // Only stamps without a date, and the offsets that are shown, depend on the box's clock.
    report.warn(
        "clock",
        "",
        format!("nobody has set this box's clock (no network time). Compare {text} with your phone"),
    );
}

fn zone(decoder: &DecoderConfig, report: &mut CheckReport) {
    let now = ShownIn::zone(decoder.timezone.clone()).second(Timestamp::now());
    let name = decoder.timezone.iana_name().unwrap_or("UTC");
    let text = format!("{name}: the decoder's clock must show {now} now");
    if !decoder.zone_given && !decoder.protocol.tells_utc {
        let text =
            format!("no timezone is configured, so {text}. Write timezone = \"Europe/Madrid\" or what its clock shows");
        return report.warn("zone", &decoder.name, text);
    }
    report.ok("zone", &decoder.name, text);
}

/// Shows where the passings of each timing point are sent. A name that differs from what the
/// decoder sends can be noticed here, or never.
fn locations(config: &Config, decoder: &DecoderConfig, report: &mut CheckReport) {
    for (location, device) in &decoder.locations {
        let known = config.device_of(decoder).is_some();
        let text = if known { format!("goes to device {device}") } else { "is kept and not uploaded".to_owned() };
        report.ok("location", &format!("{}/{location}", decoder.name), text);
    }
}

/// The decoder as the running daemon sees it.
fn asked(decoder: &DecoderConfig, status: &Snapshot, report: &mut CheckReport) {
    use crate::status::LinkState;
    let Some(known) = status.decoders.iter().find(|known| known.name == decoder.name) else {
        return report.warn("decoder", &decoder.name, "the daemon that runs does not know it: restart it");
    };
    let text = format!("{} ({} reads since the start)", decoder.address, known.reads);
    match known.state {
        LinkState::Connected => {
            report.ok("decoder", &decoder.name, format!("connected: {text}"));
            clock::asked(decoder, known, report);
        }
        LinkState::Connecting => report.warn("decoder", &decoder.name, format!("not yet connected: {text}")),
        LinkState::Failed => report.unreachable("decoder", &decoder.name, format!("cannot be reached: {text}")),
        LinkState::Idle => report.unreachable("decoder", &decoder.name, format!("connected but silent: {text}")),
    }
}

/// The port of a decoder while no daemon uses it. Without `connect` the check shows only what it
/// can see without a connection.
async fn port(decoder: &DecoderConfig, connect: bool, report: &mut CheckReport) {
    let (name, address) = (decoder.name.as_str(), &decoder.address);
    if let Address::Serial { path, .. } = address
        && !serial(name, path, connect, report)
    {
        return;
    }
    match address {
        Address::Listen(_) => match link::bind(decoder).await {
            Ok(_) => report.ok("decoder", name, format!("{address}: the port is free for its software to connect to")),
            Err(LinkError::Bind { address, source, .. }) => {
                report.wrong("decoder", name, format!("cannot listen on {address}: {source}; choose a free port"));
            }
            Err(error) => report.wrong("decoder", name, error.to_string()),
        },
        _ if !connect => report.ok("decoder", name, format!("{address} (not tried; --connect does)")),
        _ => match clock::reach(decoder, report).await {
            Ok(()) => {}
            Err(error) => {
                report.unreachable("decoder", name, not_reached(address, &error));
            }
        },
    }
}

/// Why a decoder cannot be reached, and what to do. A refusal shows that the box at the address is
/// on.
fn not_reached(address: &Address, error: &io::Error) -> String {
    match (address, error.kind()) {
        (Address::Tcp { host, port }, io::ErrorKind::ConnectionRefused) => {
            let whole = if host.contains(':') { format!("[{host}]") } else { host.clone() };
            format!(
                "the box at {host} is on, but nothing listens at port {port}: is the port right? (passbridge probe tcp://{whole})"
            )
        }
        (Address::Tcp { .. }, _) => format!("{address} cannot be reached: {error}; is it on, and the cable in?"),
        _ => format!("{address} cannot be opened: {error}"),
    }
}

/// Whether a serial device can be opened. It reports what is wrong with the device.
fn serial(name: &str, path: &Path, connect: bool, report: &mut CheckReport) -> bool {
    let shown = path.display();
    if !path.exists() {
        let text = format!("there is no {shown} now: is the adapter plugged in?");
        match connect {
            true => report.unreachable("decoder", name, text),
            false => report.warn("decoder", name, text),
        }
        return false;
    }
    if access(path, Access::READ_OK | Access::WRITE_OK).is_err() {
        report.wrong(
            "decoder",
            name,
            format!("this user may not use {shown}: it must be in the group that owns it (dialout)"),
        );
        return false;
    }
    true
}

async fn page(address: std::net::SocketAddr, report: &mut CheckReport) {
    match web::bind(address).await {
        Ok(page) if page.local_addr().is_some() => report.ok("page", "", format!("http://{address}/")),
        Ok(_) => report.warn("page", "", format!("this box has no address {address} now; it is waited for")),
        Err(error) => report.wrong("page", "", error.to_string()),
    }
}
