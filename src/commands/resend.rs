//! `resend`: sends what is not sent by itself, because a person asked for it. It works through the
//! daemon, or on the journal if no daemon runs. A range of passings that the cloud lost needs the daemon:
//! its uplink sends them.

use clap::{ArgGroup, Args};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cloud::audit::adopt;
use crate::cloud::audit::keep::ResendRange;
use crate::commands::args::{Paths, TimesIn, load_right, print, running_box, who};
use crate::commands::audit::token;
use crate::commands::progress::Progress;
use crate::config::Config;
use crate::config::failure::Failure;
use crate::daemon;
use crate::journal::let_go::LetGoError;
use crate::model::clock::Wall;
use crate::model::typed::{end_moment, moment};
use crate::serve::control::{self, ControlError, ControlRequest};
use crate::status::Board;

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["held_back", "from_device", "set_aside", "device"]))]
pub(crate) struct ResendArgs {
    #[command(flatten)]
    place: Paths,
    /// Upload the reads that are held back: those that a decoder gave from its memory after it was
    /// cleared, and that were made before.
    #[arg(long)]
    held_back: bool,
    /// Only those of this decoder, by its configured name, with all its locations; or only
    /// NAME/LOCATION.
    #[arg(long, value_name = "NAME", requires = "held_back")]
    decoder: Option<String>,
    /// Try the passings again that were set aside because the cloud failed at them. They are also
    /// tried every hour, and a minute after each start. What the cloud refused is not: it says so
    /// to each of them, and would again.
    #[arg(long)]
    set_aside: bool,
    /// Compare a range of the passings of this device with the cloud, and send those again, under the
    /// same numbers, that the cloud does not have any more.
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    /// In this session: its token, or at least the last six characters of it; without it the active
    /// one.
    #[arg(long, value_name = "TOKEN", requires = "device", value_parser = token)]
    session: Option<String>,
    /// The first number in the session.
    #[arg(long, value_name = "N", requires = "last", requires = "device")]
    first: Option<u64>,
    /// The last number in the session.
    #[arg(long, value_name = "N", requires = "first")]
    last: Option<u64>,
    /// Only passings made at this time or later, such as 10:00 or 2026-03-06T10:00.
    #[arg(long, value_name = "TIME", requires = "device", conflicts_with = "first")]
    from: Option<String>,
    /// Only passings made before this time.
    #[arg(long, value_name = "TIME", requires = "from")]
    to: Option<String>,
    #[command(flatten)]
    times: TimesIn,
    /// The device_id as it was before it was corrected: what was numbered for it and is not in the
    /// cloud follows to --to-device. `check` tells how many there are.
    #[arg(long, value_name = "ID", requires = "to_device")]
    from_device: Option<String>,
    /// The device_id as it is now.
    #[arg(long, value_name = "ID", requires = "from_device")]
    to_device: Option<String>,
    /// The answer as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: ResendArgs) -> Result<(), Failure> {
    match (&args.from_device, &args.to_device) {
        (Some(from), Some(to)) => follow(&args, from, to).await,
        _ if args.set_aside => try_again(&args).await,
        _ if args.device.is_some() => again(&args).await,
        _ => let_go(args).await,
    }
}

/// Sends again what the cloud lost of a range.
async fn again(args: &ResendArgs) -> Result<(), Failure> {
    let (zone, now) = (args.times.zone(), Timestamp::now());
    let wrong = |flag: &str, text: &str, must: String| Failure::usage(format!("{flag} {text}: must be {must}"));
    let from = match &args.from {
        Some(text) => Some(moment(text, &zone, now).map_err(|must| wrong("--from", text, must))?),
        None => None,
    };
    let to = match &args.to {
        Some(text) => Some(end_moment(text, from, &zone, now).map_err(|must| wrong("--to", text, must))?),
        None => None,
    };
    let numbers = args.first.zip(args.last);
    let is_empty =
        numbers.is_some_and(|(first, last)| first > last) || from.zip(to).is_some_and(|(from, to)| from >= to);
    if is_empty {
        return Err(Failure::usage("the range is empty: its end is before its beginning"));
    }
    if numbers.is_none() && from.is_none() {
        return Err(Failure::usage("the range is missing: --first N --last N, or --from TIME"));
    }
    let range = ResendRange { session: args.session.clone(), numbers, from, to };
    let device = args.device.clone().unwrap_or_default();
    let answer = control::ask(&running_box(&args.place), ControlRequest::Resend { device, range, by: who() }).await?;
    if args.json {
        return print(&format!("{answer}\n"));
    }
    print(&match answer.get("resent").and_then(Value::as_u64).unwrap_or(0) {
        0 => "the cloud has every passing of this range: nothing was sent again\n".to_owned(),
        1 => "the cloud did not have 1 passing of this range: it was sent again, under the same number\n".to_owned(),
        count => format!(
            "the cloud did not have {count} passings of this range: they were sent again, under the same numbers\n"
        ),
    })
}

async fn try_again(args: &ResendArgs) -> Result<(), Failure> {
    let answer = control::ask(&running_box(&args.place), ControlRequest::TryAgain).await?;
    if args.json {
        return print(&format!("{answer}\n"));
    }
    print(&match answer.get("tried").and_then(Value::as_u64).unwrap_or(0) {
        0 => "the cloud failed at no passing that was set aside\n".to_owned(),
        1 => "1 passing is tried again now, after what waits\n".to_owned(),
        count => format!("{count} passings are tried again now, one after the other, after what waits\n"),
    })
}

async fn let_go(args: ResendArgs) -> Result<(), Failure> {
    let request = ControlRequest::LetGo { decoder: args.decoder.clone() };
    let answer = match control::ask(&running_box(&args.place), request).await {
        Err(ControlError::NotRunning(_)) => {
            let config = load_right(&args.place, true)?;
            // No process uses the journal, so the next start of the daemon uploads the reads.
            let journal = daemon::open_journal(&config, &Board::new(&config.name))?;
            // The queue may have to be rebuilt first.
            let done = Progress::new("releasing reads").over(journal.let_all_go(args.decoder.as_deref())).await;
            journal.close().await;
            json!({ "let_go": done.map_err(|error: LetGoError| Failure::io(error.to_string()))?, "running": false })
        }
        answer => answer?,
    };
    if args.json {
        return print(&format!("{answer}\n"));
    }
    let count = answer.get("let_go").and_then(Value::as_u64).unwrap_or(0);
    let whose = args.decoder.map_or(String::new(), |name| format!(" of {name}"));
    let when = match answer.get("running").and_then(Value::as_bool) {
        Some(false) => "uploaded when passbridge runs again",
        _ => "uploaded now, after what waits",
    };
    print(&match count {
        0 => format!("no reads{whose} are held back\n"),
        1 => format!("1 read{whose} was held back and is let go: it is {when}\n"),
        count => format!("{count} reads{whose} were held back and are let go: they are {when}\n"),
    })
}

/// Moves what was numbered for one device to another one.
async fn follow(args: &ResendArgs, from: &str, to: &str) -> Result<(), Failure> {
    let config = load_right(&args.place, false)?;
    let devices = config.devices();
    if devices.contains_key(from) {
        let text = format!("device {from} is in the configuration: its passings go there by themselves");
        return Err(Failure::usage(text));
    }
    if !devices.contains_key(to) {
        return Err(Failure::usage(format!("the configuration has no decoder of device {to}")));
    }
    let request = ControlRequest::Adopt { from: from.to_owned(), to: to.to_owned() };
    let moving = || Progress::new("asking the cloud, and moving what it does not have");
    let answer = match moving().over(control::ask(&config.data_dir, request)).await {
        Err(ControlError::NotRunning(_)) => moving().over(follow_here(&config, from, to)).await?,
        answer => answer?,
    };
    let count = |field: &str| answer.get(field).and_then(Value::as_u64).unwrap_or(0);
    let why = answer.get("why").and_then(Value::as_str).map(str::to_owned);
    let adopted = adopt::Adopted { moved: count("moved"), settled: count("settled"), left: count("left"), why };
    match args.json {
        true => print(&format!("{answer}\n"))?,
        false => print(&format!("{}\n", adopted.in_words(from, to)))?,
    }
    match adopted.left {
        0 => Ok(()),
        _ => Err(Failure::unavailable("not all could follow").already_told()),
    }
}

/// Does the same without a daemon, with the lock of the data directory. Nothing is uploaded.
async fn follow_here(config: &Config, from: &str, to: &str) -> Result<Value, Failure> {
    let Some(cloud) = &config.cloud else {
        return Err(Failure::config("the configuration has no [cloud]: nothing is sent anywhere"));
    };
    let client = daemon::client(cloud, config, Wall::default())?;
    let journal = daemon::open_journal(config, &Board::new(&config.name))?;
    let times = (config.upload.settle, config.upload.min_interval);
    let adopted = adopt::adopt(&journal, &client, (from, to), times).await;
    journal.close().await;
    let adopted = adopted.map_err(|error| Failure::io(error.to_string()))?;
    Ok(json!({ "moved": adopted.moved, "settled": adopted.settled, "left": adopted.left, "why": adopted.why }))
}
