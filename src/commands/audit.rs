//! `passbridge audit`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::cloud::audit::keep::{ResendRange, repair};
use crate::cloud::audit::{AuditError, Head, Subject, audit, json_lines, summary};
use crate::cloud::passing::Fields;
use crate::cloud::rufus::{CallError, Client};
use crate::cloud::uplink::{self, Ties, UplinkConfig};
use crate::commands::args::{Paths, TimesIn, load_right, print};
use crate::commands::progress::Progress;
use crate::config::failure::Failure;
use crate::config::{Config, SessionMode};
use crate::daemon;
use crate::daemon::logging;
use crate::journal::{Journal, PendingRead};
use crate::serve::control::{self, ControlError, ControlRequest};
use crate::status::Board;

/// `audit`
#[derive(Clone, Debug, Args)]
pub(crate) struct AuditArgs {
    #[command(flatten)]
    place: Paths,
    /// Only this device; without it every device of the configuration.
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    /// This session: its token, or the end of it as the status shows it. Without it the active one,
    /// else the one that passings were sent to last.
    #[arg(long, value_name = "TOKEN", value_parser = token)]
    session: Option<String>,
    #[command(flatten)]
    times: TimesIn,
    /// A JSON object per difference, and the summary as the last line.
    #[arg(long)]
    json: bool,
    /// Send what is missing again, under the same numbers, and compare again.
    #[arg(long)]
    repair: bool,
}

pub(super) fn token(text: &str) -> Result<String, String> {
    let text = text.trim_start_matches('…');
    if text.chars().count() < 6 {
        Err("must be a token, or at least its last six characters".into())
    } else {
        Ok(text.into())
    }
}

/// Runs the command.
///
/// # Errors
/// Data (65): not equal. Unavailable (69): cloud or daemon do not answer. I/O (74): the log cannot
/// be read. Permission (77): the key cannot be used.
pub(crate) async fn run(args: AuditArgs) -> Result<(), Failure> {
    let config = load_right(&args.place, false)?;
    let Some(cloud) = &config.cloud else {
        return Err(Failure::config("the configuration has no [cloud]: there is nothing to compare with"));
    };
    let client = daemon::client(cloud, &config, crate::model::clock::Wall::default())?;
    let mut equal = true;
    for (device, decoders) in devices(&config, args.device.as_deref())? {
        let subject = Subject {
            data_dir: config.data_dir.clone(),
            device: device.into(),
            decoders,
            session: args.session.clone(),
            rest: Duration::ZERO,
            lag: config.upload.settle,
        };
        equal &= one(&args, &config, &client, subject).await?;
    }
    if equal { Ok(()) } else { Err(Failure::data("journal and cloud are not equal").already_told()) }
}

/// The devices to audit, with their sources.
fn devices<'a>(config: &'a Config, only: Option<&str>) -> Result<BTreeMap<&'a str, Vec<Box<str>>>, Failure> {
    let mut devices = config.devices();
    devices.retain(|device, _| only.is_none_or(|only| only == *device));
    match (devices.is_empty(), only) {
        (true, Some(only)) => Err(Failure::usage(format!("the configuration has no decoder of device {only}"))),
        (true, None) => Err(Failure::config("the configuration has no device: there is nothing to compare with")),
        _ => Ok(devices),
    }
}

/// The log of a data directory to which a daemon may write meanwhile.
pub(crate) fn beside(data_dir: &Path) -> Head {
    let data_dir = data_dir.to_owned();
    Head::Beside(Arc::new(move || {
        let data_dir = data_dir.clone();
        Box::pin(async move { Ok(control::durable(&data_dir).await?) })
    }))
}

/// Audits one device. `true` means that journal and cloud are equal.
async fn one(args: &AuditArgs, config: &Config, client: &Client, subject: Subject) -> Result<bool, Failure> {
    let head = beside(&config.data_dir);
    let comparing = || Progress::new("comparing with the cloud");
    let mut report = comparing().over(audit(&subject, client, &head)).await?;
    if args.repair && !report.missing().is_empty() {
        let subject = Subject { session: Some(report.token.to_string()), ..subject };
        let sending = Progress::new("sending again what is missing");
        let (resent, refused) = sending.over(send_again(config, client, &subject)).await?;
        tell(args, &format!("{resent} passings sent again"))?;
        if let Some(why) = refused {
            tell(args, &format!("not sent again: {why}"))?;
        }
        report = comparing().over(audit(&subject, client, &head)).await?;
    }
    // A running daemon shows the result. If none runs, or one of an older version, it need not
    // know.
    let audited = report.summary(jiff::Timestamp::now());
    let _ = control::ask(&config.data_dir, ControlRequest::Audited { audited }).await;
    let told = match args.json {
        true => json_lines(&report, jiff::Timestamp::now()),
        false => summary(&report, &args.times.shown()),
    };
    print(&told)?;
    Ok(report.is_equal())
}

/// Shows what happens during the audit. With JSON output it is written beside the lines of JSON,
/// not among them.
fn tell(args: &AuditArgs, line: &str) -> Result<(), Failure> {
    if args.json {
        logging::say(&format!("passbridge: {line}"));
        return Ok(());
    }
    print(&format!("{line}\n"))
}

/// Sends the passings through the daemon, or by an uplink of our own if none runs. Returns how many
/// were sent, and why not all.
async fn send_again(config: &Config, client: &Client, subject: &Subject) -> Result<(u64, Option<String>), Failure> {
    let session = subject.session.clone().unwrap_or_default();
    let request = ControlRequest::Repair { device: subject.device.to_string(), session };
    match control::ask(&config.data_dir, request).await {
        Ok(answer) => {
            let resent = answer.get("resent").and_then(Value::as_u64).unwrap_or(0);
            Ok((resent, answer.get("refused").and_then(Value::as_str).map(str::to_owned)))
        }
        Err(ControlError::NotRunning(_)) => send_again_here(config, client, subject).await,
        Err(error) => Err(error.into()),
    }
}

/// Sends the passings itself, with the lock of the data directory. Nothing else is uploaded, and no
/// session is opened.
async fn send_again_here(
    config: &Config,
    client: &Client,
    subject: &Subject,
) -> Result<(u64, Option<String>), Failure> {
    let board = Board::new(&config.name);
    let journal = daemon::open_journal(config, &board)?;
    let stop = CancellationToken::new();
    let (resends, asked) = mpsc::channel(1);
    let ties = Ties { resends: asked, forms: false, ..Ties::default() };
    let uplink = UplinkConfig {
        device: subject.device.clone(),
        decoders: subject.decoders.clone(),
        name: config.name.clone(),
        session: SessionMode::Active,
        upload: config.upload,
    };
    // This is never called, because no read becomes a passing here.
    let fields =
        |read: &PendingRead| Some(Fields { time_ms: 0, bib: (&*read.chip).into(), chip: (&*read.chip).into() });
    let running = uplink::run_tied(uplink, client.clone(), journal.clone(), board, fields, ties, stop.clone());
    let running = tokio::spawn(running);
    let done = repair_here(subject, client, &journal, &resends).await;
    stop.cancel();
    let ended = running.await;
    journal.close().await;
    if let Ok(Err(error)) = ended {
        return Err(Failure::io(error.to_string()));
    }
    done
}

async fn repair_here(
    subject: &Subject,
    client: &Client,
    journal: &Journal,
    resends: &mpsc::Sender<uplink::Resend>,
) -> Result<(u64, Option<String>), Failure> {
    journal.serving().await;
    let all = ResendRange::default();
    let repaired = repair(subject, client, &Head::Own(journal.clone()), &all, resends).await?;
    Ok((repaired.resent, repaired.refused))
}

impl From<AuditError> for Failure {
    fn from(error: AuditError) -> Self {
        let message = error.to_string();
        match error {
            AuditError::Log(_) => Self::io(message),
            AuditError::NoSuchSession(_) => Self::usage(message),
            AuditError::Cloud(CallError::KeyRefused { .. }) => Self::permission(message),
            AuditError::Daemon(failure) => failure,
            AuditError::NoJournal(_) | AuditError::Cloud(_) | AuditError::Endless | AuditError::NoSession => {
                Self::unavailable(message)
            }
        }
    }
}
