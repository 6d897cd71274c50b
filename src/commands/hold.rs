//! `hold` and `release`: reads are kept and none is sent, until somebody releases them. Through the
//! daemon, or on the journal if no daemon runs.

use clap::{ArgGroup, Args};
use serde_json::{Value, json};

use crate::commands::account::agreed;
use crate::commands::args::{Paths, print, running_box, who};
use crate::commands::here::on_the_journal;
use crate::config::Config;
use crate::config::failure::Failure;
use crate::journal::Journal;
use crate::journal::control::Held;
use crate::journal::holding::HoldError;
use crate::serve::control::{self, ControlError, ControlRequest};

/// `hold`
#[derive(Debug, Args)]
pub(crate) struct HoldArgs {
    #[command(flatten)]
    place: Paths,
    /// The answer as JSON.
    #[arg(long)]
    json: bool,
}

/// `release`
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("how").required(true).args(["send", "drop"]))]
pub(crate) struct ReleaseArgs {
    #[command(flatten)]
    place: Paths,
    /// Send what was read while the box was on hold.
    #[arg(long)]
    send: bool,
    /// Send none of it. It stays in the log of this box, and is never sent.
    #[arg(long)]
    drop: bool,
    /// Ask nothing.
    #[arg(long, requires = "drop")]
    yes: bool,
    /// The answer as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn hold(args: HoldArgs) -> Result<(), Failure> {
    let answer = match control::ask(&running_box(&args.place), ControlRequest::Hold { by: who() }).await {
        Err(ControlError::NotRunning(_)) => {
            let held = async |_: &Config, journal: &Journal| journal.hold(&who()).await.map_err(failed);
            on_the_journal(&args.place, held).await?;
            json!({ "held": true })
        }
        answer => answer?,
    };
    if args.json {
        return print(&format!("{answer}\n"));
    }
    print(
        "the box is on hold: every read is kept, and none is sent until you release it. What was on its way already may still \
         arrive. Release it before the gun: passbridge release --send, or passbridge release --drop\n",
    )
}

pub(crate) async fn release(args: ReleaseArgs) -> Result<(), Failure> {
    let how = if args.send { Held::Send } else { Held::Drop };
    let data_dir = running_box(&args.place);
    if how == Held::Drop {
        agreed(args.yes, &in_doubt(&data_dir).await?, "Send none of them?")?;
    }
    let answer = match control::ask(&data_dir, ControlRequest::Release { how, by: who() }).await {
        Err(ControlError::NotRunning(_)) => {
            let released = async |_: &Config, journal: &Journal| journal.release(how, &who()).await.map_err(failed);
            json!({ "released": on_the_journal(&args.place, released).await? })
        }
        answer => answer?,
    };
    if args.json {
        return print(&format!("{answer}\n"));
    }
    let count = answer.get("released").and_then(Value::as_u64).unwrap_or(0);
    print(&match (how, count) {
        (_, 0) => "the hold is released: nothing was read meanwhile\n".to_owned(),
        (Held::Send, 1) => "the hold is released: 1 read is sent now\n".to_owned(),
        (Held::Send, count) => format!("the hold is released: {count} reads are sent now\n"),
        (Held::Drop, 1) => "the hold is released: 1 read stays on this box and is never sent\n".to_owned(),
        (Held::Drop, count) => format!("the hold is released: {count} reads stay on this box and are never sent\n"),
    })
}

/// What is lost to the cloud if nothing is sent.
///
/// # Errors
/// Unavailable (69): the running box is not on hold.
async fn in_doubt(data_dir: &std::path::Path) -> Result<String, Failure> {
    let status = control::ask(data_dir, ControlRequest::Status).await.ok();
    // Until the journal is open, the box does not know whether it is on hold.
    let known = status.as_ref().is_some_and(|status| status["journal"]["serving"] == true);
    if known && status.as_ref().is_some_and(|status| status["hold"].is_null()) {
        return Err(failed(HoldError::NotHeld));
    }
    let reads = status.and_then(|status| status.get("hold")?.get("reads")?.as_u64());
    let reads = match reads {
        Some(1) => "the 1 read that was kept".to_owned(),
        Some(reads) => format!("the {reads} reads that were kept"),
        None => "all reads that were kept".to_owned(),
    };
    Ok(format!(
        "{reads} while the box was on hold stay in its log and are never sent to the cloud. Nobody can take that back."
    ))
}

fn failed(error: HoldError) -> Failure {
    match error {
        HoldError::Journal(_) => Failure::io(error.to_string()),
        _ => Failure::unavailable(error.to_string()),
    }
}
