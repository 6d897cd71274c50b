//! `hold` and `release`: reads are kept and none is sent, until somebody releases them. Through the
//! daemon, or on the journal if no daemon runs.

use clap::{ArgGroup, Args};
use serde_json::{Value, json};

use crate::commands::account::agreed;
use crate::commands::args::{Paths, load_right, print, running_box, who};
use crate::config::failure::Failure;
use crate::daemon;
use crate::journal::Journal;
use crate::journal::control::Held;
use crate::journal::holding::HoldError;
use crate::serve::control::{self, ControlError, ControlRequest};
use crate::status::Board;

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
            let by = who();
            here(&args.place, async |journal| journal.hold(&by).await.map(|_| json!({ "held": true }))).await?
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
        agreed(args.yes, &in_doubt(&data_dir).await, "Send none of them?")?;
    }
    let answer = match control::ask(&data_dir, ControlRequest::Release { how, by: who() }).await {
        Err(ControlError::NotRunning(_)) => {
            let by = who();
            here(&args.place, async |journal| journal.release(how, &by).await.map(|reads| json!({ "released": reads })))
                .await?
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
async fn in_doubt(data_dir: &std::path::Path) -> String {
    let status = control::ask(data_dir, ControlRequest::Status).await;
    let reads = status.ok().and_then(|status| status.get("hold")?.get("reads")?.as_u64());
    let reads = match reads {
        Some(1) => "the 1 read that was kept".to_owned(),
        Some(reads) => format!("the {reads} reads that were kept"),
        None => "all reads that were kept".to_owned(),
    };
    format!(
        "{reads} while the box was on hold stay in its log and are never sent to the cloud. Nobody can take that back."
    )
}

/// Does it without a daemon, with the lock of the data directory.
async fn here(place: &Paths, act: impl AsyncFnOnce(&Journal) -> Result<Value, HoldError>) -> Result<Value, Failure> {
    let config = load_right(place, true)?;
    let journal = daemon::open_journal(&config, &Board::new(&config.name))?;
    let done = act(&journal).await;
    journal.close().await;
    done.map_err(|error| match error {
        HoldError::Journal(_) => Failure::io(error.to_string()),
        _ => Failure::unavailable(error.to_string()),
    })
}
