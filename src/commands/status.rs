//! `passbridge status`.

use clap::Args;

use crate::commands::args::{Paths, load_keyless, print};
use crate::config::failure::Failure;
use crate::serve::control::{self, ControlRequest};
use crate::status::{Snapshot, glance};

/// `status`
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    place: Paths,
    /// As JSON, the same as /api/status.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) async fn run(args: StatusArgs) -> Result<(), Failure> {
    let status = match &args.place.data_dir {
        Some(dir) => control::ask(dir, ControlRequest::Status).await?,
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
