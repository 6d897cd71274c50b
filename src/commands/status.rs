//! `passbridge status`.

use clap::Args;

use crate::commands::args::{Paths, TimesIn, load_keyless, print, running_box};
use crate::commands::invite;
use crate::config::failure::Failure;
use crate::serve::control::{self, ControlRequest};
use crate::status::{Snapshot, glance};

/// `status`
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    place: Paths,
    #[command(flatten)]
    times: TimesIn,
    /// As JSON, the same as /api/status.
    #[arg(long)]
    json: bool,
    /// Show a QR code. The phone that scans it is logged in to the page of this box.
    #[arg(long)]
    qr: bool,
}

/// Runs the command.
///
/// # Errors
/// The exit code is 0 only while the box is `reading` or `ready`. Otherwise it is the code of the
/// state: 10 not-uploading, 11 hold, 12 time-wrong, 13 not-reading, 14 cannot-keep. 69: passbridge
/// does not run.
pub(crate) async fn run(args: StatusArgs) -> Result<(), Failure> {
    if args.qr {
        return invite::show(&args.place, &args.times.shown(), args.json).await;
    }
    let status = match &args.place.data_dir {
        Some(dir) => control::ask(dir, ControlRequest::Status).await?,
        None => match load_keyless(&args.place) {
            Ok(config) => control::status(&config).await?,
            Err(_) => control::ask(&running_box(&args.place), ControlRequest::Status).await?,
        },
    };
    let text = status.to_string();
    // A status without a sentence is from an older version, so its state is not known.
    let status = serde_json::from_value::<Snapshot>(status).ok().filter(|status| !status.sentence.is_empty());
    if args.json {
        print(&format!("{text}\n"))?;
    } else if let Some(status) = &status {
        print(&glance::text(status, &args.times.shown()))?;
    }
    match status.map(|status| status.state.exit_code()) {
        Some(0) => Ok(()),
        Some(code) => Err(Failure::state(code)),
        None if args.json => Ok(()),
        None => Err(Failure::unavailable("the passbridge that runs is of another version: restart it, or use --json")),
    }
}
