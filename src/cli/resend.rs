//! `resend`: lets go what the box holds back.

use clap::Args;
use serde_json::{Value, json};

use super::{Place, load_keyless, print};
use crate::control::{self, ControlError, Request};
use crate::daemon;
use crate::failure::Failure;
use crate::journal::held_back::LetGoError;
use crate::status::Board;

#[derive(Debug, Args)]
pub(super) struct ResendArgs {
    #[command(flatten)]
    place: Place,
    /// Upload the reads that are held back: those that a decoder gave from its memory after it was cleared, and that were
    /// made before.
    #[arg(long, required = true)]
    held_back: bool,
    /// Only those of this decoder, by its configured name, with all its locations; or only NAME/LOCATION.
    #[arg(long, value_name = "NAME")]
    decoder: Option<String>,
    /// The answer as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: ResendArgs) -> Result<(), Failure> {
    let mut config = load_keyless(&args.place)?;
    if let Some(dir) = &args.place.data_dir {
        config.data_dir.clone_from(dir);
    }
    let request = Request::LetGo { decoder: args.decoder.clone() };
    let answer = match control::ask(&config.data_dir, request).await {
        Err(ControlError::NotRunning(_)) => {
            // Nobody has the journal: the next start of the daemon uploads them.
            let journal = daemon::open_journal(&config, &Board::new(&config.name))?;
            let done = journal.let_all_go(args.decoder.as_deref()).await;
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
