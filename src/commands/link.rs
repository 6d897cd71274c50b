//! `link restart`: ends the connection of a decoder, so that the box reconnects.

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::commands::args::{Paths, print, running_box, who};
use crate::config::failure::Failure;
use crate::serve::control::{self, ControlRequest};

/// `link`
#[derive(Debug, Subcommand)]
pub(crate) enum LinkCommand {
    /// End the connection of a decoder, so that the box reconnects and asks for what it missed.
    Restart(RestartArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RestartArgs {
    #[command(flatten)]
    place: Paths,
    /// The decoder, by its configured name.
    #[arg(value_name = "DECODER")]
    decoder: String,
    /// The answer as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// Usage (64): there is no such decoder. Unavailable (69): no daemon runs.
pub(crate) async fn run(command: LinkCommand) -> Result<(), Failure> {
    let LinkCommand::Restart(args) = command;
    let request = ControlRequest::RestartLink { decoder: args.decoder.clone(), by: who() };
    let answer = control::ask(&running_box(&args.place), request).await?;
    let failure = match answer.get("answer").and_then(Value::as_str) {
        Some("restarted") => None,
        _ => {
            let why = answer.get("why").and_then(Value::as_str).unwrap_or("it was not restarted");
            Some(Failure::usage(format!("{}: {why}", args.decoder)))
        }
    };
    if args.json {
        print(&format!("{answer}\n"))?;
        return failure.map_or(Ok(()), |failure| Err(failure.already_told()));
    }
    match failure {
        Some(failure) => Err(failure),
        None => print(&format!(
            "The box reconnects to {}. What was received before is kept. Watch: passbridge status\n",
            args.decoder
        )),
    }
}
